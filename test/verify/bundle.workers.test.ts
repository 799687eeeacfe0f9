import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { canonicalJson } from "../../src/audit/canonical.ts";
import { genesis } from "../../src/audit/chain.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import type { Report } from "../../src/audit/report.ts";
import { logSigners } from "../../src/log/keys.ts";
import type { LogObject } from "../../src/log/log-object.ts";
import { formatVkey } from "../../src/log/note.ts";
import { ownLogKeys, ownLogReader } from "../../src/log/session-log.ts";
import { logStub } from "../../src/objects.ts";
import { parseBundle } from "../../src/verify/bundle.ts";
import { verifyBundle } from "../../src/verify/verify-bundle.ts";
import { openings } from "../log/support.ts";
import { tampering } from "../support/archive-sums.ts";
import { admin, Client, mintKey } from "../support/gateway.ts";
import {
  captureLogs,
  flush,
  inSession,
  ringUntilReleased,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
captureLogs();

/** A session with records 1 to 5, anchored at 1, 3 and 5; ended where the archive alone is to have it. */
async function sessionOf(end: boolean): Promise<Client> {
  const client = await Client.open(await mintKey("windsurf"));
  await flush(client.id);
  await client.call("list_files");
  await client.call("list_files");
  await flush(client.id);
  await client.call("list_files");
  if (end) {
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
  } else {
    await client.call("list_files");
    await flush(client.id);
  }
  return client;
}

async function bundleOf(id: string, query = "") {
  const answer = await admin("GET", `/audit/sessions/${id}/bundle${query}`);
  expect(answer.status).toBe(200);
  const parsed = parseBundle(answer.text);
  if (!parsed.ok) throw new Error(parsed.message);
  return { text: answer.text, bundle: parsed.bundle };
}

async function ownReport(id: string): Promise<Report> {
  const answer = await admin("GET", `/audit/sessions/${id}/verify`);
  expect(answer.status).toBe(200);
  return JSON.parse(answer.text);
}

/** What is false in the gateway's own report, and in an outsider's. */
async function detected(id: string): Promise<string[]> {
  const { bundle } = await bundleOf(id);
  const trust = { vkeys: await ownLogKeys(env), log: ownLogReader(env) };
  const outside = await verifyBundle(bundle, trust);
  const own = await ownReport(id);
  expect(own.verdicts).toEqual({ ...outside.verdicts });
  return Object.entries(outside.verdicts)
    .filter(([, { ok }]) => ok === false)
    .map(([name]) => name);
}

describe("a session's bundle", () => {
  test("is one RFC 8785 text that an outsider verifies, live and ended", async () => {
    for (const end of [false, true]) {
      const { id } = await sessionOf(end);
      const { text, bundle } = await bundleOf(id);
      expect(canonicalJson(JSON.parse(text))).toBe(text);
      expect(bundle).toMatchObject({ session_id: id, tenant: "default" });
      expect(bundle.records).toHaveLength(5);
      expect(bundle.log?.leaves.map(({ entry }) => JSON.parse(entry).kind)).toEqual([
        "open",
        end ? "close" : "head",
      ]);
      expect(await detected(id)).toEqual([]);
      const { verdicts, unanchored } = await ownReport(id);
      expect(unanchored).toBe(0);
      const { integrity, anchored, completeness } = verdicts;
      expect([integrity.ok, anchored.ok, completeness.ok]).toEqual([true, true, true]);
    }
  });

  test("holds every leaf when asked for, each with the checkpoints around it", async () => {
    const { id } = await sessionOf(true);
    const { bundle } = await bundleOf(id, "?leaves=all");
    const leaves = bundle.log?.leaves ?? [];
    expect(leaves.map(({ entry }) => JSON.parse(entry).seq)).toEqual([1, 3, 5]);
    for (const { before, after, index } of leaves) {
      if (before !== null) expect(before).toBeLessThanOrEqual(index);
      expect(after).toBeGreaterThan(index);
      for (const size of [before, after]) {
        if (size !== null) expect(bundle.log?.checkpoints[String(size)]).toContain(`\n${size}\n`);
      }
    }
    const report = await verifyBundle(bundle, { vkeys: await ownLogKeys(env) });
    expect(report.verdicts.anchored).toEqual({ ok: true, findings: [] });
    expect((await admin("GET", `/audit/sessions/${id}/bundle?leaves=some`)).status).toBe(400);
  });

  test("has no log before anything is anchored", async () => {
    const { id } = await Client.open(await mintKey("windsurf"));
    const { bundle } = await bundleOf(id);
    expect(bundle.log).toBeNull();
    const { verdicts } = await ownReport(id);
    expect([verdicts.integrity.ok, verdicts.anchored.ok]).toEqual([true, null]);
  });

  test("is proven from full tiles, too", async () => {
    const { id } = await sessionOf(true);
    await logStub(env).submit(openings(5000, 600));
    expect(await detected(id)).toEqual([]);
  });

  test("is 404 for a session that never was", async () => {
    for (const id of ["0199a3c2-7b1f-8abc-9def-0123456789ab", "nothing", "a%0Ab"]) {
      expect((await admin("GET", `/audit/sessions/${id}/bundle`)).status).toBe(404);
      expect((await admin("GET", `/audit/sessions/${id}/verify`)).status).toBe(404);
    }
  });
});

describe("the gateway's own report", () => {
  test("knows the keys that signed the log before, too", async () => {
    await sessionOf(true);
    const [current] = await ownLogKeys(env);
    const [former] = await logSigners("localhost/log", [new Uint8Array(32).fill(99)]);
    if (current === undefined || former === undefined) throw new Error("no key");
    const retire = (vkey: string) =>
      runInDurableObject(logStub(env), (_object: LogObject, { storage }) => {
        storage.sql.exec("INSERT INTO keys (vkey, retired) VALUES (?, 1)", vkey);
      });
    await retire(formatVkey(former.key));
    expect((await ownLogKeys(env)).map(formatVkey)).toEqual([
      formatVkey(current),
      formatVkey(former.key),
    ]);
    const { bundle } = await bundleOf((await sessionOf(true)).id);
    expect(bundle.log?.vkey).toBe(formatVkey(current));
  });
});

describe("tampering in the stores", () => {
  type Row = { line: string; args: string | null; salt: string | null };
  const rowsOf = async (id: string) => {
    const { results } = await env.ARCHIVE_DB.prepare(
      "SELECT line, args, salt FROM audit_log WHERE session_id = ? ORDER BY seq",
    )
      .bind(id)
      .all<Row>();
    return results;
  };

  /** Chains records anew from the genesis, times included, as whoever holds the stores can. */
  function relink(id: string, rows: readonly Row[]): (Row & { hash_chain: string })[] {
    let prev = genesis(sha256Hex, "default", id);
    const { timestamp } = JSON.parse(rows[0]?.line ?? "{}");
    return rows.map((row, i) => {
      const record = { ...JSON.parse(row.line), seq: i + 1, prev_hash: prev, timestamp };
      const line = canonicalJson(record);
      prev = sha256Hex(line);
      return { ...row, line, hash_chain: prev };
    });
  }

  async function replaceRows(id: string, rows: readonly (Row & { hash_chain: string })[]) {
    const db = env.ARCHIVE_DB;
    // The hash is unique: no row may get its new one while another still has it.
    await db
      .prepare("UPDATE audit_log SET hash_chain = hash_chain || 'x' WHERE session_id = ?")
      .bind(id)
      .run();
    const write = db.prepare(
      "UPDATE audit_log SET line = ?, hash_chain = ?, args = ?, salt = ? WHERE session_id = ? AND seq = ?",
    );
    await db.batch(
      rows.map(({ line, hash_chain, args, salt }, i) =>
        write.bind(line, hash_chain, args, salt, id, i + 1),
      ),
    );
    const cut = db.prepare("DELETE FROM audit_log WHERE session_id = ? AND seq > ?");
    await cut.bind(id, rows.length).run();
  }

  const noted = (row: Row | undefined): Row => {
    if (row === undefined) throw new Error("no such record");
    return { ...row, line: row.line.replace('"notes":null', '"notes":"x"') };
  };

  test("an edit in the session alone breaks integrity; with all hashes anew, anchored and completeness", async () => {
    const { id } = await sessionOf(false);
    await inSession(id, (sql) => {
      sql.exec(
        `UPDATE records SET line = replace(line, '"notes":null', '"notes":"x"') WHERE seq = 2`,
      );
    });
    expect(await detected(id)).toEqual(["integrity"]);
    await inSession(id, (sql) => {
      const rows = sql.exec<Row>("SELECT line, args, salt FROM records ORDER BY seq").toArray();
      for (const [i, { line, hash_chain }] of relink(id, rows).entries()) {
        sql.exec(
          "UPDATE records SET line = ?, hash_chain = ? WHERE seq = ?",
          line,
          hash_chain,
          i + 1,
        );
      }
    });
    expect(await detected(id)).toEqual(["anchored", "completeness"]);
  });

  test.each([
    ["edit", (rows: Row[]) => rows.with(2, noted(rows[2]))],
    ["delete", (rows: Row[]) => rows.toSpliced(1, 1)],
    ["reorder", ([a, b, c, ...rest]: Row[]) => [a, c, b, ...rest]],
    ["insert", ([a, b, ...rest]: Row[]) => [a, b, b, ...rest.slice(0, -1)]],
  ])("%s in D1, all hashes anew, breaks anchored and completeness", async (_name, change) => {
    const { id } = await sessionOf(true);
    const changed = change(await rowsOf(id)).filter((row) => row !== undefined);
    await tampering(() => replaceRows(id, relink(id, changed)));
    expect(await detected(id)).toEqual(["anchored", "completeness"]);
  });

  test("an edit in D1 alone breaks integrity, a cut tail anchored and completeness", async () => {
    const { id } = await sessionOf(true);
    await tampering(() =>
      env.ARCHIVE_DB.prepare("DELETE FROM audit_log WHERE session_id = ? AND seq > 3")
        .bind(id)
        .run(),
    );
    expect(await detected(id)).toEqual(["anchored", "completeness"]);
    await env.ARCHIVE_DB.prepare(
      `UPDATE audit_log SET line = replace(line, '"notes":null', '"notes":"x"') WHERE session_id = ? AND seq = 2`,
    )
      .bind(id)
      .run();
    expect(await detected(id)).toContain("integrity");
  });

  test.each([
    [
      "edit",
      (lines: string[]) => lines.with(1, lines[1]?.replace('"notes":null', '"notes":"x"') ?? ""),
    ],
    ["delete", (lines: string[]) => lines.toSpliced(1, 1)],
    ["insert", (lines: string[]) => lines.toSpliced(1, 0, lines[1] ?? "")],
    ["reorder", ([a = "", b = "", c = "", ...rest]: string[]) => [a, c, b, ...rest]],
  ])(
    "%s in the bucket's segments alone, they are not the same records any more",
    async (_name, change) => {
      const { id } = await sessionOf(true);
      const { bundle } = await bundleOf(id);
      const { objects } = await env.BUCKET.list({ prefix: "audit/default/" });
      const lines: string[] = [];
      for (const { key } of objects.filter(({ key }) => key.includes(id))) {
        const text = await (await env.BUCKET.get(key))?.text();
        lines.push(...(text ?? "").trimEnd().split("\n"));
      }
      const verdictOf = async (segments: string[]) =>
        (await verifyBundle(bundle, { segments })).segments?.ok;
      expect(lines).toHaveLength(5);
      expect(await verdictOf(lines)).toBe(true);
      expect(await verdictOf(change(lines))).toBe(false);
      expect(await verdictOf([])).toBeNull();
    },
  );

  test("a deleted session is no 404: its leaves are there", async () => {
    const { id } = await sessionOf(true);
    await tampering(async () => {
      for (const table of ["audit_log", "sessions"]) {
        await env.ARCHIVE_DB.prepare(`DELETE FROM ${table} WHERE session_id = ?`).bind(id).run();
      }
    });
    const { bundle } = await bundleOf(id);
    expect(bundle.records).toEqual([]);
    expect(await detected(id)).toEqual(["integrity", "anchored", "completeness"]);
    const { verdicts } = await ownReport(id);
    expect(verdicts.completeness.findings.map(({ code }) => code)).toContain("SESSION_DELETED");
    expect((await admin("GET", `/audit/sessions/${id}/bundle?tenant=other`)).status).toBe(404);
  });
});
