import { expect, it, onTestFinished } from "vitest";
import { Exchange } from "../../src/session/exchange.ts";
import { UpstreamLinks } from "../../src/upstream/links.ts";
import { entryOf, upstreamConfig } from "../upstream/entries.ts";
import { event, faultyServer, targetOf } from "../upstream/support.ts";

const QUESTION = {
  jsonrpc: "2.0",
  id: "q",
  method: "elicitation/create",
  params: { message: "Sure?", requestedSchema: { type: "object", properties: {} } },
};

it("an exchange that waited goes on in the name of whoever brings the answers", async () => {
  let finish = (): void => {};
  const upstream = await faultyServer(({ body, json, sse }) => {
    if (body?.method === "initialize") {
      const { protocolVersion } = body.params;
      const serverInfo = { name: "an upstream", version: "1" };
      const result = { protocolVersion, capabilities: {}, serverInfo };
      return json(200, { jsonrpc: "2.0", id: body.id, result });
    }
    if (body?.method === "tools/call") {
      const write = sse();
      finish = () => write(event({ jsonrpc: "2.0", id: body.id, result: { content: [] } }));
      return write(event(QUESTION));
    }
    if (body?.id === "q") finish();
    return json(202, "");
  });
  onTestFinished(() => upstream.close());
  const links = new UpstreamLinks({
    target: (_entry, token) =>
      targetOf(upstream.url, { authorize: async () => ({ authorization: `Bearer ${token?.()}` }) }),
    shelf: null,
  });
  const request = {
    method: "tools/call",
    params: { name: "delete" },
    meta: {},
    capabilities: { elicitation: {} },
    logLevel: null,
    progressToken: null,
    paramHeaders: {},
  };
  const entry = entryOf(upstreamConfig("one"), [], { era: "2025" });
  const exchange = new Exchange(links, entry, request, "first", () => null);
  const { signal } = new AbortController();
  const asked = await exchange.next(signal, () => {});
  if (asked.kind !== "asked") throw new Error("nothing was asked");
  const [key = ""] = [...asked.questions.keys()];
  exchange.answer({ [key]: { action: "accept", content: {} } }, "second");
  expect(await exchange.next(signal, () => {})).toMatchObject({ outcome: { kind: "result" } });
  const names = upstream.seen
    .filter(({ body }) => body?.method === "tools/call" || body?.id === "q")
    .map(({ headers }) => headers.authorization);
  expect(names).toEqual(["Bearer first", "Bearer second"]);
});
