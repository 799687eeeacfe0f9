import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import * as z from "zod";
import { runDaily } from "../../src/archive/daily.ts";
import { openArchive } from "../../src/archive/open.ts";
import { requireConfig } from "../../src/config.ts";
import { loseArchive, tampering } from "../support/archive-sums.ts";
import {
  admin,
  Client,
  executor,
  exported,
  mintKey,
  newRoot,
  recordsOf,
  verified,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  DAY,
  ring,
  ringUntilReleased,
  session,
  useStoppedClock,
} from "../support/objects.ts";
import { archiveRows, segmentLines, segments, sessionRow } from "../support/sinks.ts";
import {
  erase,
  hold,
  rebuild,
  releasedSession,
  retirementsOf,
  ringSystem,
  run,
  systemRecords,
  verifiedArchive,
} from "./keeper.ts";

useStoppedClock();
const logs = captureLogs();

test("a retired session's bundle shows its last head beside its retirement", async () => {
  const { id } = await releasedSession();
  advance(91 * DAY);
  await run("retention");
  const { body } = await admin("GET", `/audit/sessions/${id}/bundle`);
  const { log } = z
    .object({ log: z.object({ leaves: z.array(z.object({ entry: z.string() })) }) })
    .parse(body);
  const kinds = log.leaves.map(({ entry }) => JSON.parse(entry).kind);
  expect(kinds).toEqual(["open", "close", "retire"]);
});

test("records past their retention leave the archive, and are read from R2 as before", async () => {
  const client = await releasedSession();
  const lines = await exported(client.id);
  advance(89 * DAY);
  await run("retention");
  expect(await archiveRows(client.id)).toHaveLength(lines.length);
  advance(2 * DAY);
  await run("retention");
  expect(await archiveRows(client.id)).toEqual([]);
  const row = await sessionRow(client.id);
  expect(row?.retired_at).toBe(new Date().toISOString());
  expect(await exported(client.id)).toEqual(lines);
  expect((await verified(client.id)).verdicts.integrity.ok).toBe(true);
  // An auditor still sees it, and only within its workspaces.
  const auditor = await Client.open(await mintKey("auditor"));
  await auditor.must("read_audit_log", { audit_session_id: client.id });
  const narrowed = await Client.open(await mintKey("auditor", { workspaces: ["/elsewhere"] }));
  expect((await narrowed.call("read_audit_log", { audit_session_id: client.id })).code).toBe(
    "SESSION_NOT_FOUND",
  );
  expect(await retirementsOf(client.id)).toMatchObject([
    { kind: "retire:retention", seq: lines.length },
  ]);
  await ringSystem();
  expect(await systemRecords("archive.retire")).toContainEqual(
    expect.objectContaining({ session_id: client.id, entries: lines.length }),
  );
});

test("records stay in the archive while R2 lacks one of them, or holds another", async () => {
  const client = await releasedSession();
  const count = (await archiveRows(client.id)).length;
  const [segment] = await segments(client.id);
  if (segment === undefined) throw new Error("no segment");
  advance(91 * DAY);
  await env.BUCKET.delete(segment.key);
  await run("retention");
  expect(await archiveRows(client.id)).toHaveLength(count);
  const cut = segment.text.split("\n").slice(0, -2).join("\n");
  await env.BUCKET.put(segment.key, `${cut}\n`);
  await run("retention");
  expect(await archiveRows(client.id)).toHaveLength(count);
  await env.BUCKET.put(segment.key, segment.text);
  await run("retention");
  expect(await archiveRows(client.id)).toEqual([]);
});

test("a session whose object still holds records is not retired", async () => {
  const { client } = await executor(newRoot());
  expect(await client.end()).toBe(204);
  await ringUntilReleased(client.id);
  const other = await Client.open(await mintKey("windsurf"));
  await ring(session(other.id));
  await tampering(() =>
    env.ARCHIVE_DB.prepare(
      "UPDATE sessions SET ended_at = '2001-01-01T00:00:00.000Z' WHERE session_id = ?",
    )
      .bind(other.id)
      .run(),
  );
  await run("retention");
  expect((await sessionRow(other.id))?.retired_at).toBeNull();
});

test("a rebuild brings nothing back that a hold has set aside", async () => {
  const client = await releasedSession("aside");
  await hold({ tenant: "aside", session_id: client.id });
  advance(91 * DAY);
  await run("retention");
  const lines = await exported(client.id);
  await rebuild();
  expect(await archiveRows(client.id)).toEqual([]);
  expect(await exported(client.id)).toEqual(lines);
  expect(await openArchive(env).page(client.id, 0, 500)).toHaveLength(lines.length);
});

test("what a hold covers is set aside and not erased, until the hold is lifted", async () => {
  const one = await releasedSession("held");
  const other = await releasedSession("held");
  const holdId = await hold({ tenant: "held", session_id: one.id });
  const lines = await exported(one.id);
  expect((await erase(one.id)).status).toBe(409);
  advance(91 * DAY);
  await run("retention");
  expect((await sessionRow(other.id))?.retired_at).not.toBeNull();
  expect((await sessionRow(one.id))?.retired_at).toBeNull();
  expect(await archiveRows(one.id)).toEqual([]);
  expect(await exported(one.id)).toEqual(lines);
  expect((await openArchive(env).page(one.id, 0, 500)).length).toBe(lines.length);
  expect((await admin("DELETE", `/legal-holds/${holdId}`)).status).toBe(204);
  expect((await admin("DELETE", `/legal-holds/${holdId}`)).status).toBe(404);
  await run("retention");
  expect((await sessionRow(one.id))?.retired_at).not.toBeNull();
  expect(await exported(one.id)).toEqual(lines);
});

test("a hold of a tenant covers every session of it", async () => {
  const client = await releasedSession("all-held");
  await hold({ tenant: "all-held" });
  expect((await erase(client.id)).status).toBe(409);
  const answer = await admin("GET", "/legal-holds?limit=200");
  expect(answer.body).toMatchObject({
    legal_holds: expect.arrayContaining([
      expect.objectContaining({ tenant: "all-held", session_id: null, reason: "a lawsuit" }),
    ]),
  });
});

test("an erasure leaves the chain and nothing that a person said", async () => {
  const client = await releasedSession();
  const before = await recordsOf(client.id);
  expect(before.some(({ args }) => args?.includes("personal"))).toBe(true);
  const answer = await erase(client.id);
  expect(answer.status).toBe(200);
  const after = await recordsOf(client.id);
  expect(after).toEqual(before.map((record) => ({ ...record, args: null, salt: null })));
  expect((await verified(client.id)).verdicts.integrity).toEqual({ ok: true, findings: [] });
  expect(await sessionRow(client.id)).toMatchObject({
    wrapped_key: null,
    erased_at: new Date().toISOString(),
  });
  // The segments are as they were; the key that opens them is gone.
  expect(await segmentLines(client.id)).toHaveLength(before.length);
  // Once it has left the archive, R2 gives the same.
  advance(91 * DAY);
  await run("retention");
  expect(await recordsOf(client.id)).toEqual(after);
});

test("a live session is not erased, nor one that never was", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  expect((await erase(client.id)).status).toBe(409);
  expect((await erase("00000000-0000-8000-8000-000000000000")).status).toBe(404);
});

test("a row that was changed is found by the check, which puts it on the record", async () => {
  const client = await releasedSession();
  await run("check");
  const alarms = () => logs.filter((line) => line.includes('"alarm"') && line.includes(client.id));
  expect(alarms()).toEqual([]);
  await env.ARCHIVE_DB.prepare(
    "UPDATE audit_log SET line = replace(line, 'tool_call', 'tool_cull') WHERE session_id = ?",
  )
    .bind(client.id)
    .run();
  await run("check");
  expect(alarms()).toHaveLength(1);
  await ringSystem();
  expect(await systemRecords("archive.alarm")).toContainEqual(
    expect.objectContaining({ session_id: client.id, found_by: "check" }),
  );
});

test("a chain that was rewritten as a whole is found by the check, for R2 holds the old one", async () => {
  const client = await releasedSession();
  const { sampleSession } = await import("./sample-session.ts");
  const forged = sampleSession([{}, {}, {}], { session_id: client.id, at: Date.now() });
  await tampering(() =>
    env.ARCHIVE_DB.prepare("DELETE FROM audit_log WHERE session_id = ?").bind(client.id).run(),
  );
  await openArchive(env).write({ ...forged.row, entries: 1_000_000 }, forged.records, []);
  await env.ARCHIVE_DB.prepare("UPDATE sessions SET entries = 3 WHERE session_id = ?")
    .bind(client.id)
    .run();
  const found = (await verifiedArchive()).filter(({ session_id }) => session_id === client.id);
  expect(found.map(({ message }) => message)).toContain("its segment in R2 holds another record");
});

test("a tail that was cut in the archive and in R2 is found by what the log anchored", async () => {
  const { id } = await releasedSession();
  const rows = await archiveRows(id);
  const [last, newLast] = [rows.at(-1), rows.at(-2)];
  const [segment] = await segments(id);
  if (last === undefined || newLast === undefined || segment === undefined) throw new Error("none");
  const db = env.ARCHIVE_DB;
  await tampering(() =>
    db.batch([
      db.prepare("DELETE FROM audit_log WHERE session_id = ? AND seq = ?").bind(id, last.seq),
      db
        .prepare("UPDATE sessions SET entries = ?, head = ? WHERE session_id = ?")
        .bind(newLast.seq, newLast.hash_chain, id),
    ]),
  );
  const cut = segment.text.trimEnd().split("\n").slice(0, -1).join("\n");
  await env.BUCKET.put(segment.key, `${cut}\n`);
  const found = await verifiedArchive();
  expect(found.filter(({ session_id }) => session_id === id)).toEqual([
    expect.objectContaining({
      seq: last.seq,
      message: expect.stringContaining("the log anchored"),
    }),
  ]);
});

test("a backup holds the day's records, sealed, and the archive is rebuilt from R2 with it", async () => {
  const client = await releasedSession();
  const day = new Date().toISOString().slice(0, 10);
  const lines = await exported(client.id);
  advance(DAY);
  await runDaily(env, requireConfig(env), Date.now());
  const manifest = z
    .object({ day: z.string(), parts: z.array(z.object({ name: z.string(), lines: z.int() })) })
    .parse(await (await env.BUCKET.get(`backup/${day}/manifest.json`))?.json());
  expect(manifest.day).toBe(day);
  expect(manifest.parts.map(({ name }) => name)).toEqual([
    "sessions-00001.ndjson",
    "records-00001.ndjson",
  ]);
  const records = await (await env.BUCKET.get(`backup/${day}/records-00001.ndjson`))?.text();
  expect(records).toContain(client.id);
  expect(records).not.toContain("personal");

  const row = await sessionRow(client.id);
  await loseArchive();
  await rebuild();
  expect(await exported(client.id)).toEqual(lines);
  expect(await sessionRow(client.id)).toEqual(row);
});

test("a rebuild brings back nothing that was retired", async () => {
  const client = await releasedSession();
  const lines = await exported(client.id);
  advance(91 * DAY);
  await run("retention");
  const row = await sessionRow(client.id);
  await rebuild();
  expect(await archiveRows(client.id)).toEqual([]);
  expect(await sessionRow(client.id)).toEqual(row);
  expect(await exported(client.id)).toEqual(lines);
});

test("a session that R2 has lost is found by the check, a day after it ended", async () => {
  const client = await releasedSession();
  for (const { key } of await segments(client.id)) await env.BUCKET.delete(key);
  const alarms = () => logs.filter((line) => line.includes('"alarm"') && line.includes(client.id));
  await run("check");
  expect(alarms()).toEqual([]);
  advance(2 * DAY);
  await run("check");
  expect(alarms()).toHaveLength(1);
});

test("thirty backups are kept", async () => {
  for (let days = 0; days < 32; days++) {
    advance(DAY);
    await run("backup");
  }
  const { delimitedPrefixes } = await env.BUCKET.list({ prefix: "backup/", delimiter: "/" });
  expect(delimitedPrefixes).toHaveLength(30);
  expect(delimitedPrefixes.at(-1)).toBe(
    `backup/${new Date(Date.now() - DAY).toISOString().slice(0, 10)}/`,
  );
});

test("an operator's queries say how new they are, and take that back", async () => {
  const client = await releasedSession();
  const first = await admin("GET", `/audit?session_id=${client.id}`);
  const bookmark = first.headers.get("x-d1-bookmark");
  expect(bookmark).toMatch(/^[0-9a-zA-Z-]+$/);
  using withSession = vi.spyOn(env.ARCHIVE_DB, "withSession");
  for (const sent of [bookmark ?? "", "no bookmark; at all"]) {
    const again = await admin("GET", "/sessions?limit=1", { headers: { "x-d1-bookmark": sent } });
    expect(again.status).toBe(200);
  }
  expect(withSession.mock.calls).toEqual([[bookmark], ["first-primary"]]);
});

test("a D1 that is four fifths full is said in the log each time", async () => {
  const warnings = () => logs.filter((line) => line.includes("d1_nearly_full"));
  await runDaily(env, requireConfig(env), Date.now());
  expect(warnings()).toEqual([]);
  const prepare = env.ARCHIVE_DB.prepare.bind(env.ARCHIVE_DB);
  using _prepare = vi.spyOn(env.ARCHIVE_DB, "prepare").mockImplementationOnce((query) => {
    const statement = prepare(query);
    const run = statement.run.bind(statement);
    vi.spyOn(statement, "run").mockImplementation(async () => {
      const answer = await run();
      return { ...answer, meta: { ...answer.meta, size_after: 8.1 * 1024 ** 3 } };
    });
    return statement;
  });
  await runDaily(env, requireConfig(env), Date.now());
  expect(warnings()).toHaveLength(1);
});
