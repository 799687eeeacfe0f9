import { createCipheriv, createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  deriveHashKey,
  deriveSealKey,
  openSealed,
  sealArgs,
  segmentLine,
  unwrapSessionKey,
  wrapSessionKey,
} from "../../src/audit/seal.ts";
import { SESSION, sessions } from "./arbitraries.ts";
import { canonical } from "./reference.ts";
import {
  HASH_KEY,
  INTENT,
  INTENT_SEALED,
  INTENT_SEGMENT,
  SALT,
  SEAL_KEY,
  SESSION_KEY,
} from "./vectors.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const sealKey = deriveSealKey(SESSION_KEY);
const secretsKey = new Uint8Array(32).fill(7);

/** Any text, sealed as stored arguments are. */
function sealText(text: string): string {
  const nonce = new Uint8Array(12);
  const cipher = createCipheriv("aes-256-gcm", sealKey, nonce);
  const body = [cipher.update(Buffer.from(text)), cipher.final()];
  return Buffer.concat([nonce, ...body, cipher.getAuthTag()]).toString("base64");
}

/** A base64 text with one bit of its bytes flipped. */
function flip(text: string, bit: number): string {
  const bytes = Buffer.from(text, "base64");
  const at = (bit >> 3) % bytes.length;
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
  return bytes.toString("base64");
}

describe("a session's keys", () => {
  it("are derived as another program derived them", () => {
    expect(hex(deriveHashKey(SESSION_KEY))).toBe(HASH_KEY);
    expect(hex(deriveSealKey(SESSION_KEY))).toBe(SEAL_KEY);
  });

  it("come out of their wrapping as they went in, differently wrapped each time", () => {
    const wrapped = wrapSessionKey(secretsKey, SESSION_KEY, SESSION.session_id);
    expect(wrapped).not.toBe(wrapSessionKey(secretsKey, SESSION_KEY, SESSION.session_id));
    expect(Buffer.from(wrapped, "base64")).toHaveLength(12 + 32 + 16);
    expect(hex(unwrapSessionKey(secretsKey, wrapped, SESSION.session_id))).toBe(hex(SESSION_KEY));
  });

  it("are wrapped under a key for this use, derived from SECRETS_KEY", async () => {
    const bytes = Buffer.from(wrapSessionKey(secretsKey, SESSION_KEY, "s"), "base64");
    const unwrap = async (raw: Uint8Array): Promise<ArrayBuffer> => {
      const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["decrypt"]);
      const additionalData = new TextEncoder().encode("s");
      const algorithm = { name: "AES-GCM", iv: bytes.subarray(0, 12), additionalData };
      return crypto.subtle.decrypt(algorithm, key, bytes.subarray(12));
    };
    const derived = createHmac("sha256", secretsKey).update("atlas-gate/session-key/v1").digest();
    expect(hex(new Uint8Array(await unwrap(derived)))).toBe(hex(SESSION_KEY));
    await expect(unwrap(secretsKey)).rejects.toThrow();
  });

  it("stay wrapped for another session, under another key, and when changed", () => {
    const wrapped = wrapSessionKey(secretsKey, SESSION_KEY, SESSION.session_id);
    const otherKey = new Uint8Array(32).fill(8);
    expect(() => unwrapSessionKey(secretsKey, wrapped, "another")).toThrow();
    expect(() => unwrapSessionKey(otherKey, wrapped, SESSION.session_id)).toThrow();
    expect(() => unwrapSessionKey(secretsKey, "", SESSION.session_id)).toThrow();
    expect(() => unwrapSessionKey(secretsKey, ` ${wrapped}`, SESSION.session_id)).toThrow("base64");
    fc.assert(
      fc.property(fc.nat(60 * 8 - 1), (bit) => {
        expect(() =>
          unwrapSessionKey(secretsKey, flip(wrapped, bit), SESSION.session_id),
        ).toThrow();
      }),
    );
  });

  it("have 32 bytes", () => {
    expect(() => wrapSessionKey(secretsKey, new Uint8Array(31), "s")).toThrow(RangeError);
  });
});

describe("sealed arguments", () => {
  it("are the bytes that another program computed, again and again", () => {
    expect(sealArgs(sealKey, INTENT)).toBe(INTENT_SEALED);
    expect(sealArgs(sealKey, INTENT)).toBe(INTENT_SEALED);
    expect(segmentLine(sealKey, INTENT)).toBe(INTENT_SEGMENT);
  });

  it("open as what was sealed", () => {
    expect(openSealed(sealKey, INTENT_SEALED)).toEqual({
      args: { content: { bytes: 5 }, path: "src/ä.ts" },
      salt: SALT,
    });
    const erased = sealArgs(sealKey, { ...INTENT, args: null, salt: null });
    expect(openSealed(sealKey, erased)).toEqual({ args: null, salt: null });
  });

  it("open to another implementation of AES-GCM", async () => {
    const bytes = Buffer.from(INTENT_SEALED, "base64");
    const key = await crypto.subtle.importKey(
      "raw",
      Buffer.from(SEAL_KEY, "hex"),
      "AES-GCM",
      false,
      ["decrypt"],
    );
    const plain = await crypto.subtle.decrypt(
      { name: "AES-GCM", iv: bytes.subarray(0, 12) },
      key,
      bytes.subarray(12),
    );
    expect(new TextDecoder().decode(plain)).toBe(`{"args":${INTENT.args},"salt":"${SALT}"}`);
  });

  it("use another nonce for each record", () => {
    const other = { ...INTENT, hash_chain: "0".repeat(64) };
    expect(sealArgs(sealKey, other).slice(0, 16)).not.toBe(INTENT_SEALED.slice(0, 16));
  });

  it("stay closed under another key and when a bit is flipped", () => {
    expect(() => openSealed(deriveHashKey(SESSION_KEY), INTENT_SEALED)).toThrow();
    fc.assert(
      fc.property(fc.nat(120 * 8), (bit) => {
        expect(() => openSealed(sealKey, flip(INTENT_SEALED, bit))).toThrow();
      }),
    );
  });

  const loose: [string, string][] = [
    ["nothing", ""],
    ["what is too short", "AAAA"],
    ["a line feed at the end", `${INTENT_SEALED}\n`],
    ["a space inside", `${INTENT_SEALED.slice(0, 40)} ${INTENT_SEALED.slice(40)}`],
    ["missing padding", INTENT_SEALED.replace(/=+$/, "")],
    ["padding too many", `${INTENT_SEALED}=`],
    ["the URL alphabet", INTENT_SEALED.replaceAll("/", "_").replaceAll("+", "-")],
    ["bits after the end", INTENT_SEALED.replace(/Q==$/, "R==")],
    ["other characters", `!${INTENT_SEALED}`],
  ];
  it.each(loose)("refuse %s as base64", (_name, text) => {
    expect(text).not.toBe(INTENT_SEALED);
    expect(() => openSealed(sealKey, text)).toThrow(/base64|short/i);
  });

  it("refuse another text than {args, salt} in canonical form", () => {
    const seal = (args: string, salt: string | null) =>
      sealArgs(sealKey, { ...INTENT, args, salt });
    expect(openSealed(sealKey, seal("{}", null))).toEqual({ args: {}, salt: null });
    for (const sealed of [
      seal(" {}", null),
      seal('{"b":1,"a":2}', null),
      seal('1,"more":2', null),
      sealText('{"args":null,"salt":2}'),
      sealText('{"salt":null}'),
      sealText("null"),
    ]) {
      expect(() => openSealed(sealKey, sealed)).toThrow("not {args, salt}");
    }
  });
});

describe("a segment's line", () => {
  it("is canonical, opens to what was stored, and shows none of it", () => {
    fc.assert(
      fc.property(sessions(1), (records) => {
        for (const stored of records) {
          const sealed = sealArgs(sealKey, stored);
          const line = segmentLine(sealKey, stored);
          const at = line.indexOf(`"sealed":"${sealed}",`);
          expect(at).toBeGreaterThan(0);
          const rest = line
            .replace(`"sealed":"${sealed}",`, "")
            .replace(`"hash_chain":"${stored.hash_chain}",`, "");
          expect(rest).toBe(stored.line);
          const { args, salt } = openSealed(sealKey, sealed);
          expect(args === null ? null : canonical(args)).toBe(stored.args);
          expect(salt).toBe(stored.salt);
        }
      }),
    );
  });
});
