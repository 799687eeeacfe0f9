/**
 * @module
 * `npm test`: the checks, then every test project, in lanes side by side. Flags
 * go through to vitest; with any, the checks are left out and only the named
 * projects run. The last line is computed from the runners' own reports.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { ROOT } from "./wrangler.ts";

/** Projects that run one after the other, beside those of the other lanes: all but the first mostly wait. */
const LANES: readonly (readonly string[])[] = [
  ["unit", "workers"],
  ["postgres", "conformance"],
  ["e2e"],
];
const REPORTS = join(ROOT, ".test-reports");
const VITEST = join(ROOT, "node_modules", "vitest", "vitest.mjs");
const PROJECT_FLAG = "--project";

/** What went well and what did not; `problem` says what the numbers alone do not. */
type Tally = { name: string; passed: number; failed: number; problem: string | null };

/** The part of vitest's JSON report that is counted. */
const reportSchema = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  testResults: z.array(
    z.object({
      status: z.string(),
      assertionResults: z.array(z.object({ status: z.string() })),
    }),
  ),
});

/** Takes the projects out of vitest's flags: each runs on its own, with a report of its own. */
function splitFlags(flags: readonly string[]): { projects: string[]; rest: string[] } {
  const projects: string[] = [];
  const rest: string[] = [];
  for (let at = 0; at < flags.length; at++) {
    const flag = flags[at] ?? "";
    if (flag === PROJECT_FLAG) {
      projects.push(flags[at + 1] ?? "");
      at += 1;
    } else if (flag.startsWith(`${PROJECT_FLAG}=`)) {
      projects.push(flag.slice(PROJECT_FLAG.length + 1));
    } else {
      rest.push(flag);
    }
  }
  return { projects, rest };
}

function runNode(args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      // Not a terminal: two runners that redraw their lines would draw over each other.
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.pipe(process.stdout, { end: false });
    child.stderr.pipe(process.stderr, { end: false });
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}

async function runCheck(): Promise<Tally> {
  const code = await runNode([join(import.meta.dirname, "check.ts")]);
  return code === 0
    ? { name: "check", passed: 0, failed: 0, problem: null }
    : { name: "check", passed: 0, failed: 1, problem: "see its output above" };
}

/** Runs vitest once; a name without a project is a run over whichever projects the flags select. */
async function runTests(
  name: string,
  project: string | null,
  flags: readonly string[],
): Promise<Tally> {
  const report = join(REPORTS, `${name.replace(/[^\w.-]/g, "_")}.json`);
  const code = await runNode([
    VITEST,
    "run",
    ...(project === null ? [] : [PROJECT_FLAG, project]),
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...flags,
  ]);
  if (!existsSync(report)) {
    return { name, passed: 0, failed: 1, problem: "the runner left no report" };
  }
  return { name, ...count(JSON.parse(await readFile(report, "utf8")), code) };
}

function count(json: unknown, code: number): Omit<Tally, "name"> {
  const report = reportSchema.parse(json);
  const passed = report.numPassedTests;
  // A file that does not even load has no failed test of its own.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && assertionResults.every((test) => test.status !== "failed"),
  ).length;
  const failed = report.numFailedTests + broken;
  if (failed > 0) return { passed, failed, problem: null };
  if (passed === 0) return { passed, failed: 1, problem: "no test ran" };
  return code === 0
    ? { passed, failed, problem: null }
    : { passed, failed: 1, problem: `the runner ended with ${code}, though no test failed` };
}

async function run(flags: readonly string[]): Promise<Tally[]> {
  // Reports of an earlier run must not be counted in place of those that are missing.
  await rm(REPORTS, { recursive: true, force: true });
  await mkdir(REPORTS, { recursive: true });
  const { projects, rest } = splitFlags(flags);
  if (flags.length > 0 && projects.length === 0) return [await runTests("selected", null, rest)];
  if (flags.length > 0) return runLane(projects, rest);
  const check = await runCheck();
  const lanes = await Promise.all(LANES.map((lane) => runLane(lane, rest)));
  return [check, ...lanes.flat()];
}

async function runLane(projects: readonly string[], flags: readonly string[]): Promise<Tally[]> {
  const tallies: Tally[] = [];
  for (const project of projects) {
    console.log(`\n== ${project} ==`);
    tallies.push(await runTests(project, project, flags));
  }
  return tallies;
}

const tallies = await run(process.argv.slice(2));
for (const { name, failed, problem } of tallies) {
  if (failed > 0) console.log(`FAILED  ${name}${problem === null ? "" : `: ${problem}`}`);
}
const sum = (of: (tally: Tally) => number) =>
  tallies.reduce((total, tally) => total + of(tally), 0);
const failed = sum((tally) => tally.failed);
const summary = `${sum((tally) => tally.passed)} passed, ${failed} failed`;
await writeFile(join(REPORTS, "summary.txt"), `${summary}\n`);
console.log(summary);
process.exitCode = failed === 0 ? 0 : 1;
