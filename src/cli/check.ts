/**
 * @module
 * `npm run check`: types, what is generated, lint and format, without a
 * network. The first step that fails ends it, with its output.
 */
import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { delimiter, join, relative } from "node:path";
import * as z from "zod";
import { ROOT } from "./wrangler.ts";

const BIN = join(ROOT, "node_modules", ".bin");
const MIGRATIONS = join(ROOT, "migrations");
/** The folder of each dialect's migrations, and the schema that they come from. */
const DIALECTS = [
  { dialect: "sqlite", folder: "d1" },
  { dialect: "postgresql", folder: "postgres" },
] as const;

type Outcome = { ok: boolean; output: string };

type Step = {
  readonly name: string;
  readonly run: () => Promise<Outcome>;
  /** What mends it, where the tool's own output does not say. */
  readonly advice?: string;
};

const STEPS: readonly Step[] = [
  { name: "types", run: () => tool("tsc", ["-p", ".", "--noEmit"]) },
  {
    name: "generated types of the bindings",
    run: checkBindingTypes,
    advice: "npm run types writes them anew.",
  },
  {
    name: "migrations fit the schema",
    run: checkMigrations,
    advice:
      "npm run migrations writes what is missing (DIALECT=postgresql before it: for PostgreSQL).",
  },
  { name: "lint and format", run: () => tool("biome", ["ci", "--colors=off", "."]) },
];

/** Runs a tool of the project to its end. */
function tool(name: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(BIN, name), args, {
      cwd: ROOT,
      // The tools' launchers look for `node` on the path, and must find the project's own.
      env: {
        ...process.env,
        PATH: `${BIN}${delimiter}${process.env.PATH ?? ""}`,
        CI: "1",
        WRANGLER_SEND_METRICS: "false",
        WRANGLER_HIDE_BANNER: "true",
        WRANGLER_WRITE_LOGS: "false",
      },
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
    });
    let output = "";
    const read = (chunk: Buffer) => {
      output += chunk;
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("close", (code) => resolve({ ok: code === 0, output }));
  });
}

const packageSchema = z.object({ scripts: z.object({ types: z.string() }) });

/** The `types` script once more, which writes nothing with `--check`. */
async function checkBindingTypes(): Promise<Outcome> {
  const text = await readFile(join(ROOT, "package.json"), "utf8");
  const { scripts } = packageSchema.parse(JSON.parse(text));
  const [name = "", ...args] = scripts.types.split(" ");
  return tool(name, [...args, "--check"]);
}

/** Has drizzle-kit generate into copies: nothing may come of it. */
async function checkMigrations(): Promise<Outcome> {
  const cache = join(ROOT, "node_modules", ".cache");
  await mkdir(cache, { recursive: true });
  // Inside the project, for drizzle-kit puts "./" before any path, absolute ones too.
  const copies = await mkdtemp(join(cache, "migrations-"));
  const outcome = { ok: true, output: "" };
  try {
    for (const { dialect, folder } of DIALECTS) {
      const copy = join(copies, folder);
      await cp(join(MIGRATIONS, folder), copy, { recursive: true });
      const { output } = await tool("drizzle-kit", [
        ...["generate", "--dialect", dialect, "--schema", `./src/db/${folder}.ts`],
        ...["--out", relative(ROOT, copy)],
      ]);
      outcome.output += output;
      // Its exit code is 0 whatever happens, also when it would have to ask a question.
      outcome.ok &&= output.includes("No schema changes");
    }
    return outcome;
  } finally {
    await rm(copies, { recursive: true });
  }
}

for (const { name, run, advice } of STEPS) {
  const start = Date.now();
  const { ok, output } = await run();
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  console.log(`${ok ? "ok" : "FAILED"}  ${name} (${seconds} s)`);
  if (!ok) {
    console.log(output.trimEnd());
    if (advice !== undefined) console.log(advice);
    process.exitCode = 1;
    break;
  }
}
