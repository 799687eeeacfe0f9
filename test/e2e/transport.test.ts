import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportLines, readLine } from "./support/chain.ts";
import { Gateway, readLocalFile } from "./support/gateway.ts";
import { type Answer, at, type Sent, send } from "./support/http.ts";
import { ACCEPT, initializeMessage, postMcp, RawSession, toolCall } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";

const ORIGIN = "https://agents.example";
const PING = { jsonrpc: "2.0", id: 1, method: "ping" };
const MIB = 1024 * 1024;

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({
    vars: { ALLOWED_ORIGINS: `${ORIGIN},https://other.example:8443`, MAX_BODY_BYTES: String(MIB) },
  });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

/** What every response has, whatever it answers. */
function expectCommonHeaders(answer: Answer): void {
  expect(answer.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  expect(answer.headers["x-content-type-options"]).toBe("nosniff");
}

/** A refusal on `/mcp`: JSON-RPC, with the gateway's code where no other goes before it. */
function expectMcpRefusal(answer: Answer, status: number, code: string, rpcCode = -31000 - status) {
  expectCommonHeaders(answer);
  expect([answer.status, answer.headers["content-type"]]).toEqual([status, "application/json"]);
  expect(answer.json).toMatchObject({
    jsonrpc: "2.0",
    error: {
      code: rpcCode,
      message: expect.stringMatching(/\w/),
      data: { code, request_id: answer.headers["x-request-id"] },
    },
  });
  expectNoInside(answer);
}

/** A refusal on any other route. */
function expectPlainRefusal(answer: Answer, status: number, code: string): void {
  expectCommonHeaders(answer);
  expect([answer.status, answer.headers["content-type"]]).toEqual([status, "application/json"]);
  expect(answer.json).toEqual({
    error: {
      code,
      message: expect.stringMatching(/\w/),
      request_id: answer.headers["x-request-id"],
    },
  });
  expectNoInside(answer);
}

function expectNoInside({ text }: Answer): void {
  expect(text).not.toMatch(/<html|\bat .+\.(ts|js):\d+|Error:|SQLITE|D1_/i);
}

function bearer(key: string): Record<string, string> {
  return { authorization: `Bearer ${key}` };
}

/** One POST to `/mcp` with exactly these headers. */
function post(headers: Record<string, string>, body: Sent["body"] = JSON.stringify(PING)) {
  return send(`${gateway.url}/mcp`, { method: "POST", headers, body: body ?? "" });
}

const JSON_HEADERS = { accept: ACCEPT, "content-type": "application/json" };

async function recordCount(session: RawSession): Promise<number> {
  return exportLines(await operator.export(session.id)).length;
}

describe("credentials", () => {
  it.each([
    { what: "none", headers: {} },
    { what: "a word", headers: { authorization: "Bearer secret" } },
    { what: "no scheme", headers: { authorization: "ag_x_y" } },
    { what: "Basic", headers: { authorization: "Basic YTpi" } },
    { what: "an empty one", headers: { "x-api-key": "" } },
    {
      what: "a key that was never minted",
      headers: bearer(`ag_${"0".repeat(16)}_${"a".repeat(43)}`),
    },
  ])("answers $what with 401 and what to send", async ({ headers }) => {
    const answer = await post({ ...JSON_HEADERS, ...headers });
    expectMcpRefusal(answer, 401, "UNAUTHENTICATED");
    expect(answer.headers["www-authenticate"]).toBe("Bearer");
  });

  it("takes a key in either header, and in both if they agree", async () => {
    const { windsurf, antigravity } = gateway.keys;
    const body = JSON.stringify(initializeMessage());
    const xApiKey = { "x-api-key": windsurf };
    expect((await post({ ...JSON_HEADERS, ...xApiKey }, body)).status).toBe(200);
    expect((await post({ ...JSON_HEADERS, ...bearer(windsurf) }, body)).status).toBe(200);
    expect((await post({ ...JSON_HEADERS, ...xApiKey, ...bearer(windsurf) }, body)).status).toBe(
      200,
    );
    const differing = await post({ ...JSON_HEADERS, ...xApiKey, ...bearer(antigravity) }, body);
    expectMcpRefusal(differing, 401, "UNAUTHENTICATED");
  });

  it("refuses a key with one character changed", async () => {
    const { windsurf } = gateway.keys;
    const changed = `${windsurf.slice(0, -1)}${windsurf.endsWith("a") ? "b" : "a"}`;
    expectMcpRefusal(await post({ ...JSON_HEADERS, ...bearer(changed) }), 401, "UNAUTHENTICATED");
  });

  it("lets no operator into MCP, and no agent into the admin API", async () => {
    expectMcpRefusal(
      await post({ ...JSON_HEADERS, ...bearer(gateway.keys.operator) }),
      403,
      "FORBIDDEN",
    );
    expectMcpRefusal(
      await post({ ...JSON_HEADERS, ...bearer(gateway.adminToken) }),
      401,
      "UNAUTHENTICATED",
    );
    for (const role of ["antigravity", "windsurf", "auditor"] as const) {
      const agent = new Operator(gateway.url, gateway.keys[role]);
      for (const path of ["/keys", "/sessions", "/audit", "/plans", "/openapi.json"]) {
        expectPlainRefusal(await agent.get(path), 403, "FORBIDDEN");
      }
    }
  });
});

describe("methods and media types", () => {
  it.each(["PUT", "PATCH", "OPTIONS", "TRACE"])("answers %s /mcp with 405", async (method) => {
    const answer = await send(`${gateway.url}/mcp`, {
      method,
      headers: bearer(gateway.keys.windsurf),
    });
    expectMcpRefusal(answer, 405, "INVALID_ARGUMENT");
    expect(answer.headers.allow).toContain("POST");
  });

  it("opens a stream on GET for a session, and for nothing else", async () => {
    const headers = { ...bearer(gateway.keys.windsurf), accept: "text/event-stream" };
    expectMcpRefusal(await send(`${gateway.url}/mcp`, { headers }), 400, "SESSION_REQUIRED");
    const json = { ...headers, accept: "application/json" };
    expectMcpRefusal(await send(`${gateway.url}/mcp`, { headers: json }), 406, "INVALID_ARGUMENT");
  });

  it.each([
    "text/html",
    "application/json",
    "text/event-stream",
    "application/json, text/event-stream;q=0",
    "image/*",
  ])("answers Accept: %s with 406", async (accept) => {
    const answer = await post({ ...JSON_HEADERS, accept, ...bearer(gateway.keys.windsurf) });
    expectMcpRefusal(answer, 406, "INVALID_ARGUMENT");
  });

  it.each(["*/*", "application/*, text/*", "text/event-stream, application/json; q=0.5"])(
    "takes Accept: %s",
    async (accept) => {
      const headers = { ...JSON_HEADERS, accept, ...bearer(gateway.keys.windsurf) };
      expect((await post(headers, JSON.stringify(initializeMessage()))).status).toBe(200);
    },
  );

  it.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=iso-8859-1",
    "application/jsonp",
  ])("answers Content-Type: %s with 415", async (contentType) => {
    const answer = await post({
      ...JSON_HEADERS,
      ...bearer(gateway.keys.windsurf),
      "content-type": contentType,
    });
    expectMcpRefusal(answer, 415, "INVALID_ARGUMENT");
  });

  it("answers as an event stream a client that would rather have one", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const answer = await session.post(PING, {
      accept: "application/json;q=0.2, text/event-stream;q=0.9",
    });
    expectCommonHeaders(answer);
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "text/event-stream"]);
    const data = answer.text.split("\n").filter((line) => line.startsWith("data: "));
    expect(data.map((line) => JSON.parse(line.slice(6)))).toEqual([
      { jsonrpc: "2.0", id: 1, result: {} },
    ]);
    expect(answer.text.endsWith("\n\n")).toBe(true);
  });
});

describe("Host and Origin", () => {
  it.each(["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1"])(
    "answers for the Host %s on no route",
    async (host) => {
      const headers = { ...JSON_HEADERS, ...bearer(gateway.keys.windsurf), host };
      expectMcpRefusal(
        await post(headers, JSON.stringify(initializeMessage())),
        421,
        "MISDIRECTED",
      );
      for (const path of ["/health", "/admin/keys", "/nothing"]) {
        const answer = await send(`${gateway.url}${path}`, { headers: { host } });
        expectPlainRefusal(answer, 421, "MISDIRECTED");
      }
    },
  );

  it.each(["localhost", "127.0.0.1", "localhost:1", "[::1]:8787"])(
    "answers for the loopback name %s, with any port",
    async (host) => {
      const answer = await send(`${gateway.url}/health`, { headers: { host } });
      expect(answer.status).toBe(200);
      expectCommonHeaders(answer);
    },
  );

  it.each(["https://evil.example", "null", "http://localhost:1", "https://agents.example:444"])(
    "refuses the Origin %s",
    async (origin) => {
      const headers = { ...JSON_HEADERS, ...bearer(gateway.keys.windsurf), origin };
      const answer = await post(headers, JSON.stringify(initializeMessage()));
      expectMcpRefusal(answer, 403, "ORIGIN_FORBIDDEN");
      expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
      const preflight = await send(`${gateway.url}/mcp`, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST" },
      });
      expectMcpRefusal(preflight, 403, "ORIGIN_FORBIDDEN");
    },
  );

  it("takes its own origin and those of ALLOWED_ORIGINS", async () => {
    for (const origin of [gateway.url, ORIGIN, "https://other.example:8443"]) {
      const headers = { ...JSON_HEADERS, ...bearer(gateway.keys.windsurf), origin };
      const answer = await post(headers, JSON.stringify(initializeMessage()));
      expect([origin, answer.status]).toEqual([origin, 200]);
    }
  });

  it("answers the preflight of an allowed origin without a credential", async () => {
    const answer = await send(`${gateway.url}/mcp`, {
      method: "OPTIONS",
      headers: {
        origin: ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, mcp-session-id",
      },
    });
    expect(answer.status).toBe(204);
    expectCommonHeaders(answer);
    expect(answer.headers["access-control-allow-origin"]).toBe(ORIGIN);
    expect(answer.headers["access-control-allow-methods"]).toMatch(/POST.*DELETE|DELETE.*POST/);
    const allowed = answer.headers["access-control-allow-headers"]?.toLowerCase().split(/, */);
    expect(allowed).toEqual(
      expect.arrayContaining(["authorization", "content-type", "mcp-session-id", "x-api-key"]),
    );
    expect(answer.headers.vary?.toLowerCase()).toContain("origin");
  });

  it("lets an allowed origin read the session id, refusals included", async () => {
    const headers = { ...JSON_HEADERS, ...bearer(gateway.keys.windsurf), origin: ORIGIN };
    const opened = await post(headers, JSON.stringify(initializeMessage()));
    const refused = await post({ ...JSON_HEADERS, origin: ORIGIN });
    for (const answer of [opened, refused]) {
      expect(answer.headers["access-control-allow-origin"]).toBe(ORIGIN);
      expect(answer.headers["access-control-expose-headers"]).toContain("mcp-session-id");
    }
    expect([opened.status, refused.status]).toEqual([200, 401]);
  });
});

describe("routes that are not there", () => {
  it.each(["/", "/nothing", "/mcp/", "/MCP", "/.env", "/admin/nothing", "/admin"])(
    "answers %s with 404 in JSON",
    async (path) => {
      const answer = await send(`${gateway.url}${path}`, {
        headers: bearer(gateway.keys.operator),
      });
      expectPlainRefusal(answer, 404, "NOT_FOUND");
    },
  );
});

describe("bodies", () => {
  it("refuses one over MAX_BODY_BYTES, and takes the same session's next call", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const before = await recordCount(session);
    for (const size of [MIB + 1, 10 * MIB]) {
      const content = "x".repeat(size);
      const answer = await session.post(toolCall(1, "write_file", { path: "a", content }));
      expectMcpRefusal(answer, 413, "PAYLOAD_TOO_LARGE");
    }
    expect(await recordCount(session)).toBe(before);
    expect((await session.post(PING)).status).toBe(200);
  });

  it("counts the bytes of a body that does not say how long it is", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const body = JSON.stringify(
      toolCall(1, "write_file", { path: "a", content: "x".repeat(2 * MIB) }),
    );
    const answer = await session.post(body, { "transfer-encoding": "chunked" });
    expectMcpRefusal(answer, 413, "PAYLOAD_TOO_LARGE");
  });

  it.each([
    { what: "nothing", body: "" },
    { what: "no JSON", body: "{" },
    { what: "two values", body: `${JSON.stringify(PING)}{}` },
    { what: "a byte order mark", body: `\ufeff${JSON.stringify(PING)}` },
    { what: "a comment", body: `/* */${JSON.stringify(PING)}` },
    { what: "NaN", body: '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}' },
    { what: "a bare control character", body: '{"jsonrpc":"2.0","id":1,"method":"pi\nng"}' },
    { what: "invalid UTF-8", body: Buffer.from([0x22, 0xff, 0xfe, 0x22]) },
    { what: "overlong UTF-8", body: Buffer.from([0x22, 0xc0, 0xaf, 0x22]) },
    { what: "UTF-16", body: Buffer.from(JSON.stringify(PING), "utf16le") },
  ])("refuses $what as no JSON, with -32700", async ({ body }) => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    expectMcpRefusal(await session.post(body), 400, "INVALID_ARGUMENT", -32700);
    expect(await recordCount(session)).toBe(1);
  });

  it.each([
    { what: "a key twice", args: '{"path":"a","path":"b"}' },
    { what: "a key twice, once escaped", args: '{"path":"a","p\\u0061th":"b"}' },
    { what: "half a surrogate pair", args: '{"path":"\\ud800"}' },
    { what: "half a surrogate pair in a key", args: '{"\\udc00":1}' },
    { what: "a number past every double", args: '{"path":1e400}' },
    { what: "an integer that a double rounds", args: '{"path":9007199254740993}' },
    { what: "a fraction that a double rounds", args: '{"path":0.10000000000000000555}' },
    { what: "a number below every double", args: '{"path":1e-400}' },
    { what: "nesting of 200 levels", args: `{"path":${"[".repeat(200)}${"]".repeat(200)}}` },
    {
      what: "nesting of 100,000 levels",
      args: `{"path":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    },
  ])("refuses $what with -32602, before anything happens", async ({ args }) => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":${args}}}`;
    expectMcpRefusal(await session.post(body), 400, "INVALID_ARGUMENT", -32602);
    expect(await recordCount(session)).toBe(1);
  });

  it("takes numbers and text at the edge of what is held", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const args =
      '{"path":"\\ud83d\\ude00\\u2028\\u0000","n":[1e2,100.0,9007199254740991,-0.5,1.7976931348623157e308]}';
    const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file","arguments":${args}}}`;
    const answer = await session.post(body);
    expect(answer.status).toBe(200);
    expect(at(answer.json, "result.isError")).toBe(true);
    const record = readLine(exportLines(await operator.export(session.id)).at(-1) ?? "");
    expect(record.args).toEqual(JSON.parse(args));
  });
});

describe("batches", () => {
  const list = (count: number) => Array.from({ length: count }, (_, id) => ({ ...PING, id }));

  it("are answered in order where 2025-03-26 was negotiated", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor, "2025-03-26");
    const answer = await session.post([
      PING,
      { jsonrpc: "2.0", method: "notifications/initialized" },
      toolCall("two", "read_audit_log", { limit: 1 }),
      { jsonrpc: "2.0", id: 3, method: "no/such" },
      { jsonrpc: "2.0", id: "four" },
      toolCall(5, "nope"),
    ]);
    expect(answer.status).toBe(200);
    expectCommonHeaders(answer);
    expect(answer.json).toMatchObject([
      { id: 1, result: {} },
      { id: "two", result: { structuredContent: {} } },
      { id: 3, error: { code: -32601 } },
      { id: "four", error: { code: -32600 } },
      { id: 5, error: { code: -32602, data: { code: "TOOL_NOT_FOUND" } } },
    ]);
    const records = exportLines(await operator.export(session.id)).map(readLine);
    expect(records.map((record) => record.tool)).toEqual([null, "read_audit_log", "nope"]);
  });

  it("hold up to 50 messages", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor, "2025-03-26");
    const fifty = await session.post(list(50));
    expect(fifty.status).toBe(200);
    expect(fifty.json).toEqual(list(50).map(({ id }) => ({ jsonrpc: "2.0", id, result: {} })));
    expect((await session.post(list(51))).status).toBe(400);
  });

  it("of notifications alone are accepted with 202", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor, "2025-03-26");
    const answer = await session.post([
      { jsonrpc: "2.0", method: "notifications/initialized" },
      { jsonrpc: "2.0", id: 1, result: {} },
    ]);
    expect([answer.status, answer.text]).toEqual([202, ""]);
  });

  it("are refused when they are empty or hold initialize, and nothing of them is done", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor, "2025-03-26");
    for (const batch of [[], [toolCall(1, "read_audit_log"), initializeMessage("2025-03-26", 2)]]) {
      const answer = await session.post(batch);
      expect(answer.status).toBe(400);
      expect(at(answer.json, "error.code")).toBe(-32600);
    }
    expect(await recordCount(session)).toBe(1);
  });

  it.each(["2025-06-18", "2025-11-25"])("are refused where %s was negotiated", async (version) => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor, version);
    const answer = await session.post([PING]);
    expect(answer.status).toBe(400);
    expect(at(answer.json, "error.code")).toBe(-32600);
    expect(await recordCount(session)).toBe(1);
  });

  it("open no session", async () => {
    const answer = await postMcp(gateway.url, [initializeMessage("2025-03-26")], {
      key: gateway.keys.auditor,
    });
    expect(answer.status).toBe(400);
    expect(answer.headers["mcp-session-id"]).toBeUndefined();
  });
});

describe("a gateway with a public address", () => {
  let behind: Gateway;
  const host = "gate.example.com";

  beforeAll(async () => {
    behind = await Gateway.start({ vars: { PUBLIC_URL: `https://${host}` } });
  });

  afterAll(async () => {
    await behind?.dispose();
  });

  it("answers for no other name, loopback included", async () => {
    expectPlainRefusal(await send(`${behind.url}/health`, {}), 421, "MISDIRECTED");
  });

  it("sends plain HTTP on to HTTPS", async () => {
    const answer = await send(`${behind.url}/health`, { headers: { host } });
    expectCommonHeaders(answer);
    expect(answer.status).toBe(308);
    // The local proxy of wrangler writes its own scheme into the header; the path is the gateway's.
    expect(answer.headers.location).toMatch(/^https?:\/\/gate\.example\.com\/health$/);
    expect(answer.headers["strict-transport-security"]).toMatch(/^max-age=\d+/);
  });

  it.each(["authorization", "x-api-key"])(
    "refuses a credential that came over plain HTTP in %s",
    async (name) => {
      const key = behind.keys.windsurf;
      const answer = await send(`${behind.url}/mcp`, {
        method: "POST",
        headers: { ...JSON_HEADERS, host, [name]: name === "x-api-key" ? key : `Bearer ${key}` },
        body: JSON.stringify(initializeMessage()),
      });
      expectMcpRefusal(answer, 403, "FORBIDDEN");
      expect(answer.text).not.toContain(key);
    },
  );
});

describe("a gateway that lets nobody of this machine in", () => {
  const vars = { ALLOWED_IPS: "10.0.0.0/8", REQUIRE_CLIENT_CERT: "true" };
  let shut: Gateway;

  beforeAll(async () => {
    shut = await Gateway.start({ vars });
  });

  afterAll(async () => {
    await shut?.dispose();
  });

  it("starts all the same, with its keys made, and refuses by address first", async () => {
    const refused = await postMcp(shut.url, initializeMessage(), { key: shut.keys.windsurf });
    expectMcpRefusal(refused, 403, "ADDRESS_FORBIDDEN");
    const elsewhere = await send(`${shut.url}/mcp`, {
      method: "POST",
      headers: {
        ...JSON_HEADERS,
        "cf-connecting-ip": "10.1.2.3",
        authorization: `Bearer ${shut.keys.windsurf}`,
      },
      body: JSON.stringify(initializeMessage()),
    });
    expectMcpRefusal(elsewhere, 403, "CLIENT_CERT_REQUIRED");
  });

  it("keeps its keys at the next start", async () => {
    const before = await readLocalFile(shut.stateDir);
    await shut.stop();
    await shut.restart();
    expect(await readLocalFile(shut.stateDir)).toEqual(before);
  });
});
