/**
 * @module
 * The objects behind the gateway, for tests: a look into their storage, a
 * crash, an eviction, an alarm. And the clock, which stands still.
 */
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterAll, beforeAll, expect, vi } from "vitest";
import type { StoredRecord } from "../../src/audit/record.ts";
import type { LogObject } from "../../src/log/log-object.ts";
import { sessionStub, workspaceStub } from "../../src/objects.ts";
import type { MetricsObject } from "../../src/ops/metrics/metrics-object.ts";
import type { SessionObject } from "../../src/session/session-object.ts";
import type { WorkspaceObject } from "../../src/workspace/workspace-object.ts";

/**
 * Far ahead of the machine's clock: alarms are set for times that do not come
 * by themselves, and ring only where a test has them ring.
 */
export const START = Date.UTC(2100, 0, 15, 10);
export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
/** `FLUSH_INTERVAL_SECONDS` and `SESSION_TTL_SECONDS` of wrangler.toml. */
export const FLUSH_INTERVAL = 5 * SECOND;
export const SESSION_TTL = HOUR;

/** Stops the clock at {@link START} for a file, the gateway's included; tests move it on. */
export function useStoppedClock(): void {
  beforeAll(() => {
    vi.useFakeTimers({ toFake: ["Date"], now: START });
  });
  afterAll(() => {
    vi.useRealTimers();
  });
}

export function advance(ms: number): void {
  vi.setSystemTime(Date.now() + ms);
}

/** Takes the gateway's log lines off the console and keeps them for tests to read. */
export function captureLogs(): string[] {
  const lines: string[] = [];
  beforeAll(() => {
    const keep = (...parts: unknown[]) => {
      lines.push(parts.map(String).join(" "));
    };
    vi.spyOn(console, "log").mockImplementation(keep);
    vi.spyOn(console, "error").mockImplementation(keep);
  });
  return lines;
}

type Stub =
  | DurableObjectStub<SessionObject>
  | DurableObjectStub<WorkspaceObject>
  | DurableObjectStub<LogObject>
  | DurableObjectStub<MetricsObject>;

export function session(id: string) {
  return sessionStub(env, id);
}

export function workspace(root: string, tenant = "default") {
  return workspaceStub(env, tenant, root);
}

export function inSession<R>(
  id: string,
  work: (sql: SqlStorage, state: DurableObjectState) => R | Promise<R>,
): Promise<R> {
  return runInDurableObject(session(id), (_object: SessionObject, state) =>
    work(state.storage.sql, state),
  );
}

export function inWorkspace<R>(
  root: string,
  work: (sql: SqlStorage, state: DurableObjectState) => R | Promise<R>,
  tenant = "default",
): Promise<R> {
  return runInDurableObject(workspace(root, tenant), (_object: WorkspaceObject, state) =>
    work(state.storage.sql, state),
  );
}

/** Ends an object's life as a crash does: what is under way is lost, what was stored stays. */
export async function crash(stub: Stub): Promise<void> {
  const aborted = runInDurableObject(stub, (_object, state) => state.abort("a crash"));
  await expect(aborted).rejects.toThrow("a crash");
}

export async function evict(stub: Stub): Promise<void> {
  await evictDurableObject(stub);
}

/** When the object's alarm will ring, Unix ms, or null. */
export function alarmOf(stub: Stub): Promise<number | null> {
  return runInDurableObject(stub, (_object, state) => state.storage.getAlarm());
}

/** Moves the clock to the object's alarm, if it is ahead, and lets it ring. False when none was set. */
export async function ring(stub: Stub): Promise<boolean> {
  const at = await alarmOf(stub);
  if (at === null) return false;
  if (at > Date.now()) vi.setSystemTime(at);
  return runDurableObjectAlarm(stub);
}

/** Lets the object's alarm ring now, whatever the clock says. */
export function ringNow(stub: Stub): Promise<boolean> {
  return runDurableObjectAlarm(stub);
}

/** Has the archive brought up to date: waits out the flush interval and lets the alarm ring. */
export async function flush(id: string): Promise<void> {
  advance(FLUSH_INTERVAL);
  await runDurableObjectAlarm(session(id));
}

/** Rings an ended session's alarm until its storage is free. */
export async function ringUntilReleased(id: string, atMost = 20): Promise<void> {
  for (let rings = 0; rings < atMost; rings++) {
    if (!(await ring(session(id)))) return;
  }
  throw new Error(`The session ${id} still has an alarm after ${atMost} rings`);
}

/** The records as they lie in the session's storage; nothing is settled on the way. */
export function storedRecords(id: string): Promise<StoredRecord[]> {
  return inSession(id, (sql) =>
    sql
      .exec<StoredRecord>("SELECT seq, line, hash_chain, args, salt FROM records ORDER BY seq")
      .toArray(),
  );
}

/** The tables that an object holds, without those of the platform. */
export function tablesOf(stub: Stub): Promise<string[]> {
  return runInDurableObject(stub, (_object, state) =>
    state.storage.sql
      .exec<{ name: string }>(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'",
      )
      .toArray()
      .map(({ name }) => name)
      .sort(),
  );
}

/**
 * A place where a call waits until the test lets it go on, or the test for a
 * call. Each side looks by itself: a promise that another object resolves would
 * go on within that object, and end with it.
 */
export function gate(): { readonly open: () => void; readonly opened: () => Promise<void> } {
  let isOpen = false;
  return {
    open: () => {
      isOpen = true;
    },
    opened: async () => {
      while (!isOpen) await new Promise((resolve) => setTimeout(resolve, 1));
    },
  };
}
