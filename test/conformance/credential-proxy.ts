/**
 * @module
 * Stands before a gateway and adds a credential, which the suite cannot send.
 * All else goes through as it is, in both directions and at once: headers (Host
 * and Origin too), status, every chunk, and the end of either side.
 */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { Listening } from "./everything/listen.ts";

/** Of the connection, not of the message; and the credential, which is the proxy's to say. */
const NOT_PASSED_ON = new Set(["connection", "keep-alive", "authorization"]);

/** `path` stays as it is asked for: the proxy stands for the gateway's origin. */
export async function startCredentialProxy(target: string, key: string): Promise<Listening> {
  const { hostname, port } = new URL(target);
  const agent = new Agent({ keepAlive: true });
  const server = createServer((incoming, outgoing) => {
    const forwarded = request(
      {
        agent,
        hostname,
        port,
        method: incoming.method,
        path: incoming.url,
        headers: [...passedOn(incoming), "authorization", `Bearer ${key}`],
      },
      (answer) => relay(answer, outgoing),
    );
    forwarded.once("error", (error) => {
      if (!outgoing.headersSent) outgoing.writeHead(502);
      outgoing.end(error.message);
    });
    outgoing.once("close", () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}/mcp`,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error === undefined ? resolve() : reject(error)));
        server.closeAllConnections();
        agent.destroy();
      }),
  };
}

function relay(answer: IncomingMessage, outgoing: ServerResponse): void {
  outgoing.writeHead(answer.statusCode ?? 502, passedOn(answer));
  // The head of a stream must be out before its first event.
  outgoing.flushHeaders();
  // An answer that is cut must not look like one that ended.
  answer.once("error", () => outgoing.destroy());
  answer.pipe(outgoing);
}

/** As they came: names as written, values that repeat kept apart. */
function passedOn({ rawHeaders }: IncomingMessage): string[] {
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    if (!NOT_PASSED_ON.has(name.toLowerCase())) kept.push(name, rawHeaders[at + 1] ?? "");
  }
  return kept;
}
