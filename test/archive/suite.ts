/**
 * @module
 * What every archive must do, whichever database it is in: the same tests run
 * against D1 inside workerd and against PostgreSQL.
 */
import { describe, expect, test } from "vitest";
import { type Archive, BEFORE_ALL_SESSIONS, type EntryQuery } from "../../src/archive/archive.ts";
import { exportLine } from "../../src/audit/record.ts";
import { verifyLines } from "../../src/audit/verify.ts";
import { AWKWARD, type SampleSession, sampleSession } from "./sample-session.ts";

const HASH = "ab".repeat(32);
/** Tools that are counted under their names. */
const TOOLS = ["f_one"];
const ALL: EntryQuery = { after: null, limit: 1000 };

function seqs(rows: readonly { seq: number }[]): number[] {
  return rows.map(({ seq }) => seq);
}

async function stored(archive: Archive, session: SampleSession): Promise<SampleSession> {
  expect(await archive.write(session.row, session.records, TOOLS)).toEqual([]);
  return session;
}

/** The runner's own hook gives a fresh look at the archive for each test; the data in it stays. */
export function describeArchive(name: string, open: () => Archive): void {
  describe(`the archive in ${name}`, () => {
    test("is ready", async () => {
      expect(await open().ready()).toBeNull();
    });

    test("gives back every record byte for byte, and the verifier agrees", async () => {
      const archive = open();
      const session = await stored(archive, sampleSession(AWKWARD));
      const { session_id, tenant } = session.row;
      const page = await archive.page(session_id, 0, 500);
      expect(page).toEqual(session.records);
      const report = verifyLines(page.map(exportLine), { session_id, tenant });
      expect(report.verdicts.integrity).toEqual({ ok: true, findings: [] });
    });

    test("holds the deepest arguments that a record may have", async () => {
      const archive = open();
      const levels = 3900;
      const args = { deep: JSON.parse("[".repeat(levels) + "]".repeat(levels)) };
      const session = await stored(archive, sampleSession([{ args }]));
      expect(await archive.page(session.row.session_id, 0, 5)).toEqual(session.records);
    });

    test("pages a session by seq", async () => {
      const archive = open();
      const { row } = await stored(archive, sampleSession(Array.from({ length: 7 }, () => ({}))));
      expect(seqs(await archive.page(row.session_id, 0, 3))).toEqual([1, 2, 3]);
      expect(seqs(await archive.page(row.session_id, 3, 3))).toEqual([4, 5, 6]);
      expect(seqs(await archive.page(row.session_id, 6, 3))).toEqual([7]);
      expect(await archive.page(row.session_id, 7, 3)).toEqual([]);
    });

    test("keeps a session's row, and answers null or nothing for what is no session", async () => {
      const archive = open();
      const { row } = await stored(
        archive,
        sampleSession([{}], { ended_at: "2026-01-06T00:00:00.001Z" }),
      );
      expect(await archive.session(row.session_id)).toEqual({
        ...row,
        erased_at: null,
        retired_at: null,
      });
      for (const id of ["x", "", "\u0000", BEFORE_ALL_SESSIONS, row.session_id.toUpperCase()]) {
        expect(await archive.session(id)).toBeNull();
        expect(await archive.page(id, 0, 5)).toEqual([]);
        expect(await archive.roots(id)).toEqual([]);
        expect(await archive.entries({ ...ALL, session_id: id })).toEqual([]);
      }
    });

    test("stores a record once, however often and in whatever order batches arrive", async () => {
      const archive = open();
      const { row, records } = sampleSession(
        Array.from({ length: 6 }, (_, n) => ({ args: { n } })),
      );
      const upTo = (n: number) => ({
        ...row,
        entries: n,
        head: records[n - 1]?.hash_chain ?? null,
      });
      await Promise.all([
        archive.write(upTo(4), records.slice(0, 4), TOOLS),
        archive.write(upTo(6), records.slice(2), TOOLS),
        archive.write(upTo(4), records.slice(0, 4), TOOLS),
      ]);
      expect(await archive.write(upTo(3), records.slice(0, 3), TOOLS)).toEqual([]);
      expect(await archive.page(row.session_id, 0, 10)).toEqual(records);
      expect(await archive.session(row.session_id)).toMatchObject({ entries: 6, head: row.head });
    });

    test("reports another record at the same place, and keeps what it has", async () => {
      const archive = open();
      const session = await stored(archive, sampleSession([{}, { args: { a: 1 } }, {}]));
      const other = sampleSession([{}, { args: { a: 2 } }, {}, {}], {
        session_id: session.row.session_id,
      });
      expect(await archive.write(other.row, other.records, TOOLS)).toEqual([2, 3]);
      const kept = await archive.page(session.row.session_id, 0, 10);
      expect(kept.slice(0, 3)).toEqual(session.records);
    });

    test("reports a record whose hash is taken by another session's", async () => {
      const archive = open();
      const session = await stored(archive, sampleSession([{}, {}]));
      const other = sampleSession([{}, {}]);
      const [first, second] = other.records;
      const stolen = session.records[1]?.hash_chain ?? "";
      if (first === undefined || second === undefined) throw new Error("no records");
      expect(
        await archive.write(other.row, [first, { ...second, hash_chain: stolen }], TOOLS),
      ).toEqual([2]);
    });

    test("counts what is new, once, and live sessions up and down", async () => {
      const archive = open();
      const role = "c_role";
      const session = sampleSession(
        [
          { tool: "f_one" },
          { tool: "f_one", result: "error", error_code: "F_CODE" },
          { tool: "no_such_tool" },
          { event: "tool_intent", tool: "f_one", result: "pending" },
        ],
        { role, era: "c_era" },
      );
      const { row, records } = session;
      const counts = async () => {
        const all = await archive.counts();
        const mine = all.filter(({ labels }) => labels.includes(role) || labels.includes("c_era"));
        return Object.fromEntries(
          mine.map(({ metric, labels, value }) => [metric + labels, value]),
        );
      };
      await Promise.all([
        archive.write(row, records, TOOLS),
        archive.write({ ...row, entries: 2 }, records.slice(0, 2), TOOLS),
        archive.write(row, records.slice(1), TOOLS),
      ]);
      const counted = {
        'mcp_audit_entries_total{"role":"c_role","result":"ok"}': 2,
        'mcp_audit_entries_total{"role":"c_role","result":"error"}': 1,
        'mcp_audit_entries_total{"role":"c_role","result":"pending"}': 1,
        'mcp_tool_calls_total{"role":"c_role","tool":"f_one","result":"ok"}': 1,
        'mcp_tool_calls_total{"role":"c_role","tool":"f_one","result":"error"}': 1,
        'mcp_tool_calls_total{"role":"c_role","tool":"other","result":"ok"}': 1,
      };
      expect(await counts()).toEqual({ ...counted, 'mcp_session_active{"era":"c_era"}': 1 });
      const ended = { ...row, ended_at: "2026-01-06T00:00:00.001Z" };
      for (let again = 0; again < 2; again++) await archive.write(ended, [], TOOLS);
      expect(await counts()).toEqual({ ...counted, 'mcp_session_active{"era":"c_era"}': 0 });
    });

    test("counts a record that is set aside no second time, and stores it in one place", async () => {
      const archive = open();
      const role = "aside_role";
      const { row, records } = await stored(
        archive,
        sampleSession([{ tool: "f_one" }, {}], { role }),
      );
      const counts = async () =>
        (await archive.counts()).filter(({ labels }) => labels.includes(role));
      const before = await counts();
      await archive.move(row.session_id, "audit_log_archive");
      expect(await archive.write(row, records, TOOLS)).toEqual([]);
      expect(await archive.page(row.session_id, 0, 10)).toEqual(records);
      expect(await archive.entries({ ...ALL, session_id: row.session_id })).toEqual([]);
      expect(await counts()).toEqual(before);
      // Another record at its place is an alarm, as it is in the searched table.
      const other = sampleSession([{ args: { other: true } }], {
        session_id: row.session_id,
        role,
      });
      expect(await archive.write(row, other.records, TOOLS)).toEqual([1]);
    });

    test("takes no end back: a session that has ended stays so, and is not counted as live", async () => {
      const archive = open();
      const era = "ended_era";
      const ended_at = "2026-01-06T00:00:00.001Z";
      const { row, records } = sampleSession([{}, {}, {}], { era, ended_at });
      const live = async () =>
        (await archive.counts()).find(({ labels }) => labels.includes(era))?.value ?? 0;
      await archive.write({ ...row, entries: 1 }, records.slice(0, 1), TOOLS);
      // Its segments in R2 do not have the record of its end yet.
      await archive.write({ ...row, entries: 2, ended_at: null }, records.slice(0, 2), TOOLS);
      expect(await archive.session(row.session_id)).toMatchObject({ entries: 2, ended_at });
      expect(await live()).toBe(0);
      await archive.write(row, records, TOOLS);
      expect(await archive.session(row.session_id)).toMatchObject({ entries: 3, ended_at });
      expect(await live()).toBe(0);
    });

    test("counts the live sessions of a principal, without the ambient one", async () => {
      const archive = open();
      const own = { tenant: "live", principal: "key:live" };
      const first = await stored(archive, sampleSession([{}], own));
      await stored(archive, sampleSession([{}], own));
      await stored(archive, sampleSession([{}], { ...own, era: "ambient" }));
      await stored(archive, sampleSession([{}], { ...own, tenant: "other" }));
      await stored(archive, sampleSession([{}], { ...own, ended_at: "2026-01-06T00:00:00.001Z" }));
      const owner = { tenant: own.tenant, id: own.principal };
      expect(await archive.countLive(owner, [])).toBe(2);
      expect(await archive.countLive(owner, [first.row.session_id])).toBe(1);
    });

    test("finds sessions that were last seen before a time and have not ended", async () => {
      const archive = open();
      const at = (year: number) => ({ last_seen_at: `${year}-01-01T00:00:00.000Z` });
      const [late, early] = [sampleSession([{}], at(1999)), sampleSession([{}], at(1998))];
      await stored(archive, late);
      await stored(archive, early);
      await stored(
        archive,
        sampleSession([{}], { ...at(1998), ended_at: "2026-01-06T00:00:00.001Z" }),
      );
      // Of ambient sessions only those of days that are over, however many there are.
      const ambient = ["0000000a", "0000000c"].map((time) =>
        sampleSession([{}], {
          ...at(1997),
          session_id: `${time}-0000-8000-8000-000000000000`,
          era: "ambient",
        }),
      );
      for (const session of ambient) await stored(archive, session);
      const query = {
        before: "2000-01-01T00:00:00.000Z",
        ambientBefore: "0000000b-0000-0000-0000-000000000000",
      };
      const idle = await archive.idle({ ...query, limit: 10 });
      const ids = [ambient[0], early, late].map((session) => session?.row.session_id);
      expect(idle.map(({ session_id }) => session_id)).toEqual(ids);
      expect(await archive.idle({ ...query, limit: 1 })).toHaveLength(1);
    });

    test("finds entries by each filter, newest first", async () => {
      const archive = open();
      const tenant = "filters";
      const at = Date.UTC(2026, 2, 1);
      const { row } = await stored(
        archive,
        sampleSession(
          [
            { tool: "f_one", result: "error", error_code: "F_CODE", at },
            { tool: "f_two", plan_hash: HASH, at: at + 1 },
            { tool: "f_one", at: at + 2 },
          ],
          { tenant, role: "f_role" },
        ),
      );
      const find = async (query: Partial<EntryQuery>) => {
        const found = await archive.entries({ ...ALL, ...query });
        return seqs(found.filter((entry) => entry.session_id === row.session_id));
      };
      expect(await find({ session_id: row.session_id })).toEqual([3, 2, 1]);
      expect(await find({ role: "f_role" })).toEqual([3, 2, 1]);
      expect(await find({ tool: "f_one" })).toEqual([3, 1]);
      expect(await find({ tool: "f_one", result: "error" })).toEqual([1]);
      expect(await find({ error_code: "F_CODE" })).toEqual([1]);
      expect(await find({ plan_hash: HASH })).toEqual([2]);
      expect(await find({ tool: "a\u0000b'; --" })).toEqual([]);
      const since = new Date(at + 1).toISOString();
      expect(await find({ role: "f_role", since })).toEqual([3, 2]);
      expect(await find({ role: "f_role", until: since })).toEqual([2, 1]);
      expect(await find({ role: "f_role", since: "+010000-01-01T00:00:00.000Z" })).toEqual([]);
      expect(await find({ role: "f_role", since: "0000-01-01T00:00:00.000Z" })).toEqual([3, 2, 1]);
    });

    test("pages entries of one time without a gap or a repeat", async () => {
      const archive = open();
      const at = Date.UTC(2026, 3, 1);
      const made = Array.from({ length: 3 }, () =>
        sampleSession(Array.from({ length: 3 }, () => ({ tool: "same_time", at }))),
      );
      for (const session of made) await stored(archive, session);
      const found: string[] = [];
      let after: EntryQuery["after"] = null;
      for (let pages = 0; pages < 10; pages++) {
        const page: Awaited<ReturnType<Archive["entries"]>> = await archive.entries({
          tool: "same_time",
          after,
          limit: 2,
        });
        found.push(...page.map(({ session_id, seq }) => `${session_id} ${seq}`));
        const last = page.at(-1);
        if (last === undefined) break;
        expect(last.timestamp).toBe(new Date(at).toISOString());
        after = last;
      }
      const expected = made
        .flatMap(({ row, records }) => records.map(({ seq }) => `${row.session_id} ${seq}`))
        .sort()
        .reverse();
      expect(found).toEqual(expected);
    });

    test("lists sessions newest first, by tenant and by whether they live", async () => {
      const archive = open();
      const tenant = "listed";
      const ended_at = "2026-02-02T02:02:02.222Z";
      const ids: string[] = [];
      for (const n of [1, 2, 3, 4]) {
        const session_id = `0000000${n}-0000-8000-8000-000000000000`;
        ids.unshift(session_id);
        await stored(
          archive,
          sampleSession([{}], { tenant, session_id, ended_at: n % 2 === 0 ? ended_at : null }),
        );
      }
      const list = async (query: object) =>
        (await archive.sessions({ tenant, limit: 10, ...query })).map(
          ({ session_id }) => session_id,
        );
      expect(await list({})).toEqual(ids);
      expect(await list({ limit: 2 })).toEqual(ids.slice(0, 2));
      expect(await list({ before: ids[1] })).toEqual(ids.slice(2));
      expect(await list({ active: true })).toEqual([ids[1], ids[3]]);
      expect(await list({ active: false })).toEqual([ids[0], ids[2]]);
    });

    test("knows every workspace of a session", async () => {
      const archive = open();
      const entries = ["/a", "/b", "/a"].map((workspace_root) => ({ workspace_root }));
      const { row } = await stored(archive, sampleSession([{}, ...entries]));
      expect((await archive.roots(row.session_id)).sort()).toEqual(["/a", "/b"]);
    });

    test("scans a span of time, oldest first, what is set aside too", async () => {
      const archive = open();
      const at = Date.UTC(2026, 4, 1);
      const entries = [{ at }, { at: at + 1 }, { at: at + 1 }, { at: at + 2 }];
      const first = await stored(archive, sampleSession(entries));
      const aside = await stored(archive, sampleSession(entries));
      await archive.move(aside.row.session_id, "audit_log_archive");
      const span = { since: new Date(at).toISOString(), before: new Date(at + 2).toISOString() };
      const found: string[] = [];
      let after: EntryQuery["after"] = null;
      for (let pages = 0; pages < 10; pages++) {
        const page: Awaited<ReturnType<Archive["scan"]>> = await archive.scan({
          ...span,
          after,
          limit: 4,
        });
        found.push(
          ...page.map(({ timestamp, session_id, seq }) => `${timestamp} ${session_id} ${seq}`),
        );
        const last = page.at(-1);
        if (last === undefined) break;
        after = last;
      }
      const expected = [first, aside].flatMap(({ row }) =>
        [0, 1, 1].map((ms, n) => `${new Date(at + ms).toISOString()} ${row.session_id} ${n + 1}`),
      );
      expect(found).toEqual(expected.sort());
    });

    test("walks all sessions in order, and those that have expired", async () => {
      const archive = open();
      const ended_at = "1990-01-01T00:00:00.000Z";
      const old = await stored(archive, sampleSession([{}], { ended_at }));
      const live = await stored(archive, sampleSession([{}]));
      const walk = async (query: object) => {
        const found = await archive.walk({ after: BEFORE_ALL_SESSIONS, limit: 1000, ...query });
        return found.map(({ session_id }) => session_id);
      };
      const all = await walk({});
      expect(all).toEqual([...all].sort());
      expect(all).toEqual(expect.arrayContaining([old.row.session_id, live.row.session_id]));
      expect(await walk({ limit: 2, after: all[0] })).toEqual(all.slice(1, 3));
      expect(await walk({ endedBefore: "1990-01-02T00:00:00.000Z" })).toEqual([old.row.session_id]);
      await archive.retire(old.row.session_id, "2026-01-01T00:00:00.000Z");
      expect(await walk({ endedBefore: "1990-01-02T00:00:00.000Z" })).toEqual([]);
    });

    test("erases arguments and key, for good, and the chain still holds", async () => {
      const archive = open();
      const session = await stored(archive, sampleSession(AWKWARD));
      const { session_id, tenant } = session.row;
      await archive.erase(session_id, "2026-05-05T00:00:00.000Z");
      await archive.erase(session_id, "2026-06-06T00:00:00.000Z");
      // A flush that repeats brings nothing back.
      expect(await archive.write(session.row, session.records, TOOLS)).toEqual([]);
      expect(await archive.session(session_id)).toMatchObject({
        wrapped_key: null,
        erased_at: "2026-05-05T00:00:00.000Z",
      });
      const page = await archive.page(session_id, 0, 500);
      expect(page).toEqual(
        session.records.map((record) => ({ ...record, args: null, salt: null })),
      );
      const report = verifyLines(page.map(exportLine), { session_id, tenant });
      expect(report.verdicts.integrity.ok).toBe(true);
    });

    test("takes the key of a session whose row was rebuilt without it, once", async () => {
      const archive = open();
      const { row, records } = sampleSession([{}, {}], { wrapped_key: null });
      const key = async () => (await archive.session(row.session_id))?.wrapped_key;
      const write = (wrapped_key: string | null) =>
        archive.write({ ...row, wrapped_key }, records, TOOLS);
      await write(null);
      expect(await key()).toBeNull();
      await write("b25l");
      await write("dHdv");
      await write(null);
      expect(await key()).toBe("b25l");
      await archive.erase(row.session_id, "2026-05-05T00:00:00.000Z");
      await write("b25l");
      expect(await key()).toBeNull();
    });

    test("sets records aside where they are read but not searched, and takes them back", async () => {
      const archive = open();
      const session = await stored(
        archive,
        sampleSession([{ tool: "aside", workspace_root: "/w", args: { "\u0000": 1 } }, {}]),
      );
      const { session_id } = session.row;
      await archive.move(session_id, "audit_log_archive");
      expect(await archive.entries({ ...ALL, session_id })).toEqual([]);
      expect(await archive.page(session_id, 0, 5)).toEqual(session.records);
      expect(await archive.roots(session_id)).toEqual(["/w"]);
      await archive.move(session_id, "audit_log");
      expect(seqs(await archive.entries({ ...ALL, session_id }))).toEqual([2, 1]);
      expect(await archive.page(session_id, 0, 5)).toEqual(session.records);
    });

    test("lets records go, and keeps the row that says when", async () => {
      const archive = open();
      const { row } = await stored(archive, sampleSession([{}, {}]));
      await archive.retire(row.session_id, "2026-05-05T00:00:00.000Z");
      expect(await archive.page(row.session_id, 0, 5)).toEqual([]);
      expect(await archive.session(row.session_id)).toMatchObject({
        entries: 2,
        retired_at: "2026-05-05T00:00:00.000Z",
      });
    });
  });
}
