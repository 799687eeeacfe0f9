import { describe, expect, test, vi } from "vitest";
import { VERSION } from "../../src/version.ts";
import { WorkspaceObject } from "../../src/workspace/workspace-object.ts";
import {
  type Called,
  Client,
  executor,
  mintKey,
  newRoot,
  recordsOf,
  verified,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  crash,
  gate,
  inSession,
  MINUTE,
  session,
  storedRecords,
  useStoppedClock,
  workspace,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const OK = { ok: true, findings: [] };

describe("concurrent calls on one session", () => {
  test("leave one chain, without a fork or a gap, in which every receipt is found", async () => {
    const { client } = await executor(newRoot());
    const calls = Array.from({ length: 200 }, (_, n) => {
      switch (n % 5) {
        case 0:
          return client.call("write_file", { path: `src/${n}.txt`, content: `file ${n}` });
        case 1:
          return client.call("read_file", { path: `src/${n - 1}.txt` });
        case 2:
          return client.call("read_audit_log", { limit: 1 });
        case 3:
          return client.call("write_file", { path: "outside.txt", content: "no" });
        default:
          return client.call("no_such_tool", { n });
      }
    });
    const answers = await Promise.all(calls);

    const records = await recordsOf(client.id);
    expect(records.map((record) => record.seq)).toEqual(records.map((_, at) => at + 1));
    // session_open, session_bind; two records for each of the 80 writes, one for each other call.
    expect(records).toHaveLength(2 + 80 * 2 + 120);
    for (const [at, record] of records.entries()) {
      if (at > 0) expect(record.prev_hash).toBe(records[at - 1]?.hash_chain);
    }
    const report = await verified(client.id);
    expect(report.verdicts.integrity).toEqual(OK);
    expect(report.open_intents).toEqual([]);

    expect(answers).toHaveLength(200);
    for (const { receipt } of answers) {
      expect(receipt?.session_id).toBe(client.id);
      expect(records[(receipt?.seq ?? 0) - 1]?.hash_chain).toBe(receipt?.hash_chain);
    }
    expect(new Set(answers.map(({ receipt }) => receipt?.seq)).size).toBe(200);
    expect(answers.filter(({ code }) => code === "PLAN_SCOPE_VIOLATION")).toHaveLength(40);
    expect(answers.filter(({ code }) => code === "TOOL_NOT_FOUND")).toHaveLength(40);
  });
});

describe("what a call leaves in the chain", () => {
  test("a session begins with its record: era, client, gateway", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const [opened, ...others] = await recordsOf(client.id);
    expect(others).toEqual([]);
    expect(opened).toMatchObject({
      seq: 1,
      event: "session_open",
      principal: client.key.principal,
      role: "windsurf",
      tenant: "default",
      result: "ok",
      context: {
        era: "2025",
        protocol_version: "2025-11-25",
        client: { name: "a test", version: "1.2.3" },
        gateway: { version: VERSION },
        colo: null,
      },
    });
  });

  test("begin_session is one record, a read is one, a write is an intent and its result", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    await client.must("write_file", { path: "src/a.txt", content: "hello" });
    await client.must("read_file", { path: "src/a.txt" });
    await client.must("delete_file", { path: "src/a.txt" });
    const records = await recordsOf(client.id);
    expect(
      records.map(({ event, tool, result, intent_seq }) => [event, tool, result, intent_seq]),
    ).toEqual([
      ["session_open", null, "ok", null],
      ["session_bind", "begin_session", "ok", null],
      ["tool_intent", "write_file", "pending", null],
      ["tool_result", "write_file", "ok", 3],
      ["tool_call", "read_file", "ok", null],
      ["tool_intent", "delete_file", "pending", null],
      ["tool_result", "delete_file", "ok", 6],
    ]);
    for (const record of records.slice(1)) {
      expect(record).toMatchObject({ workspace_root: root, plan_hash: planHash });
    }
    expect(records[3]?.context).toEqual({
      approval: { at: expect.any(String), by: expect.stringMatching(/^key:/) },
      effect: {
        path: "src/a.txt",
        sha256_before: null,
        // SHA-256 of "hello".
        sha256_after: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        version: 1,
      },
    });
    // What was written is not in the record, only how much; the hash of what was sent is.
    expect(records[2]?.args).toBe('{"content":{"bytes":5},"path":"src/a.txt"}');
    expect(records[2]?.args_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(records[3]?.args_hash).toBeNull();
    expect(records[3]?.result_hash).toMatch(/^[0-9a-f]{64}$/);
  });

  test("timestamps do not run backwards when the clock does", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const before = Date.now();
    advance(MINUTE);
    await client.must("read_audit_log");
    advance(-MINUTE);
    await client.must("read_audit_log");
    advance(MINUTE + 1);
    await client.must("read_audit_log");
    const times = (await recordsOf(client.id)).map(({ timestamp }) => Date.parse(timestamp));
    expect(times.map((time) => time - before)).toEqual([0, MINUTE, MINUTE, MINUTE + 1]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("calls that are not tools/call leave none", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    expect((await client.rpc("ping")).status).toBe(200);
    expect((await client.rpc("tools/list")).status).toBe(200);
    expect((await client.rpc("no/such/method")).status).toBe(200);
    expect(await recordsOf(client.id)).toHaveLength(1);
  });
});

describe("no effect without evidence", () => {
  test("the intent is in storage when the Workspace is asked, and stays when the session crashes", async () => {
    const { client } = await executor(newRoot());
    const asked = gate();
    const goOn = gate();
    const { write } = WorkspaceObject.prototype;
    using spy = vi.spyOn(WorkspaceObject.prototype, "write").mockImplementationOnce(async function (
      this: WorkspaceObject,
      input,
    ) {
      asked.open();
      await goOn.opened();
      return write.call(this, input);
    });
    const call = client.call("write_file", { path: "src/a.txt", content: "a" });
    await asked.opened();
    await crash(session(client.id));
    goOn.open();
    expect((await call).status).toBe(500);
    expect(spy).toHaveBeenCalledOnce();
    const last = (await storedRecords(client.id)).at(-1);
    expect(JSON.parse(last?.line ?? "")).toMatchObject({
      seq: 3,
      event: "tool_intent",
      result: "pending",
    });
  });

  test("when the intent cannot be stored the Workspace is not asked and nothing is written", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    using write = vi.spyOn(WorkspaceObject.prototype, "write");
    const before = await storedRecords(client.id);
    await inSession(client.id, (sql) => sql.exec("ALTER TABLE records RENAME TO gone").toArray());
    const refused = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect([refused.status, refused.code]).toEqual([500, "INTERNAL_ERROR"]);
    expect(write).not.toHaveBeenCalled();
    await inSession(client.id, (sql) => sql.exec("ALTER TABLE gone RENAME TO records").toArray());
    expect(await storedRecords(client.id)).toEqual(before);
    expect(await inSession(client.id, (sql) => openIntents(sql))).toEqual([]);

    // The head is where it was: the chain goes on without a gap.
    const done = await client.must("write_file", { path: "src/a.txt", content: "b" });
    expect(done.receipt?.seq).toBe(before.length + 2);
    expect(done.value.version).toBe(1);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("when the intent cannot be remembered as open its record is taken back too", async () => {
    const { client } = await executor(newRoot());
    using write = vi.spyOn(WorkspaceObject.prototype, "write");
    const before = await storedRecords(client.id);
    await inSession(client.id, (sql) =>
      sql.exec("ALTER TABLE open_intents RENAME TO gone").toArray(),
    );
    const refused = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect(refused.status).toBe(500);
    expect(write).not.toHaveBeenCalled();
    await inSession(client.id, (sql) =>
      sql.exec("ALTER TABLE gone RENAME TO open_intents").toArray(),
    );
    expect(await storedRecords(client.id)).toEqual(before);
    await client.must("write_file", { path: "src/a.txt", content: "b" });
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("a reply that the client got is in storage: it outlives a crash that follows at once", async () => {
    const { client } = await executor(newRoot());
    for (let n = 0; n < 5; n++) {
      const { receipt } = await client.must("write_file", { path: `src/${n}`, content: `${n}` });
      await crash(session(client.id));
      const stored = await storedRecords(client.id);
      expect(stored.at(-1)).toMatchObject({ seq: receipt?.seq, hash_chain: receipt?.hash_chain });
    }
  });

  /** A write that is made, and whose result cannot be stored. */
  async function writeWithoutResult(client: Client): Promise<Called> {
    const asked = gate();
    const goOn = gate();
    const { write } = WorkspaceObject.prototype;
    using _spy = vi
      .spyOn(WorkspaceObject.prototype, "write")
      .mockImplementationOnce(async function (this: WorkspaceObject, input) {
        const written = await write.call(this, input);
        asked.open();
        await goOn.opened();
        return written;
      });
    const call = client.call("write_file", { path: "src/a.txt", content: "a" });
    await asked.opened();
    await inSession(client.id, (sql) => sql.exec("ALTER TABLE records RENAME TO gone").toArray());
    goOn.open();
    const answer = await call;
    await inSession(client.id, (sql) => sql.exec("ALTER TABLE gone RENAME TO records").toArray());
    return answer;
  }

  test("when the result cannot be stored the client gets no success", async () => {
    const { client } = await executor(newRoot());
    const answer = await writeWithoutResult(client);
    expect([answer.status, answer.code]).toEqual([500, "INTERNAL_ERROR"]);
    expect(answer.value).toEqual({});
    expect(answer.receipt).toBeNull();
  });

  test("what became of a write whose result could not be stored is found out before the close", async () => {
    const { client } = await executor(newRoot());
    await writeWithoutResult(client);
    expect(await client.end()).toBe(204);
    const records = await recordsOf(client.id);
    expect(records.slice(2)).toMatchObject([
      { event: "tool_intent", result: "pending" },
      { event: "tool_result", intent_seq: 3, result: "ok", context: { effect: { version: 1 } } },
      { event: "session_close", result: "ok" },
    ]);
  });
});

describe("a throw inside a tool", () => {
  const SECRET_TEXT = "a stack with /etc/passwd and the word xyzzy";

  test("in a read is recorded as INTERNAL_ERROR and says nothing of the inside", async () => {
    const { client } = await executor(newRoot());
    {
      using _read = vi.spyOn(WorkspaceObject.prototype, "read").mockImplementation(() => {
        throw new Error(SECRET_TEXT);
      });
      const failed = await client.call("read_file", { path: "src/a.txt" });
      expect([failed.status, failed.code]).toEqual([200, "INTERNAL_ERROR"]);
      expect(failed.text).not.toMatch(/xyzzy|passwd|stack/);
      const records = await recordsOf(client.id);
      expect(records.at(-1)).toMatchObject({
        event: "tool_call",
        tool: "read_file",
        result: "error",
        error_code: "INTERNAL_ERROR",
        seq: failed.receipt?.seq,
        hash_chain: failed.receipt?.hash_chain,
      });
      expect(JSON.stringify(records)).not.toMatch(/xyzzy|passwd/);
      // The operator finds it in the log, under the request's id.
      const logged = logs.find((line) => line.includes('"tool_failed"'));
      expect(JSON.parse(logged ?? "{}")).toMatchObject({
        level: "error",
        tool: "read_file",
        session_id: client.id,
        request_id: records.at(-1)?.request_id,
      });
    }
    await client.must("list_files");
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("in a write that was not made is recorded as not made, and refused for ever", async () => {
    const root = newRoot();
    const { client, planHash } = await executor(root);
    using write = vi.spyOn(WorkspaceObject.prototype, "write").mockImplementationOnce(() => {
      throw new Error(SECRET_TEXT);
    });
    const failed = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect([failed.status, failed.code]).toEqual([200, "INTERNAL_ERROR"]);
    expect(failed.text).not.toMatch(/xyzzy|passwd|stack/);
    const records = await recordsOf(client.id);
    expect(records.slice(-2)).toMatchObject([
      { seq: 3, event: "tool_intent" },
      { event: "tool_result", intent_seq: 3, result: "error", error_code: "INTERNAL_ERROR" },
    ]);
    const late = write.mock.calls[0]?.[0];
    expect(late).toMatchObject({ origin: { session_id: client.id, seq: 3 }, plan_hash: planHash });
    expect(late === undefined ? null : await lateWrite(root, late)).toMatchObject({
      ok: false,
      refusal: { code: "CANCELLED" },
    });
    expect((await client.call("read_file", { path: "src/a.txt" })).code).toBe("NOT_FOUND");
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("after a write was made is recorded with its effect, and the client is told to look", async () => {
    const { client } = await executor(newRoot());
    const { write } = WorkspaceObject.prototype;
    using _spy = vi
      .spyOn(WorkspaceObject.prototype, "write")
      .mockImplementationOnce(async function (this: WorkspaceObject, input) {
        await write.call(this, input);
        throw new Error(SECRET_TEXT);
      });
    const failed = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect([failed.status, failed.code]).toEqual([200, "OUTCOME_UNKNOWN"]);
    expect(failed.text).not.toMatch(/xyzzy|passwd|stack/);
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({
      event: "tool_result",
      intent_seq: 3,
      result: "error",
      error_code: "OUTCOME_UNKNOWN",
      context: { effect: { path: "src/a.txt", version: 1 } },
    });
    expect((await client.must("read_file", { path: "src/a.txt" })).value.content).toBe("a");
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
    // The change is in the journal and, with its effect, in the chain: nothing is amiss.
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, findings: [] });
  });

  test("while the Workspace cannot even be asked to settle: the outcome is unknown", async () => {
    const { client } = await executor(newRoot());
    using _write = vi.spyOn(WorkspaceObject.prototype, "write").mockImplementationOnce(() => {
      throw new Error(SECRET_TEXT);
    });
    using _settle = vi.spyOn(WorkspaceObject.prototype, "settle").mockImplementation(() => {
      throw new Error(SECRET_TEXT);
    });
    const failed = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect([failed.status, failed.code]).toEqual([200, "OUTCOME_UNKNOWN"]);
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({
      event: "tool_result",
      intent_seq: 3,
      result: "error",
      error_code: "OUTCOME_UNKNOWN",
      context: null,
    });
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });
});

function openIntents(sql: SqlStorage): number[] {
  return sql
    .exec<{ seq: number }>("SELECT seq FROM open_intents")
    .toArray()
    .map(({ seq }) => seq);
}

/** The same write once more, as it would arrive late; the Workspace restarted in between. */
async function lateWrite(root: string, input: Parameters<WorkspaceObject["write"]>[0]) {
  await crash(workspace(root));
  return workspace(root).write(input);
}
