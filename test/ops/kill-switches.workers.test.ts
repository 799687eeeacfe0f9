import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { nextVersion, switchesOf } from "../../src/ops/kill-switches.ts";
import { admin, Client, mintKey } from "../support/gateway.ts";
import { advance, captureLogs, gate, SECOND, useStoppedClock } from "../support/objects.ts";

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

/** Has the next question for the version be answered in another way. */
function nextVersionRead(answer: (read: () => Promise<unknown>) => Promise<unknown>) {
  const db = env.ARCHIVE_DB;
  const prepare = db.prepare.bind(db);
  const spy = vi.spyOn(db, "prepare").mockImplementation((sql) => {
    const statement = prepare(sql);
    if (!sql.startsWith("SELECT version")) return statement;
    spy.mockRestore();
    const read = statement.first.bind(statement);
    vi.spyOn(statement, "first").mockImplementation(() => answer(read));
    return statement;
  });
}

test("a copy is as old as its reading, also for a call that came while that was under way", async () => {
  const nothingLater = (): void => {};
  await switchesOf(env, nothingLater);
  advance(4 * SECOND);
  const [read, answered] = [gate(), gate()];
  nextVersionRead(async (first) => {
    const row = await first();
    read.open();
    await answered.opened();
    return row;
  });
  const reading = switchesOf(env, nothingLater);
  await read.opened();
  await elsewhere(ENGAGE.replace("elsewhere", "meanwhile"));
  advance(0.9 * SECOND);
  const joining = switchesOf(env, nothingLater);
  answered.open();
  expect([(await reading).switches, (await joining).switches]).toEqual([[], []]);
  advance(3.1 * SECOND);
  expect((await switchesOf(env, nothingLater)).switches).toMatchObject([{ id: "meanwhile" }]);
  await elsewhere(LIFT);
  advance(4 * SECOND);
  expect((await switchesOf(env, nothingLater)).switches).toEqual([]);
});

test("a switch that could not be read again is not taken for sent to its session", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  nextVersionRead(() => Promise.reject(new Error("D1 is away")));
  const scope = { session_id: client.id };
  const engaged = await admin("POST", "/kill-switches", { body: { scope, reason: "r" } });
  expect(engaged.status).toBe(201);
  const said = logs.filter((line) => line.includes('"kill_switch_not_sent"'));
  expect(said).toHaveLength(1);
  expect(said[0]).toContain(client.id);
  advance(4 * SECOND);
  expect((await client.call("read_audit_log")).code).toBe("KILL_SWITCH");
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
