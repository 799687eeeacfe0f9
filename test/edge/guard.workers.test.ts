import { listDurableObjectIds } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { parseConfig } from "../../src/config.ts";
import { guardRequest } from "../../src/edge/guard.ts";
import { HttpRefusal } from "../../src/edge/refusal.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import {
  admin,
  BASE,
  Client,
  currentOperator,
  executor,
  initializeRequest,
  type Key,
  keyOf,
  mintKey,
  newRoot,
  postMcp,
  recordsOf,
} from "../support/gateway.ts";
import {
  captureLogs,
  inSession,
  session,
  storedRecords,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const PING = { jsonrpc: "2.0", id: 1, method: "ping" };

function ambientOf(key: Key): string {
  const owner = { tenant: key.tenant, principal: key.principal };
  return ambientSessionId(sha256Hex, owner, Date.now());
}

/** The tables of D1 that hold anything, with their number of rows; last uses aside. */
async function archiveSize(): Promise<Record<string, unknown>> {
  const tables = ["sessions", "audit_log", "audit_log_archive", "api_keys", "workspaces"];
  const counts = await env.ARCHIVE_DB.prepare(
    `SELECT ${tables.map((table) => `(SELECT count(*) FROM ${table}) AS ${table}`).join(", ")}`,
  ).first<Record<string, unknown>>();
  return counts ?? {};
}

/** Everything that a request could leave behind: objects, rows, R2 objects, and the operator's own records. */
async function footprint() {
  const operator = await currentOperator();
  const [sessions, workspaces] = await Promise.all([
    listDurableObjectIds(env.SESSION),
    listDurableObjectIds(env.WORKSPACE),
  ]);
  return {
    sessions: sessions.length,
    workspaces: workspaces.length,
    archive: await archiveSize(),
    bucket: (await env.BUCKET.list()).objects.length,
    operator: (await storedRecords(ambientOf(operator))).length,
  };
}

/** Does what must leave nothing behind, and checks that it did not. */
async function leavesNothing(work: () => Promise<void>): Promise<void> {
  const before = await footprint();
  await work();
  expect(await footprint()).toEqual(before);
}

describe("a session belongs to the principal that opened it", () => {
  /** The 404 without what differs from request to request. */
  function withoutId(text: string): unknown {
    return JSON.parse(text.replace(/"request_id":"[^"]*"/, '"request_id":""'));
  }

  test("another key, role or tenant gets the 404 of a session that never was", async () => {
    const { client } = await executor(newRoot());
    const before = await storedRecords(client.id);
    const never = client.id.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    const strangers = [
      await mintKey("windsurf"),
      await mintKey("antigravity"),
      await mintKey("auditor"),
      await mintKey("windsurf", { tenant: "another" }),
    ];
    const call = {
      jsonrpc: "2.0",
      id: 7,
      method: "tools/call",
      params: { name: "write_file", arguments: { path: "src/a.txt", content: "mine" } },
    };
    for (const key of strangers) {
      for (const payload of [PING, call, { jsonrpc: "2.0", method: "notifications/initialized" }]) {
        const foreign = await postMcp(key.key, client.id, payload);
        const unknown = await postMcp(key.key, never, payload);
        expect([foreign.status, unknown.status]).toEqual([404, 404]);
        expect(foreign.body).toMatchObject({
          error: { code: -31404, data: { code: "SESSION_NOT_FOUND" } },
        });
        expect(withoutId(foreign.text)).toEqual(withoutId(unknown.text));
        expect([...foreign.headers.keys()]).toEqual([...unknown.headers.keys()]);
      }
      expect(await new Client(key, client.id).end()).toBe(404);
      expect(await new Client(key, never).end()).toBe(404);

      // Each is recorded with the caller, none with the victim.
      const records = await recordsOf(ambientOf(key));
      expect(records.slice(1)).toMatchObject(
        [
          ["ping", null],
          ["tools/call", "write_file"],
          [null, null],
          ["DELETE", null],
        ].map(([method, tool]) => ({
          event: "tool_call",
          result: "error",
          error_code: "SESSION_NOT_FOUND",
          principal: key.principal,
          tenant: key.tenant,
          tool,
          context: { method, attempted_session: client.id },
        })),
      );
    }
    expect(await storedRecords(client.id)).toEqual(before);
    await client.must("list_files");
  });

  test("the next key of its line is the same principal", async () => {
    const { client } = await executor(newRoot());
    const rotated = keyOf(
      await admin("POST", `/keys/${client.key.id}/rotate`, { body: { overlap_hours: 1 } }),
    );
    const successor = new Client(rotated, client.id);
    await successor.must("write_file", { path: "src/a.txt", content: "a" });
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({ principal: client.key.principal });
  });

  test("an auditor reads the sessions of its own tenant only", async () => {
    const { client } = await executor(newRoot());
    const own = await Client.open(await mintKey("auditor"));
    const other = await Client.open(await mintKey("auditor", { tenant: "another" }));
    const args = { audit_session_id: client.id };
    for (const tool of ["read_audit_log", "verify_workspace_integrity"]) {
      await own.must(tool, args);
      const refused = await other.call(tool, args);
      const never = await other.call(tool, { audit_session_id: "no-such-session" });
      expect([refused.code, refused.message]).toEqual([never.code, never.message]);
      expect(refused.code).toBe("SESSION_NOT_FOUND");
    }
    const narrowed = await Client.open(await mintKey("auditor", { workspaces: ["/elsewhere/**"] }));
    expect((await narrowed.call("read_audit_log", args)).code).toBe("SESSION_NOT_FOUND");
    const executorItself = await client.call("read_audit_log", { audit_session_id: own.id });
    expect(executorItself.code).toBe("ROLE_FORBIDDEN");
  });
});

describe("leaves no object, no row and no record behind", () => {
  test("an unknown or forged session id", async () => {
    const { client } = await executor(newRoot());
    const flip = (at: number) =>
      client.id.slice(0, at) + (client.id[at] === "0" ? "1" : "0") + client.id.slice(at + 1);
    const forged = [
      "x",
      "00000000-0000-0000-0000-000000000000",
      crypto.randomUUID(),
      ambientOf(client.key),
      client.id.toUpperCase(),
      `${client.id} `,
      `${client.id}${client.id}`,
      flip(0),
      flip(13),
      flip(35),
      "x".repeat(4096),
    ];
    await leavesNothing(async () => {
      for (const id of forged) {
        // A header's value has no white space around it once it has arrived.
        if (id.trim() !== id) continue;
        const answer = await postMcp(client.key.key, id, PING);
        expect([id, answer.status]).toEqual([id, 404]);
        expect(await new Client(client.key, id).end()).toBe(404);
      }
    });
  });

  test("a session id that an auditor makes up, an ambient one's form included", async () => {
    const auditor = await Client.open(await mintKey("auditor"));
    await leavesNothing(async () => {
      for (const id of [
        "x",
        crypto.randomUUID(),
        // Version 8 at a UTC midnight, as every ambient session has it.
        "00000000-0000-8000-8000-000000000000",
        ambientSessionId(sha256Hex, { tenant: "default", principal: "key:nobody" }, Date.now()),
      ]) {
        const refused = await auditor.call("read_audit_log", { audit_session_id: id });
        expect(refused.code).toBe("SESSION_NOT_FOUND");
      }
    });
  });

  test("a session id that an operator makes up", async () => {
    await leavesNothing(async () => {
      for (const id of ["x", crypto.randomUUID(), "00000000-0000-8000-8000-00000000000a"]) {
        expect((await admin("GET", `/audit/sessions/${id}`)).status).toBe(404);
        expect((await admin("GET", `/audit/sessions/${id}/verify`)).status).toBe(404);
        expect((await admin("DELETE", `/sessions/${id}`)).status).toBe(404);
      }
    });
  });

  test("a bad credential", async () => {
    const { client } = await executor(newRoot());
    const { key } = client.key;
    const wrong = key.replace(/.$/, (last) => (last === "a" ? "b" : "a"));
    const unknown = `ag_${"0".repeat(16)}_${"0".repeat(43)}`;
    const mangled = [wrong, unknown, key.slice(0, -1), `${key}x`, key.toUpperCase(), "ag__", "x"];
    await leavesNothing(async () => {
      for (const credential of [...mangled, env.ADMIN_TOKEN]) {
        for (const id of [null, client.id]) {
          const answer = await postMcp(credential, id, initializeRequest());
          expect([credential, answer.status]).toEqual([credential, 401]);
          expect(answer.headers.get("www-authenticate")).toBe("Bearer");
          expect(answer.body).toMatchObject({
            error: { code: -31401, data: { code: "UNAUTHENTICATED" } },
          });
          expect(answer.text).not.toContain(credential);
        }
        const onAdmin = await admin("GET", "/sessions", { as: credential });
        expect(onAdmin.status).toBe(credential === env.ADMIN_TOKEN ? 403 : 401);
      }
    });
  });

  test.for([
    ["no credential", {}],
    ["another scheme", { authorization: "Basic YTpi" }],
    ["an empty key", { "x-api-key": "" }],
    ["two that differ", { authorization: "Bearer one", "x-api-key": "another" }],
  ] as const)("a request with %s", async ([, headers]) => {
    await leavesNothing(async () => {
      const response = await exports.default.fetch(`${BASE}/mcp`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify(initializeRequest()),
      });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
      await response.body?.cancel();
    });
  });

  test("an oversized body, whether it says its size or not", async () => {
    const { client } = await executor(newRoot());
    const content = "x".repeat(10 * 1024 * 1024);
    const payload = JSON.stringify({ ...PING, params: { content } });
    const bytes = new TextEncoder().encode(payload);
    await leavesNothing(async () => {
      for (const id of [null, client.id]) {
        const said = await postMcp(client.key.key, id, payload);
        const lied = await postMcp(client.key.key, id, payload, { "content-length": "10" });
        const streamed = await exports.default.fetch(`${BASE}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${client.key.key}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
            ...(id === null ? {} : { "mcp-session-id": id }),
          },
          body: new ReadableStream({
            start(controller) {
              for (let at = 0; at < bytes.length; at += 65536) {
                controller.enqueue(bytes.subarray(at, at + 65536));
              }
              controller.close();
            },
          }),
        });
        expect([said.status, lied.status, streamed.status]).toEqual([413, 413, 413]);
        expect(said.body).toMatchObject({
          error: { code: -31413, data: { code: "PAYLOAD_TOO_LARGE" } },
        });
        await streamed.body?.cancel();
      }
      const operator = await currentOperator();
      const onAdmin = await exports.default.fetch(`${BASE}/admin/keys`, {
        method: "POST",
        headers: { authorization: `Bearer ${operator.key}`, "content-type": "application/json" },
        body: payload,
      });
      expect(onAdmin.status).toBe(413);
      expect(await onAdmin.json()).toMatchObject({ error: { code: "PAYLOAD_TOO_LARGE" } });
    });
  });

  test.for([
    ["what is not JSON", "{", -32700],
    ["nothing", "", -32700],
    ["a key twice", '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32602],
    [
      "a key twice, deep inside",
      '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":[{"b":1,"b":1}]}}',
      -32602,
    ],
    [
      "a number that JavaScript cannot hold",
      '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":9007199254740993}}',
      -32602,
    ],
    [
      "half a surrogate pair",
      '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"s":"\\ud800"}}',
      -32602,
    ],
    ["a byte order mark", `\ufeff${JSON.stringify(PING)}`, -32700],
    ["very deep nesting", `${"[".repeat(100_000)}${"]".repeat(100_000)}`, -32602],
  ] as const)("a body that is %s", async ([, body, rpcCode]) => {
    const { client } = await executor(newRoot());
    await leavesNothing(async () => {
      for (const id of [null, client.id]) {
        const answer = await postMcp(client.key.key, id, body);
        expect(answer.status).toBe(400);
        expect(answer.body).toMatchObject({
          jsonrpc: "2.0",
          error: { code: rpcCode, data: { code: "INVALID_ARGUMENT" } },
        });
      }
    });
  });

  test("a body that is not UTF-8", async () => {
    const { client } = await executor(newRoot());
    await leavesNothing(async () => {
      const response = await exports.default.fetch(`${BASE}/mcp`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${client.key.key}`,
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          "mcp-session-id": client.id,
        },
        body: new Uint8Array([0x22, 0xff, 0xfe, 0x22]),
      });
      expect(response.status).toBe(400);
      await response.body?.cancel();
    });
  });

  test("a request that the protocol does not know", async () => {
    const { client } = await executor(newRoot());
    const { key } = client.key;
    const fetched = async (init: RequestInit, path = "/mcp") => {
      const headers = new Headers({ authorization: `Bearer ${key}` });
      new Headers(init.headers).forEach((value, name) => {
        headers.set(name, value);
      });
      const response = await exports.default.fetch(`${BASE}${path}`, { ...init, headers });
      await response.body?.cancel();
      return response;
    };
    await leavesNothing(async () => {
      expect((await postMcp(key, null, PING)).status).toBe(400);
      expect((await postMcp(key, null, "[]")).status).toBe(400);
      expect((await postMcp(key, null, [initializeRequest()])).status).toBe(400);
      expect((await postMcp(key, null, { jsonrpc: "2.0", method: "initialize" })).status).toBe(400);
      const noParams = await postMcp(key, null, { jsonrpc: "2.0", id: 1, method: "initialize" });
      expect(noParams.status).toBe(400);
      const plain = await postMcp(key, client.id, PING, { "content-type": "text/plain" });
      expect(plain.status).toBe(415);
      const accept = await postMcp(key, client.id, PING, { accept: "text/html" });
      expect(accept.status).toBe(406);
      const version = await postMcp(key, client.id, PING, { "mcp-protocol-version": "1999-01-01" });
      expect(version.status).toBe(400);
      expect((await fetched({ method: "PUT" })).status).toBe(405);
      const head = await fetched({
        method: "HEAD",
        headers: { accept: "text/event-stream", "mcp-session-id": client.id },
      });
      expect([head.status, head.headers.get("allow")]).toEqual([405, "POST, GET, DELETE"]);
      expect((await fetched({ method: "PATCH", body: "{}" })).status).toBe(405);
      expect((await fetched({ method: "DELETE" })).status).toBe(400);
      const get = await fetched({ headers: { accept: "text/event-stream" } });
      expect(get.status).toBe(400);
      expect((await fetched({}, "/nowhere")).status).toBe(404);
    });
  });

  test("an operator's key on /mcp", async () => {
    const operator = await currentOperator();
    await leavesNothing(async () => {
      const answer = await postMcp(operator.key, null, initializeRequest());
      expect([answer.status, answer.body]).toMatchObject([
        403,
        { error: { code: -31403, data: { code: "FORBIDDEN" } } },
      ]);
    });
  });

  test("an agent's key on the admin API", async () => {
    const { client, planHash } = await executor(newRoot());
    await leavesNothing(async () => {
      const as = client.key.key;
      for (const [method, path, body] of [
        ["GET", "/keys"],
        ["POST", "/keys", { name: "mine", role: "operator" }],
        ["GET", "/sessions"],
        ["POST", `/plans/${planHash}/approve`, { workspace_root: "/srv/app" }],
        ["GET", `/audit/sessions/${client.id}`],
        ["GET", "/openapi.json"],
      ] as const) {
        const answer = await admin(method, path, body === undefined ? { as } : { as, body });
        expect([path, answer.status]).toEqual([path, 403]);
        expect(answer.body).toMatchObject({ error: { code: "FORBIDDEN" } });
      }
    });
  });

  test("a page of another origin, or a name that is not the gateway's", async () => {
    const { client } = await executor(newRoot());
    await leavesNothing(async () => {
      const origin = await postMcp(client.key.key, client.id, PING, {
        origin: "https://evil.example",
      });
      expect([origin.status, origin.body]).toMatchObject([
        403,
        { error: { data: { code: "ORIGIN_FORBIDDEN" } } },
      ]);
      expect(origin.headers.get("access-control-allow-origin")).toBeNull();
      const own = await postMcp(client.key.key, client.id, PING, { origin: BASE });
      expect(own.status).toBe(200);
      for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io"]) {
        const response = await exports.default.fetch(`http://${host}/mcp`, {
          method: "POST",
          headers: { authorization: `Bearer ${client.key.key}` },
          body: "{}",
        });
        expect(response.status).toBe(421);
        expect(await response.json()).toMatchObject({ error: { data: { code: "MISDIRECTED" } } });
      }
    });
  });
});

describe("every response", () => {
  test("carries its request id and forbids sniffing, whatever it is", async () => {
    const seen = new Set<string | null>();
    for (const path of ["/health", "/health/ready", "/mcp", "/admin/keys", "/nowhere"]) {
      const response = await exports.default.fetch(`${BASE}${path}`);
      await response.body?.cancel();
      seen.add(response.headers.get("x-request-id"));
      expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      if (path !== "/health" && path !== "/health/ready") {
        expect(response.headers.get("content-type")).toContain("application/json");
      }
    }
    expect(seen.size).toBe(5);
    expect(seen.has(null)).toBe(false);
  });

  test("does not take over a request id from outside", async () => {
    const response = await exports.default.fetch(`${BASE}/health`, {
      headers: { "x-request-id": "mine" },
    });
    await response.body?.cancel();
    expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("is one line in the log, which names no path from outside", async () => {
    const at = logs.length;
    const response = await exports.default.fetch(`${BASE}/some/secret/path?token=abc`);
    await response.body?.cancel();
    const lines = logs.slice(at).filter((line) => line.includes('"request"'));
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "{}")).toMatchObject({
      event: "request",
      request_id: response.headers.get("x-request-id"),
      path: "other",
      status: 404,
    });
    expect(lines[0]).not.toMatch(/secret|abc/);
  });
});

describe("off loopback", () => {
  const secrets = {
    ADMIN_TOKEN: env.ADMIN_TOKEN,
    LOG_SIGNING_KEY: env.LOG_SIGNING_KEY,
    SECRETS_KEY: env.SECRETS_KEY,
  };
  const settings = {
    PUBLIC_URL: "https://gate.example",
    ALLOWED_ORIGINS: "https://app.example",
  };

  function guard(url: string, init: RequestInit = {}) {
    const parsed = parseConfig({ ...secrets, ...settings });
    if (!parsed.ok) throw new Error(parsed.message);
    try {
      const response = guardRequest(new Request(url, init), parsed.config);
      return response === null ? "passed" : [response.status, response.headers.get("location")];
    } catch (error) {
      if (error instanceof HttpRefusal) return [error.status, error.code];
      throw error;
    }
  }

  test("plain HTTP is redirected, and refused once a credential is in it", () => {
    expect(guard("http://gate.example/mcp?a=b")).toEqual([308, "https://gate.example/mcp?a=b"]);
    for (const name of ["authorization", "x-api-key"]) {
      const headers = { [name]: "Bearer x" };
      expect(guard("http://gate.example/mcp", { headers })).toEqual([403, "FORBIDDEN"]);
    }
    expect(guard("https://gate.example/mcp")).toBe("passed");
  });

  test("only the canonical host is answered for", () => {
    expect(guard("https://other.example/mcp")).toEqual([421, "MISDIRECTED"]);
    expect(guard("https://gate.example:8443/mcp")).toEqual([421, "MISDIRECTED"]);
    expect(guard("http://localhost/mcp")).toEqual([421, "MISDIRECTED"]);
  });

  test("only allowed origins may call, and have their preflight answered", () => {
    const preflight = { "access-control-request-method": "POST" };
    const from = (origin: string, headers: Record<string, string> = {}) =>
      guard("https://gate.example/mcp", { method: "OPTIONS", headers: { origin, ...headers } });
    expect(from("https://app.example", preflight)).toEqual([204, null]);
    expect(from("https://app.example")).toBe("passed");
    expect(from("https://gate.example")).toBe("passed");
    for (const origin of ["https://evil.example", "null", "http://app.example"]) {
      expect(from(origin, preflight)).toEqual([403, "ORIGIN_FORBIDDEN"]);
    }
  });

  test("the preflight allows the headers that mirror arguments, by whatever name, and no others", () => {
    const parsed = parseConfig({ ...secrets, ...settings });
    if (!parsed.ok) throw new Error(parsed.message);
    const asked =
      "authorization,Mcp-Param-Atlas-Session, mcp-param-region,x-forwarded-for,mcp-param-,cookie,mcp-param-a b";
    const request = new Request("https://gate.example/mcp", {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
      },
    });
    const answer = guardRequest(request, parsed.config);
    const allowed = answer?.headers.get("access-control-allow-headers")?.split(", ") ?? [];
    expect(allowed.filter((name) => name.startsWith("mcp-param-"))).toEqual([
      "mcp-param-atlas-session",
      "mcp-param-region",
    ]);
    expect(allowed).toContain("authorization");
    for (const name of ["x-forwarded-for", "cookie"]) expect(allowed).not.toContain(name);
  });
});

test("batches are for 2025-03-26, in order, at most 50, and never hold initialize", async () => {
  const key = await mintKey("windsurf");
  const opened = await postMcp(key.key, null, initializeRequest("2025-03-26"));
  const id = opened.headers.get("mcp-session-id") ?? "";
  const call = (n: number) => ({
    jsonrpc: "2.0",
    id: n,
    method: "tools/call",
    params: { name: `no_such_tool_${n}`, arguments: {} },
  });
  const notification = { jsonrpc: "2.0", method: "notifications/initialized" };
  const fifty = Array.from({ length: 50 }, (_, n) => call(n));
  const answer = await postMcp(key.key, id, fifty);
  expect(answer.status).toBe(200);
  expect(answer.body).toHaveLength(50);
  const tools = (await recordsOf(id)).slice(1).map(({ tool }) => tool);
  expect(tools).toEqual(fifty.map(({ params }) => params.name));
  expect((await postMcp(key.key, id, [notification, notification])).status).toBe(202);
  for (const refused of [
    [],
    [...fifty, call(50)],
    [initializeRequest()],
    [call(0), initializeRequest()],
  ]) {
    expect((await postMcp(key.key, id, refused)).status).toBe(400);
  }
  const mixed = await postMcp(key.key, id, [call(1), 7, notification]);
  expect([mixed.status, mixed.body]).toMatchObject([200, [{ id: 1 }, { error: { code: -32600 } }]]);
  expect(await inSession(id, (sql) => sql.exec("SELECT 1 FROM records").toArray().length)).toBe(52);
  expect(await session(id).status()).toMatchObject({ entries: 52 });
});
