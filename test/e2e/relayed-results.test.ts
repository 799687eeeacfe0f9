import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { codeOf, lastMessage, pick, Raw2026, type Reply, sessionOf } from "./support/raw-2026.ts";
import { soundRecords } from "./support/records.ts";
import { said, Upstream } from "./support/upstream.ts";

const MIB = 1024 * 1024;

/** Members that no JSON object of JavaScript can hold as they are. */
const OUTSIDE = [
  '"content":[{"type":"text","text":"a","text":"b"}]',
  '"structuredContent":{"a":1,"a":2,"big":9007199254740993,"huge":1e400,"tiny":-0.0}',
  '"x":1E+400',
  '"half":"\\ud800"',
];
const ONE_OF_EACH = [
  { type: "text", text: "plain", annotations: { audience: ["user"], priority: 0.5 } },
  { type: "image", data: "iVBORw0KGgo=", mimeType: "image/png" },
  { type: "audio", data: "UklGRg==", mimeType: "audio/wav" },
  { type: "resource_link", uri: "docs://a", name: "a", mimeType: "text/plain" },
  { type: "resource", resource: { uri: "docs://b", text: "b", _meta: { "acme/x": 1 } } },
  { type: "hologram", of: { the: "future" } },
];

let gateway: Gateway;
let operator: Operator;
const upstreams: Upstream[] = [];

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
  for (const era of ["2025", "2026"] as const) {
    const upstream = await Upstream.start(era);
    upstreams.push(upstream);
    upstream.capabilities = { tools: {}, resources: {} };
    const complete = era === "2026" ? '"resultType":"complete",' : "";
    const meta =
      '"acme/x":1.0,"dup":1,"dup":2,"dev.atlas-gate/receipt":{"seq":1},"dev.atlas-gate/error":{"code":"FORGED"}';
    upstream
      .tool("outside", () => ({ raw: `{${complete}"_meta":{${meta}},${OUTSIDE.join(", ")}}` }))
      .tool("contents", () => ({ content: ONE_OF_EACH }))
      .tool("list", () => ({ content: [], structuredContent: [1, 2] }))
      .tool("long", ({ args, notify }) => {
        const text = said("é".repeat(Number(args.bytes) / 2));
        if (args.streamed === true) notify("notifications/message", { level: "info", data: "…" });
        return text;
      })
      .tool("sign", ({ params }) =>
        params.inputResponses === undefined && upstream.asked("tools/call", "sign").length % 2 === 1
          ? {
              error: {
                code: -32042,
                message: "Sign first.",
                data: {
                  elicitations: [
                    {
                      mode: "url",
                      elicitationId: "e1",
                      url: "https://sign.example/",
                      message: "Sign.",
                    },
                  ],
                },
              },
            }
          : said(JSON.stringify(Object.keys(params).sort())),
      )
      .tool("strange", () => ({ error: { code: 4050, message: "strange", data: { own: 1 } } }))
      .tool("reserved", () => ({ error: { code: -32050, message: "reserved", data: { own: 1 } } }));
    upstream.methods.set("resources/read", ({ params }) =>
      era === "2025"
        ? { error: { code: -32002, message: "not here" } }
        : { contents: [{ uri: String(params.uri), text: "here" }], ttlMs: 5, cacheScope: "public" },
    );
    const resource_prefixes = [`u${era}://`];
    await register(operator, upstream, {
      name: `u${era}`,
      session_param: false,
      resource_prefixes,
    });
  }
});

afterAll(async () => {
  await Promise.all(upstreams.map((upstream) => upstream.close()));
  await gateway?.dispose();
});

type Ask = (method: string, params: Record<string, unknown>) => Promise<Reply>;

async function asker(client: "2025" | "2026"): Promise<Ask> {
  const { key } = await operator.mintKey({ role: "windsurf" });
  if (client === "2026") {
    const raw = new Raw2026(gateway.url, key, { elicitation: { url: {} } });
    return (method, params) => raw.post(method, params);
  }
  const session = await RawSession.open(gateway.url, key);
  return async (method, params) => {
    const answer = await session.request(method, params);
    const text = lastMessage(answer.text);
    return { status: answer.status, text, body: JSON.parse(text) };
  };
}

describe.each([
  ["2025", "2025"],
  ["2025", "2026"],
  ["2026", "2025"],
  ["2026", "2026"],
] as const)("a %s client's results of a %s upstream", (client, era) => {
  let ask: Ask;
  const call = (tool: string, args: object = {}) =>
    ask("tools/call", { name: `u${era}_${tool}`, arguments: args });

  beforeAll(async () => {
    ask = await asker(client);
  });

  it("are relayed byte for byte where they are outside I-JSON, which the record says", async () => {
    const reply = await call("outside");
    for (const member of OUTSIDE) expect(reply.text).toContain(member);
    expect(reply.text).toContain('"acme/x":1.0,"dup":1,"dup":2');
    expect(reply.text).not.toContain("FORGED");
    expect(reply.text.split('"dev.atlas-gate/receipt"')).toHaveLength(2);
    expect(reply.text.includes('"resultType":"complete"')).toBe(client === "2026");
    const records = await soundRecords(operator, sessionOf(reply));
    expect(records.at(-1)).toMatchObject({
      event: "tool_result",
      result: "ok",
      result_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      notes: expect.stringContaining("I-JSON"),
    });
  });

  it("have every kind of content as it came", async () => {
    const reply = await call("contents");
    expect(pick(reply.body, "result", "content")).toEqual(ONE_OF_EACH);
  });

  it("have structured content that is no object only where the era knows it", async () => {
    const { body } = await call("list");
    const shown = pick(body, "result", "structuredContent");
    expect(shown).toEqual(client === "2026" ? [1, 2] : undefined);
  });

  it.each([false, true])(
    "may be 5 MB long, and not over 8 MiB (streamed: %s)",
    async (streamed) => {
      const bytes = 5_000_000;
      const whole = await call("long", { bytes, streamed });
      const text = pick(whole.body, "result", "content", "0", "text");
      expect(String(text).length).toBe(bytes / 2);
      const over = await call("long", { bytes: 9 * MIB, streamed });
      expect(codeOf(over)).toBe("UPSTREAM_ERROR");
      const records = await soundRecords(operator, sessionOf(over));
      expect(records.at(-1)).toMatchObject({ error_code: "UPSTREAM_ERROR" });
    },
  );

  it("are errors with the upstream's code, message and data, and a receipt beside", async () => {
    const { body, status } = await call("strange");
    expect(status).toBe(200);
    expect(pick(body, "error")).toMatchObject({
      code: 4050,
      message: "strange",
      data: { own: 1, receipt: { seq: expect.any(Number) } },
    });
  });

  it("are internal errors where the client's revision keeps the upstream's code to itself", async () => {
    const { body, status } = await call("reserved");
    expect(status).toBe(200);
    expect(pick(body, "error")).toMatchObject({
      message: "reserved",
      ...(client === "2026"
        ? { code: -32603, data: { own: 1, upstream_code: -32050 } }
        : { code: -32050, data: { own: 1 } }),
    });
  });

  it("say that a resource is not there, or is cacheable, in the words of the client's era", async () => {
    const uri = `u${era}://r`;
    const { body, status } = await ask("resources/read", { uri });
    if (era === "2025") {
      expect([status, pick(body, "error", "code")]).toEqual(
        client === "2026" ? [400, -32602] : [200, -32002],
      );
      if (client === "2026") expect(pick(body, "error", "data", "uri")).toBe(uri);
      return;
    }
    expect(pick(body, "result")).toMatchObject({ contents: [{ uri, text: "here" }] });
    const { ttlMs, cacheScope } = Object(pick(body, "result"));
    expect([ttlMs, cacheScope]).toEqual(
      client === "2026" ? [5, "private"] : [undefined, undefined],
    );
  });
});

describe("an upstream of the 2025 era that needs its user at a URL first", () => {
  it("is an error to its own era, and a question to the other, whose answer it never sees", async () => {
    const old = await (await asker("2025"))("tools/call", { name: "u2025_sign", arguments: {} });
    expect(pick(old.body, "error")).toMatchObject({
      code: -32042,
      data: { elicitations: [{ url: "https://sign.example/" }] },
    });
    upstreams[0]?.seen.splice(0);
    const ask = await asker("2026");
    const first = await ask("tools/call", { name: "u2025_sign", arguments: {} });
    expect(pick(first.body, "result", "resultType")).toBe("input_required");
    const requests = Object(pick(first.body, "result", "inputRequests"));
    const [key = ""] = Object.keys(requests);
    expect(pick(requests, key, "params")).toEqual({
      mode: "url",
      url: "https://sign.example/",
      message: "Sign.",
      _meta: { "dev.atlas-gate/upstream": "u2025" },
    });
    const second = await ask("tools/call", {
      name: "u2025_sign",
      arguments: {},
      requestState: pick(first.body, "result", "requestState"),
      inputResponses: { [key]: { action: "accept" } },
    });
    expect(pick(second.body, "result", "content", "0", "text")).toBe('["arguments","name"]');
  });
});
