import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { at, send } from "./support/http.ts";
import { ACCEPT } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { codeOf, pick, Raw2026, type Reply } from "./support/raw-2026.ts";
import { hang, said, Upstream } from "./support/upstream.ts";

const LOG_LEVEL = "io.modelcontextprotocol/logLevel";
const FORM = {
  method: "elicitation/create",
  params: { message: "Who?", requestedSchema: { type: "object", properties: {} } },
};
const SIGN = {
  code: -32042,
  message: "Sign first.",
  data: {
    elicitations: [
      { mode: "url", elicitationId: "e1", url: "https://sign.example/", message: "Sign." },
    ],
  },
};

let gateway: Gateway;
let operator: Operator;
const upstreams: Upstream[] = [];
/** Upstreams whose `hang` has ended, in this order. */
const ended: string[] = [];

async function stand(era: "2025" | "2026", name: string, fields: object = {}): Promise<Upstream> {
  const upstream = await Upstream.start(era);
  upstreams.push(upstream);
  upstream.capabilities = { tools: {}, prompts: {}, completions: {}, logging: {} };
  upstream.prompts.push({ name: "greet", arguments: [{ name: "who" }] });
  upstream
    .tool("log", ({ notify }) => {
      for (const level of ["debug", "warning", "error"]) {
        notify("notifications/message", { level, data: `at ${level}` });
      }
      return said("logged");
    })
    .tool("sign", () => ({ error: SIGN }))
    .tool("hang", async (call) => {
      const reply = await hang(call);
      ended.push(name);
      return reply;
    })
    .tool("odd", ({ args }) => ({ raw: `{"resultType":"${String(args.type)}","content":[]}` }));
  await register(operator, upstream, { name, session_param: false, ...fields });
  return upstream;
}

async function client(capabilities: object = {}): Promise<Raw2026> {
  const { key } = await operator.mintKey({ role: "windsurf" });
  return new Raw2026(gateway.url, key, capabilities);
}

/** A POST by hand: of a tool's call, for what comes before its response, or of anything else. */
function posted(key: string, message: object, headers: Record<string, string> = {}) {
  return {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      accept: ACCEPT,
      "mcp-protocol-version": "2026-07-28",
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }),
  };
}

const metaOf = (version = "2026-07-28", more: object = {}) => ({
  _meta: {
    ...more,
    "io.modelcontextprotocol/protocolVersion": version,
    "io.modelcontextprotocol/clientCapabilities": {},
  },
});

function toolCall(key: string, name: string, meta: object = {}) {
  const params = { name, arguments: {}, ...metaOf("2026-07-28", meta) };
  const headers = { "mcp-method": "tools/call", "mcp-name": name };
  return posted(key, { method: "tools/call", params }, headers);
}

const error = ({ status, body }: Reply) => [status, pick(body, "error", "code")];
const completion = (name: string) => ({
  ref: { type: "ref/prompt", name: `${name}_greet` },
  argument: { name: "who", value: "" },
});

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
  await Promise.all([stand("2025", "old"), stand("2026", "new")]);
  await stand("2025", "mute", { elicitation: false });
});

afterAll(async () => {
  await Promise.all(upstreams.map((upstream) => upstream.close()));
  await gateway?.dispose();
});

describe("a request of 2026-07-28", () => {
  it("whose header names another revision than its body is a mismatch, an older one too", async () => {
    const { key } = await client();
    for (const version of ["2025-11-25", "2027-01-01", "tomorrow"]) {
      const message = { method: "tools/list", params: metaOf(version) };
      const answer = await send(
        `${gateway.url}/mcp`,
        posted(key, message, { "mcp-method": "tools/list" }),
      );
      expect([answer.status, at(answer.json, "error.code"), at(answer.json, "id")]).toEqual([
        400, -32020, 1,
      ]);
    }
  });

  it("must not answer: the server asks nothing but in results", async () => {
    const { key } = await client();
    const answer = await send(`${gateway.url}/mcp`, posted(key, { id: "x", result: {} }));
    expect([answer.status, at(answer.json, "error.code")]).toEqual([400, -32600]);
  });

  it("that is a notification is taken, and not answered", async () => {
    const { key } = await client();
    const message = { method: "notifications/cancelled", params: { requestId: 1 } };
    const answer = await send(`${gateway.url}/mcp`, {
      ...posted(key, message),
      body: JSON.stringify({ jsonrpc: "2.0", ...message }),
    });
    expect([answer.status, answer.text]).toEqual([202, ""]);
  });

  it("has its trace and its client's own _meta at the upstream, and nobody else's", async () => {
    const trace = {
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
      tracestate: "a=b",
      baggage: "user=ada",
      "acme.example/x": { deep: [1] },
    };
    const raw = await client();
    raw.meta = { ...trace, "dev.atlas-gate/receipt": { seq: 1 }, [LOG_LEVEL]: "error" };
    for (const [place, name] of ["old", "new"].entries()) {
      await raw.call(`${name}_odd`, { type: "complete" });
      const seen = upstreams[place]?.asked("tools/call", "odd").at(-1);
      const meta = Object(pick(seen?.message, "params", "_meta"));
      expect(meta).toMatchObject(trace);
      const own = Object.keys(meta).filter((key) => !Object.hasOwn(trace, key));
      expect(own.map((key) => key.split("/")[1]).sort()).toEqual(
        name === "old" ? [] : ["clientCapabilities", "clientInfo", "logLevel", "protocolVersion"],
      );
    }
  });

  it("has no methods of the other era, nor any of the server's", async () => {
    const raw = await client();
    const methods = [
      ...["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/list"],
      ...["tasks/result", "elicitation/create", "roots/list", "sampling/createMessage"],
    ];
    for (const method of methods) expect(error(await raw.post(method))).toEqual([404, -32601]);
  });

  it("gets results that name their type and their server, and lists that say how long they hold", async () => {
    const raw = await client();
    const cacheable = ["server/discover", "tools/list", "prompts/list", "resources/list"];
    for (const method of [...cacheable, "resources/templates/list"]) {
      expect(pick((await raw.post(method)).body, "result")).toMatchObject({
        resultType: "complete",
        ttlMs: expect.any(Number),
        cacheScope: "private",
        _meta: { "io.modelcontextprotocol/serverInfo": { name: "atlas-gate" } },
      });
    }
    const called = await raw.call("new_log");
    expect(pick(called.body, "result")).toMatchObject({
      resultType: "complete",
      _meta: { "io.modelcontextprotocol/serverInfo": { name: "atlas-gate" } },
    });
  });
});

describe.each(["old", "new"] as const)("log messages of the upstream %s", (name) => {
  const logged = async (level?: string): Promise<string[]> => {
    const { key } = await client();
    const meta = level === undefined ? {} : { [LOG_LEVEL]: level };
    const answer = await send(`${gateway.url}/mcp`, toolCall(key, `${name}_log`, meta));
    expect(answer.status).toBe(200);
    expect(answer.text).not.toMatch(/^id:/m);
    return [...answer.text.matchAll(/"data":"at (\w+)"/g)].map(([, found]) => String(found));
  };

  it("come where they were asked for, from the level on, and nowhere else", async () => {
    expect(await logged()).toEqual([]);
    expect(await logged("debug")).toEqual(["debug", "warning", "error"]);
    expect(await logged("warning")).toEqual(["warning", "error"]);
    expect(await logged("emergency")).toEqual([]);
  });

  it("have one of eight levels", async () => {
    const raw = await client();
    raw.meta = { [LOG_LEVEL]: "warn" };
    expect(error(await raw.call(`${name}_log`))).toEqual([400, -32602]);
  });
});

describe("a result", () => {
  it("of a type that nobody declared is the upstream's error", async () => {
    const raw = await client();
    expect(codeOf(await raw.call("new_odd", { type: "complete" }))).toBeNull();
    for (const type of ["task", "surprise", ""]) {
      expect(codeOf(await raw.call("new_odd", { type }))).toBe("UPSTREAM_ERROR");
    }
    const tasks = { extensions: { "io.modelcontextprotocol/tasks": {} } };
    expect(codeOf(await (await client(tasks)).call("new_odd", { type: "task" }))).toBeNull();
  });
});

describe("a completion", () => {
  it("never needs input: what the upstream asks meanwhile it does not get", async () => {
    const raw = await client({ elicitation: {} });
    let heard: unknown;
    upstreams[0]?.methods.set("completion/complete", async ({ ask }) => {
      heard = await ask({ who: FORM });
      return { completion: { values: ["a"] } };
    });
    const old = await raw.post("completion/complete", completion("old"));
    expect(pick(old.body, "result", "completion", "values")).toEqual(["a"]);
    expect(heard).toMatchObject({ who: { error: { code: -32601 } } });

    upstreams[1]?.methods.set("completion/complete", async ({ ask }) => {
      await ask({ who: FORM });
      return { completion: { values: ["a"] } };
    });
    const { body } = await raw.post("completion/complete", completion("new"));
    expect(pick(body, "error", "data", "code")).toBe("UPSTREAM_ERROR");
  });
});

describe("a URL that the user must see first", () => {
  it("is a capability that the client lacks, and not the older revision's error", async () => {
    const lacking = await (await client({ elicitation: {} })).call("old_sign");
    expect(error(lacking)).toEqual([400, -32021]);
    expect(pick(lacking.body, "error", "data", "requiredCapabilities")).toEqual({
      elicitation: { url: {} },
    });
    const able = await client({ elicitation: { url: {} } });
    expect(pick((await able.call("old_sign")).body, "result", "resultType")).toBe("input_required");
    expect(error(await able.call("mute_sign"))).toEqual([200, -32603]);
  });
});

describe("a response that is never read to its end", () => {
  it.each([
    ["old", 0],
    ["new", 1],
  ] as const)("is cancelled at the upstream %s, as its era has it", async (name, place) => {
    const upstream = upstreams[place];
    if (upstream === undefined) throw new Error("it is not there");
    const { key } = await client();
    const left = new AbortController();
    const url = `${gateway.url}/mcp`;
    const response = await fetch(url, {
      ...toolCall(key, `${name}_hang`),
      signal: left.signal,
    });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(response.headers.get("x-accel-buffering")).toBe("no");
    const [call] = upstream.asked("tools/call", "hang");
    left.abort();
    await eventually("the upstream's call ends", () => (ended.includes(name) ? true : null));
    const told = () =>
      upstream
        .asked("notifications/cancelled")
        .map(({ message }) => pick(message, "params", "requestId"));
    // In the newer era the connection's end says it all.
    if (name === "new") return expect(told()).toEqual([]);
    await eventually("the upstream is told", () => (told().length > 0 ? true : null));
    expect(told()).toEqual([pick(call?.message, "id")]);
  });
});
