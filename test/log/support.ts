/**
 * @module
 * The log over its real stores, for tests inside workerd: a Log object's
 * storage and the bucket, each call of which can be made to fail before or
 * after it had its effect.
 */

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { type LogBucket, logBucket } from "../../src/log/bucket.ts";
import { logSigners } from "../../src/log/keys.ts";
import type { LogObject } from "../../src/log/log-object.ts";
import type { OfferedLeaf } from "../../src/log/sequence.ts";
import { LogStore } from "../../src/log/store.ts";
import { LogWriter } from "../../src/log/writer.ts";
import type { AlarmBeside } from "../../src/ops/alerts/alarm.ts";
import { logEvent } from "../../src/ops/log.ts";

export const ORIGIN = "test.example/log";
export const SEED = new Uint8Array(32).fill(1);

/** The steps of a commit that touch a store. */
export const STEPS = ["stage", "swap", "tile", "entries", "copy", "checkpoint", "finish"] as const;
export type Step = (typeof STEPS)[number];
export type When = "before it persisted" | "after it persisted";

/** At which call of which step a store fails. */
export type Fault = { readonly step: Step; readonly when: When };

export class StoreDown extends Error {}

async function faulty<T>(armed: Fault | null, step: Step, work: () => Promise<T>): Promise<T> {
  if (armed?.step !== step) return work();
  if (armed.when === "after it persisted") await work();
  throw new StoreDown(`${step} failed ${armed.when}`);
}

class FaultyStore extends LogStore {
  readonly #fault: Fault | null;

  constructor(storage: DurableObjectStorage, fault: Fault | null) {
    super(storage);
    this.#fault = fault;
  }

  override stage(...args: Parameters<LogStore["stage"]>) {
    return faulty(this.#fault, "stage", () => super.stage(...args));
  }

  override swap(...args: Parameters<LogStore["swap"]>) {
    return faulty(this.#fault, "swap", () => super.swap(...args));
  }

  override finish(...args: Parameters<LogStore["finish"]>) {
    return faulty(this.#fault, "finish", () => super.finish(...args));
  }
}

function stepOf(name: string): Step {
  if (name.startsWith("tile/entries/")) return "entries";
  return name.startsWith("tile/") ? "tile" : "copy";
}

function faultyBucket(bucket: LogBucket, fault: Fault | null): LogBucket {
  return {
    ...bucket,
    putOnce: (name, bytes, type) =>
      faulty(fault, stepOf(name), () => bucket.putOnce(name, bytes, type)),
    putCheckpoint: (note) => faulty(fault, "checkpoint", () => bucket.putCheckpoint(note)),
  };
}

/** An alarm as its line of the log: these parts know no receivers. */
export const logged: AlarmBeside = (alarm, message, fields) =>
  logEvent("alarm", alarm, { ...fields, message });

export type Options = {
  readonly fault?: Fault | null;
  readonly origin?: string;
  readonly seeds?: readonly Uint8Array[];
};

/** One life of a log: opened from what is stored, as after a restart. */
export async function openLog(
  storage: DurableObjectStorage,
  { fault = null, origin = ORIGIN, seeds = [SEED] }: Options = {},
): Promise<{ writer: LogWriter; store: LogStore; bucket: LogBucket }> {
  const store = new FaultyStore(storage, fault);
  const bucket = faultyBucket(logBucket(env.BUCKET), fault);
  const signers = await logSigners(origin, seeds);
  return {
    writer: await LogWriter.open({ store, bucket, origin, signers, alarm: logged }),
    store,
    bucket,
  };
}

let objects = 0;

/** Work within the storage of a Log object that nobody else uses; the bucket is emptied before. */
export async function withLog<R>(work: (storage: DurableObjectStorage) => Promise<R>): Promise<R> {
  await emptyBucket();
  objects += 1;
  const stub = env.LOG.get(env.LOG.idFromName(`a test's log ${objects}`));
  return runInDurableObject(stub, (_object: LogObject, state) => work(state.storage));
}

export async function emptyBucket(): Promise<void> {
  for (;;) {
    const { objects: found } = await env.BUCKET.list({ prefix: "log/" });
    if (found.length === 0) return;
    await env.BUCKET.delete(found.map(({ key }) => key));
  }
}

/** So many opening leaves of different sessions, the first of them number `from`. */
export function openings(from: number, count: number): OfferedLeaf[] {
  return Array.from({ length: count }, (_, i) => leaf("open", from + i, 1));
}

export function leaf(kind: "open" | "head" | "close", session: number, seq: number): OfferedLeaf {
  return {
    kind,
    seq,
    session: sha256Hex(`session ${session}`),
    hash_chain: sha256Hex(`session ${session}, record ${seq}`),
  };
}

/** Every checkpoint note in the bucket, by its key. */
export async function bucketNotes(): Promise<Map<string, string>> {
  const notes = new Map<string, string>();
  const { objects: found } = await env.BUCKET.list({ prefix: "log/checkpoint" });
  for (const { key } of found) {
    notes.set(key, (await (await env.BUCKET.get(key))?.text()) ?? "");
  }
  return notes;
}
