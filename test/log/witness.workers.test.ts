import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { sha256Bytes as hash, sha256Hex } from "../../src/audit/hash-node.ts";
import { parseConfig } from "../../src/config.ts";
import { logBucket } from "../../src/log/bucket.ts";
import { checkpointOf, formatCheckpoint } from "../../src/log/checkpoint.ts";
import {
  cosign,
  cosignatureTime,
  cosignatureVerifier,
  witnessKey,
} from "../../src/log/cosignature.ts";
import { importSeed } from "../../src/log/ed25519.ts";
import { logSigners } from "../../src/log/keys.ts";
import {
  consistencyProof,
  emptyRoot,
  leafHash,
  nodesOfLeaves,
  rootHash,
} from "../../src/log/merkle.ts";
import {
  formatVkey,
  parseNote,
  parseSignatureLine,
  parseVkey,
  signatureLine,
  signNote,
} from "../../src/log/note.ts";
import { LogStore } from "../../src/log/store.ts";
import type { Witness } from "../../src/log/witness-client.ts";
import { formatAddCheckpoint, parseAddCheckpoint } from "../../src/log/witness-request.ts";
import { witnessRound } from "../../src/log/witness-round.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { admin, BASE, currentOperator, recordsOf } from "../support/gateway.ts";
import { captureLogs, useStoppedClock } from "../support/objects.ts";
import { logged, openings, openLog, withLog } from "./support.ts";

useStoppedClock();
const logs = captureLogs();

const leaves = Array.from({ length: 40 }, (_, i) => leafHash(hash, Uint8Array.of(i)));
const forked = leaves.with(3, leafHash(hash, Uint8Array.of(99)));
const seed = (n: number) => new Uint8Array(32).fill(n);

type Signed = { readonly origin: string; readonly n: number; readonly of?: Uint8Array[] };

/** A checkpoint of the first so many leaves. */
async function checkpoint({ origin, of = leaves }: Omit<Signed, "n">, size: number, key = 11) {
  const root = size === 0 ? emptyRoot(hash) : rootHash(hash, nodesOfLeaves(hash, of), size);
  return signNote(formatCheckpoint({ origin, size, root }), await logSigners(origin, [seed(key)]));
}

function proof(from: number, to: number, of = leaves): Uint8Array[] {
  return consistencyProof(hash, nodesOfLeaves(hash, of), from, to);
}

async function post(body: string): Promise<{ status: number; type: string | null; text: string }> {
  const response = await exports.default.fetch(`${BASE}/witness/add-checkpoint`, {
    method: "POST",
    body,
  });
  return {
    status: response.status,
    type: response.headers.get("content-type"),
    text: new TextDecoder().decode(await response.arrayBuffer()),
  };
}

async function add(origin: string, oldSize: number, size: number, of = leaves) {
  const note = await checkpoint({ origin, of }, size);
  return post(formatAddCheckpoint({ oldSize, proof: proof(oldSize, size, of), note }));
}

async function vkeyOf(origin: string, key = 11): Promise<string> {
  const [signer] = await logSigners(origin, [seed(key)]);
  if (signer === undefined) throw new Error("no signer");
  return formatVkey(signer.key);
}

let logsMade = 0;
async function registered(): Promise<string> {
  logsMade += 1;
  const origin = `log-${logsMade}.example/log`;
  const answer = await admin("POST", "/witnessed-logs", {
    body: { origin, vkey: await vkeyOf(origin) },
  });
  expect(answer.status).toBe(201);
  return origin;
}

async function witnessVkey() {
  const response = await exports.default.fetch(`${BASE}/witness/vkey`);
  const key = parseVkey((await response.text()).trimEnd());
  if (key === null) throw new Error("no vkey");
  return key;
}

describe("this gateway as a witness", () => {
  test("cosigns a log that it watches, with the time, from the first checkpoint on", async () => {
    const origin = await registered();
    for (const [from, to] of [
      [0, 5],
      [5, 5],
      [5, 17],
    ] as const) {
      const answer = await add(origin, from, to);
      expect(answer).toMatchObject({ status: 200, type: "text/plain; charset=utf-8" });
      const signature = parseSignatureLine(answer.text.slice(0, -1));
      if (signature === null) throw new Error("no signature line");
      const key = await witnessVkey();
      const text = parseNote(await checkpoint({ origin }, to))?.text ?? "";
      expect(await cosignatureVerifier(key).verify(text, signature.bytes)).toBe(true);
      expect(cosignatureTime(signature)).toBe(Math.floor(Date.now() / 1000));
    }
  });

  test("has a key of its own, not the log's", async () => {
    const key = await witnessVkey();
    const [signer] = await logSigners("localhost/log", [seed(2)]);
    expect(key.publicKey).not.toEqual(signer?.key.publicKey);
    expect(key).toMatchObject({ name: "localhost/witness", type: 4 });
  });

  test("answers 409 with the size that it knows", async () => {
    const origin = await registered();
    await add(origin, 0, 5);
    for (const [from, to] of [
      [0, 7],
      [4, 7],
      [6, 7],
    ] as const) {
      expect(await add(origin, from, to)).toEqual({
        status: 409,
        type: "text/x.tlog.size",
        text: "5\n",
      });
    }
    expect(await add(origin, 4, 4)).toMatchObject({ status: 409, text: "5\n" });
  });

  test("never cosigns a fork, a turn back, or a way that is not shown", async () => {
    const origin = await registered();
    await add(origin, 0, 10);
    expect(await add(origin, 10, 10, forked)).toMatchObject({ status: 409, text: "10\n" });
    expect(await add(origin, 10, 20, forked)).toMatchObject({ status: 422 });
    const note = await checkpoint({ origin }, 20);
    const cases = [
      { oldSize: 10, proof: [], note, status: 422 },
      { oldSize: 10, proof: [...proof(10, 20), seed(1)], note, status: 422 },
      { oldSize: 10, proof: proof(9, 20), note, status: 422 },
      { oldSize: 21, proof: [], note, status: 400 },
    ];
    for (const { status, ...request } of cases) {
      expect(await post(formatAddCheckpoint(request))).toMatchObject({ status });
    }
    expect(await add(origin, 10, 20)).toMatchObject({ status: 200 });
    expect(logs.join("\n")).toContain("witnessed_log_forked");
    expect(logs.join("\n")).toContain("witnessed_log_inconsistent");
  });

  test("wants the first checkpoint without a proof", async () => {
    const origin = await registered();
    const note = await checkpoint({ origin }, 5);
    const request = { oldSize: 0, proof: [seed(1)], note };
    expect(await post(formatAddCheckpoint(request))).toMatchObject({ status: 422 });
  });

  test("cosigns one of two requests that set out from the same size", async () => {
    const origin = await registered();
    await add(origin, 0, 5);
    const answers = await Promise.all([add(origin, 5, 9), add(origin, 5, 12), add(origin, 5, 7)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409]);
  });

  test("does not know a log that nobody registered, and trusts no other key", async () => {
    expect(await add("unknown.example/log", 0, 5)).toMatchObject({ status: 404 });
    const origin = await registered();
    const forged = await checkpoint({ origin }, 5, 12);
    const request = { oldSize: 0, proof: [], note: forged };
    expect(await post(formatAddCheckpoint(request))).toMatchObject({ status: 403 });
    // A key by another name is another key.
    const other = (await checkpoint({ origin: "other.example/log" }, 5)).replace(
      "other.example/log\n5",
      `${origin}\n5`,
    );
    expect(await post(formatAddCheckpoint({ ...request, note: other }))).toMatchObject({
      status: 403,
    });
  });

  test.each([
    ["nothing", ""],
    ["no old size", "\n\nnote"],
    ["a leading zero", "old 05\n\nnote"],
    ["loose base64", "old 5\nAAAA\n\nnote"],
    ["no note", "old 0\n\nnote"],
  ])("answers 400 to %s", async (_, body) => {
    expect(await post(body)).toMatchObject({ status: 400 });
  });

  test("reads no more than a request can need", async () => {
    expect(await post("x".repeat(70_000))).toMatchObject({ status: 413 });
  });

  test("knows a log by its old and its new key, and forgets none of its sizes", async () => {
    const origin = await registered();
    await add(origin, 0, 5);
    const vkey = await vkeyOf(origin, 12);
    expect((await admin("POST", "/witnessed-logs", { body: { origin, vkey } })).status).toBe(201);
    const note = await checkpoint({ origin }, 9, 12);
    const body = formatAddCheckpoint({ oldSize: 5, proof: proof(5, 9), note });
    expect(await post(body)).toMatchObject({ status: 200 });
    const path = `/witnessed-logs/${encodeURIComponent(origin)}`;
    expect((await admin("DELETE", path)).status).toBe(204);
    expect((await admin("DELETE", path)).status).toBe(404);
    expect(await add(origin, 9, 12)).toMatchObject({ status: 404 });
    await admin("POST", "/witnessed-logs", { body: { origin, vkey: await vkeyOf(origin) } });
    expect(await add(origin, 0, 12)).toMatchObject({ status: 409, text: "9\n" });
  });

  test("shows what it watches, page by page", async () => {
    const origins = ["a.example/log", "b.example/log", "c.example/log"];
    for (const origin of origins) {
      await admin("POST", "/witnessed-logs", { body: { origin, vkey: await vkeyOf(origin) } });
    }
    const seen: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const at = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const page = z
        .object({
          logs: z.array(z.object({ origin: z.string() })),
          next_cursor: z.string().nullable(),
        })
        .parse((await admin("GET", `/witnessed-logs?limit=1${at}`)).body);
      expect(page.logs).toHaveLength(1);
      seen.push(...page.logs.map(({ origin }) => origin));
      cursor = page.next_cursor;
    }
    expect(seen.filter((origin) => origins.includes(origin))).toEqual(origins);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("has each change of what it watches in the operator's records", async () => {
    const origin = await registered();
    await admin("DELETE", `/witnessed-logs/${encodeURIComponent(origin)}`);
    const operator = await currentOperator();
    const id = ambientSessionId(
      sha256Hex,
      { tenant: operator.tenant, principal: operator.principal },
      Date.now(),
    );
    const changes = (await recordsOf(id)).filter((record) =>
      JSON.stringify(record).includes(origin),
    );
    expect(changes.map(({ result, context }) => [result, context?.action])).toEqual([
      ["pending", "witnessed_log.add"],
      ["ok", "witnessed_log.add"],
      ["pending", "witnessed_log.remove"],
      ["ok", "witnessed_log.remove"],
    ]);
  });

  test("registers only keys that belong to the origin", async () => {
    for (const body of [
      { origin: "a.example/log", vkey: await vkeyOf("b.example/log") },
      { origin: "a.example/log", vkey: "no vkey" },
      { origin: "a b", vkey: await vkeyOf("a.example/log") },
      { origin: "localhost/witness", vkey: formatVkey(await witnessVkey()) },
    ]) {
      expect((await admin("POST", "/witnessed-logs", { body })).status).toBe(400);
    }
  });
});

describe("a log's round of its witnesses", () => {
  /** This gateway is the witness; `send` may get in the way. */
  async function watching(name: string, send?: typeof fetch) {
    const key = await witnessVkey();
    const vkey = formatVkey(key);
    const witness: Witness = { name, key, vkey, url: `${BASE}/witness` };
    const config = parseConfig({
      ADMIN_TOKEN: "x".repeat(40),
      LOG_SIGNING_KEY: btoa("a".repeat(32)),
      SECRETS_KEY: btoa("b".repeat(32)),
      WITNESSES: JSON.stringify([{ name, vkey, url: witness.url }]),
    });
    if (!config.ok) throw new Error(config.message);
    let now = Date.now();
    return {
      witnesses: [witness],
      policy: config.config.witnessPolicy,
      send: send ?? ((input, init) => exports.default.fetch(input, init)),
      bucket: env.BUCKET,
      now: () => now,
      alarm: logged,
      later: (ms: number) => {
        now += ms;
      },
    } satisfies Omit<Parameters<typeof witnessRound>[0], "store"> & { later: unknown };
  }

  async function watch(origin: string) {
    await admin("POST", "/witnessed-logs", { body: { origin, vkey: await vkeyOf(origin, 1) } });
  }

  test("brings the cosignature below the kept checkpoint, and catches up after a 409", async () => {
    await withLog(async (storage) => {
      const origin = "round-1.example/log";
      await watch(origin);
      const deps = await watching("W");
      const { writer, store } = await openLog(storage, { origin });
      await writer.commit(openings(0, 300), Date.now());
      const first = await witnessRound({ ...deps, store });
      expect(first).toMatchObject({ nextAt: null, cosigned: { size: 300, witnessed: true } });
      expect(parseNote(first.cosigned?.note ?? "")?.signatures).toHaveLength(2);
      expect(await witnessRound({ ...deps, store })).toEqual({ cosigned: null, nextAt: null });

      // What was known of the witness is lost.
      storage.sql.exec("DELETE FROM witnesses");
      await writer.commit(openings(300, 300), Date.now() + 1000);
      const second = await witnessRound({ ...deps, store });
      expect(second.cosigned).toMatchObject({ size: 600, witnessed: true });
      expect(store.witnessed()?.size).toBe(600);
    });
  });

  test("asks one that does not answer again with growing pauses, and goes on without it", async () => {
    await withLog(async (storage) => {
      let asked = 0;
      const deps = await watching("W", async () => {
        asked += 1;
        throw new TypeError("unreachable");
      });
      const { writer, store } = await openLog(storage, { origin: "round-2.example/log" });
      await writer.commit(openings(0, 3), Date.now());
      const pauses: number[] = [];
      for (let i = 0; i < 12; i++) {
        const { cosigned, nextAt } = await witnessRound({ ...deps, store });
        expect(cosigned).toBeNull();
        const pause = (nextAt ?? 0) - deps.now();
        pauses.push(pause);
        await witnessRound({ ...deps, store });
        deps.later(pause);
      }
      expect(asked).toBe(12);
      expect(pauses.slice(0, 4)).toEqual([1000, 2000, 4000, 8000]);
      expect(pauses.at(-1)).toBe(300_000);
      await writer.commit(openings(3, 3), Date.now());
      expect(store.latest()?.size).toBe(6);
    });
  });

  test("raises an alarm when the witness has seen a larger tree, or another one", async () => {
    await withLog(async (storage) => {
      const origin = "round-3.example/log";
      const size = async () => new Response("9\n", { status: 409 });
      const { writer, store } = await openLog(storage, { origin });
      await writer.commit(openings(0, 3), Date.now());
      expect((await witnessRound({ ...(await watching("W", size)), store })).cosigned).toBeNull();
      expect(logs.join("\n")).toContain('"reason":"ahead","size":3,"witness_size":9');
      storage.sql.exec("DELETE FROM witnesses");
      const bad = async () => new Response("no\n", { status: 422 });
      await witnessRound({ ...(await watching("W", bad)), store });
      expect(logs.join("\n")).toContain('"reason":"forked","size":3');
    });
  });

  test.each([
    [
      "its cosignature of another log",
      async () => new Response((await add(await registered(), 0, 5)).text),
    ],
    [
      "its key's name over noise",
      async () => new Response(signatureLine(await witnessVkey(), new Uint8Array(72))),
    ],
    [
      "a signature of another kind",
      async () => new Response(signatureLine(await witnessVkey(), new Uint8Array(64))),
    ],
    ["nothing", async () => new Response("")],
    ["more than an answer can be", async () => new Response("x".repeat(100_000))],
    ["a redirect", async () => new Response(null, { status: 302, headers: { location: "/" } })],
  ])("takes nothing for a cosignature that is none: %s", async (_, send) => {
    await withLog(async (storage) => {
      const { writer, store } = await openLog(storage, { origin: "round-4.example/log" });
      await writer.commit(openings(0, 3), Date.now());
      const before = store.latest()?.note;
      const { cosigned } = await witnessRound({ ...(await watching("W", send)), store });
      expect(cosigned).toBeNull();
      expect(store.latest()?.note).toBe(before);
      expect(store.witness(formatVkey(await witnessVkey())).error).not.toBeNull();
    });
  });

  test.each([
    ["in a minute and a second", (now: number) => now + 61],
    ["in ten years", (now: number) => now + 315_360_000],
    ["in the year 10000", () => 253_402_300_800],
    ["when no date can say", () => Number.MAX_SAFE_INTEGER],
    ["before the checkpoint was made", (now: number) => now - 61],
    ["at the beginning", () => 0],
  ])(
    "takes no cosignature that says it was made %s, and goes on in its own time",
    async (_, timeOf) => {
      await withLog(async (storage) => {
        const now = Math.floor(Date.now() / 1000);
        const key = await importSeed(seed(21));
        const name = "liar.example/witness";
        const lying: typeof fetch = async (_input, init) => {
          const parsed = parseAddCheckpoint(String(init?.body));
          const text = parseNote(parsed?.note ?? "")?.text ?? "";
          return new Response(await cosign(name, key, timeOf(now), text));
        };
        const deps = await watching("W", lying);
        const liar = witnessKey(name, key.publicKey);
        const witness = { name, key: liar, vkey: formatVkey(liar), url: "https://liar.example" };
        const { writer, store } = await openLog(storage, { origin: "round-6.example/log" });
        await writer.commit(openings(0, 3), now * 1000);
        const before = store.latest();
        const result = await witnessRound({ ...deps, witnesses: [witness], store });
        expect(result).toMatchObject({ cosigned: null, nextAt: deps.now() + 1000 });
        expect(store.latest()).toEqual(before);
        expect(store.witness(witness.vkey)).toMatchObject({
          cosignedAt: null,
          error: "false_time",
        });
        const said = JSON.parse(logs.at(-1) ?? "");
        expect(said).toMatchObject({
          level: "alarm",
          event: "log_not_witnessed",
          witness: name,
          reason: "false_time",
        });
        await writer.commit(openings(3, 1), now * 1000 + 5000);
        expect(store.latest()?.at).toBe(now * 1000 + 5000);
      });
    },
  );

  test("takes cosignatures within a minute of its own time, before and after", async () => {
    await withLog(async (storage) => {
      const now = Math.floor(Date.now() / 1000);
      const key = await importSeed(seed(21));
      const name = "slow.example/witness";
      const slow = witnessKey(name, key.publicKey);
      const witness = { name, key: slow, vkey: formatVkey(slow), url: "https://slow.example" };
      const { writer, store } = await openLog(storage, { origin: "round-7.example/log" });
      for (const [i, off] of [-60, 60].entries()) {
        const send: typeof fetch = async (_input, init) => {
          const parsed = parseAddCheckpoint(String(init?.body));
          const text = parseNote(parsed?.note ?? "")?.text ?? "";
          return new Response(await cosign(name, key, now + off, text));
        };
        await writer.commit(openings(i, 1), now * 1000);
        const deps = { ...(await watching("W", send)), witnesses: [witness], store };
        expect((await witnessRound(deps)).cosigned).toMatchObject({ size: i + 1 });
        expect(store.latest()?.cosignedAt).toBe((now + off) * 1000);
      }
    });
  });

  test("gives leaves times that come after the cosignatures of the checkpoint before", async () => {
    await withLog(async (storage) => {
      const origin = "round-5.example/log";
      await watch(origin);
      const { writer, store } = await openLog(storage, { origin });
      await writer.commit(openings(0, 3), Date.now() - 60_000);
      await witnessRound({ ...(await watching("W")), store });
      await writer.commit(openings(3, 1), Date.now() - 60_000);
      expect(store.latest()?.at).toBe(Math.floor(Date.now() / 1000) * 1000);
      expect(checkpointOf((await logBucket(env.BUCKET).checkpoint()) ?? "")?.size).toBe(4);
      expect(new LogStore(storage).before(3)?.witnessed).toBe(true);
    });
  });
});
