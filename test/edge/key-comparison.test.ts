/**
 * How long a comparison takes must say nothing about the secret. Times are not
 * measured here, where other work would be measured with them: what is shown is
 * that secrets meet in one function only, as digests of one length, in constant
 * time.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { digestsEqual, mintKey } from "../../src/edge/api-key.ts";
import { authenticate } from "../../src/edge/authenticate.ts";

const compared = vi.hoisted((): [string, string][] => []);

vi.mock("node:crypto", async (original) => {
  const crypto = await original<typeof import("node:crypto")>();
  return {
    ...crypto,
    timingSafeEqual: (a: Uint8Array, b: Uint8Array) => {
      compared.push([Buffer.from(a).toString(), Buffer.from(b).toString()]);
      return crypto.timingSafeEqual(a, b);
    },
  };
});

beforeEach(() => {
  compared.length = 0;
});

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const SRC = join(import.meta.dirname, "..", "..", "src");
const sources = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => ({ path, text: readFileSync(join(SRC, path), "utf8") }));

/** Where callers are let in. */
const DOORS = /^(?:app\.ts|edge\/|admin\/)/;

/** Lines of code that hold a word, in the files that are meant. */
function linesWith(word: RegExp, where = /(?:)/): string[] {
  return sources
    .filter(({ path }) => where.test(path))
    .flatMap(({ text }) => text.split("\n"))
    .map((line) => line.trim())
    .filter((line) => word.test(line) && !/^(?:\*|\/\/|\/\*)/.test(line));
}

describe("two digests", () => {
  test("are compared in constant time, wherever they differ", () => {
    const digest = sha256("a");
    expect(digestsEqual(digest, sha256("a"))).toBe(true);
    for (let at = 0; at < digest.length; at++) {
      const other = digest[at] === "0" ? "1" : "0";
      expect(digestsEqual(digest, `${digest.slice(0, at)}${other}${digest.slice(at + 1)}`)).toBe(
        false,
      );
    }
    // Every one of them went through the comparison in constant time, whole.
    expect(compared).toHaveLength(65);
    expect(compared.every(([a, b]) => a.length === 64 && b.length === 64)).toBe(true);
  });

  test("of other lengths are other digests, and throw nothing", () => {
    for (const other of ["", sha256("a").slice(1), `${sha256("a")}0`]) {
      expect(digestsEqual(sha256("a"), other)).toBe(false);
    }
  });
});

describe("an API key", () => {
  test("is compared as the digest of what was sent with the digest that is stored", async () => {
    const { key, id, digest } = mintKey();
    const guess = `${key.slice(0, -1)}${key.endsWith("a") ? "b" : "a"}`;
    const first = async () => ({ id, digest, revoked_at: null });
    const db = { prepare: () => ({ bind: () => ({ first }) }) } as unknown as D1Database;
    await expect(authenticate(guess, db, 0, () => {})).rejects.toMatchObject({ status: 401 });
    expect(compared).toEqual([[digest, sha256(guess)]]);
  });
});

describe("in the source", () => {
  test("the comparison in constant time is made in one place", () => {
    expect(linesWith(/timingSafeEqual\(/)).toEqual([
      "return left.byteLength === right.byteLength && timingSafeEqual(left, right);",
    ]);
  });

  test.each([
    [/adminToken/, DOORS, 1],
    [/metricsToken/, DOORS, 2],
    [/row\.digest/, DOORS, 1],
  ])("%s is used for nothing but that comparison", (word, where, count) => {
    const used = linesWith(word, where);
    expect(used).toHaveLength(count);
    for (const line of used) {
      const compares =
        /digestsEqual\((?:sha256Hex\(credential\), sha256Hex\((?:config\.)?\w+\)|row\.digest, digest)\)/;
      const takesOut = /^const \{ metricsToken, allowedIps \} = /;
      expect(compares.test(line) || takesOut.test(line), line).toBe(true);
    }
  });

  test("no credential is compared as text with a secret", () => {
    const compared = /(?:credential|apiKey|bearer|token) *[=!]==? *(?![ =]|null|undefined|"")/i;
    const plain = linesWith(compared, DOORS);
    // A caller's two credentials, with each other: both are the caller's own.
    expect(plain).toEqual(["if (bearer !== null && apiKey !== null && bearer !== apiKey) {"]);
  });
});
