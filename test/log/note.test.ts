import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeBase64, encodeBase64 } from "../../src/log/bytes.ts";
import {
  checkpointOf,
  formatCheckpoint,
  openCheckpoint,
  parseCheckpoint,
} from "../../src/log/checkpoint.ts";
import {
  cosign,
  cosignatureTime,
  cosignatureVerifier,
  cosignedMessage,
  witnessKey,
} from "../../src/log/cosignature.ts";
import { importSeed } from "../../src/log/ed25519.ts";
import {
  formatVkey,
  noteSigner,
  noteVerifier,
  parseNote,
  parseSignatureLine,
  parseVkey,
  signNote,
  type VerifierKey,
  verifyNote,
} from "../../src/log/note.ts";
import { CHECKPOINT, ORIGIN, ROOTS, SEED, VKEY } from "./vectors.ts";

function key(vkey: string): VerifierKey {
  const parsed = parseVkey(vkey);
  if (parsed === null) throw new Error(`not a vkey: ${vkey}`);
  return parsed;
}

const logKey = key(VKEY);
const root8 = Uint8Array.from(Buffer.from(ROOTS[8] ?? "", "hex"));

describe("base64", () => {
  it.each(["", "AA==", "AAA=", "AAAA"])("reads %j", (text) => {
    expect(decodeBase64(text)).not.toBeNull();
  });
  it.each(["A", "AA", "AA=", "AB==", "AAB=", "AA==\n", " AA==", "A-_A", "AA==AA==", "AAAA===="])(
    "refuses %j",
    (text) => {
      expect(decodeBase64(text)).toBeNull();
    },
  );
  it("has one text for one value", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20_000 }), (bytes) => {
        expect(decodeBase64(encodeBase64(bytes))).toEqual(bytes);
        expect(encodeBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
      }),
    );
  });
});

describe("the published checkpoint", () => {
  it("is signed to the byte", async () => {
    const signer = noteSigner(ORIGIN, await importSeed(SEED));
    expect(formatVkey(signer.key)).toBe(VKEY);
    const text = formatCheckpoint({ origin: ORIGIN, size: 8, root: root8 });
    expect(await signNote(text, [signer])).toBe(CHECKPOINT);
  });

  it("verifies, and no changed byte of it does", async () => {
    expect(await openCheckpoint(CHECKPOINT, [logKey])).toMatchObject({
      ok: true,
      checkpoint: { origin: ORIGIN, size: 8, root: root8, extensions: [] },
    });
    const bytes = Buffer.from(CHECKPOINT);
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const opened = await openCheckpoint(changed.toString("utf8"), [logKey]);
      expect(opened.ok, `byte ${at}`).toBe(false);
    }
  });
});

describe("signed notes", () => {
  const text = "a text\n\nwith a blank line\n";

  it("carry several signatures; unknown ones are passed over", async () => {
    const [one, two] = [
      noteSigner("example/one", await importSeed(SEED)),
      noteSigner("example/two", await importSeed(new Uint8Array(32).fill(9))),
    ];
    const note = await signNote(text, [one, two]);
    expect(parseNote(note)).toMatchObject({ text, signatures: [{}, {}] });
    for (const known of [[one], [two], [one, two]]) {
      const verified = await verifyNote(
        note,
        known.map((signer) => noteVerifier(signer.key)),
      );
      expect(verified).toMatchObject({ ok: true, text });
      expect(verified.ok && verified.known.length).toBe(known.length);
    }
    expect(await verifyNote(note, [])).toEqual({ ok: false, reason: "no_known_signature" });
    expect(await verifyNote(note, [noteVerifier(logKey)])).toEqual({
      ok: false,
      reason: "no_known_signature",
    });
  });

  it("are refused when a known key's signature is bad, even beside a good one", async () => {
    const one = noteSigner("example/one", await importSeed(SEED));
    const two = noteSigner("example/two", await importSeed(new Uint8Array(32).fill(9)));
    const good = await signNote(text, [one]);
    const other = await signNote("another text\n", [two]);
    const line = other.slice(other.lastIndexOf("\n\n") + 2);
    const verifiers = [one, two].map((signer) => noteVerifier(signer.key));
    expect(await verifyNote(good + line, verifiers)).toEqual({
      ok: false,
      reason: "bad_signature",
    });
    expect((await verifyNote(good + line, verifiers.slice(0, 1))).ok).toBe(true);
  });

  it("count a key once, however often it has signed", async () => {
    const one = noteSigner("example/one", await importSeed(SEED));
    const note = await signNote(text, [one, one]);
    const verified = await verifyNote(note, [noteVerifier(one.key)]);
    expect(verified.ok && verified.known.length).toBe(1);
  });

  const line = CHECKPOINT.slice(CHECKPOINT.indexOf("—"));
  it.each([
    ["no blank line", `text\n${line}`],
    ["no signature", "text\n\n"],
    ["no line feed at the end", CHECKPOINT.slice(0, -1)],
    ["a carriage return", CHECKPOINT.replace("8\n", "8\r\n")],
    ["a hyphen for the dash", CHECKPOINT.replace("—", "-")],
    ["two spaces", CHECKPOINT.replace("— ", "—  ")],
    ["loose base64", CHECKPOINT.replace("IgA=", "IgB=")],
    ["base64 without padding", CHECKPOINT.replace("IgA=", "IgA")],
    ["a name with a plus sign", CHECKPOINT.replace("— audit", "— au+dit")],
    ["a name with a no-break space", CHECKPOINT.replace("— audit", "— au\u00a0dit")],
    ["a signature of no bytes", "text\n\n— name AAAAAA==\n"],
    ["more signatures than are read", CHECKPOINT + line.repeat(100)],
  ])("are refused with %s", (_, note) => {
    expect(parseNote(note)).toBeNull();
  });

  it("refuse to sign what no note can carry", async () => {
    const signer = noteSigner(ORIGIN, await importSeed(SEED));
    await expect(signNote("no line feed", [signer])).rejects.toThrow(TypeError);
    await expect(signNote("a\ttab\n", [signer])).rejects.toThrow(TypeError);
    await expect(signNote("text\n", [])).rejects.toThrow(TypeError);
  });
});

describe("vkeys", () => {
  it.each([
    VKEY.replace("72c3d033", "72c3d034"),
    VKEY.replace("72c3d033", "72C3D033"),
    VKEY.replace("log1+", "log2+"),
    VKEY.replace("+AYq", "+BYq"),
    VKEY.slice(0, -4),
    `${VKEY}=`,
    `${VKEY}\n`,
    VKEY.replace("audit", "au dit"),
    "",
  ])("%j is none", (text) => {
    expect(parseVkey(text)).toBeNull();
  });

  it("come back as they were", () => {
    const name = fc
      .string({ minLength: 1, unit: "grapheme" })
      .filter((n) => !/[\s+\p{Cc}\p{White_Space}]/u.test(n));
    fc.assert(
      fc.property(name, fc.uint8Array({ minLength: 32, maxLength: 32 }), (n, publicKey) => {
        const made = witnessKey(n, publicKey);
        expect(parseVkey(formatVkey(made))).toEqual(made);
      }),
    );
  });
});

describe("checkpoints", () => {
  it.each([
    ["no root", `${ORIGIN}\n8\n`],
    ["a short root", `${ORIGIN}\n8\nAAAA\n`],
    [
      "a leading zero",
      formatCheckpoint({ origin: ORIGIN, size: 8, root: root8 }).replace("\n8", "\n08"),
    ],
    ["a sign", formatCheckpoint({ origin: ORIGIN, size: -8, root: root8 })],
    ["a size past 2^53", formatCheckpoint({ origin: ORIGIN, size: 2 ** 53, root: root8 })],
    ["no origin", formatCheckpoint({ origin: "", size: 8, root: root8 })],
    ["an empty extension line", `${formatCheckpoint({ origin: ORIGIN, size: 8, root: root8 })}\n`],
  ])("are none with %s", (_, text) => {
    expect(parseCheckpoint(text)).toBeNull();
  });

  it("of another origin are not this log's, although its key has signed them", async () => {
    const signer = noteSigner(ORIGIN, await importSeed(SEED));
    const text = formatCheckpoint({ origin: "audit.example/log2", size: 8, root: root8 });
    const note = await signNote(text, [signer]);
    expect(await openCheckpoint(note, [logKey])).toEqual({ ok: false, reason: "other_origin" });
  });

  it("are not opened by a witness's signature alone", async () => {
    const witness = await importSeed(new Uint8Array(32).fill(7));
    const verifier = cosignatureVerifier(witnessKey("witness.example/w", witness.publicKey));
    const text = formatCheckpoint({ origin: ORIGIN, size: 8, root: root8 });
    const note = `${text}\n${await cosign("witness.example/w", witness, 1, text)}`;
    expect(await openCheckpoint(note, [logKey], [verifier])).toEqual({
      ok: false,
      reason: "no_known_signature",
    });
    expect(checkpointOf(note)).toMatchObject({ size: 8 });
  });
});

describe("cosignatures", () => {
  const text = formatCheckpoint({ origin: ORIGIN, size: 8, root: root8 });

  it("sign a header, the time and the checkpoint's text", () => {
    expect(new TextDecoder().decode(cosignedMessage(1679315147, text))).toBe(
      `cosignature/v1\ntime 1679315147\n${text}`,
    );
  });

  it("carry their time, and hold for that time, text and key only", async () => {
    const witness = await importSeed(new Uint8Array(32).fill(7));
    const named = witnessKey("witness.example/w", witness.publicKey);
    const line = await cosign("witness.example/w", witness, 1679315147, text);
    const signature = parseSignatureLine(line.slice(0, -1));
    if (signature === null) throw new Error("no signature line");
    expect(signature.keyId).toEqual(named.keyId);
    expect(signature.bytes).toHaveLength(72);
    expect(cosignatureTime(signature)).toBe(1679315147);
    const { verify } = cosignatureVerifier(named);
    expect(await verify(text, signature.bytes)).toBe(true);
    expect(await verify(text.replace("\n8", "\n9"), signature.bytes)).toBe(false);
    for (let at = 0; at < 72; at++) {
      const changed = signature.bytes.with(at, (signature.bytes[at] ?? 0) ^ 4);
      expect(await verify(text, changed), `byte ${at}`).toBe(false);
    }
    expect(await verify(text, signature.bytes.slice(8))).toBe(false);
  });
});
