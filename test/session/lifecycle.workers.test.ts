import { listDurableObjectIds } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { WorkspaceObject } from "../../src/workspace/workspace-object.ts";
import {
  admin,
  approvedPlan,
  Client,
  currentOperator,
  executor,
  initializeRequest,
  type Key,
  mintKey,
  newRoot,
  postMcp,
  recordsOf,
  verified,
} from "../support/gateway.ts";
import {
  advance,
  alarmOf,
  captureLogs,
  crash,
  DAY,
  evict,
  gate,
  HOUR,
  inSession,
  MINUTE,
  ring,
  ringNow,
  ringUntilReleased,
  SECOND,
  SESSION_TTL,
  session,
  storedRecords,
  tablesOf,
  useStoppedClock,
} from "../support/objects.ts";
import { dueTime, sessionRow } from "../support/sinks.ts";

useStoppedClock();
captureLogs();

const OK = { ok: true, findings: [] };

async function lastRecord(id: string) {
  return JSON.parse((await storedRecords(id)).at(-1)?.line ?? "null");
}

describe("a session's idle life", () => {
  test("ends by alarm, with a last record and nothing after it", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await client.must("read_audit_log");
    advance(SESSION_TTL);
    await ringNow(session(client.id));
    const records = await recordsOf(client.id);
    expect(records.at(-1)).toMatchObject({
      seq: 3,
      event: "session_close",
      result: "ok",
      principal: client.key.principal,
      notes: "idle",
    });
    const late = await client.call("list_files");
    expect([late.status, late.code]).toEqual([404, "SESSION_NOT_FOUND"]);
    expect((await client.rpc("ping")).status).toBe(404);
    expect(await client.end()).toBe(404);
    expect(await recordsOf(client.id)).toEqual(records);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);

    await ringUntilReleased(client.id);
    expect(await tablesOf(session(client.id))).toEqual([]);
    expect(await sessionRow(client.id)).toMatchObject({
      entries: 3,
      head: records.at(-1)?.hash_chain,
      ended_at: records.at(-1)?.timestamp,
    });
    expect((await client.rpc("ping")).status).toBe(404);
    const listed = await admin("GET", "/sessions?active=true&limit=200");
    expect(listed.text).not.toContain(client.id);
  });

  test("slides with every call, and ends a full life after the last", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    for (let n = 0; n < 4; n++) {
      advance(SESSION_TTL - 1);
      await ringNow(session(client.id));
      await client.must("read_audit_log");
    }
    advance(SESSION_TTL - 1);
    await ringNow(session(client.id));
    expect((await lastRecord(client.id)).event).toBe("tool_call");
    const end = Date.now() + 1;
    await ring(session(client.id));
    expect((await lastRecord(client.id)).event).toBe("session_close");
    expect(Date.now()).toBeGreaterThanOrEqual(end);
    expect(Date.now()).toBeLessThan(end + SECOND);
  });

  test("says its end in begin_session's answer", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    advance(10 * MINUTE);
    const { value } = await client.must("begin_session", { workspace_root: newRoot() });
    expect(value.expires_at).toBe(new Date(Date.now() + SESSION_TTL).toISOString());
  });

  test("ends at the next call, if the alarm is late", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    advance(SESSION_TTL - 1);
    expect((await client.rpc("ping")).status).toBe(200);
    advance(SESSION_TTL);
    expect((await client.rpc("ping")).status).toBe(404);
    expect(await lastRecord(client.id)).toMatchObject({ event: "session_close", notes: "idle" });
  });

  test("slides with pings, which persist it coarsely and outlive an eviction", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const opened = Date.now();
    expect(await dueTime(client.id, "idle")).toBe(opened + SESSION_TTL);
    advance(2 * MINUTE);
    await client.rpc("ping");
    // Not worth a write yet.
    expect(await dueTime(client.id, "idle")).toBe(opened + SESSION_TTL);
    advance(28 * MINUTE);
    await client.rpc("ping");
    expect(await dueTime(client.id, "idle")).toBe(opened + 30 * MINUTE + SESSION_TTL);
    expect(await storedRecords(client.id)).toHaveLength(1);
    await evict(session(client.id));
    advance(SESSION_TTL - 1);
    await ringNow(session(client.id));
    expect((await client.rpc("ping")).status).toBe(200);
  });

  test("does not end while a call is under way", async () => {
    const { client } = await executor(newRoot());
    const { call, goOn } = await callUnderWay(client);
    advance(2 * SESSION_TTL);
    await ringNow(session(client.id));
    expect((await lastRecord(client.id)).event).toBe("tool_intent");
    goOn.open();
    expect((await call).code).toBeNull();
    expect((await client.rpc("ping")).status).toBe(200);
  });

  test("leaves a session with a call under way open to others", async () => {
    const { client } = await executor(newRoot());
    const { call, goOn } = await callUnderWay(client);
    advance(2 * SESSION_TTL);
    const other = await client.rpc("ping");
    goOn.open();
    expect((await call).code).toBeNull();
    expect(other.status).toBe(200);
  });
});

describe("an eviction or a crash between two calls", () => {
  test.for(["eviction", "crash"] as const)(
    "goes unnoticed by the client: %s between any two",
    async (kind) => {
      const root = newRoot();
      const planHash = await approvedPlan(root);
      const client = await Client.open(await mintKey("windsurf"));
      const between = () =>
        kind === "eviction" ? evict(session(client.id)) : crash(session(client.id));
      const receipts = [];
      await between();
      receipts.push(
        await client.must("begin_session", { workspace_root: root, plan_hash: planHash }),
      );
      await between();
      receipts.push(await client.must("write_file", { path: "src/a.txt", content: "a" }));
      await between();
      expect((await client.rpc("tools/list")).status).toBe(200);
      await between();
      receipts.push(await client.must("read_file", { path: "src/a.txt" }));
      await between();
      receipts.push(await client.must("delete_file", { path: "src/a.txt" }));
      await between();
      receipts.push(await client.must("read_audit_log"));
      await between();
      expect(receipts.map(({ receipt }) => receipt?.seq)).toEqual([2, 4, 5, 7, 8]);
      const records = await recordsOf(client.id);
      for (const { receipt } of receipts) {
        expect(records[(receipt?.seq ?? 0) - 1]?.hash_chain).toBe(receipt?.hash_chain);
      }
      expect(records.slice(2).every((record) => record.plan_hash === planHash)).toBe(true);
      expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
    },
  );

  test("keeps the revision that was negotiated", async () => {
    const key = await mintKey("windsurf");
    const ping = (id: number) => ({ jsonrpc: "2.0", id, method: "ping" });
    const opened = await postMcp(key.key, null, initializeRequest("2025-03-26"));
    const old = opened.headers.get("mcp-session-id");
    const { id: newer } = await Client.open(key);
    for (let n = 0; n < 2; n++) {
      const batch = await postMcp(key.key, old, [ping(1), ping(2)]);
      expect([batch.status, batch.body]).toEqual([
        200,
        [
          { jsonrpc: "2.0", id: 1, result: {} },
          { jsonrpc: "2.0", id: 2, result: {} },
        ],
      ]);
      expect((await postMcp(key.key, newer, [ping(1), ping(2)])).status).toBe(400);
      await evict(session(old ?? ""));
      await evict(session(newer));
    }
  });

  test("sets a lost alarm again, whatever wakes the object", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const due = await alarmOf(session(client.id));
    await inSession(client.id, (_sql, state) => state.storage.deleteAlarm());
    await evict(session(client.id));
    await client.rpc("ping");
    expect(await alarmOf(session(client.id))).toBe(due);
  });
});

describe("begin_session", () => {
  test("again with other values binds the session anew", async () => {
    const [one, two] = [newRoot(), newRoot()];
    const { client, planHash } = await executor(one);
    await client.must("write_file", { path: "src/a.txt", content: "a" });
    await client.must("begin_session", { workspace_root: two });
    expect((await client.must("list_files")).value.files).toEqual([]);
    const write = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect(write.code).toBe("PLAN_REQUIRED");
    await client.must("begin_session", { workspace_root: one, plan_hash: planHash });
    expect((await client.must("read_file", { path: "src/a.txt" })).value.content).toBe("a");
    const binds = (await recordsOf(client.id)).filter(({ event }) => event === "session_bind");
    expect(binds.map(({ workspace_root, plan_hash }) => [workspace_root, plan_hash])).toEqual([
      [one, planHash],
      [two, null],
      [one, planHash],
    ]);
    expect(binds[0]?.context).toMatchObject({ approval: { by: expect.any(String) } });
  });

  test("that is refused leaves the session as it was bound", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    const refused = await client.call("begin_session", {
      workspace_root: newRoot(),
      plan_hash: planHash,
    });
    expect(refused.code).toBe("PLAN_NOT_FOUND");
    await client.must("write_file", { path: "src/a.txt", content: "a" });
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({ workspace_root: root });
  });
});

describe("the end of a session", () => {
  test("by its client while a write is under way comes after that write's result", async () => {
    const { client } = await executor(newRoot());
    const { call, goOn } = await callUnderWay(client);
    const end = client.end();
    const second = client.end();
    // Nothing new is taken once the end was asked for.
    while ((await client.rpc("ping")).status === 200) advance(1);
    expect((await lastRecord(client.id)).event).toBe("tool_intent");
    goOn.open();
    expect((await call).code).toBeNull();
    expect([await end, await second].sort()).toEqual([204, 404]);
    expect((await recordsOf(client.id)).slice(2)).toMatchObject([
      { event: "tool_intent" },
      { event: "tool_result", result: "ok", intent_seq: 3 },
      { event: "session_close", notes: "ended by the client" },
    ]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("asked for twice is one record", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    expect(await client.end()).toBe(204);
    expect(await client.end()).toBe(404);
    expect((await recordsOf(client.id)).map(({ event }) => event)).toEqual([
      "session_open",
      "session_close",
    ]);
  });

  test("by an operator is in both chains, and names the operator in the operator's", async () => {
    const operator = await currentOperator();
    const client = await Client.open(await mintKey("windsurf"));
    expect((await admin("DELETE", `/sessions/${client.id}`)).status).toBe(204);
    expect((await client.rpc("ping")).status).toBe(404);
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({
      event: "session_close",
      principal: client.key.principal,
      notes: "ended by an operator",
    });
    const ambient = await recordsOf(await ambientId(operator.tenant, operator.principal));
    expect(ambient.slice(-2)).toMatchObject([
      { event: "admin", result: "pending", principal: operator.principal },
      {
        event: "admin",
        result: "ok",
        intent_seq: ambient.length - 1,
        context: { action: "session.end", session_id: client.id },
      },
    ]);
    expect((await admin("DELETE", `/sessions/${client.id.replace(/.$/, "z")}`)).status).toBe(404);
  });
});

describe("a session with too long a backlog", () => {
  test("answers OVERLOADED with a time to come back, and goes on once the sinks caught up", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const setCursor = async (cursor: number) => {
      await inSession(client.id, (sql) => {
        sql.exec("UPDATE sinks SET cursor = ? WHERE sink = 'archive'", cursor);
      });
      await evict(session(client.id));
    };
    await setCursor(-100_000);
    const refused = await client.call("read_audit_log");
    expect([refused.status, refused.code]).toEqual([503, "OVERLOADED"]);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    await setCursor(-99_999);
    await client.must("read_audit_log");
    expect((await client.call("read_audit_log")).code).toBe("OVERLOADED");
    await setCursor(0);
    await client.must("read_audit_log");
    expect(await storedRecords(client.id)).toHaveLength(3);
  });
});

describe("an ambient session", () => {
  test("has the id that the contract's formula gives", async () => {
    const operator = await mintKey("operator");
    await admin("POST", "/keys", { as: operator.key, body: { name: "a key", role: "auditor" } });
    const id = await ambientId("default", operator.principal);
    const records = await recordsOf(id);
    expect(records).toMatchObject([
      {
        seq: 1,
        event: "session_open",
        session_id: id,
        principal: operator.principal,
        role: "operator",
        context: { era: "ambient" },
      },
      { seq: 2, event: "admin", result: "pending", context: { action: "key.create" } },
      { seq: 3, event: "admin", result: "ok", intent_seq: 2, context: { action: "key.create" } },
    ]);
    expect((await verified(id)).verdicts.integrity).toEqual(OK);
    await ring(session(id));
    expect(await sessionRow(id)).toMatchObject({ era: "ambient", session_id: id });
  });

  test("of ADMIN_TOKEN belongs to admin:bootstrap", async () => {
    await mintKey("operator");
    const [opened] = await recordsOf(await ambientId("default", "admin:bootstrap"));
    expect(opened).toMatchObject({ principal: "admin:bootstrap", role: "operator" });
  });

  test("is never accepted as a handle, of its own principal neither", async () => {
    const { key, id } = await callerWithAmbient();
    const before = await storedRecords(id);
    const ping = await postMcp(key.key, id, { jsonrpc: "2.0", id: 1, method: "ping" });
    expect(ping.status).toBe(404);
    expect(ping.body).toMatchObject({ error: { data: { code: "SESSION_NOT_FOUND" } } });
    const client = new Client(key, id);
    expect((await client.call("read_audit_log")).code).toBe("SESSION_NOT_FOUND");
    expect(await client.end()).toBe(404);
    expect(await storedRecords(id)).toEqual(before);
  });

  test("cannot be ended by an operator", async () => {
    const { id } = await callerWithAmbient();
    const refused = await admin("DELETE", `/sessions/${id}`);
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({ error: { code: "CONFLICT" } });
    expect((await lastRecord(id)).event).toBe("tool_call");
  });

  test("that an operator tried to end leaves a record of that", async () => {
    const { id } = await callerWithAmbient();
    const operator = await currentOperator();
    await admin("DELETE", `/sessions/${id}`);
    const tried = (await recordsOf(await ambientId(operator.tenant, operator.principal))).at(-1);
    expect(tried).toMatchObject({
      event: "admin",
      result: "error",
      error_code: "CONFLICT",
      context: { action: "session.end", session_id: id },
    });
  });

  test("has no idle end, closes at 01:00 UTC of the next day, and is one a day", async () => {
    const { key, id, use } = await callerWithAmbient();
    const midnight = Date.now() - (Date.now() % DAY) + DAY;
    expect(await dueTime(id, "idle")).toBe(midnight + HOUR);
    advance(midnight - Date.now() - 1);
    await ringNow(session(id));
    await use();
    expect(await lastRecord(id)).toMatchObject({ event: "tool_call" });
    const lastOfDay = (await storedRecords(id)).length;

    advance(1);
    await use();
    expect(await storedRecords(id)).toHaveLength(lastOfDay);
    const next = await ambientId(key.tenant, key.principal);
    expect(next).not.toBe(id);
    expect(await lastRecord(next)).toMatchObject({ event: "tool_call", seq: 2 });

    advance(HOUR - SECOND);
    await ringNow(session(id));
    expect(await lastRecord(id)).toMatchObject({ event: "tool_call" });
    advance(SECOND);
    await ringNow(session(id));
    expect(await lastRecord(id)).toMatchObject({
      event: "session_close",
      result: "ok",
      notes: "the day is over",
    });
    await ringUntilReleased(id);
    expect(await tablesOf(session(id))).toEqual([]);
    expect((await verified(id)).verdicts.integrity).toEqual(OK);
  });

  /** A caller whose ambient session holds a refused use of someone else's session. */
  async function callerWithAmbient(): Promise<{ key: Key; id: string; use: () => Promise<void> }> {
    const key = await mintKey("windsurf");
    const use = async () => {
      const victim = await Client.open(await mintKey("windsurf"));
      expect((await new Client(key, victim.id).call("list_files")).status).toBe(404);
    };
    await use();
    return { key, id: await ambientId(key.tenant, key.principal), use };
  }
});

test("an object that was only asked, and never opened, stores no table", async () => {
  const stub = session("never-opened");
  expect(await stub.status()).toBeNull();
  expect(await stub.page(0, 10)).toBeNull();
  expect(await stub.endByOperator("a-request")).toBe("absent");
  expect(await tablesOf(stub)).toEqual([]);
  expect(await alarmOf(stub)).toBeNull();
  expect((await listDurableObjectIds(env.SESSION)).length).toBeGreaterThan(0);
});

/** A write that waits in the Workspace until the test lets it go on. */
async function callUnderWay(client: Client) {
  const asked = gate();
  const goOn = gate();
  const { write } = WorkspaceObject.prototype;
  using _spy = vi.spyOn(WorkspaceObject.prototype, "write").mockImplementation(async function (
    this: WorkspaceObject,
    input,
  ) {
    asked.open();
    await goOn.opened();
    return write.call(this, input);
  });
  const call = client.call("write_file", { path: "src/a.txt", content: "a" });
  await asked.opened();
  return { call, goOn };
}

/**
 * The id of a principal's ambient session of today, computed from the contract
 * alone: midnight in 48 bits, then 10 bytes of a SHA-256, marked as version 8.
 */
async function ambientId(tenant: string, principal: string): Promise<string> {
  const day = new Date().toISOString().slice(0, 10);
  const text = `atlas-gate/ambient/v1\n${tenant}\n${principal}\n${day}\n`;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  const time = Date.parse(`${day}T00:00:00Z`).toString(16).padStart(12, "0");
  const rest = Array.from(new Uint8Array(digest).subarray(0, 10));
  rest[0] = ((rest[0] ?? 0) % 16) + 8 * 16;
  rest[2] = ((rest[2] ?? 0) % 64) + 2 * 64;
  const hex = time + rest.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
