import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { witnessKey } from "../../src/log/cosignature.ts";
import { importSeed } from "../../src/log/ed25519.ts";
import { logSigners, witnessKeyOf, witnessName } from "../../src/log/keys.ts";
import { formatVkey } from "../../src/log/note.ts";
import { isQuorum } from "../../src/log/witness-policy.ts";
import { VKEY } from "./vectors.ts";

const seed = (n: number) => new Uint8Array(32).fill(n);
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const BASE = {
  ADMIN_TOKEN: "x".repeat(40),
  LOG_SIGNING_KEY: base64(seed(1)),
  SECRETS_KEY: base64(seed(2)),
};

function config(values: Record<string, string>) {
  const parsed = parseConfig({ ...BASE, ...values });
  if (!parsed.ok) throw new Error(parsed.message);
  return parsed.config;
}

async function witnesses(count: number, url = "https://w.example/witness/") {
  const list = [];
  for (let i = 0; i < count; i++) {
    const { publicKey } = await importSeed(seed(20 + i));
    list.push({ name: `W${i}`, vkey: formatVkey(witnessKey(`w${i}.example/w`, publicKey)), url });
  }
  return list;
}

describe("the log's name", () => {
  it("is the public host's, or that of this machine, unless it is set", () => {
    expect(config({}).logOrigin).toBe("localhost/log");
    expect(config({ PUBLIC_URL: "https://gate.example" }).logOrigin).toBe("gate.example/log");
    expect(config({ LOG_ORIGIN: "a.example/b" }).logOrigin).toBe("a.example/b");
  });

  it.each(["a b", "a+b", "a\nb", "x".repeat(300)])("is never %j", (LOG_ORIGIN) => {
    expect(parseConfig({ ...BASE, LOG_ORIGIN })).toMatchObject({
      ok: false,
      message: expect.stringContaining("LOG_ORIGIN"),
    });
  });

  it("gives the witness its name", () => {
    expect(witnessName("gate.example/log")).toBe("gate.example/witness");
    expect(witnessName("gate.example/log1")).toBe("gate.example/log1/witness");
  });
});

describe("the log's keys", () => {
  it("are the current one, and during a rotation the next one beside it", async () => {
    const rotating = config({ LOG_SIGNING_KEY_NEXT: base64(seed(3)) });
    expect(config({}).logSeeds).toEqual([seed(1)]);
    expect(rotating.logSeeds).toEqual([seed(1), seed(3)]);
    const [first] = await logSigners("audit.example/log1", rotating.logSeeds);
    expect(first === undefined ? "" : formatVkey(first.key)).toBe(VKEY);
    expect(parseConfig({ ...BASE, LOG_SIGNING_KEY_NEXT: "short" }).ok).toBe(false);
  });

  it("do not tell the witness's key, which is HKDF-SHA-256 of the seed for its own use", async () => {
    const { hkdfSync } = await import("node:crypto");
    const derived = new Uint8Array(hkdfSync("sha256", seed(1), "", "atlas-gate/witness/v1", 32));
    const { publicKey } = await witnessKeyOf(seed(1));
    expect(publicKey).toEqual((await importSeed(derived)).publicKey);
    expect(publicKey).not.toEqual((await importSeed(seed(1))).publicKey);
  });
});

describe("witnesses", () => {
  it("are none by default, and none are asked for", () => {
    const { witnesses: list, witnessPolicy } = config({});
    expect(list).toEqual([]);
    expect(isQuorum(witnessPolicy, new Set())).toBe(true);
  });

  it("make a quorum by majority, or by the number that is set", async () => {
    const WITNESSES = JSON.stringify(await witnesses(4));
    const majority = config({ WITNESSES }).witnessPolicy;
    expect(isQuorum(majority, new Set(["W0", "W3"]))).toBe(false);
    expect(isQuorum(majority, new Set(["W0", "W3", "W2"]))).toBe(true);
    const one = config({ WITNESSES, WITNESS_QUORUM: "1" }).witnessPolicy;
    expect(isQuorum(one, new Set(["W2"]))).toBe(true);
    expect(isQuorum(one, new Set())).toBe(false);
    expect(config({ WITNESSES }).witnesses[0]?.url).toBe("https://w.example/witness");
  });

  it("may be reached by http on this machine alone", async () => {
    const list = async (url: string) => JSON.stringify(await witnesses(1, url));
    expect(
      config({ WITNESSES: await list("http://127.0.0.1:8788/witness") }).witnesses,
    ).toHaveLength(1);
    for (const url of ["http://w.example/", "ftp://w.example/", "https://w.example/?a", "w"]) {
      expect(parseConfig({ ...BASE, WITNESSES: await list(url) })).toMatchObject({
        ok: false,
        message: expect.stringContaining("url"),
      });
    }
  });

  it("are refused when they are no list, named twice, with a log's key, or too few", async () => {
    const [one, two] = await witnesses(2);
    for (const value of [
      "{}",
      "not json",
      JSON.stringify([{ name: "W", vkey: VKEY, url: "https://w.example" }]),
      JSON.stringify([one, { ...two, name: "W0" }]),
      JSON.stringify([one, { ...one, name: "W1" }]),
      JSON.stringify([{ ...one, name: "# " }]),
    ]) {
      expect(parseConfig({ ...BASE, WITNESSES: value })).toMatchObject({
        ok: false,
        message: expect.stringContaining("WITNESSES"),
      });
    }
    const too = { WITNESSES: JSON.stringify([one]), WITNESS_QUORUM: "2" };
    expect(parseConfig({ ...BASE, ...too }).ok).toBe(false);
  });
});
