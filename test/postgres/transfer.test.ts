/**
 * Evidence on the move, with the command line and a gateway that has both
 * archives: d1 to postgres and back, an export and its restore, a rebuild.
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as z from "zod";
import { PostgresArchive } from "../../src/archive/postgres.ts";
import { exportLines } from "../e2e/support/chain.ts";
import { eventually } from "../e2e/support/eventually.ts";
import { Gateway } from "../e2e/support/gateway.ts";
import { RawSession } from "../e2e/support/mcp.ts";
import { Operator } from "../e2e/support/operator.ts";
import { query, startServer, type TestServer } from "./support/server.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const CLI = join(ROOT, "src", "cli", "atlas-gate.ts");

let postgres: TestServer;
let gateway: Gateway;
let operator: Operator;
let dir: string;
const exports = new Map<string, string>();

async function start(archive: "d1" | "postgres", stateDir: string): Promise<void> {
  gateway = await Gateway.start({
    stateDir,
    vars: { FLUSH_INTERVAL_SECONDS: "1", ARCHIVE: archive },
    flags: ["--postgres-url", postgres.gatewayUrl],
  });
  operator = new Operator(gateway.url, gateway.keys.operator);
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "atlas-gate-transfer-"));
  postgres = await startServer();
  await start("d1", join(dir, "state"));
  for (let n = 0; n < 3; n++) {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    for (let calls = 0; calls < 5; calls++)
      await session.call("read_file", { path: `a\u2028${calls}\u0000` });
    expect((await session.end()).status).toBe(204);
    const text = await operator.export(session.id);
    exports.set(session.id, text);
    await operator.auditUntil(
      `session_id=${session.id}`,
      (found) => found.length === exportLines(text).length,
    );
  }
});
afterAll(async () => {
  await gateway?.dispose();
  await postgres?.dispose();
  await rm(dir, { recursive: true, force: true, maxRetries: 5 });
});

function atlasGate(...args: string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--no-warnings", CLI, ...args], {
    encoding: "utf8",
    env: { ...process.env, ATLAS_GATE_URL: gateway.url, ATLAS_GATE_KEY: gateway.keys.operator },
  });
  return { code: status, output: stdout + stderr };
}

async function expectExports(): Promise<void> {
  for (const [id, text] of exports) {
    expect(await operator.export(id)).toBe(text);
    const found = await operator.audit(`session_id=${id}`);
    expect(found).toHaveLength(exportLines(text).length);
  }
}

/** Waits until the archive has all that sessions have: what is flushed after a copy was made is not in it. */
async function allFlushed(): Promise<void> {
  await eventually("the archive has all that sessions have", async () => {
    const answer = await operator.ok("GET", "/sessions?limit=200");
    const { sessions } = z
      .object({ sessions: z.array(z.object({ session_id: z.string(), entries: z.int() })) })
      .parse(answer);
    for (const { session_id, entries } of sessions) {
      if (exportLines(await operator.export(session_id)).length > entries) return null;
    }
    return true;
  });
}

/** What only a superuser does, with the triggers off: the archive is lost, and what it counted with it. */
async function losePostgres(): Promise<void> {
  await query(
    postgres.url,
    `SET session_replication_role = replica;
     DELETE FROM audit_log; DELETE FROM audit_log_archive; DELETE FROM sessions;
     DELETE FROM metric_counts`,
  );
}

test("d1 is copied to postgres, again without harm, and the gateway goes on with it", async () => {
  for (let times = 0; times < 2; times++) {
    const { code, output } = atlasGate("archive", "backfill", "--from", "d1", "--to", "postgres");
    expect(output).toContain("Every chain holds.");
    expect(code).toBe(0);
  }
  await gateway.stop();
  await start("postgres", join(dir, "state"));
  // What was still written to the old archive since comes with the copy that follows the switch.
  const { code, output } = atlasGate("archive", "backfill", "--from", "d1", "--to", "postgres");
  expect(output).toContain("Every chain holds.");
  expect(code).toBe(0);
  await expectExports();
});

test("an export is what its manifest says, and restores a lost archive", async () => {
  const folder = join(dir, "export");
  await allFlushed();
  const made = atlasGate("archive", "export", folder);
  expect(made.code).toBe(0);
  await losePostgres();
  const [id = ""] = exports.keys();
  expect(await operator.audit(`session_id=${id}`)).toEqual([]);
  const restored = atlasGate("archive", "restore", folder);
  expect(restored.output).toContain("Every chain holds.");
  expect(restored.code).toBe(0);
  await expectExports();

  const manifest = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
  const records = join(folder, manifest.files[1].name);
  const text = await readFile(records, "utf8");
  await writeFile(records, text.replace("tool_call", "tool_cull"));
  expect(atlasGate("archive", "restore", folder)).toMatchObject({
    code: 2,
    output: expect.stringContaining("is not what the manifest says"),
  });
});

test("the archive is rebuilt from segments, and says which of them differ", async () => {
  await losePostgres();
  // The ambient sessions of keys are live: their objects hold what R2 has not got yet.
  const { output } = atlasGate("archive", "rebuild", "--from", "r2");
  expect(output).toMatch(/rebuilt: \d+ sessions/);
  const archive = new PostgresArchive(postgres.gatewayUrl);
  for (const [id, text] of exports) {
    const stored = await eventually("the session is there", async () => {
      const page = await archive.page(id, 0, 100);
      return page.length > 0 ? page : null;
    });
    const lines = exportLines(text).map((line) => JSON.parse(line));
    expect(stored.map(({ hash_chain }) => hash_chain)).toEqual(
      lines.map(({ hash_chain }) => hash_chain),
    );
  }
});

test("what was changed in the archive is found, with exit code 1", async () => {
  const [id = ""] = exports.keys();
  await query(
    postgres.url,
    `SET session_replication_role = replica;
     UPDATE audit_log SET line = replace(line, 'read_file', 'read_fila') WHERE session_id = '${id}'`,
  );
  const { code, output } = atlasGate("archive", "verify");
  expect(code).toBe(1);
  expect(output).toContain(`PROBLEM  ${id}`);
});

test("what the command line does not know is exit code 2, and said", () => {
  expect(atlasGate()).toMatchObject({
    code: 2,
    output: expect.stringContaining("atlas-gate archive"),
  });
  for (const [args, said] of [
    [["archive"], "no action"],
    [["archive", "nope"], "nope"],
    [["archive", "backfill", "--from", "d1"], "--to"],
    [["archive", "verify", "--nope"], "--nope"],
  ] as const) {
    expect(atlasGate(...args)).toMatchObject({ code: 2, output: expect.stringContaining(said) });
  }
});
