import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { recordChange } from "../../src/session/ambient.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { Ledger } from "../../src/session/ledger.ts";
import type { OpenInput } from "../../src/session/state.ts";
import type { WriteInput } from "../../src/workspace/types.ts";
import { WorkspaceObject } from "../../src/workspace/workspace-object.ts";
import {
  admin,
  Client,
  executor,
  mintKey,
  newRoot,
  planOf,
  principalOf,
  recordsOf,
  verified,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  crash,
  gate,
  inWorkspace,
  ring,
  SESSION_TTL,
  session,
  storedRecords,
  useStoppedClock,
  workspace,
} from "../support/objects.ts";

useStoppedClock();
captureLogs();

const OK = { ok: true, findings: [] };
const LARGE = "x".repeat(64 * 1024 + 1);

/**
 * A write whose session is lost between intent and result: the result never
 * reaches storage, and the object ends. Answers with what the Workspace was asked.
 */
async function loseWrite(
  client: Client,
  args: Record<string, unknown>,
  when: "before it is made" | "after it was made",
): Promise<WriteInput> {
  using write = vi.spyOn(WorkspaceObject.prototype, "write");
  using settle = vi.spyOn(WorkspaceObject.prototype, "settle");
  if (when === "before it is made") {
    write.mockImplementation(away);
    settle.mockImplementation(away);
  }
  using _result = vi.spyOn(Ledger.prototype, "result").mockImplementation(() => {
    throw new Error("the session is lost");
  });
  expect((await client.call("write_file", args)).status).toBe(500);
  await crash(session(client.id));
  const input = write.mock.calls[0]?.[0];
  if (input === undefined) throw new Error("the Workspace was not asked");
  return input;
}

function away(): never {
  throw new Error("the workspace is away");
}

/** The Workspace cannot be reached to settle until this is disposed of. */
function unreachable() {
  return vi.spyOn(WorkspaceObject.prototype, "settle").mockImplementation(away);
}

async function lastEvents(id: string, count: number) {
  return (await storedRecords(id)).slice(-count).map(({ line }) => JSON.parse(line));
}

const DONE = {
  event: "tool_result",
  tool: "write_file",
  intent_seq: 3,
  result: "ok",
  error_code: null,
  context: {
    approval: { by: expect.stringMatching(/^key:/), at: expect.any(String) },
    effect: { path: "src/a.txt", sha256_before: null, version: 1 },
  },
};
const NOT_DONE = {
  event: "tool_result",
  tool: "write_file",
  intent_seq: 3,
  result: "error",
  error_code: "CANCELLED",
};

describe("an intent whose session was lost before the result", () => {
  test("of a write that was made is settled as made, with its effect, before the next call", async () => {
    const { client, planHash } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    const next = await client.must("read_audit_log");
    expect(next.receipt?.seq).toBe(5);
    const records = await recordsOf(client.id);
    expect(records.slice(2)).toMatchObject([
      { seq: 3, event: "tool_intent", request_id: records[3]?.request_id },
      { seq: 4, ...DONE, plan_hash: planHash },
      { seq: 5, event: "tool_call", tool: "read_audit_log" },
    ]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
    expect((await client.must("read_file", { path: "src/a.txt" })).value.content).toBe("a");
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, findings: [] });
  });

  test("of a write that was not made is settled as cancelled, and that write is refused for ever", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    const late = await loseWrite(client, { path: "src/a.txt", content: "a" }, "before it is made");
    await client.must("list_files");
    expect(await lastEvents(client.id, 3)).toMatchObject([
      { seq: 3, event: "tool_intent" },
      { seq: 4, ...NOT_DONE, context: null },
      { seq: 5, event: "tool_call", tool: "list_files" },
    ]);
    const cancelled = { ok: false, refusal: { code: "CANCELLED" } };
    expect(await workspace(root).write(late)).toMatchObject(cancelled);
    await crash(workspace(root));
    expect(await workspace(root).write(late)).toMatchObject(cancelled);
    expect(await workspace(root).write({ ...late, content: LARGE })).toMatchObject(cancelled);
    expect(await workspace(root).remove(late)).toMatchObject(cancelled);
    expect((await client.call("read_file", { path: "src/a.txt" })).code).toBe("NOT_FOUND");
    // Only that call is refused: the same write as a new call is made.
    await client.must("write_file", { path: "src/a.txt", content: "a" });
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("that is held up between its content and its transaction cannot land after it was settled", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    const stored = gate();
    const goOn = gate();
    const put = env.BUCKET.put.bind(env.BUCKET);
    using _put = vi.spyOn(env.BUCKET, "put").mockImplementationOnce(async (key, value) => {
      const object = await put(key, value);
      if (object === null) throw new Error("the content was there before");
      stored.open();
      await goOn.opened();
      return object;
    });
    const { write } = WorkspaceObject.prototype;
    const outcomes: unknown[] = [];
    const finished = gate();
    using _write = vi
      .spyOn(WorkspaceObject.prototype, "write")
      .mockImplementationOnce(async function (this: WorkspaceObject, input) {
        const outcome = await write.call(this, input);
        outcomes.push(outcome);
        finished.open();
        return outcome;
      });
    const call = client.call("write_file", { path: "src/large.txt", content: LARGE });
    await stored.opened();
    await crash(session(client.id));
    expect((await call).status).toBe(500);
    await client.must("list_files");
    expect(await lastEvents(client.id, 2)).toMatchObject([NOT_DONE, { tool: "list_files" }]);
    goOn.open();
    await finished.opened();
    expect(outcomes).toMatchObject([{ ok: false, refusal: { code: "CANCELLED" } }]);
    expect((await client.call("read_file", { path: "src/large.txt" })).code).toBe("NOT_FOUND");
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("is settled on close, before the last record", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    expect(await client.end()).toBe(204);
    expect((await recordsOf(client.id)).slice(3)).toMatchObject([
      DONE,
      { event: "session_close", result: "ok" },
    ]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("is settled when an operator ends the session", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "before it is made");
    expect((await admin("DELETE", `/sessions/${client.id}`)).status).toBe(204);
    expect((await recordsOf(client.id)).slice(3)).toMatchObject([
      NOT_DONE,
      { event: "session_close" },
    ]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("is settled when the session's idle life ends", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    advance(SESSION_TTL);
    await ring(session(client.id));
    expect(await lastEvents(client.id, 2)).toMatchObject([DONE, { event: "session_close" }]);
  });

  test("is settled on export, and the export holds the result", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    const records = await recordsOf(client.id);
    expect(records).toHaveLength(4);
    expect(records[3]).toMatchObject(DONE);
    const report = await verified(client.id);
    expect(report.verdicts.integrity).toEqual(OK);
    expect(report.open_intents).toEqual([]);
  });

  test("is settled before the operator's verification, and before an auditor reads", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    const report = await admin("GET", `/audit/sessions/${client.id}/verify`);
    expect(report.body).toMatchObject({ records: 4, open_intents: [] });

    const second = await executor(newRoot());
    await loseWrite(second.client, { path: "src/a.txt", content: "a" }, "after it was made");
    const auditor = await Client.open(await mintKey("auditor"));
    const read = await auditor.must("read_audit_log", { audit_session_id: second.client.id });
    expect(read.value.entries).toHaveLength(4);
  });

  test("is in the head that an auditor is told", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    const auditor = await Client.open(await mintKey("auditor"));
    const read = await auditor.must("read_audit_log", { audit_session_id: client.id });
    const last = (await recordsOf(client.id)).at(-1);
    expect(read.value.head).toEqual({ seq: 4, hash_chain: last?.hash_chain });
  });

  test("is settled once, when several calls arrive at the same time", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    const answers = await Promise.all([
      client.must("list_files"),
      client.must("read_audit_log"),
      client.must("read_file", { path: "src/a.txt" }),
      recordsOf(client.id),
    ]);
    expect(answers).toHaveLength(4);
    const results = (await recordsOf(client.id)).filter(({ intent_seq }) => intent_seq === 3);
    expect(results).toMatchObject([{ seq: 4, ...DONE }]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("of a deletion and of a saved plan are settled as what they were, in order", async () => {
    const root = newRoot();
    const { client } = await executor(root);
    await client.must("write_file", { path: "src/a.txt", content: "a" });
    const planner = await Client.open(await mintKey("antigravity"));
    await planner.must("begin_session", { workspace_root: root });
    {
      using _lost = vi.spyOn(Ledger.prototype, "result").mockImplementation(() => {
        throw new Error("lost");
      });
      const write = await client.call("write_file", { path: "src/b.txt", content: "b" });
      const removal = await client.call("delete_file", { path: "src/a.txt" });
      const saved = await planner.call("save_plan", { plan: planOf({ title: "Another plan" }) });
      expect([write.status, removal.status, saved.status]).toEqual([500, 500, 500]);
    }
    await crash(session(client.id));
    await crash(session(planner.id));
    expect((await recordsOf(client.id)).slice(4)).toMatchObject([
      { event: "tool_intent", tool: "write_file" },
      { event: "tool_intent", tool: "delete_file" },
      { event: "tool_result", intent_seq: 5, result: "ok", context: { effect: { version: 1 } } },
      {
        event: "tool_result",
        intent_seq: 6,
        result: "ok",
        context: { effect: { path: "src/a.txt", sha256_after: null, version: 2 } },
      },
    ]);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
    expect((await recordsOf(planner.id)).slice(3)).toMatchObject([
      {
        event: "tool_result",
        tool: "save_plan",
        intent_seq: 3,
        result: "ok",
        context: {
          plan: { status: "proposed", plan_hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
        },
      },
    ]);
    const checked = await client.must("verify_workspace_integrity");
    expect(checked.value).toMatchObject({ ok: true, findings: [] });
  });

  test("of this life are left alone: a call under way is not settled by others", async () => {
    const { client } = await executor(newRoot());
    const asked = gate();
    const goOn = gate();
    using settle = vi.spyOn(WorkspaceObject.prototype, "settle");
    const { write } = WorkspaceObject.prototype;
    using _write = vi
      .spyOn(WorkspaceObject.prototype, "write")
      .mockImplementationOnce(async function (this: WorkspaceObject, input) {
        asked.open();
        await goOn.opened();
        return write.call(this, input);
      });
    const call = client.call("write_file", { path: "src/a.txt", content: "a" });
    await asked.opened();
    await client.must("list_files");
    const open = await verified(client.id);
    expect(open.open_intents).toEqual([3]);
    expect(open.verdicts.integrity).toEqual(OK);
    goOn.open();
    expect((await call).code).toBeNull();
    expect(settle).not.toHaveBeenCalled();
    expect((await recordsOf(client.id)).slice(2)).toMatchObject([
      { event: "tool_intent" },
      { event: "tool_call" },
      { event: "tool_result", intent_seq: 3, result: "ok" },
    ]);
  });
});

describe("while the Workspace cannot be asked", () => {
  test("a call is not taken, nothing is invented, and it settles later", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    {
      using _away = unreachable();
      const refused = await client.call("list_files");
      expect([refused.status, refused.code]).toEqual([503, "OVERLOADED"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(JSON.parse(refused.text)).toMatchObject({ error: { code: -31503 } });
      expect(refused.text).not.toContain("away");
      expect(await storedRecords(client.id)).toHaveLength(3);
    }
    expect((await client.must("list_files")).receipt?.seq).toBe(5);
    expect((await recordsOf(client.id))[3]).toMatchObject(DONE);
    expect((await verified(client.id)).verdicts.integrity).toEqual(OK);
  });

  test("neither the client's end nor an operator's closes the session; later they do", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    {
      using _away = unreachable();
      expect(await client.end()).toBeGreaterThanOrEqual(500);
      const ended = await admin("DELETE", `/sessions/${client.id}`);
      expect(ended.status).toBeGreaterThanOrEqual(500);
      expect(await storedRecords(client.id)).toHaveLength(3);
    }
    // It is still open: a failed end leaves no half-closed session.
    await client.must("list_files");
    expect(await client.end()).toBe(204);
    expect((await recordsOf(client.id)).slice(3)).toMatchObject([
      DONE,
      { event: "tool_call" },
      { event: "session_close" },
    ]);
  });

  test("the idle alarm leaves the session open and comes back", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "before it is made");
    advance(SESSION_TTL);
    {
      using _away = unreachable();
      await ring(session(client.id));
      expect(await storedRecords(client.id)).toHaveLength(3);
    }
    expect(await ring(session(client.id))).toBe(true);
    expect(await lastEvents(client.id, 2)).toMatchObject([NOT_DONE, { event: "session_close" }]);
  });

  test("an export is an error, not a chain that lacks a result", async () => {
    const { client } = await executor(newRoot());
    await loseWrite(client, { path: "src/a.txt", content: "a" }, "after it was made");
    {
      using _away = unreachable();
      await expect(recordsOf(client.id)).rejects.toThrow();
      const report = await admin("GET", `/audit/sessions/${client.id}/verify`);
      expect(report.status).toBeGreaterThanOrEqual(500);
      expect(await storedRecords(client.id)).toHaveLength(3);
    }
    expect((await recordsOf(client.id))[3]).toMatchObject(DONE);
  });
});

describe("a change of an operator whose outcome was lost", () => {
  const entry = {
    event: "admin",
    request_id: "a-request",
    context: { action: "a.change" },
  } as const;

  /** An operator's ambient session, as the gateway opens it with the day's first record. */
  async function ambient(): Promise<OpenInput> {
    const principal = principalOf(await mintKey("operator"), "operator");
    const owner = { tenant: principal.tenant, principal: principal.id };
    return {
      sessionId: ambientSessionId(sha256Hex, owner, Date.now()),
      principal,
      era: "ambient",
      protocolVersion: null,
      requestId: "a-request",
      context: { era: "ambient" },
      capabilities: {},
    };
  }

  test("is pending in an export, for the Worker that makes it may still report", async () => {
    const open = await ambient();
    const { seq } = await session(open.sessionId).intent(open, entry);
    await crash(session(open.sessionId));
    expect((await recordsOf(open.sessionId)).slice(1)).toMatchObject([
      { seq, event: "admin", result: "pending" },
    ]);
    expect((await verified(open.sessionId)).verdicts.integrity).toEqual(OK);
  });

  test("has one result, when it is reported to a later life of its session", async () => {
    const open = await ambient();
    const { seq } = await session(open.sessionId).intent(open, entry);
    await crash(session(open.sessionId));
    await recordsOf(open.sessionId);
    await report(open, seq);
    expect(await resultsOf(open, seq)).toEqual([["ok", null]]);
    await report(open, seq);
    await recordsOf(open.sessionId);
    expect(await resultsOf(open, seq)).toEqual([["ok", null]]);
  });

  test("is OUTCOME_UNKNOWN once its day is over, and stays so, though it is reported after that", async () => {
    const open = await ambient();
    const { seq } = await session(open.sessionId).intent(open, entry);
    await crash(session(open.sessionId));
    while (!(await session(open.sessionId).status())?.ended_at) await ring(session(open.sessionId));
    expect(await lastEvents(open.sessionId, 3)).toMatchObject([
      { seq, event: "admin", result: "pending" },
      { event: "admin", result: "error", error_code: "OUTCOME_UNKNOWN", intent_seq: seq },
      { event: "session_close" },
    ]);
    await report(open, seq);
    expect(await resultsOf(open, seq)).toEqual([["error", "OUTCOME_UNKNOWN"]]);
    expect((await verified(open.sessionId)).verdicts.integrity).toEqual(OK);
  });

  /** Refused or taken: what counts is what the chain then says. */
  async function report(open: OpenInput, seq: number): Promise<void> {
    await session(open.sessionId)
      .result(open, seq, { ...entry, result: "ok" })
      .catch(() => null);
  }

  async function resultsOf(open: OpenInput, seq: number) {
    const records = await recordsOf(open.sessionId);
    return records
      .filter(({ intent_seq }) => intent_seq === seq)
      .map(({ result, error_code }) => [result, error_code]);
  }

  test("that failed on the way is recorded as such, and the failure is passed on", async () => {
    const open = await ambient();
    const failing = recordChange(
      env,
      open.principal,
      entry,
      async () => {
        throw new Error("inside");
      },
      () => ({ result: "ok" }),
    );
    await expect(failing).rejects.toThrow("inside");
    expect(await lastEvents(open.sessionId, 2)).toMatchObject([
      { event: "admin", result: "pending" },
      { event: "admin", result: "error", error_code: "OUTCOME_UNKNOWN", intent_seq: 2 },
    ]);
  });
});

test("settling an unknown call of a workspace that holds nothing refuses it for ever", async () => {
  const root = newRoot();
  expect(await workspace(root).settle("a-session", 7)).toEqual({ done: false });
  expect(await workspace(root).settle("a-session", 7)).toEqual({ done: false });
  const refusals = await inWorkspace(root, (sql) =>
    sql.exec("SELECT session_id, seq FROM refusals").toArray(),
  );
  expect(refusals).toEqual([{ session_id: "a-session", seq: 7 }]);
});
