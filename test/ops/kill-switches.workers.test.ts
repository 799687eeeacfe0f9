import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { nextVersion } from "../../src/ops/kill-switches.ts";
import { Client, mintKey } from "../support/gateway.ts";
import { advance, captureLogs, SECOND, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

/** Changes what is stored as another isolate does: this one hears of it only by asking. */
async function elsewhere(statement: string): Promise<void> {
  const db = env.ARCHIVE_DB;
  await db.batch([db.prepare(statement), nextVersion(db, Date.now())]);
}

const ENGAGE = `INSERT INTO kill_switches (id, scope, reason, engaged_by, engaged_at)
  VALUES ('elsewhere', '{}', 'r', 'key:x', '2100-01-01T00:00:00.000Z')`;
const LIFT = "UPDATE kill_switches SET lifted_at = '2100-01-01T00:00:01.000Z'";

test("a switch engaged elsewhere holds once this isolate's copy is 4 s old, at an idle deployment too", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  await client.must("read_audit_log");
  await elsewhere(ENGAGE);
  advance(4 * SECOND);
  expect((await client.call("read_audit_log")).code).toBe("KILL_SWITCH");
  await elsewhere(LIFT);
  advance(4 * SECOND);
  expect((await client.call("read_audit_log")).code).toBeNull();
});

test("a busy isolate renews its copy behind the calls", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  await elsewhere(ENGAGE.replace("elsewhere", "busy"));
  const codes: (string | null)[] = [];
  for (let step = 0; step < 4; step++) {
    advance(SECOND);
    codes.push((await client.call("read_audit_log")).code);
  }
  expect(codes.at(-1)).toBe("KILL_SWITCH");
  await elsewhere(LIFT);
  advance(4 * SECOND);
  await client.must("read_audit_log");
});

test("while the switches cannot be read, the last known hold", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  await elsewhere(ENGAGE.replace("elsewhere", "kept"));
  advance(4 * SECOND);
  expect((await client.call("read_audit_log")).code).toBe("KILL_SWITCH");
  await env.ARCHIVE_DB.exec("ALTER TABLE kill_switch_version RENAME TO away");
  try {
    advance(30 * SECOND);
    expect((await client.call("read_audit_log")).code).toBe("KILL_SWITCH");
    expect(logs.some((line) => line.includes("kill_switches_unreadable"))).toBe(true);
  } finally {
    await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO kill_switch_version");
  }
  await elsewhere(LIFT);
  advance(4 * SECOND);
  await client.must("read_audit_log");
});
