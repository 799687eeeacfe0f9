/**
 * @module
 * Requests to `/mcp` that are nearly right, and some that are nothing at all.
 */
import fc from "fast-check";
import { VERSION } from "../../support/raw-2026.ts";

/** Whose key and which session a request comes with; a place in the test's own lists. */
export type RandomRequest = {
  readonly method: "POST" | "GET" | "DELETE";
  readonly key: number | null;
  readonly session: number | string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
};

const METHODS = [
  ...["initialize", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get"],
  ...["resources/list", "resources/read", "resources/templates/list", "resources/subscribe"],
  ...["resources/unsubscribe", "completion/complete", "logging/setLevel", "server/discover"],
  ...["subscriptions/listen", "tasks/get", "tasks/list", "tasks/cancel", "tasks/result"],
  ...["notifications/initialized", "notifications/cancelled", "notifications/progress"],
  ...["roots/list", "sampling/createMessage", "elicitation/create", "rpc.discover"],
];
const TOOLS = [
  ...["begin_session", "read_file", "list_files", "write_file", "delete_file", "save_plan"],
  ...["lint_plan", "list_plans", "read_plan", "read_audit_log", "verify_workspace_integrity"],
  ...["replay_execution", "honest_act", "honest_", "nope"],
];
const FIELDS = [
  ...["path", "content", "encoding", "plan", "plan_hash", "prefix", "cursor", "limit", "after_seq"],
  ...["audit_session_id", "session_id", "atlas_session", "workspace_root", "status", "tool"],
  ...["expected_sha256", "__proto__", "constructor", "toString", "hasOwnProperty", ""],
];
const VERSIONS = [
  "2025-03-26",
  "2025-06-18",
  "2025-11-25",
  VERSION,
  "2024-11-05",
  "9999-12-31",
  "",
];

const text = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom("a", "src/a.ts", "/srv/fuzz", "../x", "0".repeat(64), ""),
  },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom("x".repeat(20_000), "\u0000", "\u2028", "%2e%2e/", "a\n{}"),
  },
);

const scalar = fc.oneof(
  text,
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.constantFrom(2 ** 53 - 1, -0, 1e308, 5e-324, -1),
);

const json = fc.oneof(
  { weight: 3, arbitrary: scalar },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 4 }) },
);

const args = fc.dictionary(fc.constantFrom(...FIELDS), json, { maxKeys: 5 });

const id = fc.oneof(
  { weight: 6, arbitrary: fc.oneof(fc.integer(), text) },
  { weight: 1, arbitrary: json },
  { weight: 1, arbitrary: fc.constant(undefined) },
);

const meta2026 = fc.record(
  {
    "io.modelcontextprotocol/protocolVersion": fc.oneof(
      { weight: 5, arbitrary: fc.constant(VERSION) },
      { weight: 1, arbitrary: fc.oneof(fc.constantFrom(...VERSIONS), json) },
    ),
    "io.modelcontextprotocol/clientCapabilities": fc.oneof(
      { weight: 5, arbitrary: fc.constant({}) },
      { weight: 1, arbitrary: json },
    ),
    "io.modelcontextprotocol/clientInfo": fc.oneof(
      fc.constant({ name: "fuzz", version: "1" }),
      json,
    ),
    progressToken: json,
    "dev.atlas-gate/receipt": json,
  },
  { requiredKeys: ["io.modelcontextprotocol/protocolVersion"] },
);

const params = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record(
      {
        name: fc.oneof(
          { weight: 5, arbitrary: fc.constantFrom(...TOOLS) },
          { weight: 1, arbitrary: json },
        ),
        arguments: fc.oneof({ weight: 5, arbitrary: args }, { weight: 1, arbitrary: json }),
        _meta: fc.oneof(meta2026, meta2026, json),
        protocolVersion: fc.oneof(fc.constantFrom(...VERSIONS), json),
        capabilities: fc.oneof(fc.constant({}), json),
        clientInfo: fc.oneof(fc.constant({ name: "fuzz", version: "1" }), json),
        uri: text,
        cursor: json,
        requestState: text,
        inputResponses: json,
        notifications: json,
        taskId: text,
        level: text,
      },
      { requiredKeys: [] },
    ),
  },
  { weight: 1, arbitrary: json },
  { weight: 1, arbitrary: fc.constant(undefined) },
);

const message = fc.record({
  jsonrpc: fc.oneof({ weight: 9, arbitrary: fc.constant("2.0") }, { weight: 1, arbitrary: json }),
  id,
  method: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...METHODS, "tools/call") },
    { weight: 1, arbitrary: json },
  ),
  params,
});

const answer = fc.record(
  { jsonrpc: fc.constant("2.0"), id, result: json, error: json },
  { requiredKeys: ["jsonrpc"] },
);

/** Text that JSON.stringify would never write. */
const raw = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.string({ maxLength: 100 }),
  message.map((each) => JSON.stringify(each).slice(0, -3)),
  message.map((each) => `${JSON.stringify(each)}${JSON.stringify(each)}`),
  message.map((each) => `\ufeff${JSON.stringify(each)}`),
  message.map((each) => `{"method":"ping","__proto__":{"x":1},${JSON.stringify(each).slice(1)}`),
  message.map((each) => JSON.stringify(each).replace("{", '{"__proto__":{"id":7},')),
  message.map((each) => JSON.stringify(each).replace(/\d+/, "1e400")),
  message.map((each) => JSON.stringify(each).replace(/\d+/, "99999999999999999999999")),
  message.map((each) => JSON.stringify(each).replace(/"[^"]*"/, '"\\ud800"')),
  fc.integer({ min: 1, max: 3_000 }).map((depth) => {
    const deep = `${"[".repeat(depth)}${"]".repeat(depth)}`;
    return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":{"path":${deep}}}}`;
  }),
);

const body = fc.oneof(
  { weight: 8, arbitrary: message.map((each) => JSON.stringify(each)) },
  { weight: 1, arbitrary: answer.map((each) => JSON.stringify(each)) },
  {
    weight: 1,
    arbitrary: fc
      .array(fc.oneof(message, answer, json), { maxLength: 6 })
      .map((each) => JSON.stringify(each)),
  },
  { weight: 3, arbitrary: raw },
);

const printable = fc.string({ unit: "grapheme-ascii", maxLength: 30 }).map((each) => each.trim());

const headers = fc.record(
  {
    accept: fc.constantFrom("application/json", "text/event-stream", "*/*", "text/html", ""),
    "content-type": fc.constantFrom(
      "text/plain",
      "application/json; charset=utf-8",
      "application/json;x",
    ),
    "mcp-protocol-version": fc.oneof(fc.constantFrom(...VERSIONS), printable),
    "mcp-method": fc.oneof(fc.constantFrom(...METHODS), printable),
    "mcp-name": fc.oneof(fc.constantFrom(...TOOLS), printable),
    "mcp-param-atlas-session": printable,
    "last-event-id": fc.oneof(fc.constantFrom("1-0", "0-0", "-1"), printable),
    "x-api-key": printable,
    traceparent: printable,
    "user-agent": printable,
  },
  { requiredKeys: [] },
);

export const randomRequest: fc.Arbitrary<RandomRequest & { mirrors: boolean }> = fc.record({
  method: fc.oneof(
    { weight: 60, arbitrary: fc.constant("POST" as const) },
    { weight: 1, arbitrary: fc.constant("GET" as const) },
    { weight: 1, arbitrary: fc.constant("DELETE" as const) },
  ),
  key: fc.oneof({ weight: 30, arbitrary: fc.nat(50) }, { weight: 1, arbitrary: fc.constant(null) }),
  session: fc.oneof(
    { weight: 8, arbitrary: fc.nat(50) },
    { weight: 2, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: printable },
  ),
  headers: fc.oneof({ weight: 4, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: headers }),
  /** Whether the headers of the 2026 era say what the body says. */
  mirrors: fc.oneof(
    { weight: 4, arbitrary: fc.constant(true) },
    { weight: 1, arbitrary: fc.constant(false) },
  ),
  body,
});
