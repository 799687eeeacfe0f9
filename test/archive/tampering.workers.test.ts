/** What somebody with the stores in their hands can do to sessions that have ended, and what says so. */
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { D1Archive } from "../../src/archive/d1.ts";
import { openArchive } from "../../src/archive/open.ts";
import { deriveSealKey, wrapSessionKey } from "../../src/audit/seal.ts";
import { putSegment, segmentKey, segmentText } from "../../src/audit/sinks/segments.ts";
import { requireConfig } from "../../src/config.ts";
import { tampering } from "../support/archive-sums.ts";
import { admin, exported, recordsOf, verified } from "../support/gateway.ts";
import { advance, captureLogs, DAY, useStoppedClock } from "../support/objects.ts";
import { archiveRows, segments, sessionRow } from "../support/sinks.ts";
import {
  erase,
  hold,
  releasedSession,
  retirementsOf,
  ringSystem,
  run,
  systemRecords,
  verifiedArchive,
} from "./keeper.ts";
import { sampleSession } from "./sample-session.ts";

useStoppedClock();
const logs = captureLogs();

/** The alarms of a session, in words. */
function alarms(id: string): string[] {
  return logs
    .filter((line) => line.includes('"alarm"') && line.includes(id))
    .map((line) => JSON.parse(line).message);
}

/** Changes the lines of a session's only segment. */
async function changeSegment(
  id: string,
  change: (lines: readonly string[]) => readonly string[],
): Promise<void> {
  const [segment, ...more] = await segments(id);
  if (segment === undefined || more.length > 0) throw new Error("not one segment");
  const lines = change(segment.text.trimEnd().split("\n"));
  await env.BUCKET.put(segment.key, lines.map((line) => `${line}\n`).join(""));
}

/** Cuts the last record off in D1, row and all. */
async function cutInD1(id: string): Promise<{ entries: number; cut: number }> {
  const rows = await archiveRows(id);
  const [last, newLast] = [rows.at(-1), rows.at(-2)];
  if (last === undefined || newLast === undefined) throw new Error("no records");
  const db = env.ARCHIVE_DB;
  await tampering(() =>
    db.batch([
      db.prepare("DELETE FROM audit_log WHERE session_id = ? AND seq = ?").bind(id, last.seq),
      db
        .prepare("UPDATE sessions SET entries = ?, head = ? WHERE session_id = ?")
        .bind(newLast.seq, newLast.hash_chain, id),
    ]),
  );
  return { entries: Number(newLast.seq), cut: Number(last.seq) };
}

function setRow(id: string, column: "wrapped_key" | "retired_at", value: string | null) {
  return tampering(() =>
    env.ARCHIVE_DB.prepare(`UPDATE sessions SET ${column} = ? WHERE session_id = ?`)
      .bind(value, id)
      .run(),
  );
}

/** Arguments that are sealed under another key: nobody can open them. */
const withoutSealed = (line: string) => line.replace(/"sealed":"...../, '"sealed":"AAAAA');

test("a session with a tail cut off in D1 and R2 is not retired: the log has a later head", async () => {
  const { id } = await releasedSession();
  const { cut } = await cutInD1(id);
  await changeSegment(id, (lines) => lines.slice(0, -1));
  advance(91 * DAY);
  await run("retention");
  expect((await sessionRow(id))?.retired_at).toBeNull();
  expect(await archiveRows(id)).toHaveLength(cut - 1);
  expect(await retirementsOf(id)).toEqual([]);
  expect(alarms(id)).toEqual([expect.stringContaining("the log anchored")]);
});

test("a session of which the log has nothing is retired without a leaf", async () => {
  const { secretsKey } = requireConfig(env);
  const key = new Uint8Array(32).fill(7);
  const made = sampleSession([{ args: { a: 1 } }, {}], { at: Date.now() });
  const { session_id, tenant, created_at, last_seen_at } = made.row;
  const wrapped_key = wrapSessionKey(secretsKey, key, session_id);
  const row = { ...made.row, wrapped_key, ended_at: last_seen_at };
  await openArchive(env).write(row, made.records, []);
  const name = segmentKey(tenant, session_id, created_at, 1, 2);
  await putSegment(env.BUCKET, name, segmentText(deriveSealKey(key), made.records));
  advance(91 * DAY);
  await run("retention");
  expect((await sessionRow(session_id))?.retired_at).not.toBeNull();
  expect(await retirementsOf(session_id)).toEqual([]);
  expect(alarms(session_id)).toEqual([]);
});

test("an erasure is logged at the head that the log has, whatever the archive's row says", async () => {
  const { id } = await releasedSession();
  const { cut } = await cutInD1(id);
  expect((await erase(id)).status).toBe(200);
  expect(await retirementsOf(id)).toMatchObject([{ kind: "retire:erasure", seq: cut }]);
});

test("records stay in the archive while what R2 has sealed cannot be opened", async () => {
  const broken = await releasedSession();
  await changeSegment(broken.id, (lines) => lines.map(withoutSealed));
  const keyless = await releasedSession();
  await setRow(keyless.id, "wrapped_key", null);
  const wrong = await releasedSession();
  await setRow(wrong.id, "wrapped_key", "bm8ga2V5");
  advance(91 * DAY);
  await run("retention");
  for (const { id } of [broken, keyless, wrong]) {
    expect((await archiveRows(id)).length).toBeGreaterThan(0);
    expect((await sessionRow(id))?.retired_at).toBeNull();
    expect(await retirementsOf(id)).toEqual([]);
  }
  expect(alarms(broken.id)).toEqual([expect.stringContaining("cannot be opened")]);
  expect(alarms(keyless.id)).toEqual([expect.stringContaining("key of its arguments")]);
  expect(alarms(wrong.id)).toEqual([expect.stringContaining("key of its arguments")]);
});

test.for([
  { what: "that is not JSON any more", change: (line: string) => line.slice(1) },
  { what: "that is not its hash", change: (line: string) => line.replace("key:", "kez:") },
])(
  "a line of a segment $what is an alarm, and keeps no other session from the check",
  async ({ change }) => {
    // Ids begin with their time, so that the damaged one comes first.
    const first = await releasedSession();
    advance(1000);
    const second = await releasedSession();
    await changeSegment(first.id, ([line = "", ...more]) => [change(line), ...more]);
    await tampering(() =>
      env.ARCHIVE_DB.prepare(
        "UPDATE audit_log SET line = replace(line, 'tool_call', 'tool_cull') WHERE session_id = ?",
      )
        .bind(second.id)
        .run(),
    );
    await run("check");
    expect(alarms(first.id)).toHaveLength(1);
    expect(alarms(second.id)).toHaveLength(1);
    const found = (await verifiedArchive()).map(({ session_id }) => session_id);
    expect(found).toEqual(expect.arrayContaining([first.id, second.id]));
  },
);

test("a check that R2 does not answer says nothing of the sessions, and begins there again", async () => {
  const { id } = await releasedSession();
  await env.ARCHIVE_DB.prepare("UPDATE audit_log SET salt = NULL WHERE session_id = ?")
    .bind(id)
    .run();
  {
    using _list = vi.spyOn(env.BUCKET, "list").mockRejectedValue(new Error("R2 is away"));
    expect((await admin("POST", "/archive/run", { body: { task: "check" } })).status).toBe(500);
  }
  expect(alarms(id)).toEqual([]);
  await run("check");
  expect(alarms(id)).toHaveLength(1);
});

test("a retired session is exported with its damaged line, for the verifier to find", async () => {
  const { id } = await releasedSession();
  const lines = await exported(id);
  advance(91 * DAY);
  await run("retention");
  await changeSegment(id, ([line = "", ...more]) => [line.replace("key:", "kez:"), ...more]);
  const changed = await exported(id);
  expect(changed.slice(1)).toEqual(lines.slice(1));
  expect(changed[0]).toContain("kez:");
  expect((await verified(id)).verdicts.integrity).toMatchObject({
    ok: false,
    findings: [{ seq: 1, code: "HASH_MISMATCH" }],
  });
  await changeSegment(id, ([, ...more]) => ["nothing", ...more]);
  expect((await exported(id))[0]).toBe("nothing");
  expect((await verified(id)).verdicts.integrity.ok).toBe(false);
});

test("a retired session whose sealed arguments are lost is still read, without them", async () => {
  const { id } = await releasedSession();
  const records = await recordsOf(id);
  advance(91 * DAY);
  await run("retention");
  await changeSegment(id, (lines) => lines.map(withoutSealed));
  const bare = records.map((record) => ({ ...record, args: null, salt: null }));
  expect(await recordsOf(id)).toEqual(bare);
  await setRow(id, "wrapped_key", "bm8ga2V5");
  expect(await recordsOf(id)).toEqual(bare);
});

test("a session whose records were deleted is not retired with what R2 has left of them", async () => {
  const { id } = await releasedSession();
  await tampering(() =>
    env.ARCHIVE_DB.prepare("DELETE FROM audit_log WHERE session_id = ?").bind(id).run(),
  );
  await changeSegment(id, ([first = "", _second, ...more]) => [first, ...more]);
  advance(91 * DAY);
  await run("retention");
  expect((await sessionRow(id))?.retired_at).toBeNull();
  expect(await retirementsOf(id)).toEqual([]);
});

test("arguments of one record that are gone are an alarm, unless the session was erased", async () => {
  const [one, other] = [await releasedSession(), await releasedSession()];
  await env.ARCHIVE_DB.prepare(
    `UPDATE audit_log SET args = NULL, salt = NULL WHERE session_id = ? AND seq =
       (SELECT max(seq) FROM audit_log WHERE session_id = ?1 AND args IS NOT NULL)`,
  )
    .bind(one.id)
    .run();
  expect((await erase(other.id)).status).toBe(200);
  await run("check");
  expect(alarms(one.id)).toEqual([expect.stringContaining("its arguments are not there")]);
  expect(alarms(other.id)).toEqual([]);
});

test("a session that somebody marked as erased is found: the log knows nothing of it", async () => {
  const [forged, erased] = [await releasedSession(), await releasedSession()];
  expect((await erase(erased.id)).status).toBe(200);
  await openArchive(env).erase(forged.id, new Date().toISOString());
  advance(2 * DAY);
  await run("check");
  expect(alarms(forged.id)).toEqual([expect.stringContaining("the log knows nothing of that")]);
  expect(alarms(erased.id)).toEqual([]);
});

test("a tail that was cut in D1 alone, row and all, is found by the check", async () => {
  const { id } = await releasedSession();
  const { cut } = await cutInD1(id);
  await run("check");
  expect(alarms(id)).toHaveLength(1);
  const found = (await verifiedArchive()).filter(({ session_id }) => session_id === id);
  expect(found.map(({ seq, message }) => [seq, message])).toEqual([
    [cut, expect.stringContaining("after the session's last")],
    [cut, expect.stringContaining("the log anchored")],
  ]);
});

test("a retired session is held against its head, the log and its segments", async () => {
  const good = await releasedSession();
  const cut = await releasedSession();
  const lost = await releasedSession();
  advance(91 * DAY);
  await run("retention");
  await run("check");
  for (const { id } of [good, cut, lost]) expect(alarms(id)).toEqual([]);
  await changeSegment(cut.id, (lines) => lines.slice(0, -1));
  for (const { key } of await segments(lost.id)) await env.BUCKET.delete(key);
  await run("check");
  expect(alarms(good.id)).toEqual([]);
  expect(alarms(cut.id)).toHaveLength(1);
  expect(alarms(lost.id)).toHaveLength(1);
});

test("a session that somebody marked as retired is found: the log knows nothing of it", async () => {
  const { id } = await releasedSession();
  // To the sums it looks as a retirement does; that is what it pretends to be.
  await setRow(id, "retired_at", new Date().toISOString());
  await env.ARCHIVE_DB.prepare("DELETE FROM audit_log WHERE session_id = ?").bind(id).run();
  await run("check");
  expect(alarms(id)).toEqual([expect.stringContaining("the log knows nothing of that")]);
});

test("a retirement that fails on the way is no success on the record, and comes to pass later", async () => {
  const [one, other] = [await releasedSession(), await releasedSession()];
  advance(91 * DAY);
  const retire = D1Archive.prototype.retire;
  {
    using _retire = vi.spyOn(D1Archive.prototype, "retire").mockImplementation(async function (
      this: D1Archive,
      id,
      at,
    ) {
      if (id === one.id) throw new Error("permission denied");
      return retire.call(this, id, at);
    });
    await run("retention");
  }
  expect((await sessionRow(one.id))?.retired_at).toBeNull();
  expect((await sessionRow(other.id))?.retired_at).not.toBeNull();
  await ringSystem();
  const results = async (id: string) =>
    (await systemRecords("archive.retire")).flatMap(({ session_id, result }) =>
      session_id === id ? [result] : [],
    );
  expect(await results(one.id)).toEqual(["pending", "error"]);
  await run("retention");
  expect((await sessionRow(one.id))?.retired_at).not.toBeNull();
  await ringSystem();
  expect(await results(one.id)).toEqual(["pending", "error", "pending", "ok"]);
  expect(await results(other.id)).toEqual(["pending", "ok"]);
  expect(await retirementsOf(one.id)).toHaveLength(1);
});

test("a hold that comes while a session is being compared keeps it", async () => {
  const { id } = await releasedSession();
  const count = (await archiveRows(id)).length;
  advance(91 * DAY);
  const get = env.BUCKET.get.bind(env.BUCKET);
  let placed = "";
  {
    using _get = vi.spyOn(env.BUCKET, "get").mockImplementation(async (key: string) => {
      if (key.includes(id) && placed === "") {
        placed = await hold({ tenant: "default", session_id: id });
      }
      return get(key);
    });
    await run("retention");
  }
  expect(placed).not.toBe("");
  expect((await sessionRow(id))?.retired_at).toBeNull();
  expect(await openArchive(env).page(id, 0, 500)).toHaveLength(count);
  expect((await admin("DELETE", `/legal-holds/${placed}`)).status).toBe(204);
});
