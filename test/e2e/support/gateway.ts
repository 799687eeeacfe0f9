/**
 * @module
 * A gateway of a test's own, started by the product's own start command, on a
 * free port, with state in a temporary folder.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import * as z from "zod";
import { sumProblemsOfState, tamperWithState } from "./archive-sums.ts";
import { eventually } from "./eventually.ts";
import { descendantsOf, isAlive, killNow } from "./processes.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const READY = "Atlas Gate is ready.";

export const localFile = z.strictObject({
  url: z.string(),
  admin_token: z.string(),
  keys: z.strictObject({
    operator: z.string(),
    antigravity: z.string(),
    windsurf: z.string(),
    auditor: z.string(),
  }),
});

export type LocalFile = z.infer<typeof localFile>;

export async function readLocalFile(stateDir: string): Promise<LocalFile> {
  return localFile.parse(JSON.parse(await readFile(join(stateDir, "local.json"), "utf8")));
}

/** `npm start -- <flags>`, without npm: what it prints, and how it ends. */
export class StartCommand {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  #output = "";

  constructor(flags: readonly string[], cwd = ROOT) {
    this.#child = spawn(
      process.execPath,
      [
        "--import",
        join(ROOT, "src", "cli", "require-node.mjs"),
        join(ROOT, "src", "cli", "start.ts"),
        ...flags,
      ],
      { cwd, env: plainEnv(), stdio: ["ignore", "pipe", "pipe"] },
    );
    const read = (chunk: Buffer) => {
      this.#output += chunk;
    };
    this.#child.stdout?.on("data", read);
    this.#child.stderr?.on("data", read);
    this.#exited = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code) => resolve(code));
    });
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error("the start command did not start");
    return pid;
  }

  /** Everything printed so far. */
  get output(): string {
    return this.#output;
  }

  /** The exit code, null after a signal. */
  get exited(): Promise<number | null> {
    return this.#exited;
  }

  /** Resolves with the banner; throws when the command ends instead. */
  async ready(): Promise<void> {
    let code: number | null | undefined;
    void this.#exited.then((ended) => {
      code = ended;
    });
    await eventually("the gateway is ready", () => {
      if (code !== undefined) throw new Error(`It ended with ${code}: ${this.#output}`);
      return this.#output.includes(READY) ? true : null;
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** This process and all below it: wrangler leads a group of its own, workerd is below that. */
  tree(): number[] {
    return [this.pid, ...descendantsOf(this.pid)];
  }

  /** What the power failing does: everything at once, with no chance to clean up. */
  async killTree(): Promise<void> {
    const pids = this.tree();
    killNow(pids);
    await eventually("the killed processes are gone", () => (pids.some(isAlive) ? null : true));
  }
}

export type GatewayOptions = {
  /** Kept when it is given; made and removed again when it is not. */
  readonly stateDir?: string;
  readonly vars?: Readonly<Record<string, string>>;
  /** Further flags of `npm start`. */
  readonly flags?: readonly string[];
  /** A free one when it is not given. */
  readonly port?: number;
};

/** Tests ask faster than an agent may; those of the limits say which they mean. */
const UNLIMITED = { RATE_LIMIT_PER_MINUTE: "0", RATE_LIMIT_PRINCIPAL_PER_MINUTE: "0" };

export class Gateway {
  readonly stateDir: string;
  readonly port: number;
  readonly #flags: readonly string[];
  readonly #ownsState: boolean;
  #command: StartCommand;
  #local: LocalFile | null = null;
  readonly #tampered = new Map<string, number>();

  private constructor(options: GatewayOptions & { stateDir: string; port: number }, owns: boolean) {
    this.stateDir = options.stateDir;
    this.port = options.port;
    this.#ownsState = owns;
    this.#flags = [
      ...["--port", String(options.port), "--persist-to", options.stateDir],
      ...Object.entries({ ...UNLIMITED, ...options.vars }).flatMap(([name, value]) => [
        "--var",
        `${name}:${value}`,
      ]),
      ...(options.flags ?? []),
    ];
    this.#command = new StartCommand(this.#flags);
  }

  static async start(options: GatewayOptions = {}): Promise<Gateway> {
    const stateDir = options.stateDir ?? (await temporaryFolder());
    const port = options.port ?? (await freePort());
    const gateway = new Gateway({ ...options, stateDir, port }, options.stateDir === undefined);
    try {
      await gateway.#becomeReady();
    } catch (error) {
      await gateway.dispose();
      throw error;
    }
    return gateway;
  }

  get url(): string {
    return this.#started().url;
  }

  get keys(): LocalFile["keys"] {
    return this.#started().keys;
  }

  get adminToken(): string {
    return this.#started().admin_token;
  }

  get command(): StartCommand {
    return this.#command;
  }

  /** Ends it as Ctrl-C does; answers with the exit code. */
  async stop(): Promise<number | null> {
    this.#command.signal("SIGTERM");
    return this.#command.exited;
  }

  /** SIGKILL to all of it at once, workerd included. */
  async kill(): Promise<void> {
    await this.#command.killTree();
  }

  /** Starts it again on the same state and port. */
  async restart(): Promise<void> {
    this.#command = new StartCommand(this.#flags);
    await this.#becomeReady();
  }

  /**
   * Stops it, changes its D1 as nobody should, and starts it again. What that changed in
   * the rows is taken off when its metrics are added up in the end.
   */
  async tampering(change: (db: DatabaseSync) => void): Promise<void> {
    await this.stop();
    for (const [series, by] of await tamperWithState(this.stateDir, change)) {
      this.#tampered.set(series, (this.#tampered.get(series) ?? 0) + by);
    }
    await this.restart();
  }

  /** What the platform's cron trigger does, once; done when it is. */
  async runCron(): Promise<void> {
    const response = await fetch(`${this.url}/cdn-cgi/local/scheduled`);
    const outcome = await response.text();
    if (outcome !== "ok") throw new Error(`cron: ${response.status} ${outcome}`);
  }

  /**
   * Ends it however it stands, and removes its state if that was made for it. Throws
   * when its metrics do not add up: whatever a test did, the counts are what D1 holds.
   */
  async dispose(): Promise<void> {
    await this.kill();
    // One that never was ready may have no D1.
    const problems =
      this.#local === null ? [] : await sumProblemsOfState(this.stateDir, this.#tampered);
    if (this.#ownsState) await removeFolder(this.stateDir);
    if (problems.length > 0) {
      throw new Error(`Counts that are not what the archive holds:\n${problems.join("\n")}`);
    }
  }

  async #becomeReady(): Promise<void> {
    await this.#command.ready();
    this.#local = await readLocalFile(this.stateDir);
  }

  #started(): LocalFile {
    if (this.#local === null) throw new Error("the gateway is not ready");
    return this.#local;
  }
}

export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "atlas-gate-e2e-"));
}

export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5 });
}

/** Ports that no system gives to outgoing connections, or to whoever asks for any: one that is free stays so. */
const PORTS = { first: 10_000, count: 20_000 };

/** A port that was free a moment ago. Servers of other tests start at the same time, and take others. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + randomInt(PORTS.count);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

const KEPT_VARIABLES = new Set(["PATH", "HOME", "TMPDIR", "LANG"]);

/** What the test runner sets for itself must not reach the product. */
export function plainEnv(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of Object.keys(env)) if (!KEPT_VARIABLES.has(name)) delete env[name];
  return env;
}
