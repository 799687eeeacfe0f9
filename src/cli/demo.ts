/**
 * @module
 * `npm run demo`: the whole story against a gateway of its own, with the
 * official MCP client. Each step says what was asked and what came back, and
 * is held against what it should be. Nothing of it stays.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as z from "zod";
import { verifyLines } from "../audit/verify.ts";
import { exitOf, lastLines } from "./wrangler.ts";

const ROOT = "/srv/greeting";
const STOP_PATIENCE_MS = 10_000;
/** Characters of an answer that are shown. */
const SHOWN_CHARS = 160;

const PLAN = {
  title: "Greeting module",
  objective: "Write the greeting module and its test.",
  scope: { paths: ["src/**"], tools: ["write_file"] },
  phases: [
    {
      id: "WRITE",
      objective: "Write the module and the test beside it.",
      paths: ["src/**"],
      verification: "npm test passes in the workspace.",
    },
  ],
  rollback: "Delete the two files.",
};
const MODULE = { path: "src/greeting.ts", content: "export const greeting = 'hello';\n" };
const TEST = { path: "src/greeting.test.ts", content: "import './greeting.ts';\n" };

const localFile = z.object({
  url: z.string(),
  keys: z.object({ operator: z.string(), antigravity: z.string(), windsurf: z.string() }),
});
type Local = z.infer<typeof localFile>;

const toolResult = z.object({
  isError: z.boolean().optional(),
  content: z.array(z.object({ text: z.string() })),
  structuredContent: z.record(z.string(), z.unknown()).optional(),
  _meta: z.object({
    "dev.atlas-gate/receipt": z.object({
      session_id: z.string(),
      seq: z.int(),
      hash_chain: z.string(),
    }),
    "dev.atlas-gate/error": z.object({ code: z.string() }).optional(),
  }),
});

type Receipt = z.infer<typeof toolResult>["_meta"]["dev.atlas-gate/receipt"];
type Outcome = { code: string | null; structured: Record<string, unknown>; receipt: Receipt };

const exportedRecord = z.object({ seq: z.int(), hash_chain: z.string() });
const integrityReport = z.object({
  records: z.int(),
  verdicts: z.object({ integrity: z.object({ ok: z.boolean().nullable() }) }),
});

/** A step whose outcome is not what it should be. */
class DemoFailure extends Error {}

let steps = 0;

function step(title: string): void {
  steps += 1;
  console.log(`\n${steps}. ${title}`);
}

function say(sign: string, text: string): void {
  const line = text.replaceAll("\n", " ");
  console.log(`   ${sign} ${line.length > SHOWN_CHARS ? `${line.slice(0, SHOWN_CHARS)}…` : line}`);
}

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new DemoFailure(`Step ${steps} failed. It should be that ${what}.`);
}

/** A client of one role, on a session of its own. */
class Agent {
  readonly #client = new Client({ name: "atlas-gate-demo", version: "1.0.0" });
  readonly #transport: StreamableHTTPClientTransport;
  readonly receipts: Receipt[] = [];

  constructor(url: string, key: string) {
    this.#transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${key}` } },
    });
  }

  async connect(): Promise<void> {
    // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
    await this.#client.connect(this.#transport as Parameters<Client["connect"]>[0]);
    // From here on the SDK holds each answer against the tool's output schema.
    await this.#client.listTools();
  }

  async call(name: string, args: Record<string, unknown>): Promise<Outcome> {
    say("→", `${name} ${JSON.stringify(args)}`);
    const result = toolResult.parse(await this.#client.callTool({ name, arguments: args }));
    const receipt = result._meta["dev.atlas-gate/receipt"];
    this.receipts.push(receipt);
    say("←", result.content.map(({ text }) => text).join(" "));
    say("✎", `receipt: seq ${receipt.seq}, ${receipt.hash_chain}`);
    const code = result._meta["dev.atlas-gate/error"]?.code ?? null;
    return { code, structured: result.structuredContent ?? {}, receipt };
  }

  /** A call that must go well. */
  async ok(name: string, args: Record<string, unknown>): Promise<Outcome> {
    const outcome = await this.call(name, args);
    must(outcome.code === null, `${name} goes well`);
    return outcome;
  }

  /** A call that must be refused. */
  async refused(code: string, name: string, args: Record<string, unknown>): Promise<void> {
    const outcome = await this.call(name, args);
    must(outcome.code === code, `${name} is refused with ${code}`);
  }

  async end(): Promise<void> {
    await this.#transport.terminateSession();
    await this.#client.close();
  }
}

async function askAdmin(
  local: Local,
  method: "GET" | "POST",
  path: string,
  body?: object,
): Promise<string> {
  say("→", `${method} /admin${path}${body === undefined ? "" : ` ${JSON.stringify(body)}`}`);
  const response = await fetch(`${local.url}/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${local.keys.operator}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  say("←", `${response.status} ${text}`);
  must(response.status === 200, `the operator is answered 200, not ${response.status}`);
  return text;
}

async function tellStory(local: Local): Promise<void> {
  const planner = new Agent(local.url, local.keys.antigravity);
  const executor = new Agent(local.url, local.keys.windsurf);

  step("The planner saves a plan: two files under src, nothing else.");
  await planner.connect();
  await planner.ok("begin_session", { workspace_root: ROOT });
  const saved = await planner.ok("save_plan", { plan: PLAN });
  const planHash = z.string().parse(saved.structured.plan_hash);
  must(saved.structured.status === "proposed", "a plan that was only saved is proposed");
  const planned = { plan_hash: planHash };

  step("The executor is refused: nobody has approved the plan.");
  await executor.connect();
  await executor.ok("begin_session", { workspace_root: ROOT });
  await executor.refused("PLAN_NOT_APPROVED", "write_file", { ...MODULE, ...planned });

  step("The operator approves it, outside MCP: no agent has a tool for that.");
  const approval = { workspace_root: ROOT, reason: "reviewed in the demo" };
  await askAdmin(local, "POST", `/plans/${planHash}/approve`, approval);

  step("The executor writes two files within the plan.");
  const first = await executor.ok("write_file", { ...MODULE, ...planned });
  const second = await executor.ok("write_file", { ...TEST, ...planned });
  must(first.structured.version === 1 && second.structured.version === 1, "both files are new");

  step("The executor is refused a third file, outside the plan's scope.");
  const outside = { path: "deploy/production.yml", content: "replicas: 0\n" };
  await executor.refused("PLAN_SCOPE_VIOLATION", "write_file", { ...outside, ...planned });

  step("The executor reads back what it wrote.");
  const read = await executor.ok("read_file", { path: MODULE.path });
  must(read.structured.content === MODULE.content, "the file holds what was written");
  must(read.structured.sha256 === first.structured.sha256, "its hash is that of the write");
  const listed = await executor.ok("list_files", {});
  must(
    JSON.stringify(listed.structured.files).split('"path"').length === 3,
    "there are two files and no third",
  );

  step("The operator has the executor's chain verified.");
  const { session_id } = second.receipt;
  const verified = await askAdmin(local, "GET", `/audit/sessions/${session_id}/verify`);
  const report = integrityReport.parse(JSON.parse(verified));
  must(report.verdicts.integrity.ok === true, "the chain holds");

  step("The operator exports it, and it holds outside the gateway too.");
  const exported = await askAdmin(local, "GET", `/audit/sessions/${session_id}`);
  const lines = exported.trimEnd().split("\n");
  const own = verifyLines(lines, { session_id });
  say("=", `verified here: ${own.records} records, head ${own.head}`);
  must(own.verdicts.integrity.ok === true, "the export holds");
  must(own.records === report.records, "the export has every record");
  for (const { seq, hash_chain } of executor.receipts) {
    const record = exportedRecord.parse(JSON.parse(lines[seq - 1] ?? "{}"));
    must(record.seq === seq && record.hash_chain === hash_chain, `receipt ${seq} is in it`);
  }
  say("=", `all ${executor.receipts.length} receipts of the executor are in it`);

  step("A copy with one byte changed does not hold, and it shows where.");
  const { seq } = second.receipt;
  const line = lines[seq - 1] ?? "";
  const forged = line.replace("greeting.test.ts", "greeting.tent.ts");
  must(forged !== line && forged.length === line.length, "one byte of the copy was changed");
  const verdict = verifyLines(lines.with(seq - 1, forged)).verdicts.integrity;
  const [finding] = verdict.findings;
  say("=", `${finding?.code} at seq ${finding?.seq}: ${finding?.message}`);
  must(verdict.ok === false, "the copy fails");
  must(finding?.seq === seq, `it fails at seq ${seq}`);

  await Promise.all([planner.end(), executor.end()]);
}

/** The gateway as `npm start` runs it; resolves once it is ready. */
async function startGateway(
  stateDir: string,
): Promise<{ child: ChildProcess; ready: Promise<Local> }> {
  const child = spawn(
    process.execPath,
    [
      join(import.meta.dirname, "start.ts"),
      ...["--port", String(await freePort()), "--persist-to", stateDir],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  const ready = new Promise<Local>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk;
      if (output.includes("Atlas Gate is ready.")) resolve(readLocal(stateDir));
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    exitOf(child).then(
      () => reject(new DemoFailure(`The gateway did not start: ${lastLines(output)}`)),
      reject,
    );
  });
  return { child, ready };
}

async function readLocal(stateDir: string): Promise<Local> {
  return localFile.parse(JSON.parse(await readFile(join(stateDir, "local.json"), "utf8")));
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? (address?.port ?? 0) : 0));
    });
  });
}

/** The start command takes its children with it. */
async function stopGateway(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  const patience = setTimeout(() => child.kill("SIGKILL"), STOP_PATIENCE_MS);
  await exitOf(child);
  clearTimeout(patience);
}

async function run(): Promise<number> {
  const interrupted = new Promise<number>((resolve) => {
    process.once("SIGINT", () => resolve(130));
    process.once("SIGTERM", () => resolve(143));
  });
  const stateDir = await mkdtemp(join(tmpdir(), "atlas-gate-demo-"));
  const { child, ready } = await startGateway(stateDir);
  const story = async (): Promise<number> => {
    console.log("A fresh gateway starts, with its state in a temporary folder.");
    const local = await ready;
    console.log(`It is ready on ${local.url}.`);
    await tellStory(local);
    console.log("\nEvery step was as it should be.");
    return 0;
  };
  try {
    return await Promise.race([story(), interrupted]);
  } catch (error) {
    console.error(`\n${error instanceof Error ? error.message : String(error)}`);
    return 1;
  } finally {
    await stopGateway(child);
    await rm(stateDir, { recursive: true, force: true });
  }
}

// Not by exitCode: what an interruption leaves of the story may wait for an answer for ever.
process.exit(await run());
