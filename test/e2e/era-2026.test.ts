import {
  type CallToolResult,
  Client,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gateway } from "./support/gateway.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan } from "./support/plans.ts";

const VERSION = "2026-07-28";
const META = {
  "io.modelcontextprotocol/protocolVersion": VERSION,
  "io.modelcontextprotocol/clientCapabilities": {},
  "io.modelcontextprotocol/clientInfo": { name: "raw", version: "1" },
};

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

/** The value at a path; names may hold dots, as the keys of `_meta` do. */
function pick(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>(
    (found, name) =>
      typeof found === "object" && found !== null ? Reflect.get(found, name) : undefined,
    value,
  );
}

type Options = { key?: string; headers?: Record<string, string | null>; meta?: object };

/** One request with the headers that a conforming client mirrors; `headers` overrides or (null) drops one. */
async function post(method: string, params: Record<string, unknown> = {}, options: Options = {}) {
  const headers = new Headers({
    authorization: `Bearer ${options.key ?? gateway.keys.windsurf}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": VERSION,
    "mcp-method": method,
  });
  if (typeof params.name === "string") headers.set("mcp-name", params.name);
  const handle = pick(params, "arguments", "session_id");
  if (typeof handle === "string") headers.set("mcp-param-atlas-session", handle);
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    if (value === null) headers.delete(name);
    else headers.set(name, value);
  }
  const response = await fetch(`${gateway.url}/mcp`, {
    method: "POST",
    headers,
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 7,
      method,
      params: { ...params, _meta: options.meta ?? META },
    }),
  });
  const body: unknown = await response.json();
  return { status: response.status, body, headers: response.headers };
}

const call = (name: string, args: object, options?: Options) =>
  post("tools/call", { name, arguments: args }, options);

async function begun(root: string, options?: Options): Promise<string> {
  const { body } = await call("begin_session", { workspace_root: root }, options);
  return String(pick(body, "result", "structuredContent", "session_id"));
}

const errorCode = (body: unknown) => pick(body, "result", "_meta", "dev.atlas-gate/error", "code");
const receipt = (body: unknown) => pick(body, "result", "_meta", "dev.atlas-gate/receipt");

describe("the official 2.x client", () => {
  it.each(["auto", { pin: VERSION }] as const)(
    "works under an approved plan, unmodified, negotiating %j",
    async (mode) => {
      const root = `/srv/v2-${typeof mode}`;
      const planHash = await approvedPlan(gateway, root);
      const client = new Client(
        { name: "official", version: "2" },
        { versionNegotiation: { mode } },
      );
      await client.connect(
        new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp`), {
          requestInit: { headers: { authorization: `Bearer ${gateway.keys.windsurf}` } },
        }),
      );
      const { tools } = await client.listTools();
      expect(tools.map(({ name }) => name)).toEqual(tools.map(({ name }) => name).toSorted());
      const ask = async (name: string, args: Record<string, unknown>): Promise<CallToolResult> =>
        client.callTool({ name, arguments: args });
      const begin = await ask("begin_session", { workspace_root: root, plan_hash: planHash });
      const session_id = pick(begin.structuredContent, "session_id");
      const written = await ask("write_file", { session_id, path: "src/a.ts", content: "a" });
      expect(written.isError).toBeUndefined();
      const read = await ask("read_file", { session_id, path: "src/a.ts" });
      expect(pick(read.structuredContent, "content")).toBe("a");
      const report = await operator.ok("GET", `/audit/sessions/${session_id}/verify`);
      expect(pick(report, "verdicts", "integrity", "ok")).toBe(true);
      await client.close();
    },
  );
});

describe("a request that stands alone", () => {
  it("is answered with what the gateway is, without a session", async () => {
    const { status, body } = await post("server/discover");
    expect(status).toBe(200);
    expect(body).toMatchObject({
      id: 7,
      result: {
        resultType: "complete",
        supportedVersions: [VERSION, "2025-11-25", "2025-06-18", "2025-03-26"],
        capabilities: { tools: {} },
        cacheScope: "private",
      },
    });
  });

  it("lists the role's tools with the handle as a mirrored argument, for a minute", async () => {
    const { body } = await post("tools/list");
    expect(body).toMatchObject({
      result: { resultType: "complete", ttlMs: 60_000, cacheScope: "private" },
    });
    const tools = pick(body, "result", "tools");
    if (!Array.isArray(tools)) throw new Error("no tools");
    for (const tool of tools) {
      const handle = pick(tool, "inputSchema", "properties", "session_id", "x-mcp-header");
      expect([pick(tool, "name"), handle]).toEqual([
        pick(tool, "name"),
        pick(tool, "name") === "begin_session" ? undefined : "Atlas-Session",
      ]);
    }
  });

  it("ignores the session header of the other era", async () => {
    const headers = { "mcp-session-id": "not-a-session" };
    const { status } = await post("tools/list", {}, { headers });
    expect(status).toBe(200);
  });

  it.each(["mcp-protocol-version", "mcp-method", "mcp-name"])(
    "is refused when %s is missing or says something else",
    async (name) => {
      for (const value of [null, "other"]) {
        const { status, body } = await call("read_audit_log", {}, { headers: { [name]: value } });
        expect([status, pick(body, "error", "code"), pick(body, "id")]).toEqual([400, -32020, 7]);
      }
    },
  );

  it("is refused without the required _meta, for an unknown version, and for an unknown method", async () => {
    const { "io.modelcontextprotocol/clientCapabilities": _, ...incomplete } = META;
    const missing = await post("tools/list", {}, { meta: incomplete });
    expect([missing.status, pick(missing.body, "error", "code")]).toEqual([400, -32602]);
    const future = "2027-01-01";
    const unknown = await post(
      "tools/list",
      {},
      {
        meta: { ...META, "io.modelcontextprotocol/protocolVersion": future },
        headers: { "mcp-protocol-version": future },
      },
    );
    expect([unknown.status, pick(unknown.body, "error", "code")]).toEqual([400, -32022]);
    expect(pick(unknown.body, "error", "data", "requested")).toBe(future);
    expect(pick(unknown.body, "error", "data", "supported")).toContain(VERSION);
    const method = await post("nothing/here");
    expect([method.status, pick(method.body, "error", "code")]).toEqual([404, -32601]);
  });

  it("names no tool: 400, with a receipt", async () => {
    const { status, body } = await call("no_such_tool", {});
    expect([status, pick(body, "error", "code")]).toEqual([400, -32602]);
    expect(pick(body, "error", "data", "code")).toBe("TOOL_NOT_FOUND");
    expect(pick(body, "error", "data", "receipt", "seq")).toEqual(expect.any(Number));
  });
});

describe("a handle", () => {
  it("opens a session whose chain begins with its opening and its binding", async () => {
    const { body } = await call("begin_session", { workspace_root: "/srv/handle" });
    const id = pick(body, "result", "structuredContent", "session_id");
    expect(receipt(body)).toMatchObject({ session_id: id, seq: 2 });
    const log = await call("read_audit_log", { session_id: id });
    expect(pick(log.body, "result", "structuredContent", "entries")).toMatchObject([
      { seq: 1, event: "session_open", context: { era: "2026", protocol_version: VERSION } },
      { seq: 2, event: "session_bind", tool: "begin_session", workspace_root: "/srv/handle" },
    ]);
  });

  it("must be what its header says", async () => {
    const session_id = await begun("/srv/mirrored");
    for (const value of [null, "other"]) {
      const { status, body } = await call(
        "list_files",
        { session_id },
        { headers: { "mcp-param-atlas-session": value } },
      );
      expect([status, pick(body, "error", "code")]).toEqual([400, -32020]);
    }
    const encoded = `=?base64?${Buffer.from(session_id).toString("base64")}?=`;
    const { status } = await call(
      "list_files",
      { session_id },
      { headers: { "mcp-param-atlas-session": encoded } },
    );
    expect(status).toBe(200);
  });

  it("that is unknown or someone else's is one and the same error, recorded with the caller", async () => {
    const session_id = await begun("/srv/mine");
    const key = gateway.keys.antigravity;
    const before = await call("read_audit_log", {}, { key });
    const foreign = await call("list_files", { session_id }, { key });
    const unknown = await call("list_files", { session_id: "no-such-session" }, { key });
    for (const { status, body } of [foreign, unknown]) {
      expect([status, errorCode(body)]).toEqual([200, "SESSION_NOT_FOUND"]);
    }
    expect(pick(foreign.body, "result", "content")).toEqual(
      pick(unknown.body, "result", "content"),
    );
    const seq = Number(pick(receipt(before.body), "seq"));
    expect(receipt(foreign.body)).toMatchObject({ seq: seq + 1 });
    expect(receipt(unknown.body)).toMatchObject({ seq: seq + 2 });
    const own = await call("read_audit_log", { session_id });
    expect(pick(own.body, "result", "structuredContent", "entries")).toHaveLength(2);
  });

  it("is a text; anything else is an argument that does not fit", async () => {
    for (const session_id of [5, true, null]) {
      const headers = session_id === null ? {} : { "mcp-param-atlas-session": String(session_id) };
      const { status, body } = await call("list_files", { session_id }, { headers });
      expect([status, errorCode(body)]).toEqual([200, "INVALID_ARGUMENT"]);
      expect(JSON.stringify(body)).toContain("session_id: must be a string");
    }
  });

  it("of one era is none of the other", async () => {
    const session_id = await begun("/srv/eras");
    const response = await fetch(`${gateway.url}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${gateway.keys.windsurf}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-session-id": session_id,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });
    expect(response.status).toBe(404);
  });

  it("is needed for a workspace; without one a call is recorded on the ambient session", async () => {
    const refused = await call("list_files", {});
    expect(errorCode(refused.body)).toBe("SESSION_REQUIRED");
    const log = await call("read_audit_log", { limit: 200 });
    const seq = Number(pick(receipt(refused.body), "seq"));
    const entries = pick(log.body, "result", "structuredContent", "entries");
    expect(entries).toContainEqual(
      expect.objectContaining({ seq, event: "tool_call", error_code: "SESSION_REQUIRED" }),
    );
  });

  it("is not given for a root that escapes, and nothing is opened", async () => {
    const { body } = await call("begin_session", { workspace_root: "/srv/../etc" });
    expect(errorCode(body)).toBe("PATH_ESCAPE");
    expect(pick(body, "result", "structuredContent")).toBeUndefined();
  });
});
