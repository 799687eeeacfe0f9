/**
 * Faults of D1, R2 and the object itself. Each test ends in the same audit:
 * every acknowledged record is in both sinks exactly once, and the chain holds.
 */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, type MockInstance, test, vi } from "vitest";
import { canonicalJson } from "../../src/audit/canonical.ts";
import { Client, exported, mintKey, type Receipt, verified } from "../support/gateway.ts";
import {
  alarmOf,
  captureLogs,
  crash,
  evict,
  flush,
  gate,
  inSession,
  MINUTE,
  ring,
  ringUntilReleased,
  session,
  storedRecords,
  useStoppedClock,
} from "../support/objects.ts";
import { archiveRows, conflicts, segmentLines } from "../support/sinks.ts";

useStoppedClock();
captureLogs();
const spies: MockInstance[] = [];
afterEach(() => {
  for (const spy of spies.splice(0)) spy.mockRestore();
});

type Store = "D1" | "R2";

class Work {
  readonly client: Client;
  readonly receipts: Receipt[] = [];

  private constructor(client: Client) {
    this.client = client;
  }

  static async open(): Promise<Work> {
    const work = new Work(await Client.open(await mintKey("windsurf")));
    await work.calls(5);
    return work;
  }

  async calls(count: number): Promise<void> {
    const answers = await Promise.all(
      Array.from({ length: count }, (_, n) => this.client.call("read_file", { path: `a${n}` })),
    );
    for (const { receipt } of answers) {
      if (receipt === null) throw new Error("a call without a receipt");
      this.receipts.push(receipt);
    }
  }

  /** Ends the session and holds every receipt against both sinks. */
  async expectNothingLost(): Promise<void> {
    const { id } = this.client;
    expect(await conflicts(id)).toEqual([]);
    expect(await this.client.end()).toBe(204);
    await ringUntilReleased(id, 60);
    const lines = await exported(id);
    expect((await verified(id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
    const rows = await archiveRows(id);
    const seqs = lines.map((_, at) => at + 1);
    expect(rows.map(({ seq }) => seq)).toEqual(seqs);
    const sealed = await segmentLines(id);
    expect(sealed.map(({ seq }) => seq)).toEqual(seqs);
    for (const [at, { sealed: _, hash_chain, ...record }] of sealed.entries()) {
      expect(canonicalJson(record)).toBe(rows[at]?.line);
      expect(hash_chain).toBe(rows[at]?.hash_chain);
    }
    for (const { seq, hash_chain } of this.receipts) {
      expect(rows[seq - 1]?.hash_chain).toBe(hash_chain);
    }
  }
}

/** Fails calls of a store that `fails` names, counted from 1, before they persist or after. */
function failing(store: Store, when: "before" | "after", fails: (call: number) => boolean) {
  let calls = 0;
  const broken = async <T>(work: () => Promise<T>): Promise<T> => {
    calls += 1;
    if (!fails(calls)) return work();
    if (when === "after") await work();
    throw new Error(`${store} is away`);
  };
  if (store === "D1") {
    const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    spies.push(
      vi
        .spyOn(env.ARCHIVE_DB, "batch")
        .mockImplementation((statements) => broken(() => batch(statements))),
    );
  } else {
    const put = env.BUCKET.put.bind(env.BUCKET);
    spies.push(
      vi.spyOn(env.BUCKET, "put").mockImplementation((key, value, options) => {
        const work = () => put(key, value, options);
        // What the log writes has faults of its own; a log away holds back a session's release alone.
        return key.startsWith("log/") ? work() : broken(work);
      }),
    );
  }
  return () => calls;
}

const STORES: readonly Store[] = ["D1", "R2"];
const MATRIX = STORES.flatMap((store) =>
  (["before", "after"] as const).flatMap((when) => [2, 3].map((nth) => ({ store, when, nth }))),
);

describe("every acknowledged record is in both sinks once, and the chain holds,", () => {
  test.for(MATRIX)(
    "when calls of $store throw $when they persist, all but one in $nth",
    async ({ store, when, nth }) => {
      const work = await Work.open();
      const calls = failing(store, when, (call) => call % nth !== 0);
      for (let rounds = 0; rounds < 4; rounds++) {
        await work.calls(7);
        await flush(work.client.id);
        for (let rings = 0; rings < nth; rings++) await ring(session(work.client.id));
      }
      await work.client.call("read_file", { path: "last" });
      await work.expectNothingLost();
      expect(calls()).toBeGreaterThanOrEqual(nth);
    },
  );

  test("when both sinks are down at once, for long", async () => {
    const work = await Work.open();
    let down = true;
    failing("D1", "before", () => down);
    failing("R2", "before", () => down);
    for (let rounds = 0; rounds < 6; rounds++) {
      await work.calls(20);
      await ring(session(work.client.id));
    }
    expect(await archiveRows(work.client.id)).toEqual([]);
    expect(await storedRecords(work.client.id)).toHaveLength(work.receipts.length + 1);
    down = false;
    await work.expectNothingLost();
  });

  test("when the alarm was dropped: whatever wakes the object sets it again", async () => {
    const work = await Work.open();
    await inSession(work.client.id, (_sql, state) => state.storage.deleteAlarm());
    await evict(session(work.client.id));
    await work.calls(1);
    expect(await alarmOf(session(work.client.id))).toBeLessThanOrEqual(Date.now() + MINUTE);
    await work.expectNothingLost();
  });

  test("when the object is evicted and crashes between batches of a flush", async () => {
    const work = await Work.open();
    await work.calls(600);
    const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    let batches = 0;
    const asked = gate();
    const goOn = gate();
    spies.push(
      vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementation(async (statements) => {
        batches += 1;
        if (batches === 2) {
          asked.open();
          await goOn.opened();
        }
        return batch(statements);
      }),
    );
    flush(work.client.id).catch(() => null);
    await asked.opened();
    await crash(session(work.client.id));
    await work.calls(3);
    await flush(work.client.id);
    goOn.open();
    await work.expectNothingLost();
  });

  test("when the flush of a lost life and that of the next one race", async () => {
    const work = await Work.open();
    const late: D1PreparedStatement[] = [];
    const asked = gate();
    spies.push(
      vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementationOnce((statements) => {
        late.push(...statements);
        asked.open();
        return new Promise(() => undefined);
      }),
    );
    flush(work.client.id).catch(() => null);
    await asked.opened();
    await crash(session(work.client.id));
    await work.calls(4);
    // The database works on what it was sent, whatever has become of the one who asked.
    await Promise.all([env.ARCHIVE_DB.batch(late), flush(work.client.id)]);
    await work.expectNothingLost();
  });
});
