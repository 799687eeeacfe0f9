import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ambientId, principalOf } from "./support/ambient.ts";
import { exportLines, problemsOf, readLine, sha256 } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { initializeMessage, postMcp, RawSession, type Receipt } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan } from "./support/plans.ts";

const ROUNDS = 3;
const WRITERS = 5;
/** Answers that a round waits for before it kills: enough that flushes and writes are under way. */
const ANSWERS_A_ROUND = 150;
const ROOT = "/srv/crash";
const TENANT = "default";

type Work = {
  /** Calls that a client saw answered. */
  readonly receipts: Receipt[];
  /** What each path holds by the last answered write, and what one that was not answered would have put there. */
  readonly files: Map<string, { answered: string | null; tried: string }>;
  readonly ended: RawSession[];
  readonly keys: string[];
};

/** Runs steps one after the other until the gateway is gone. Whatever fails before that is a failure. */
async function untilKilled(
  killed: () => boolean,
  step: (n: number) => Promise<void>,
): Promise<void> {
  for (let n = 0; !killed(); n++) {
    try {
      await step(n);
    } catch (error) {
      if (killed()) return;
      throw error;
    }
  }
}

describe("a gateway that is killed under load and started again", () => {
  const work: Work = { receipts: [], files: new Map(), ended: [], keys: [] };
  let gateway: Gateway;
  let operator: Operator;
  let writers: RawSession[];
  let sessions: Set<string>;

  beforeAll(async () => {
    gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
    operator = new Operator(gateway.url, gateway.keys.operator);
    const planHash = await approvedPlan(gateway, ROOT);
    writers = await Promise.all(
      Array.from({ length: WRITERS }, async () => {
        const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
        await session.ok("begin_session", { workspace_root: ROOT, plan_hash: planHash });
        return session;
      }),
    );
    sessions = new Set(writers.map((session) => session.id));
  });

  afterAll(async () => {
    await gateway?.dispose();
  });

  async function write(session: RawSession, path: string, content: string): Promise<void> {
    const answered = work.files.get(path)?.answered ?? null;
    work.files.set(path, { answered, tried: content });
    const outcome = await session.call("write_file", { path, content });
    expect(outcome.code).toBeNull();
    work.files.set(path, { answered: content, tried: content });
    work.receipts.push(outcome.receipt);
  }

  /** New files, one file again and again, and reads in between. */
  function writing(session: RawSession, writer: number, round: number, killed: () => boolean) {
    return untilKilled(killed, async (n) => {
      const large = n % 10 === 9 ? "padding ".repeat(10_000) : "";
      await write(session, `src/${writer}/${round}-${n}`, `${round} ${writer} ${n} ${large}`);
      await write(session, `src/${writer}/current`, `${round} ${n}`);
      const read = await session.call("read_file", { path: `src/${writer}/current` });
      expect(read.structured).toMatchObject({ content: `${round} ${n}` });
      work.receipts.push(read.receipt);
    });
  }

  /** Sessions that come and go. */
  function visiting(killed: () => boolean) {
    return untilKilled(killed, async () => {
      const session = await RawSession.open(gateway.url, gateway.keys.auditor);
      sessions.add(session.id);
      work.receipts.push((await session.call("read_audit_log")).receipt);
      const answer = await session.end();
      if (answer.status !== 204) throw new Error(`DELETE: ${answer.status}`);
      work.ended.push(session);
    });
  }

  /** Changes by the operator. */
  function minting(killed: () => boolean) {
    return untilKilled(killed, async () => {
      work.keys.push((await operator.mintKey({ role: "auditor" })).key);
    });
  }

  async function loadAndKill(round: number): Promise<void> {
    let dead = false;
    const killed = () => dead;
    const before = work.receipts.length;
    const load = Promise.all([
      ...writers.map((session, writer) => writing(session, writer, round, killed)),
      visiting(killed),
      minting(killed),
    ]);
    await Promise.race([
      load,
      eventually("enough calls were answered", () =>
        work.receipts.length - before >= ANSWERS_A_ROUND ? true : null,
      ),
    ]);
    dead = true;
    await gateway.kill();
    await load;
  }

  it.each(Array.from({ length: ROUNDS }, (_, round) => round))(
    "round %i: has every call that was answered, and goes on",
    async (round) => {
      const endedBefore = work.ended.length;
      await loadAndKill(round);
      await gateway.restart();

      // Nobody asks for these again: what is left of them has to be archived all the same.
      for (const { id } of work.ended.slice(endedBefore)) {
        const archived = await operator.auditUntil(
          `session_id=${id}`,
          (found) => found.length === 3,
        );
        expect(archived.map((entry) => entry.event).reverse()).toEqual([
          "session_open",
          "tool_call",
          "session_close",
        ]);
      }

      const lines = new Map<string, string[]>();
      for (const id of sessions) {
        const text = await operator.export(id);
        expect(problemsOf(text, { tenant: TENANT, id })).toEqual([]);
        lines.set(id, exportLines(text));
        const report = await operator.ok("GET", `/audit/sessions/${id}/verify`);
        expect(report).toMatchObject({
          records: exportLines(text).length,
          open_intents: [],
          verdicts: { integrity: { ok: true, findings: [] } },
        });
      }
      for (const { session_id, seq, hash_chain } of work.receipts) {
        const line = lines.get(session_id)?.[seq - 1];
        expect(readLine(line ?? "{}")).toMatchObject({ session_id, seq, hash_chain });
      }

      const [reader] = writers;
      for (const [path, { answered, tried }] of work.files) {
        const outcome = await reader?.call("read_file", { path });
        if (answered === null && outcome?.code === "NOT_FOUND") continue;
        const possible = [answered, tried].map((content) =>
          content === null ? "" : sha256(content),
        );
        expect(possible).toContain(Reflect.get(Object(outcome?.structured), "sha256"));
      }
      for (const session of writers) {
        // Holds the effects in the chain against the workspace's journal, both ways.
        expect(await session.ok("verify_workspace_integrity")).toMatchObject({
          ok: true,
          findings: [],
        });
        await write(session, `src/after/${session.id}`, `round ${round}`);
      }
      for (const session of work.ended) expect((await session.request("ping")).status).toBe(404);
      const key = work.keys.at(-1);
      if (key !== undefined) {
        expect((await postMcp(gateway.url, initializeMessage(), { key })).status).toBe(200);
      }
    },
  );

  it("ends up with every record in the archive, once", async () => {
    for (const id of [...sessions, ambientId(TENANT, principalOf(gateway.keys.operator))]) {
      const lines = exportLines(await operator.export(id)).map(readLine);
      const archived = await operator.auditUntil(
        `session_id=${id}`,
        (found) => found.length >= lines.length,
      );
      expect(archived.toReversed()).toEqual(lines);
    }
  });

  it("has the one result of every change that the operator was answered", async () => {
    const id = ambientId(TENANT, principalOf(gateway.keys.operator));
    const text = await operator.export(id);
    expect(problemsOf(text, { tenant: TENANT, id })).toEqual([]);
    const records = exportLines(text).map(readLine);
    for (const key of work.keys) {
      const made = records.filter((record) => at(record.context, "key.id") === key.split("_")[1]);
      expect(made.map((record) => record.result)).toEqual(["pending", "ok"]);
      expect(made[1]?.intent_seq).toBe(made[0]?.seq);
    }
    const pending = records.filter((record) => record.result === "pending");
    const unanswered = pending.filter(({ seq }) => {
      const results = records.filter((record) => record.intent_seq === seq);
      expect(results.length).toBeLessThanOrEqual(1);
      return results.length === 0;
    });
    // At most the one that was under way at each kill.
    expect(unanswered.length).toBeLessThanOrEqual(ROUNDS);
  });
});
