/**
 * @module
 * The load of the soak: clients that come, work and go, and keep every receipt.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Gateway } from "../e2e/support/gateway.ts";
import { RawSession, type Receipt } from "../e2e/support/mcp.ts";

/** Calls of one session before its client ends it and opens the next. */
const CALLS_A_SESSION = 60;
/** How long a client waits while the gateway is away. */
const PATIENCE_MS = 100;

export type Workspace = { readonly root: string; readonly planHash: string };

export class Clients {
  readonly receipts: Receipt[] = [];
  readonly sessions = new Set<string>();
  /** Calls that failed while the gateway was there: each is a fault of the gateway. */
  readonly failures: string[] = [];
  readonly #gateway: Gateway;
  readonly #workspace: Workspace;
  #downs = 0;
  #stopping = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(gateway: Gateway, workspace: Workspace) {
    this.#gateway = gateway;
    this.#workspace = workspace;
  }

  start(lanes: number): void {
    this.#running = Promise.all(Array.from({ length: lanes }, (_, lane) => this.#lane(lane)));
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  /** Does something that calls may fail of. */
  async whileDown(work: () => Promise<void>): Promise<void> {
    this.#downs += 1;
    try {
      await work();
    } finally {
      this.#downs -= 1;
    }
  }

  async #lane(lane: number): Promise<void> {
    while (!this.#stopping) {
      const downs = this.#downs;
      try {
        await this.#visit(lane);
      } catch (error) {
        // A call that was under way when the gateway went has no receipt, and proves nothing.
        if (downs === 0 && this.#downs === 0) this.failures.push(String(error));
        await sleep(PATIENCE_MS);
      }
    }
  }

  async #visit(lane: number): Promise<void> {
    const { url, keys } = this.#gateway;
    const session = await RawSession.open(url, keys.windsurf);
    this.sessions.add(session.id);
    const { root, planHash } = this.#workspace;
    const call = async (name: string, args: object) => {
      const { receipt } = await session.call(name, args);
      this.receipts.push(receipt);
    };
    await call("begin_session", { workspace_root: root, plan_hash: planHash });
    for (let n = 0; n < CALLS_A_SESSION && !this.#stopping; n++) {
      const path = `src/${lane}/${n % 5}.txt`;
      await call("write_file", { path, content: `${session.id} ${n}` });
      await call("read_file", { path });
      await call("write_file", { path: "outside.txt", content: "\u0000 \u{1F600}" });
      await call("list_files", {});
    }
    // Half of the sessions are left to their idle end.
    if (lane % 2 === 0) await session.end();
  }
}
