import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { afterEach, beforeEach, expect, it } from "vitest";
import { startCredentialProxy } from "./credential-proxy.ts";
import type { Listening } from "./everything/listen.ts";

type Exchange = { incoming: IncomingMessage; outgoing: ServerResponse };

const target = createServer();
let proxy: Listening;

beforeEach(async () => {
  target.listen(0, "127.0.0.1");
  await once(target, "listening");
  const address = target.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  proxy = await startCredentialProxy(`http://127.0.0.1:${address.port}`, "ag_key");
});

afterEach(async () => {
  await proxy.close();
  target.closeAllConnections();
  target.close();
  await once(target, "close");
});

async function exchange(): Promise<Exchange> {
  const [incoming, outgoing] = await once(target, "request");
  return { incoming, outgoing };
}

it("adds the credential and changes no other header, Host and Origin included", async () => {
  const arrived = exchange();
  const sent = request(proxy.url, {
    method: "POST",
    headers: {
      host: "evil.example.com",
      origin: "http://evil.example.com",
      authorization: "Bearer another",
      "mcp-param-region": "=?base64?SGVsbG8=?=",
    },
  });
  sent.end("{}");
  const { incoming, outgoing } = await arrived;
  expect(incoming.url).toBe("/mcp");
  expect(incoming.headers).toMatchObject({
    host: "evil.example.com",
    origin: "http://evil.example.com",
    authorization: "Bearer ag_key",
    "mcp-param-region": "=?base64?SGVsbG8=?=",
  });
  outgoing.writeHead(421, { "mcp-session-id": "s" }).end();
  const [answer] = await once(sent, "response");
  expect(answer.statusCode).toBe(421);
  expect(answer.headers["mcp-session-id"]).toBe("s");
  answer.resume();
});

it("passes each chunk on while the answer is still open", async () => {
  const arrived = exchange();
  const sent = request(proxy.url);
  sent.end();
  const { outgoing } = await arrived;
  outgoing.writeHead(200, { "content-type": "text/event-stream" });
  outgoing.flushHeaders();
  const [answer] = await once(sent, "response");
  for (const event of ["id: 1\ndata: \n\n", ": still here\n\n"]) {
    outgoing.write(event);
    const [chunk] = await once(answer, "data");
    expect(String(chunk)).toBe(event);
  }
  outgoing.end();
  await once(answer, "end");
});

it("ends the request when the client leaves", async () => {
  const arrived = exchange();
  const sent = request(proxy.url);
  sent.on("error", () => {});
  sent.end();
  const { outgoing } = await arrived;
  const closed = once(outgoing, "close");
  sent.destroy();
  await closed;
  expect(outgoing.writableFinished).toBe(false);
});

it("does not let an answer that was cut look like one that ended", async () => {
  const arrived = exchange();
  const sent = request(proxy.url);
  sent.end();
  const { outgoing } = await arrived;
  outgoing.write("half");
  const [answer] = await once(sent, "response");
  outgoing.destroy();
  await expect(async () => {
    for await (const _ of answer);
  }).rejects.toThrow("aborted");
});
