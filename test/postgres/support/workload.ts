/**
 * @module
 * Clients that call a gateway without a pause and keep every receipt, and the
 * audit that holds those receipts against what the archive has.
 */

import { PostgresArchive } from "../../../src/archive/postgres.ts";
import { exportLine } from "../../../src/audit/record.ts";
import { exportLines, problemsOf, readLine } from "../../e2e/support/chain.ts";
import { eventually } from "../../e2e/support/eventually.ts";
import type { Gateway } from "../../e2e/support/gateway.ts";
import { RawSession, type Receipt } from "../../e2e/support/mcp.ts";
import { Operator } from "../../e2e/support/operator.ts";

const CATCH_UP_MS = 100_000;

export class Workload {
  readonly receipts: Receipt[] = [];
  readonly #sessions: RawSession[];
  #running: Promise<unknown> | null = null;
  #stopping = false;

  private constructor(sessions: RawSession[]) {
    this.#sessions = sessions;
  }

  static async open(gateway: Gateway, sessions: number): Promise<Workload> {
    return new Workload(
      await Promise.all(
        Array.from({ length: sessions }, () => RawSession.open(gateway.url, gateway.keys.windsurf)),
      ),
    );
  }

  /** One lane a session, until `stop`. A call that fails is a failure of the workload. */
  start(): void {
    this.#stopping = false;
    this.#running = Promise.all(this.#sessions.map((session) => this.#lane(session)));
    // It is awaited by `stop`; until then a failure waits too.
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  /** Waits until so many more calls were answered. */
  async answered(more: number): Promise<void> {
    const from = this.receipts.length;
    await eventually(`${more} calls were answered`, () =>
      this.receipts.length - from >= more || this.#stopping ? true : null,
    );
  }

  async #lane(session: RawSession): Promise<void> {
    for (let n = 0; !this.#stopping; n++) {
      const { receipt } = await session.call("read_file", { path: `src/${n}\u{1F600}.txt` });
      this.receipts.push(receipt);
    }
  }

  /**
   * Everything that is wrong, in words: a record that was acknowledged and is
   * not in the database, or twice, or another; a chain that does not hold.
   */
  async problems(gateway: Gateway, databaseUrl: string): Promise<string[]> {
    const operator = new Operator(gateway.url, gateway.keys.operator);
    const archive = new PostgresArchive(databaseUrl);
    const problems: string[] = [];
    for (const { id } of this.#sessions) {
      const text = await operator.export(id);
      const lines = exportLines(text);
      problems.push(...problemsOf(text, { tenant: "default", id }));
      const stored = await eventually(
        `the archive has all ${lines.length} records of ${id}`,
        async () => {
          const found = await archive.page(id, 0, lines.length + 1);
          return found.length >= lines.length ? found : null;
        },
        CATCH_UP_MS,
      );
      stored.forEach((record, at) => {
        if (exportLine(record) !== lines[at]) problems.push(`${id} ${record.seq}: another record`);
      });
      if (stored.length !== lines.length)
        problems.push(`${id}: ${stored.length} of ${lines.length}`);
      for (const { seq, hash_chain } of this.receipts.filter((one) => one.session_id === id)) {
        const found = readLine(lines[seq - 1] ?? "{}");
        if (found.hash_chain !== hash_chain)
          problems.push(`${id} ${seq}: not what was acknowledged`);
      }
    }
    return problems;
  }
}
