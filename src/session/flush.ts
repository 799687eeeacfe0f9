/**
 * @module
 * Sends a session's records to the sinks: rows to the archive, sealed segments
 * to R2, heads of the chain to the transparency log. Each sink has its own cursor, which moves only when the sink has
 * answered; a sink that fails is asked again with growing pauses for as long
 * as it takes, and calls go on meanwhile.
 */
import { raiseAlarm } from "../archive/alarm.ts";
import { openArchive } from "../archive/open.ts";
import { genesis } from "../audit/chain.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { putSegment, segmentKey, segmentText } from "../audit/sinks/segments.ts";
import type { Submitted } from "../log/log-object.ts";
import type { OfferedLeaf } from "../log/sequence.ts";
import { logStub, metricsStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { count, inObject } from "../ops/metrics/collect.ts";
import { knownTools } from "../ops/metrics/known-tools.ts";
import { within } from "../ops/within.ts";
import { recordTimestamp } from "./ledger.ts";
import type { Schedule } from "./schedule.ts";
import type { SessionStatus } from "./state.ts";
import type { SessionStore, SinkName, SinkState } from "./store.ts";

const ARCHIVE_BATCH_RECORDS = 500;
/** Text of a batch: escaped once more as JSON, it stays below D1's 2 MB for one parameter. */
const ARCHIVE_BATCH_BYTES = 1_000_000;
const SEGMENT_RECORDS = 5_000;
export const SEGMENT_BYTES = 1024 * 1024;
export const SEGMENT_INTERVAL_MS = 15 * 60_000;
const MAX_BACKOFF_MS = 5 * 60_000;
/** Longest wait for the log, which commits once a second: the archive and the segments must not wait behind it. */
const LOG_TIMEOUT_MS = 15_000;
/** Batches of one alarm before it yields: an alarm has a time limit, a backlog has none. */
const BATCHES_AN_ALARM = 40;

export type FlushContext = {
  readonly env: Env;
  readonly store: SessionStore;
  readonly schedule: Schedule;
  readonly status: () => SessionStatus;
  readonly sealKey: Uint8Array;
  readonly flushIntervalMs: number;
};

/** Flushes the archive until it has everything, or says when to go on. Never throws. */
export async function flushArchive(context: FlushContext): Promise<void> {
  const { env, store } = context;
  await guarded(context, "archive", async () => {
    const tools = await knownTools(env);
    for (let batches = 0; batches < BATCHES_AN_ALARM; batches++) {
      const sink = store.sink("archive");
      const records = store.batch(sink.cursor, ARCHIVE_BATCH_RECORDS, ARCHIVE_BATCH_BYTES);
      const status = context.status();
      const last = records.at(-1);
      const entries = last?.seq ?? sink.cursor;
      // The row says what the archive holds once this batch is in: an end, only with the last record.
      const row = {
        ...status,
        entries,
        head: last?.hash_chain ?? status.head,
        ended_at: entries === status.entries ? status.ended_at : null,
      };
      const conflicts = await openArchive(env).write(row, records, tools);
      for (const seq of conflicts) await raiseConflict(context, "archive", seq);
      const cursor = Math.max(last?.seq ?? 0, sink.cursor);
      store.saveSink("archive", { cursor, failures: 0, pendingLast: null });
      if (cursor >= context.status().entries) return null;
    }
    return 0;
  });
}

/** Writes the segments that are due: at least one, and all that is left of an ended session. Never throws. */
export async function flushSegments(context: FlushContext): Promise<void> {
  const { env, store } = context;
  await guarded(context, "segments", async () => {
    // The session's wrapped key must be in the archive before anything sealed under it is kept.
    if (store.sink("archive").cursor === 0) {
      const archive = context.schedule.at("archive") ?? 0;
      return Math.max(context.flushIntervalMs, archive - Date.now());
    }
    for (let segments = 0; segments < BATCHES_AN_ALARM; segments++) {
      const sink = store.sink("segments");
      const records = segmentRecords(store, sink);
      const first = records[0];
      const last = records.at(-1);
      if (first === undefined || last === undefined) return null;
      store.saveSink("segments", { ...sink, pendingLast: last.seq });
      const { tenant, session_id } = context.status();
      const outcome = await putSegment(
        env.BUCKET,
        segmentKey(tenant, session_id, recordTimestamp(first.line), first.seq, last.seq),
        segmentText(context.sealKey, records),
      );
      if (outcome === "conflict") await raiseConflict(context, "segments", first.seq);
      store.saveSink("segments", { cursor: last.seq, failures: 0, pendingLast: null });
      const left = store.textAfter(last.seq);
      if (left === 0) return null;
      // It may have ended meanwhile: then all that is left goes out.
      if (context.status().ended_at === null && left < SEGMENT_BYTES) return SEGMENT_INTERVAL_MS;
    }
    return 0;
  });
}

/**
 * Has the heads that the archive holds anchored in the log: the first record, the
 * newest, and the last of an ended session as such. Never throws.
 */
export async function flushLog(context: FlushContext): Promise<void> {
  const { env, store } = context;
  await guarded(context, "log", async () => {
    const { cursor } = store.sink("log");
    const leaves = leavesAfter(context, cursor);
    const last = leaves.at(-1);
    if (last === undefined) return null;
    const submitted = await within(LOG_TIMEOUT_MS, submit(env, leaves));
    if (!submitted.ok) throw new Error(submitted.message);
    for (const [i, { seq }] of leaves.entries()) {
      if (submitted.outcomes[i] === "conflict") await raiseConflict(context, "log", seq);
    }
    store.saveSink("log", { cursor: last.seq, failures: 0, pendingLast: null });
    return null;
  });
}

function leavesAfter({ store, status }: FlushContext, cursor: number): OfferedLeaf[] {
  const { tenant, session_id, entries, ended_at } = status();
  const archived = store.sink("archive").cursor;
  if (archived <= cursor) return [];
  const session = genesis(sha256Hex, tenant, session_id);
  const leaf = (kind: "open" | "head" | "close", seq: number): OfferedLeaf[] =>
    store.records(seq - 1, 1).map(({ hash_chain }) => ({ kind, seq, session, hash_chain }));
  const isLast = ended_at !== null && archived === entries;
  return [
    ...(cursor === 0 ? leaf("open", 1) : []),
    ...(archived > 1 ? leaf(isLast ? "close" : "head", archived) : []),
  ];
}

async function submit(env: Env, leaves: readonly OfferedLeaf[]): Promise<Submitted> {
  return logStub(env).submit(leaves);
}

function segmentRecords(store: SessionStore, sink: SinkState) {
  return sink.pendingLast === null
    ? store.batch(sink.cursor, SEGMENT_RECORDS, SEGMENT_BYTES)
    : store.records(sink.cursor, sink.pendingLast - sink.cursor);
}

/**
 * Runs one sink's flush; `flush` answers null when all is done, else in how many
 * ms to go on. The due time stands until the sink has answered, so that an
 * object lost in between flushes again.
 */
async function guarded(
  context: FlushContext,
  name: SinkName,
  flush: () => Promise<number | null>,
): Promise<void> {
  const { store, schedule, flushIntervalMs } = context;
  const due = schedule.at(name);
  const hadFailed = store.sink(name).failures > 0;
  try {
    const pause = await flush();
    if (hadFailed) noteFlush(context, name, null);
    // Records may have come while the sink was busy; they found a due time standing. The log follows the archive.
    const goal = name === "log" ? store.sink("archive").cursor : context.status().entries;
    const left = store.sink(name).cursor < goal;
    const ended = context.status().ended_at !== null;
    if (left) schedule.set(name, Date.now() + (pause ?? (ended ? 0 : flushIntervalMs)));
    else schedule.clear(name);
  } catch (error) {
    const sink = store.sink(name);
    const failures = sink.failures + 1;
    store.saveSink(name, { ...sink, failures });
    count(context.env, inObject, "mcp_flush_failures_total", { sink: name });
    noteFlush(context, name, due ?? Date.now());
    const pause = Math.min(MAX_BACKOFF_MS, flushIntervalMs * 2 ** Math.min(failures - 1, 20));
    schedule.set(name, Date.now() + pause);
    logEvent("error", "flush_failed", {
      sink: name,
      session_id: context.status().session_id,
      failures,
      retry_ms: pause,
      lag_ms: due === null ? 0 : Date.now() - due,
      error: error instanceof Error ? error.message : String(error),
    });
  }
}

/** Tells the Metrics object since when a flush is overdue, or that it no longer is; the next failure tells it again. */
function noteFlush({ env, status }: FlushContext, sink: SinkName, since: number | null): void {
  metricsStub(env)
    .noteFlush(sink, status().session_id, since)
    .catch((error: unknown) => logEvent("warn", "flush_not_noted", { error: String(error) }));
}

/**
 * Noted once; the session then keeps its records, whatever the sinks say. Noted after the
 * alarm: an object that is lost in between finds the conflict again, and raises it again.
 */
async function raiseConflict(context: FlushContext, sink: SinkName, seq: number): Promise<void> {
  if (context.store.hasConflict(sink, seq)) return;
  const { tenant, session_id } = context.status();
  await raiseAlarm(context.env, {
    found_by: sink,
    tenant,
    session_id,
    seq,
    message: "the sink holds another record than the session: it was changed there",
  });
  context.store.addConflict(sink, seq);
}
