/**
 * @module
 * The official conformance suite as a child process. One child runs a whole
 * requirement set, for its start alone costs a second; what it found is read
 * from the `checks.json` that it leaves for each scenario.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { killNow } from "../e2e/support/processes.ts";

const SUITE = join(
  import.meta.dirname,
  ...["..", "..", "node_modules", "@modelcontextprotocol", "conformance"],
);
const PROGRAM = join(SUITE, "dist", "index.js");
const LEAVE_WITH_PARENT = join(
  import.meta.dirname,
  ...["..", "..", "src", "cli", "leave-with-parent.mjs"],
);

/** Of one scenario, by the suite itself: generous, for it only bounds how long a failure takes to show. */
const SCENARIO_TIMEOUT_MS = 30_000;
/** Of one child, after which it is ended. */
const RUN_TIMEOUT_MS = 300_000;
/** How much of a child's output a failure shows. */
const SHOWN_OUTPUT = 4000;

export type Revision = "2025-11-25" | "2026-07-28";

export type FailedCheck = {
  readonly id: string;
  readonly status: "FAILURE" | "WARNING" | "NOTHING_CHECKED";
  readonly message: string;
};

export type Outcome = {
  readonly scenario: string;
  readonly specVersion: Revision;
  readonly passed: boolean;
  /** Each id once; warnings count, for what a server SHOULD do a gateway must not lose. */
  readonly failedChecks: readonly FailedCheck[];
};

const checksSchema = z.array(
  z.object({
    id: z.string(),
    status: z.enum(["SUCCESS", "FAILURE", "WARNING", "SKIPPED", "INFO"]),
    description: z.string().optional(),
    errorMessage: z.string().optional(),
  }),
);

const notScored = z.object({ scenario: z.string(), leg: z.string(), reason: z.string() });
const requirementsSchema = z.object({
  server: z.array(z.string()),
  client: z.array(z.string()),
  not_scored: z.array(notScored),
});

/** What a revision asks of servers: what it requires, and what the suite runs beside that. */
export async function serverScenarios(
  revision: Revision,
): Promise<{ required: string[]; others: string[] }> {
  // The suite's own parser: its files are the suite's, and nothing else here is YAML.
  const yaml: { parse(text: string): unknown } = createRequire(PROGRAM)("yaml");
  const file = join(SUITE, "requirements", `${revision}.yaml`);
  const set = requirementsSchema.parse(yaml.parse(await readFile(file, "utf8")));
  return {
    required: set.server,
    others: set.not_scored.filter(({ leg }) => leg === "server").map(({ scenario }) => scenario),
  };
}

/** Runs everything that a revision has for servers, in one child; answers by scenario. */
export async function runServerSet(
  url: string,
  revision: Revision,
): Promise<ReadonlyMap<string, Outcome>> {
  const run = await runSuite([
    ...["server", "--url", url, "--requirements", revision],
    ...["--timeout", String(SCENARIO_TIMEOUT_MS)],
  ]);
  const { required, others } = await serverScenarios(revision);
  return new Map(
    [...required, ...others].map((scenario) => [
      scenario,
      outcomeOf(scenario, revision, run.checks.get(`server-${scenario}`), run.output),
    ]),
  );
}

/** Runs one scenario for servers. */
export async function runServerScenario(
  url: string,
  scenario: string,
  specVersion: Revision,
): Promise<Outcome> {
  const run = await runSuite([
    ...["server", "--url", url, "--scenario", scenario, "--spec-version", specVersion],
    ...["--timeout", String(SCENARIO_TIMEOUT_MS)],
  ]);
  return outcomeOf(scenario, specVersion, run.checks.get(`server-${scenario}`), run.output);
}

/** Runs one scenario for clients; the suite appends its server's URL to the command. */
export async function runClientScenario(
  command: string,
  scenario: string,
  specVersion: Revision,
): Promise<Outcome> {
  const run = await runSuite([
    ...["client", "--command", command, "--scenario", scenario, "--spec-version", specVersion],
    ...["--timeout", String(SCENARIO_TIMEOUT_MS)],
  ]);
  const outcome = outcomeOf(scenario, specVersion, run.checks.get(scenario), run.output);
  if (run.code === 0 || !outcome.passed) return outcome;
  // Every check went well, and yet the client ended badly, or never.
  const message = `the suite ended with ${run.code}:\n${run.output}`;
  return {
    ...outcome,
    passed: false,
    failedChecks: [{ id: "client-exit", status: "FAILURE", message }],
  };
}

type Run = {
  readonly code: number | null;
  readonly output: string;
  /** The text of each `checks.json`, by the folder's name without its time. */
  readonly checks: ReadonlyMap<string, string>;
};

const FOLDER_TIME = /-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z$/;

async function runSuite(args: readonly string[]): Promise<Run> {
  const folder = await mkdtemp(join(tmpdir(), "atlas-gate-conformance-"));
  try {
    const ended = await runProgram([...args, "-o", folder]);
    const checks = new Map<string, string>();
    for (const name of await readdir(folder)) {
      const text = await readFile(join(folder, name, "checks.json"), "utf8").catch(missing);
      if (text !== null) checks.set(name.replace(FOLDER_TIME, ""), text);
    }
    return { ...ended, checks };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function missing(error: unknown): null {
  if (error instanceof Error && Reflect.get(error, "code") === "ENOENT") return null;
  throw error;
}

/** The child leads a group of its own, so that clients that it started end with it, however it ends. */
function runProgram(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", LEAVE_WITH_PARENT, PROGRAM, ...args], {
      detached: true,
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    const timer = setTimeout(() => endGroup(child), RUN_TIMEOUT_MS);
    let output = "";
    const read = (chunk: Buffer) => {
      output = (output + chunk).slice(-SHOWN_OUTPUT);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    child.once("error", reject);
    child.once("exit", () => {
      clearTimeout(timer);
      endGroup(child);
    });
    child.once("close", (code) => resolve({ code, output }));
  });
}

function endGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) killNow([-pid]);
}

function outcomeOf(
  scenario: string,
  specVersion: Revision,
  text: string | undefined,
  output: string,
): Outcome {
  const failed = text === undefined ? [noChecks(scenario, output)] : failedChecksOf(scenario, text);
  return { scenario, specVersion, passed: failed.length === 0, failedChecks: failed };
}

const noChecks = (scenario: string, output: string): FailedCheck => ({
  id: scenario,
  status: "NOTHING_CHECKED",
  message: `the suite left no checks of it:\n${output}`,
});

function failedChecksOf(scenario: string, text: string): FailedCheck[] {
  const checks = checksSchema.parse(JSON.parse(text));
  const failed = new Map<string, FailedCheck>();
  for (const { id, status, description, errorMessage } of checks) {
    if (status !== "FAILURE" && status !== "WARNING") continue;
    // An id may stand for several checks of a kind: one entry, with the worst of them.
    if (failed.get(id)?.status === "FAILURE") continue;
    failed.set(id, { id, status, message: errorMessage ?? description ?? "" });
  }
  // A scenario that found nothing to check shows nothing.
  const shown = failed.size > 0 || checks.some(({ status }) => status === "SUCCESS");
  return shown ? [...failed.values()] : [noChecks(scenario, text.slice(0, SHOWN_OUTPUT))];
}
