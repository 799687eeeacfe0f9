import { randomUUID } from "node:crypto";
import { McpError } from "@modelcontextprotocol/sdk/types.js";
import type { JsonSchemaType } from "@modelcontextprotocol/sdk/validation";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/sdk/validation/ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ambientId, principalOf } from "./support/ambient.ts";
import { exportLines, readLine } from "./support/chain.ts";
import { Gateway } from "./support/gateway.ts";
import { at, send } from "./support/http.ts";
import {
  Agent,
  initializeMessage,
  postMcp,
  RawSession,
  readToolResult,
  receiptSchema,
  toolCall,
} from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";

const READERS = [
  "begin_session",
  "read_audit_log",
  "replay_execution",
  "verify_workspace_integrity",
];
const TOOLS = {
  antigravity: [
    ...READERS,
    ...["lint_plan", "list_files", "list_plans", "read_file", "read_plan", "save_plan"],
  ].sort(),
  windsurf: [
    ...READERS,
    ...["delete_file", "lint_plan", "list_files", "list_plans", "read_file", "read_plan"],
    "write_file",
  ].sort(),
  auditor: READERS,
};
const ROLES = ["antigravity", "windsurf", "auditor"] as const;

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

async function recordsOf(sessionId: string) {
  return exportLines(await operator.export(sessionId)).map(readLine);
}

describe("initialize", () => {
  it.each([
    { asked: "2025-03-26", answered: "2025-03-26" },
    { asked: "2025-06-18", answered: "2025-06-18" },
    { asked: "2025-11-25", answered: "2025-11-25" },
    { asked: "2024-11-05", answered: "2025-11-25" },
    { asked: "1999-01-01", answered: "2025-11-25" },
    { asked: "not a version", answered: "2025-11-25" },
  ])("answers $asked with $answered", async ({ asked, answered }) => {
    const answer = await postMcp(gateway.url, initializeMessage(asked, "first"), {
      key: gateway.keys.windsurf,
    });
    expect(answer.status).toBe(200);
    expect(answer.headers["mcp-session-id"]).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(answer.json).toEqual({
      jsonrpc: "2.0",
      id: "first",
      result: {
        protocolVersion: answered,
        capabilities: {
          tools: { listChanged: true },
          prompts: { listChanged: true },
          resources: { subscribe: true, listChanged: true },
          completions: {},
          logging: {},
        },
        serverInfo: { name: "atlas-gate", title: "Atlas Gate", version: expect.any(String) },
        instructions: expect.any(String),
      },
    });
  });

  it("records who opened the session, and with what", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf, "2025-06-18");
    expect(await recordsOf(session.id)).toEqual([
      expect.objectContaining({
        event: "session_open",
        seq: 1,
        principal: principalOf(gateway.keys.windsurf),
        role: "windsurf",
        context: expect.objectContaining({
          era: "2025",
          client: { name: "e2e raw", version: "1.0.0" },
          gateway: { version: expect.any(String) },
        }),
      }),
    ]);
  });

  it.each([
    { what: "no params", params: undefined },
    {
      what: "no protocolVersion",
      params: { capabilities: {}, clientInfo: { name: "a", version: "1" } },
    },
    { what: "no clientInfo", params: { protocolVersion: "2025-11-25", capabilities: {} } },
    {
      what: "a number for a version",
      params: { ...initializeMessage().params, protocolVersion: 1 },
    },
  ])("refuses $what and opens nothing", async ({ params }) => {
    const answer = await postMcp(
      gateway.url,
      { jsonrpc: "2.0", id: 7, method: "initialize", params },
      { key: gateway.keys.windsurf },
    );
    expect(answer.status).toBe(400);
    expect(answer.headers["mcp-session-id"]).toBeUndefined();
    expect(answer.json).toMatchObject({ id: 7, error: { code: -32602 } });
  });

  it("refuses a second one on a live session", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const answer = await session.post(initializeMessage("2025-11-25", 5));
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({ id: 5, error: { code: -32600 } });
  });

  it("takes messages with and without the version header, and refuses a version it does not speak", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf, "2025-06-18");
    const ping = { jsonrpc: "2.0", id: 2, method: "ping" };
    for (const version of ["2025-06-18", "2025-11-25"]) {
      expect((await session.post(ping, { "mcp-protocol-version": version })).status).toBe(200);
    }
    const refused = await session.post(ping, { "mcp-protocol-version": "1999-01-01" });
    expect(refused.status).toBe(400);
    expect(refused.json).toMatchObject({ id: 2, error: { code: -31400 } });
  });
});

describe("messages of a session", () => {
  it("answers ping under whatever id it has", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor);
    for (const id of [0, -3, 9007199254740991, "a", "", "0"]) {
      const answer = await session.post({ jsonrpc: "2.0", id, method: "ping" });
      expect(answer.status).toBe(200);
      expect(answer.json).toEqual({ jsonrpc: "2.0", id, result: {} });
    }
  });

  it("accepts notifications and responses with 202 and no body", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    for (const message of [
      { jsonrpc: "2.0", method: "notifications/initialized" },
      { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 99 } },
      { jsonrpc: "2.0", method: "notifications/of/no/kind" },
      { jsonrpc: "2.0", id: 4, result: {} },
      { jsonrpc: "2.0", id: 4, error: { code: 1, message: "no" } },
    ]) {
      const answer = await session.post(message);
      expect([answer.status, answer.text]).toEqual([202, ""]);
    }
    expect(await recordsOf(session.id)).toHaveLength(1);
  });

  it.each(["tools/nothing", "server/discover", "prompts/nothing", "__proto__", "constructor", ""])(
    "answers the method %j, which it does not have, with -32601 and 200",
    async (method) => {
      const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
      const answer = await session.post({ jsonrpc: "2.0", id: 3, method, params: {} });
      expect(answer.status).toBe(200);
      expect(answer.json).toMatchObject({ jsonrpc: "2.0", id: 3, error: { code: -32601 } });
    },
  );

  it.each([
    { what: "a string", message: '"hello"', id: undefined },
    { what: "null", message: null, id: undefined },
    { what: "another version", message: { jsonrpc: "1.0", id: 1, method: "ping" }, id: 1 },
    { what: "no version", message: { id: 1, method: "ping" }, id: 1 },
    { what: "a null id", message: { jsonrpc: "2.0", id: null, method: "ping" }, id: undefined },
    {
      what: "a fractional id",
      message: { jsonrpc: "2.0", id: 1.5, method: "ping" },
      id: undefined,
    },
    {
      what: "an object for an id",
      message: { jsonrpc: "2.0", id: {}, method: "ping" },
      id: undefined,
    },
    {
      what: "a list of params",
      message: { jsonrpc: "2.0", id: 2, method: "ping", params: [] },
      id: 2,
    },
    { what: "no method", message: { jsonrpc: "2.0", id: 2 }, id: 2 },
    {
      what: "a result and an error",
      message: { jsonrpc: "2.0", id: 2, result: {}, error: { code: 1, message: "" } },
      id: 2,
    },
  ])("refuses $what with 400 and -32600", async ({ message, id }) => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const answer = await session.post(message);
    expect(answer.status).toBe(400);
    expect(at(answer.json, "error.code")).toBe(-32600);
    expect(at(answer.json, "id")).toBe(id);
    expect(await recordsOf(session.id)).toHaveLength(1);
  });
});

describe("tools/list", () => {
  it.each(ROLES)("shows %s what the role may call, by name, with valid schemas", async (role) => {
    const agent = await Agent.connect(gateway.url, gateway.keys[role]);
    const { tools, nextCursor } = await agent.client.listTools();
    expect(nextCursor).toBeUndefined();
    expect(tools.map((tool) => tool.name)).toEqual(TOOLS[role]);
    const validator = new AjvJsonSchemaValidator();
    for (const tool of tools) {
      expect(tool.description).toMatch(/\S/);
      expect(tool.inputSchema).toMatchObject({ type: "object", additionalProperties: false });
      expect(tool.outputSchema).toMatchObject({ type: "object" });
      const accepts = validator.getValidator(schemaOf(tool.inputSchema));
      expect(accepts({ "no such argument": 1 }).valid).toBe(false);
      if (tool.outputSchema !== undefined) {
        expect(validator.getValidator(schemaOf(tool.outputSchema))({}).valid).toBe(false);
      }
    }
    await agent.close();
  });

  it("offers no tool that approves, revokes or changes who may do what", async () => {
    const names = Object.values(TOOLS).flat();
    for (const role of ROLES) {
      const session = await RawSession.open(gateway.url, gateway.keys[role]);
      const listed = JSON.stringify((await session.request("tools/list")).json);
      expect(listed).not.toMatch(/"name":"[^"]*(approve|revoke|grant|key|kill)/);
      for (const name of ["approve_plan", "revoke_plan", "create_key"]) {
        expect(names).not.toContain(name);
        const answer = await session.request("tools/call", { name, arguments: {} });
        expect(at(answer.json, "error.data.code")).toBe("TOOL_NOT_FOUND");
      }
    }
  });
});

describe("tools/call", () => {
  it.each(["nope", "__proto__", "constructor", "toString", "", "write_file ", "WRITE_FILE"])(
    "answers the tool %j, which is none, with -32602, TOOL_NOT_FOUND and a receipt",
    async (name) => {
      const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
      const answer = await session.post(toolCall("x", name));
      expect(answer.status).toBe(200);
      expect(answer.json).toMatchObject({
        jsonrpc: "2.0",
        id: "x",
        error: {
          code: -32602,
          data: { code: "TOOL_NOT_FOUND", request_id: answer.headers["x-request-id"] },
        },
      });
      const receipt = receiptSchema.parse(at(answer.json, "error.data.receipt"));
      const records = await recordsOf(session.id);
      expect(records.at(-1)).toMatchObject({
        ...receipt,
        event: "tool_call",
        tool: name,
        result: "error",
      });
    },
  );

  it("gives the SDK's client the same error", async () => {
    const agent = await Agent.connect(gateway.url, gateway.keys.windsurf);
    const failure = await agent.client.callTool({ name: "nope", arguments: {} }).catch((e) => e);
    expect(failure).toBeInstanceOf(McpError);
    expect(failure).toMatchObject({ code: -32602, data: { code: "TOOL_NOT_FOUND" } });
    await agent.close();
  });

  it.each([
    { what: "a list", params: { name: "read_file", arguments: ["a"] } },
    { what: "a string", params: { name: "read_file", arguments: "a" } },
    { what: "null", params: { name: "read_file", arguments: null } },
    { what: "no name", params: { arguments: {} } },
    { what: "a number for a name", params: { name: 4, arguments: {} } },
    { what: "no params", params: undefined },
  ])("refuses $what where arguments or a name should be, and records it", async ({ params }) => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const answer = await session.request("tools/call", params);
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      error: { code: -32602, data: { code: "INVALID_ARGUMENT" } },
    });
    expect(await recordsOf(session.id)).toHaveLength(2);
  });

  it.each([
    { args: {}, field: "path" },
    { args: { path: 4 }, field: "path" },
    { args: { path: null }, field: "path" },
    { args: { path: ["a"] }, field: "path" },
    { args: { path: "a", bogus: true }, field: "bogus" },
    { args: { path: "a", constructor: "x" }, field: "constructor" },
    { args: { path: "a", toString: "x" }, field: "toString" },
  ] as { args: object; field: string }[])(
    "refuses read_file with $args, naming $field",
    async ({ args, field }) => {
      const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
      const outcome = await session.call("read_file", args);
      expect(outcome.code).toBe("INVALID_ARGUMENT");
      expect(outcome.text).toContain(field);
    },
  );

  it("refuses an argument called __proto__, naming it, and leaves nothing changed by it", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const body =
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"a","__proto__":{"role":"auditor"}}}}';
    const answer = await session.post(body);
    const outcome = readToolResult(at(answer.json, "result"));
    expect(outcome.code).toBe("INVALID_ARGUMENT");
    expect(outcome.text).toContain("__proto__");
    const line = exportLines(await operator.export(session.id)).at(-1);
    expect(line).toContain('"args":{"__proto__":{"role":"auditor"},"path":"a"}');
  });

  it("refuses a built-in of another role, and records it", async () => {
    const planner = await RawSession.open(gateway.url, gateway.keys.antigravity);
    const executor = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const auditor = await RawSession.open(gateway.url, gateway.keys.auditor);
    for (const [session, name, args] of [
      [planner, "write_file", { path: "a", content: "" }],
      [planner, "delete_file", { path: "a" }],
      [executor, "save_plan", { plan: {} }],
      [auditor, "read_file", { path: "a" }],
      [auditor, "list_files", {}],
      [auditor, "list_plans", {}],
    ] as const) {
      const outcome = await session.call(name, args);
      expect([name, outcome.code]).toEqual([name, "ROLE_FORBIDDEN"]);
      const records = await recordsOf(session.id);
      expect(records.at(-1)).toMatchObject({
        ...outcome.receipt,
        event: "tool_call",
        tool: name,
        error_code: "ROLE_FORBIDDEN",
      });
    }
  });

  it("asks for begin_session before a tool that needs a workspace", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    for (const [name, args] of [
      ["read_file", { path: "a" }],
      ["list_files", {}],
      ["write_file", { path: "a", content: "" }],
      ["list_plans", {}],
      ["verify_workspace_integrity", {}],
    ] as const) {
      expect([name, (await session.call(name, args)).code]).toEqual([name, "SESSION_REQUIRED"]);
    }
    expect((await session.call("read_audit_log", {})).code).toBeNull();
  });

  it("binds the session anew when begin_session is called again", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    for (const root of ["/srv/one", "/srv/two"]) {
      expect(await session.ok("begin_session", { workspace_root: root })).toEqual({
        session_id: session.id,
        workspace_root: root,
        role: "windsurf",
        plan_hash: null,
        expires_at: expect.stringMatching(/Z$/),
      });
    }
    const records = await recordsOf(session.id);
    expect(records.map(({ event, tool, workspace_root }) => [event, tool, workspace_root])).toEqual(
      [
        ["session_open", null, null],
        ["session_bind", "begin_session", "/srv/one"],
        ["session_bind", "begin_session", "/srv/two"],
      ],
    );
  });

  it("answers every reading tool with what its output schema says", async () => {
    const agent = await Agent.connect(gateway.url, gateway.keys.windsurf);
    await agent.ok("begin_session", { workspace_root: "/srv/empty" });
    expect(await agent.ok("list_files")).toEqual({ files: [], next_cursor: null });
    expect(await agent.ok("list_plans")).toMatchObject({ plans: [] });
    expect(await agent.ok("lint_plan", { plan: {} })).toMatchObject({ ok: false });
    expect(await agent.ok("verify_workspace_integrity")).toMatchObject({
      ok: true,
      chain: { ok: true },
      findings: [],
    });
    const log = await agent.ok("read_audit_log", { after_seq: 1, limit: 2 });
    expect(log).toMatchObject({ entries: [{ seq: 2 }, { seq: 3 }], next_after_seq: 3 });
    expect((await agent.call("read_file", { path: "none" })).code).toBe("NOT_FOUND");
    expect((await agent.call("read_plan", { plan_hash: "0".repeat(64) })).code).toBe(
      "PLAN_NOT_FOUND",
    );
    await agent.end();
  });

  it("gives each answer the receipt of its own record", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor);
    const receipts = [];
    for (let call = 0; call < 3; call++) {
      receipts.push((await session.call("read_audit_log", { limit: 1 })).receipt);
    }
    const records = await recordsOf(session.id);
    expect(receipts).toEqual(
      records.slice(1).map(({ session_id, seq, hash_chain }) => ({ session_id, seq, hash_chain })),
    );
  });
});

describe("the end of a session", () => {
  it("is DELETE, after which the session is not there", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const ended = await session.end();
    expect([ended.status, ended.text]).toEqual([204, ""]);
    for (const answer of [await session.request("ping"), await session.end()]) {
      expect(answer.status).toBe(404);
      expect(answer.json).toMatchObject({
        jsonrpc: "2.0",
        error: { code: -31404, data: { code: "SESSION_NOT_FOUND" } },
      });
    }
    const records = await recordsOf(session.id);
    expect(records.map((record) => record.event)).toEqual(["session_open", "session_close"]);
  });

  it("is not brought about by anyone else", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const stranger = await send(`${gateway.url}/mcp`, {
      method: "DELETE",
      headers: {
        authorization: `Bearer ${gateway.keys.antigravity}`,
        "mcp-session-id": session.id,
      },
    });
    expect(stranger.status).toBe(404);
    expect((await session.request("ping")).status).toBe(200);
  });
});

describe("a session id that is not the caller's", () => {
  it("is answered like one that never was, and noted in the caller's ambient session alone", async () => {
    const victim = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const ended = await RawSession.open(gateway.url, gateway.keys.antigravity);
    await ended.end();
    const attacker = await operator.mintKey({ role: "windsurf", name: "another executor" });
    const call = toolCall(1, "read_file", { path: "src/a" });
    const foreign = await postMcp(gateway.url, call, { key: attacker.key, session: victim.id });
    const unknown = await postMcp(gateway.url, call, { key: attacker.key, session: ended.id });
    const forged = await postMcp(gateway.url, call, { key: attacker.key, session: randomUUID() });
    expect(foreign.status).toBe(404);
    for (const answer of [unknown, forged]) {
      expect(answer.status).toBe(404);
      expect(withoutIds(answer.text)).toBe(withoutIds(foreign.text));
      expect(Object.keys(answer.headers).sort()).toEqual(Object.keys(foreign.headers).sort());
    }

    const ambient = ambientId("default", `key:${attacker.id}`);
    const entries = await operator.auditUntil(
      `session_id=${ambient}&error_code=SESSION_NOT_FOUND`,
      (found) => found.length > 0,
    );
    // The ended session is noted as well while its object waits for the sinks; the forged one never.
    const refused: unknown[] = [foreign, unknown].map(({ headers }) => headers["x-request-id"]);
    expect(entries.every(({ request_id }) => refused.includes(request_id))).toBe(true);
    expect(entries).toContainEqual(
      expect.objectContaining({
        session_id: ambient,
        principal: `key:${attacker.id}`,
        event: "tool_call",
        tool: "read_file",
        result: "error",
        request_id: foreign.headers["x-request-id"],
      }),
    );
    expect(await recordsOf(victim.id)).toHaveLength(1);
  });

  it("is refused when it is forged, in whatever way", async () => {
    const { id } = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const lastDigit = id.at(-1) === "0" ? "1" : "0";
    for (const forged of [
      `${id.slice(0, -1)}${lastDigit}`,
      id.toUpperCase(),
      `{${id}}`,
      id.replaceAll("-", ""),
      "0".repeat(36),
      "x",
      "../../x",
      "a".repeat(5000),
      ambientId("default", principalOf(gateway.keys.windsurf)),
    ]) {
      const answer = await postMcp(
        gateway.url,
        { jsonrpc: "2.0", id: 1, method: "ping" },
        { key: gateway.keys.windsurf, session: forged },
      );
      expect([forged, answer.status]).toEqual([forged, 404]);
    }
  });

  it("is asked for where it is missing", async () => {
    const answer = await postMcp(
      gateway.url,
      { jsonrpc: "2.0", id: 8, method: "ping" },
      { key: gateway.keys.windsurf },
    );
    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({
      id: 8,
      error: { code: -31400, data: { code: "SESSION_REQUIRED" } },
    });
  });
});

/** The SDK's type of a listed schema and that of its validator differ in optional members only. */
function schemaOf(listed: object): JsonSchemaType {
  return listed as JsonSchemaType;
}

function withoutIds(body: string): string {
  return body.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "<id>");
}
