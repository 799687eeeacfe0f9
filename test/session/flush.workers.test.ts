import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { createHash, createHmac } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { canonicalJson } from "../../src/audit/canonical.ts";
import { unwrapSessionKey } from "../../src/audit/seal.ts";
import { openSource, PAGE_RECORDS } from "../../src/session/evidence.ts";
import type { SessionObject } from "../../src/session/session-object.ts";
import { tampering } from "../support/archive-sums.ts";
import {
  admin,
  Client,
  executor,
  exported,
  mintKey,
  newRoot,
  recordsOf,
} from "../support/gateway.ts";
import {
  advance,
  alarmOf,
  captureLogs,
  crash,
  evict,
  FLUSH_INTERVAL,
  flush,
  gate,
  inSession,
  MINUTE,
  ring,
  ringNow,
  ringUntilReleased,
  SECOND,
  session,
  storedRecords,
  tablesOf,
  useStoppedClock,
} from "../support/objects.ts";
import {
  archiveRows,
  conflicts,
  dueTime,
  opened,
  segmentLines,
  segments,
  sessionRow,
  sinkState,
} from "../support/sinks.ts";

useStoppedClock();
const logs = captureLogs();

const SEGMENT_INTERVAL = 15 * MINUTE;

/** A session with a few records of every kind. */
async function busySession(): Promise<Client> {
  const { client } = await executor(newRoot());
  await client.must("write_file", { path: "src/naïve \u{1F600}.txt", content: "a" });
  await client.call("write_file", { path: "outside.txt", content: "no" });
  await client.call("read_file", { path: "../etc/passwd" });
  await client.call("no_such_tool", {
    text: 'it\'s "quoted" \\ \u0001 \u2028',
    deep: [{ a: null }],
  });
  return client;
}

function seqs(rows: readonly Record<string, unknown>[]): unknown[] {
  return rows.map(({ seq }) => seq);
}

function upTo(n: number): number[] {
  return Array.from({ length: n }, (_, at) => at + 1);
}

/** Every record of the session is in both sinks, once, and is the record. */
async function expectOnceInBoth(id: string, count: number): Promise<void> {
  const rows = await archiveRows(id);
  expect(seqs(rows)).toEqual(upTo(count));
  const lines = await segmentLines(id);
  expect(seqs(lines)).toEqual(upTo(count));
  for (const [at, { sealed: _sealed, hash_chain, ...record }] of lines.entries()) {
    expect(hash_chain).toBe(rows[at]?.hash_chain);
    expect(canonicalJson(record)).toBe(rows[at]?.line);
  }
}

/** D1 takes the batch and its answer is lost, or never gets it. */
function failingBatch(when: "before it persists" | "after it persisted") {
  const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
  return vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementation(async (statements) => {
    if (when === "after it persisted") await batch(statements);
    throw new Error("D1 is away");
  });
}

function failingPut(when: "before it persists" | "after it persisted") {
  const put = env.BUCKET.put.bind(env.BUCKET);
  return vi.spyOn(env.BUCKET, "put").mockImplementation(async (key, value, options) => {
    if (when === "after it persisted") await put(key, value, options);
    throw new Error("R2 is away");
  });
}

describe("the archive", () => {
  test("holds every record, column for column", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    const records = await recordsOf(client.id);
    await flush(client.id);
    const rows = await archiveRows(client.id);
    expect(rows).toHaveLength(records.length);
    // Each column says something in one of the rows, so that a lost one is seen.
    for (const column of Object.keys(rows[0] ?? {})) {
      expect([column, rows.some((row) => row[column] !== null)]).toEqual([column, true]);
    }
    for (const [at, { v: _v, context, ...record }] of records.entries()) {
      const { line, created_at, context: storedContext, ...columns } = rows[at] ?? {};
      expect(columns).toEqual(record);
      expect(storedContext).toBe(context === null ? null : canonicalJson(context));
      const { hash_chain: _hash, args: _args, salt: _salt, ...body } = record;
      expect(line).toBe(canonicalJson({ ...body, context, v: 1 }));
      expect(created_at).toBe(new Date().toISOString());
    }
  });

  test("holds what came from outside whole, NUL included", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await client.call("a\u0000b", { "k\u0000": "v\u0000w" });
    await flush(client.id);
    const row = (await archiveRows(client.id)).at(-1);
    const record = (await recordsOf(client.id)).at(-1);
    expect(record?.tool).toBe("a\u0000b");
    expect(row?.tool).toBe("a\u0000b");
    expect(row?.args).toBe('{"k\\u0000":"v\\u0000w"}');
  });

  test("is told of a session's end with its last record, not with an earlier batch", async () => {
    const { client } = await executor(newRoot());
    for (let calls = 0; calls < 500; calls++) await client.must("list_files");
    expect(await client.end()).toBe(204);
    const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    const between: unknown[] = [];
    {
      using _batch = vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementation(async (statements) => {
        const row = await sessionRow(client.id);
        if (row !== null) between.push([row.entries, row.ended_at]);
        return batch(statements);
      });
      await ring(session(client.id));
    }
    expect(between[0]).toEqual([500, null]);
    expect((await sessionRow(client.id))?.ended_at).not.toBeNull();
  });

  test("has the session's row, with its wrapped key, head and number of records", async () => {
    const { client, planHash } = await executor(newRoot());
    await flush(client.id);
    const records = await recordsOf(client.id);
    expect(await sessionRow(client.id)).toEqual({
      session_id: client.id,
      tenant: "default",
      principal: client.key.principal,
      role: "windsurf",
      era: "2025",
      workspace_root: records[1]?.workspace_root,
      plan_hash: planHash,
      created_at: records[0]?.timestamp,
      last_seen_at: records[1]?.timestamp,
      entries: 2,
      head: records[1]?.hash_chain,
      ended_at: null,
      wrapped_key: expect.stringMatching(/^[A-Za-z0-9+/]+=*$/),
      erased_at: null,
      retired_at: null,
    });
    advance(MINUTE);
    await client.must("list_files");
    await flush(client.id);
    const [third] = (await recordsOf(client.id)).slice(2);
    expect(await sessionRow(client.id)).toMatchObject({
      entries: 3,
      head: third?.hash_chain,
      last_seen_at: third?.timestamp,
    });
  });

  test("knows a new session within a second, and each record within the flush interval", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    expect(await alarmOf(session(client.id))).toBeLessThanOrEqual(Date.now() + SECOND);
    await ring(session(client.id));
    expect(await sessionRow(client.id)).not.toBeNull();
    await client.must("read_audit_log");
    expect(await alarmOf(session(client.id))).toBe(Date.now() + FLUSH_INTERVAL);
    advance(SECOND);
    await client.must("read_audit_log");
    expect(await alarmOf(session(client.id))).toBe(Date.now() - SECOND + FLUSH_INTERVAL);
    await ring(session(client.id));
    expect(seqs(await archiveRows(client.id))).toEqual([1, 2, 3]);
  });

  test("is sent at most 500 records at a time, until it has them all", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await Promise.all(Array.from({ length: 620 }, () => client.call("no_such_tool")));
    using batch = vi.spyOn(env.ARCHIVE_DB, "batch");
    await flush(client.id);
    expect(batch).toHaveBeenCalledTimes(2);
    expect(seqs(await archiveRows(client.id))).toEqual(upTo(621));
    expect(await sessionRow(client.id)).toMatchObject({ entries: 621 });
  });

  test("is sent at most a megabyte at a time, of the text that grows most", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    // Quotes double each time they are written as JSON, and they are, twice.
    const args = { text: '"'.repeat(4000) };
    const tool = '"'.repeat(256);
    await Promise.all(Array.from({ length: 130 }, () => client.call(tool, args)));
    using batch = vi.spyOn(env.ARCHIVE_DB, "batch");
    await flush(client.id);
    expect(batch).toHaveBeenCalledTimes(2);
    expect(seqs(await archiveRows(client.id))).toEqual(upTo(131));
    expect(logs.some((line) => line.includes("flush_failed") && line.includes(client.id))).toBe(
      false,
    );
  });
});

describe("every record is once in the archive", () => {
  test("when a flush is repeated", async () => {
    const client = await busySession();
    await flush(client.id);
    const before = await archiveRows(client.id);
    await inSession(client.id, (sql) => {
      sql.exec("UPDATE sinks SET cursor = 0 WHERE sink = 'archive'");
      sql.exec("INSERT INTO due (what, at) VALUES ('archive', ?)", Date.now());
    });
    await evict(session(client.id));
    await flush(client.id);
    expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: before.length });
    expect(await archiveRows(client.id)).toEqual(before);
    expect(await conflicts(client.id)).toEqual([]);
  });

  test.for(["before it persists", "after it persisted"] as const)(
    "when a flush is cut off %s",
    async (when) => {
      const client = await busySession();
      const count = (await storedRecords(client.id)).length;
      {
        using batch = failingBatch(when);
        await flush(client.id);
        expect(batch).toHaveBeenCalledOnce();
      }
      expect(await archiveRows(client.id)).toHaveLength(when === "after it persisted" ? count : 0);
      expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: 0, failures: 1 });
      await client.must("list_files");
      await ring(session(client.id));
      expect(seqs(await archiveRows(client.id))).toEqual(upTo(count + 1));
      expect(await sinkState(client.id, "archive")).toMatchObject({
        cursor: count + 1,
        failures: 0,
      });
      expect(await conflicts(client.id)).toEqual([]);
    },
  );

  test("when an earlier flush arrives after a later one, which it does not turn back", async () => {
    const client = await busySession();
    const late: D1PreparedStatement[] = [];
    {
      using _batch = vi
        .spyOn(env.ARCHIVE_DB, "batch")
        .mockImplementationOnce(async (statements) => {
          late.push(...statements);
          throw new Error("D1 is slow");
        });
      await flush(client.id);
    }
    advance(MINUTE);
    await client.must("list_files");
    expect(await client.end()).toBe(204);
    await ring(session(client.id));
    const rows = await archiveRows(client.id);
    const row = await sessionRow(client.id);
    // The two counts, the session, its records, and what is stored of them.
    expect(late).toHaveLength(5);
    await env.ARCHIVE_DB.batch(late);
    expect(await archiveRows(client.id)).toEqual(rows);
    expect(await sessionRow(client.id)).toEqual(row);
    expect(row?.ended_at).not.toBeNull();
  });

  test.for(["before it persists", "after it persisted"] as const)(
    "when the object is lost in the middle of a flush, %s",
    async (when) => {
      const client = await busySession();
      const count = (await storedRecords(client.id)).length;
      await loseDuringFlush(client.id, when);
      expect(await archiveRows(client.id)).toHaveLength(when === "after it persisted" ? count : 0);
      await client.must("list_files");
      await flush(client.id);
      expect(seqs(await archiveRows(client.id))).toEqual(upTo(count + 1));
      expect(await conflicts(client.id)).toEqual([]);
    },
  );

  test("when the object is lost in the middle of a flush and nobody calls again", async () => {
    const client = await busySession();
    const count = (await storedRecords(client.id)).length;
    await loseDuringFlush(client.id, "before it persists");
    await repeatAlarm(client.id);
    // Whatever comes of that, the backlog must not wait for longer than the longest pause.
    const deadline = Date.now() + 5 * MINUTE;
    for (;;) {
      const at = await alarmOf(session(client.id));
      if (at === null || at > deadline) break;
      await ring(session(client.id));
    }
    expect(seqs(await archiveRows(client.id))).toEqual(upTo(count));
  });

  /** The object crashes while D1 works on its batch. */
  async function loseDuringFlush(
    id: string,
    when: "before it persists" | "after it persisted",
  ): Promise<void> {
    const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    const asked = gate();
    const goOn = gate();
    using _batch = vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementation(async (statements) => {
      if (when === "after it persisted") await batch(statements);
      asked.open();
      await goOn.opened();
      throw new Error("nobody listens any more");
    });
    // What becomes of the alarm that was under way is nobody's business any more.
    flush(id).catch(() => null);
    await asked.opened();
    await crash(session(id));
    goOn.open();
  }
});

describe("a sink that fails", () => {
  test("is asked again with growing pauses up to five minutes while calls go on, and catches up", async () => {
    const client = await busySession();
    const pauses: number[] = [];
    {
      using _batch = failingBatch("before it persists");
      await flush(client.id);
      for (let failures = 1; failures <= 9; failures++) {
        expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: 0, failures });
        const due = await dueTime(client.id, "archive");
        pauses.push((due ?? 0) - Date.now());
        // A call is answered, and does not hurry the sink.
        await client.must("list_files");
        expect(await dueTime(client.id, "archive")).toBe(due);
        // The memory of it outlives the object.
        if (failures % 3 === 0) await evict(session(client.id));
        advance((due ?? 0) - Date.now());
        await ringNow(session(client.id));
      }
    }
    advance(5 * MINUTE);
    expect(pauses.map((pause) => pause / SECOND)).toEqual([5, 10, 20, 40, 80, 160, 300, 300, 300]);
    await ringNow(session(client.id));
    const count = (await storedRecords(client.id)).length;
    expect(seqs(await archiveRows(client.id))).toEqual(upTo(count));
    expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: count, failures: 0 });
    const failed = logs.filter((line) => line.includes("flush_failed") && line.includes(client.id));
    expect(failed).toHaveLength(10);
    expect(JSON.parse(failed[9] ?? "{}")).toMatchObject({ sink: "archive", failures: 10 });
  });

  test("does not hold up the other: R2 away, the archive is kept up to date", async () => {
    const client = await busySession();
    {
      using put = failingPut("before it persists");
      expect(await client.end()).toBe(204);
      for (let n = 0; n < 4; n++) await ring(session(client.id));
      expect(put).toHaveBeenCalled();
    }
    const count = (await storedRecords(client.id)).length;
    expect(seqs(await archiveRows(client.id))).toEqual(upTo(count));
    expect(await segments(client.id)).toEqual([]);
    expect(await sinkState(client.id, "segments")).toMatchObject({
      cursor: 0,
      pending_last: count,
    });
    // Nothing leaves the object's storage until both have it.
    expect(await storedRecords(client.id)).toHaveLength(count);
    await ringUntilReleased(client.id);
    expect(await tablesOf(session(client.id))).toEqual([]);
    await expectOnceInBoth(client.id, count);
  });
});

describe("a record that was changed behind the gateway's back", () => {
  const FORGED = "f".repeat(64);

  test("in the archive is an alarm: it is never overwritten, and the session keeps its own", async () => {
    const client = await busySession();
    const count = (await storedRecords(client.id)).length;
    await tampering(() =>
      env.ARCHIVE_DB.prepare(
        `INSERT INTO audit_log (session_id, seq, tenant, timestamp, principal, role, event, result,
           request_id, prev_hash, hash_chain, line, created_at)
         VALUES (?, 3, 'default', '', '', '', '', 'ok', '', '', ?, '{}', '')`,
      )
        .bind(client.id, FORGED)
        .run(),
    );
    await flush(client.id);
    expect(await conflicts(client.id)).toEqual([{ sink: "archive", seq: 3 }]);
    const rows = await archiveRows(client.id);
    expect(seqs(rows)).toEqual(upTo(count));
    expect(rows[2]).toMatchObject({ hash_chain: FORGED, line: "{}" });
    expect(alarms(client.id)).toMatchObject([{ sink: "archive", seq: 3 }]);

    expect(await client.end()).toBe(204);
    for (let n = 0; n < 5; n++) await ring(session(client.id));
    expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: count + 1 });
    expect(await sinkState(client.id, "segments")).toMatchObject({ cursor: count + 1 });
    expect(await storedRecords(client.id)).toHaveLength(count + 1);
    // The export is still the session's own, and holds.
    const report = await admin("GET", `/audit/sessions/${client.id}/verify`);
    expect(report.body).toMatchObject({ verdicts: { integrity: { ok: true } } });
  });

  test("is noted only once its alarm was raised, so that a lost object raises it again", async () => {
    const client = await busySession();
    await tampering(() =>
      env.ARCHIVE_DB.prepare(
        `INSERT INTO audit_log (session_id, seq, tenant, timestamp, principal, role, event, result,
           request_id, prev_hash, hash_chain, line, created_at)
         VALUES (?, 2, 'default', '', '', '', '', 'ok', '', '', ?, '{}', '')`,
      )
        .bind(client.id, "d".repeat(64))
        .run(),
    );
    const sql = await inSession(client.id, (storage) => storage);
    const noted: unknown[] = [];
    const push = logs.push.bind(logs);
    using _push = vi.spyOn(logs, "push").mockImplementation((...lines) => {
      if (lines.some((line) => line.includes('"archive_conflict"') && line.includes(client.id))) {
        noted.push(sql.exec("SELECT seq FROM conflicts").toArray());
      }
      return push(...lines);
    });
    await flush(client.id);
    expect(noted).toEqual([[]]);
    expect(await conflicts(client.id)).toEqual([{ sink: "archive", seq: 2 }]);
  });

  test("is an alarm too when a repeated flush finds it", async () => {
    const client = await busySession();
    await flush(client.id);
    await env.ARCHIVE_DB.prepare(
      "UPDATE audit_log SET hash_chain = ? WHERE session_id = ? AND seq = 2",
    )
      .bind("e".repeat(64), client.id)
      .run();
    await inSession(client.id, (sql) => {
      sql.exec("UPDATE sinks SET cursor = 0 WHERE sink = 'archive'");
    });
    await evict(session(client.id));
    await client.must("list_files");
    await flush(client.id);
    expect(await conflicts(client.id)).toEqual([{ sink: "archive", seq: 2 }]);
    expect((await archiveRows(client.id))[1]?.hash_chain).toBe("e".repeat(64));
  });

  test("is an alarm when its hash already stands in the archive under another session", async () => {
    const client = await busySession();
    const [, second] = await storedRecords(client.id);
    await tampering(() =>
      env.ARCHIVE_DB.prepare(
        `INSERT INTO audit_log (session_id, seq, tenant, timestamp, principal, role, event, result,
           request_id, prev_hash, hash_chain, line, created_at)
         VALUES ('another', 1, 'default', '', '', '', '', 'ok', '', '', ?, '{}', '')`,
      )
        .bind(second?.hash_chain ?? "")
        .run(),
    );
    await flush(client.id);
    expect(await conflicts(client.id)).toEqual([{ sink: "archive", seq: 2 }]);
  });

  test.for([
    { name: "with a checksum", options: { sha256: sha256("something else\n") } },
    { name: "without a checksum", options: {} },
  ])("in R2 is an alarm, put there $name: the object stays as it is", async ({ options }) => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    const count = (await storedRecords(client.id)).length;
    const key = segmentKey(client.id, 1, count);
    await env.BUCKET.put(key, "something else\n", options);
    for (let n = 0; n < 4; n++) await ring(session(client.id));
    expect(await segments(client.id)).toMatchObject([{ key, text: "something else\n" }]);
    // The session keeps its own.
    expect(await storedRecords(client.id)).toHaveLength(count);
    expect(await conflicts(client.id)).toMatchObject([{ sink: "segments" }]);
    expect(alarms(client.id)).toMatchObject([{ sink: "segments" }]);
  });

  function alarms(id: string) {
    return logs
      .filter((line) => line.includes('"archive_conflict"') && line.includes(id))
      .map((line) => JSON.parse(line))
      .filter(({ level }) => level === "alarm");
  }
});

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function segmentKey(id: string, first: number, last: number): string {
  const day = new Date().toISOString().slice(0, 10).replaceAll("-", "/");
  const seq = (n: number) => String(n).padStart(10, "0");
  return `audit/default/${day}/${id}/${seq(first)}-${seq(last)}.ndjson`;
}

describe("segments", () => {
  test("are written at the session's end, sealed; the archive's key opens them", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    const lines = await exported(client.id);
    const records = await recordsOf(client.id);
    await ringUntilReleased(client.id);
    const count = records.length;
    expect(await segments(client.id)).toMatchObject([{ key: segmentKey(client.id, 1, count) }]);
    await expectOnceInBoth(client.id, count);
    const sealed = await segmentLines(client.id);
    for (const [at, line] of sealed.entries()) {
      const { args, salt, hash_chain } = records[at] ?? {};
      const { nonce, text } = await opened(client.id, line);
      expect(text).toBe(`{"args":${args ?? "null"},"salt":${JSON.stringify(salt)}}`);
      // From the segment and the key alone, the export line, byte for byte.
      const { sealed: _sealed, ...record } = line;
      expect(canonicalJson({ ...record, ...JSON.parse(text) })).toBe(lines[at]);
      expect(nonce).toHaveLength(24);
      expect(hash_chain).toBe(line.hash_chain);
    }
    expect(new Set(sealed.map((line) => String(line.sealed).slice(0, 16))).size).toBe(count);
  });

  test("hold no argument in the clear", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
    const [segment] = await segments(client.id);
    expect(segment?.text).toContain('"sealed":"');
    expect(segment?.text).not.toContain("quoted");
    expect(segment?.text).not.toContain('"args":');
    expect(segment?.text).not.toContain('"salt":');
    expect(segment?.text.endsWith("\n")).toBe(true);
  });

  test("seal under a nonce that follows from the record's hash", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    const { wrapped_key } = await stateOf(client.id);
    await ringUntilReleased(client.id);
    const secrets = Uint8Array.from(Buffer.from(env.SECRETS_KEY, "base64"));
    const key = unwrapSessionKey(secrets, wrapped_key, client.id);
    const sealKey = createHmac("sha256", key).update("seal").digest();
    for (const line of await segmentLines(client.id)) {
      const nonce = createHmac("sha256", sealKey).update(String(line.hash_chain)).digest("hex");
      expect((await opened(client.id, line)).nonce).toBe(nonce.slice(0, 24));
    }
  });

  test("come after 15 minutes on a session that goes on, and hold what was there then", async () => {
    const client = await busySession();
    const opening = Date.now();
    await flush(client.id);
    expect(await dueTime(client.id, "segments")).toBe(opening + SEGMENT_INTERVAL);
    advance(SEGMENT_INTERVAL);
    const count = (await storedRecords(client.id)).length;
    await ring(session(client.id));
    expect(await segments(client.id)).toMatchObject([{ key: segmentKey(client.id, 1, count) }]);
    await client.must("list_files");
    expect(await dueTime(client.id, "segments")).toBe(Date.now() + SEGMENT_INTERVAL);
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
    const keys = (await segments(client.id)).map(({ key }) => key);
    expect(keys).toEqual([
      segmentKey(client.id, 1, count),
      segmentKey(client.id, count + 1, count + 2),
    ]);
    await expectOnceInBoth(client.id, count + 2);
  });

  test("come at once when a mebibyte has gathered, and are not larger", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await flush(client.id);
    const args = { text: "x".repeat(8000) };
    await Promise.all(Array.from({ length: 125 }, () => client.call("no_such_tool", args)));
    expect(await dueTime(client.id, "segments")).toBe(Date.now());
    await flush(client.id);
    const [first] = await segments(client.id);
    const written = first?.text.split("\n").length ?? 0;
    expect(written).toBeGreaterThan(100);
    expect(written).toBeLessThan(126);
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
    await expectOnceInBoth(client.id, 127);
  });

  test("wait until the archive has the session's row, and with it the wrapped key", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    {
      using _batch = failingBatch("before it persists");
      for (let n = 0; n < 6; n++) await ring(session(client.id));
      expect(await segments(client.id)).toEqual([]);
      expect(await sinkState(client.id, "segments")).toMatchObject({ cursor: 0 });
    }
    await ringUntilReleased(client.id);
    expect(await segments(client.id)).toHaveLength(1);
    expect(await sessionRow(client.id)).toMatchObject({ wrapped_key: expect.any(String) });
  });

  test.for(["before it persists", "after it persisted"] as const)(
    "are written once, with the same bytes, when a PUT is cut off %s and more comes meanwhile",
    async (when) => {
      const client = await busySession();
      await flush(client.id);
      const count = (await storedRecords(client.id)).length;
      advance(SEGMENT_INTERVAL);
      const attempts: string[] = [];
      {
        using put = failingPut(when);
        await ring(session(client.id));
        attempts.push(...put.mock.calls.map(([key]) => key));
      }
      const before = await segments(client.id);
      expect(before).toHaveLength(when === "after it persisted" ? 1 : 0);
      expect(await sinkState(client.id, "segments")).toMatchObject({
        cursor: 0,
        failures: 1,
        pending_last: count,
      });
      await client.must("list_files");
      await crash(session(client.id));
      await client.must("list_files");
      await ring(session(client.id));
      await ring(session(client.id));
      const after = await segments(client.id);
      expect(attempts).toEqual([segmentKey(client.id, 1, count)]);
      expect(after[0]?.key).toBe(attempts[0]);
      if (when === "after it persisted") expect(after[0]).toEqual(before[0]);
      expect(await client.end()).toBe(204);
      await ringUntilReleased(client.id);
      await expectOnceInBoth(client.id, count + 3);
      expect((await segments(client.id))[0]).toEqual(after[0]);
    },
  );

  test("are written once when the object is lost in the middle of a PUT and nobody calls again", async () => {
    const client = await busySession();
    await flush(client.id);
    expect(await client.end()).toBe(204);
    const count = (await storedRecords(client.id)).length;
    const put = env.BUCKET.put.bind(env.BUCKET);
    const asked = gate();
    const goOn = gate();
    {
      using _put = vi.spyOn(env.BUCKET, "put").mockImplementation(async (key, value, options) => {
        await put(key, value, options);
        asked.open();
        await goOn.opened();
        throw new Error("nobody listens any more");
      });
      ring(session(client.id)).catch(() => null);
      await asked.opened();
      await crash(session(client.id));
      goOn.open();
    }
    await repeatAlarm(client.id);
    await ringUntilReleased(client.id);
    await expectOnceInBoth(client.id, count);
    expect(await tablesOf(session(client.id))).toEqual([]);
  });
});

test("a session that ends while a segment is being written has its last one written at once", async () => {
  const client = await busySession();
  await flush(client.id);
  advance(SEGMENT_INTERVAL);
  const put = env.BUCKET.put.bind(env.BUCKET);
  const asked = gate();
  const goOn = gate();
  using _put = vi.spyOn(env.BUCKET, "put").mockImplementationOnce(async (key, value, options) => {
    asked.open();
    await goOn.opened();
    const object = await put(key, value, options);
    if (object === null) throw new Error("it was there before");
    return object;
  });
  const rung = ring(session(client.id));
  await asked.opened();
  expect(await client.end()).toBe(204);
  goOn.open();
  await rung;
  const end = Date.now();
  await ringUntilReleased(client.id);
  expect(await tablesOf(session(client.id))).toEqual([]);
  expect(Date.now()).toBe(end);
  expect(await segments(client.id)).toHaveLength(2);
});

describe("an ended session", () => {
  test("keeps its storage until both sinks have everything, then is gone, and its evidence is not", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    const before = await exported(client.id);
    const report = await admin("GET", `/audit/sessions/${client.id}/verify`);
    await ringUntilReleased(client.id);
    expect(await tablesOf(session(client.id))).toEqual([]);
    expect(await alarmOf(session(client.id))).toBeNull();
    expect(logs.some((line) => line.includes("session_released") && line.includes(client.id))).toBe(
      true,
    );

    expect(await exported(client.id)).toEqual(before);
    // What is verified is the same; the log has anchored it meanwhile.
    const holds = { records: before.length, verdicts: { integrity: { ok: true, findings: [] } } };
    expect(report.body).toMatchObject(holds);
    expect((await admin("GET", `/audit/sessions/${client.id}/verify`)).body).toMatchObject({
      ...holds,
      unanchored: 0,
      verdicts: { ...holds.verdicts, anchored: { ok: true } },
    });
    const gone = await client.call("list_files");
    expect([gone.status, gone.code]).toEqual([404, "SESSION_NOT_FOUND"]);
    expect(await client.end()).toBe(404);
    // Asking for it has brought nothing back.
    expect(await tablesOf(session(client.id))).toEqual([]);
    await expectOnceInBoth(client.id, before.length);
    expect(await sessionRow(client.id)).toMatchObject({
      entries: before.length,
      ended_at: expect.any(String),
    });
  });

  test("is exported whole while its storage is freed between two pages", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await Promise.all(Array.from({ length: 520 }, () => client.call("no_such_tool")));
    expect(await client.end()).toBe(204);
    const source = await openSource(env, client.id);
    const first = (await source?.page(0, PAGE_RECORDS)) ?? [];
    expect(first).toHaveLength(PAGE_RECORDS);
    await ringUntilReleased(client.id);
    const second = (await source?.page(PAGE_RECORDS, PAGE_RECORDS)) ?? [];
    expect(seqs([...first, ...second])).toEqual(upTo(522));
  });

  test("has nothing left to do once an alarm finds it released", async () => {
    const client = await busySession();
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
    expect(await ring(session(client.id))).toBe(false);
  });
});

/** What the platform does with an alarm that did not end: it rings again. */
function repeatAlarm(id: string): Promise<void> {
  return runInDurableObject(session(id), (object: SessionObject) => object.alarm());
}

async function stateOf(id: string): Promise<{ wrapped_key: string }> {
  return inSession(id, (sql) =>
    JSON.parse(sql.exec<{ json: string }>("SELECT json FROM state").one().json),
  );
}
