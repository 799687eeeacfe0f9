import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { verifyLines } from "../../src/audit/verify.ts";
import { exportLines, genesisOf, problemsOf, readLine, sha256 } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { RawSession, type Receipt, receiptSchema } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan } from "./support/plans.ts";

const ROOT = "/srv/evidence";
const TENANT = "default";

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

/** A session with some of everything: reads, writes, refusals, odd names and odd arguments. */
async function variedSession(): Promise<{ session: RawSession; receipts: Receipt[] }> {
  const planHash = await approvedPlan(gateway, ROOT);
  const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
  const receipts: Receipt[] = [];
  for (const [name, args] of [
    ["read_file", { path: "src/a" }],
    ["begin_session", { workspace_root: ROOT, plan_hash: planHash }],
    ["write_file", { path: "src/a", content: "one" }],
    ["write_file", { path: "src/ünïcödé/日本/\u{1f600}", content: "two" }],
    ["write_file", { path: "docs/out-of-scope", content: "three" }],
    ["write_file", { path: "../escape", content: "four" }],
    ["read_file", { path: "src/a" }],
    ["read_file", { path: "src/none" }],
    ["list_files", { prefix: "src/" }],
    ["read_file", { path: "src/a", "10": 1, "9": { é: [], "e\u0301": {}, "\u{1f600}": "\u2028" } }],
    ["read_file", { path: "src/a", n: [1e21, 1e-7, -0, 0.1, 123456789012345] }],
    ["read_file", { path: "x".repeat(20_000) }],
    ["delete_file", { path: "src/a" }],
    ["verify_workspace_integrity", {}],
    ["replay_execution", { plan_hash: planHash }],
  ] as const) {
    receipts.push((await session.call(name, args)).receipt);
  }
  const unknown = await session.request("tools/call", {
    name: "no\nsuch\u202etool",
    arguments: {},
  });
  receipts.push(receiptSchema.parse(at(unknown.json, "error.data.receipt")));
  return { session, receipts };
}

function verdict(text: string) {
  return verifyLines(text.split("\n")).verdicts.integrity;
}

/** The same text with the byte at `index` changed to another that can stand there. */
function changed(text: string, index: number): string {
  const char = text.charAt(index);
  const other = /[0-9]/.test(char) ? String((Number(char) + 1) % 10) : char === "a" ? "b" : "a";
  return text.slice(0, index) + other + text.slice(index + 1);
}

describe("the export of a session", () => {
  let text: string;
  let session: RawSession;
  let receipts: Receipt[];

  beforeAll(async () => {
    ({ session, receipts } = await variedSession());
    text = await operator.export(session.id);
  });

  it("holds, by an implementation that shares nothing with the gateway", () => {
    expect(problemsOf(text, { tenant: TENANT, id: session.id })).toEqual([]);
    expect(readLine(exportLines(text)[0] ?? "").prev_hash).toBe(genesisOf(TENANT, session.id));
  });

  it("holds, by the gateway's own verifier, with the same head", () => {
    const lines = exportLines(text);
    const report = verifyLines(lines, { tenant: TENANT, session_id: session.id });
    expect(report.verdicts.integrity).toEqual({ ok: true, findings: [] });
    expect(report).toMatchObject({
      session_id: session.id,
      records: lines.length,
      head: readLine(lines.at(-1) ?? "").hash_chain,
      open_intents: [],
    });
  });

  it("has each receipt at its seq", () => {
    const lines = exportLines(text).map(readLine);
    for (const { session_id, seq, hash_chain } of receipts) {
      expect(lines[seq - 1]).toMatchObject({ session_id, seq, hash_chain });
    }
    expect(receipts.at(-1)?.seq).toBe(lines.length);
  });

  it("names each request as its response did", async () => {
    const own = await RawSession.open(gateway.url, gateway.keys.auditor);
    const answer = await own.request("tools/call", { name: "read_audit_log", arguments: {} });
    const lines = exportLines(await operator.export(own.id)).map(readLine);
    expect(lines.at(-1)?.request_id).toBe(answer.headers["x-request-id"]);
  });

  it("fails at the right record when any one byte is changed", () => {
    const ends: number[] = [];
    for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) ends.push(at);
    // A prime stride falls on every kind of member in some record or other.
    for (let index = 0; index < text.length; index += 61) {
      if (text.charAt(index) === "\n") continue;
      const seq = ends.findIndex((end) => index < end) + 1;
      const forged = changed(text, index);
      const { ok, findings } = verdict(forged);
      const where = `byte ${index}, ${forged.slice(index - 20, index + 20)}`;
      expect([where, ok, findings[0]?.seq]).toEqual([where, false, seq]);
      expect(problemsOfAny(forged, session.id)).not.toEqual([]);
    }
  });

  it("fails when a record is missing, repeated, swapped or put in from elsewhere", async () => {
    const lines = exportLines(text);
    const other = exportLines(await operator.export((await variedSession()).session.id));
    const join = (changedLines: (string | undefined)[]) => `${changedLines.join("\n")}\n`;
    for (let at = 0; at < lines.length; at++) {
      const seq = at + 1;
      if (seq < lines.length) {
        expect([seq, verdict(join(lines.toSpliced(at, 1))).ok]).toEqual([seq, false]);
        const swapped = lines.with(at, lines[at + 1] ?? "").with(at + 1, lines[at] ?? "");
        expect([seq, verdict(join(swapped)).ok]).toEqual([seq, false]);
      }
      expect([seq, verdict(join(lines.toSpliced(at, 0, lines[at] ?? ""))).ok]).toEqual([
        seq,
        false,
      ]);
      expect([seq, verdict(join(lines.with(at, other[at] ?? ""))).ok]).toEqual([seq, false]);
    }
    expect(verdict(join(other)).ok).toBe(true);
    expect(verifyLines(other, { session_id: session.id }).verdicts.integrity.ok).toBe(false);
  });

  it("is never valid when it is empty", () => {
    for (const nothing of ["", "\n", " ", "{}\n", "null\n", "[]\n"]) {
      expect([nothing, verdict(nothing).ok]).toEqual([nothing, false]);
    }
  });

  it("holds no file content, and of large arguments only their size", () => {
    const lines = exportLines(text).map(readLine);
    const write = lines.find((record) => record.event === "tool_intent");
    expect(write?.args).toEqual({ path: "src/a", content: { bytes: 3 } });
    const large = lines.filter((record) => at(record.args, "truncated") === true);
    expect(large).toMatchObject([{ tool: "read_file", args: { truncated: true } }]);
  });
});

describe("what is recorded of arguments", () => {
  it("is no credential, at whatever depth, and tells equal arguments of one session alone", async () => {
    const secrets = {
      password: "hunter2-hunter2",
      nested: [{ accessToken: "s3cr3t-access" }, { "api-key": { deep: "s3cr3t-deep" } }],
      header: `Bearer eyJhbGciOiJIUzI1NiJ9.${"e".repeat(40)}.${"f".repeat(43)}`,
      note: "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
      max_tokens: 7,
      author: "kept as it is",
    };
    const hashes: unknown[] = [];
    for (let n = 0; n < 2; n++) {
      const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
      for (const args of [secrets, secrets, { ...secrets, password: "other" }]) {
        await session.request("tools/call", { name: "nope", arguments: args });
      }
      const text = await operator.export(session.id);
      expect(problemsOf(text, { tenant: TENANT, id: session.id })).toEqual([]);
      for (const secret of ["hunter2", "s3cr3t", "MIIEvQ", "f".repeat(43)]) {
        expect(text).not.toContain(secret);
      }
      const [, first, second, third] = exportLines(text).map(readLine);
      expect(first?.args).toMatchObject({
        password: "[REDACTED]",
        max_tokens: 7,
        author: "kept as it is",
      });
      expect(first?.args_hash).toMatch(/^[0-9a-f]{64}$/);
      expect(second?.args_hash).toBe(first?.args_hash);
      expect(third?.args_hash).not.toBe(first?.args_hash);
      expect(second?.args_stored_hash).not.toBe(first?.args_stored_hash);
      expect(second?.salt).not.toBe(first?.salt);
      hashes.push(first?.args_hash);
    }
    expect(hashes[0]).not.toBe(hashes[1]);
    expect(hashes).not.toContain(sha256(JSON.stringify(secrets)));
  });
});

describe("a session under load", () => {
  it("has one unforked chain, whatever came at once, and is exported whole", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.auditor);
    const receipts: Receipt[] = [];
    for (let round = 0; round < 3; round++) {
      const outcomes = await Promise.all(
        Array.from({ length: 200 }, () => session.call("read_audit_log", { limit: 1 })),
      );
      receipts.push(...outcomes.map((outcome) => outcome.receipt));
    }
    const text = await operator.export(session.id);
    expect(problemsOf(text, { tenant: TENANT, id: session.id })).toEqual([]);
    const lines = exportLines(text).map(readLine);
    expect(lines).toHaveLength(601);
    const seqs = receipts.map((receipt) => receipt.seq).toSorted((a, b) => a - b);
    expect(seqs).toEqual(Array.from({ length: 600 }, (_, n) => n + 2));
    for (const { seq, hash_chain } of receipts) expect(lines[seq - 1]?.hash_chain).toBe(hash_chain);
    const archived = await operator.auditUntil(
      `session_id=${session.id}`,
      (found) => found.length >= 601,
    );
    expect(archived.toReversed()).toEqual(lines);
  });
});

describe("a session that is over", () => {
  it("is exported from the archive byte for byte as it was from the session", async () => {
    const { session } = await variedSession();
    const open = await operator.export(session.id);
    await session.end();
    const closed = await operator.export(session.id);
    expect(closed.startsWith(open)).toBe(true);
    expect(exportLines(closed.slice(open.length)).map(readLine)).toMatchObject([
      { event: "session_close", result: "ok" },
    ]);
    await eventually("the session's object has freed its storage", () =>
      gateway.command.output.includes(`"event":"session_released","session_id":"${session.id}"`)
        ? true
        : null,
    );
    expect(await operator.export(session.id)).toBe(closed);
    const report = await operator.ok("GET", `/audit/sessions/${session.id}/verify`);
    expect(report).toMatchObject({ verdicts: { integrity: { ok: true } }, open_intents: [] });
    const auditor = await RawSession.open(gateway.url, gateway.keys.auditor);
    const lines = exportLines(closed);
    expect(
      await auditor.ok("read_audit_log", { audit_session_id: session.id, limit: 200 }),
    ).toMatchObject({
      entries: lines.map(readLine),
      head: { seq: lines.length },
      next_after_seq: null,
    });

    expect(await gateway.stop()).toBe(0);
    await gateway.restart();
    expect(await operator.export(session.id)).toBe(closed);
    expect((await session.request("ping")).status).toBe(404);
  });
});

/** As `problemsOf`, where the text may not even be JSON any more. */
function problemsOfAny(text: string, id: string): string[] {
  try {
    return problemsOf(text, { tenant: TENANT, id });
  } catch (error) {
    return [String(error)];
  }
}
