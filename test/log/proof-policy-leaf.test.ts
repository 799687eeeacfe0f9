import { describe, expect, it } from "vitest";
import { formatCheckpoint } from "../../src/log/checkpoint.ts";
import { cosign, witnessKey } from "../../src/log/cosignature.ts";
import { importSeed } from "../../src/log/ed25519.ts";
import { type Leaf, leafText, parseLeaf } from "../../src/log/leaf.ts";
import { formatVkey, noteSigner, signNote } from "../../src/log/note.ts";
import { formatTlogProof, parseTlogProof } from "../../src/log/tlog-proof.ts";
import { isQuorum, judgeCheckpoint, parsePolicy } from "../../src/log/witness-policy.ts";
import { CHECKPOINT, ORIGIN, SEED, VKEY } from "./vectors.ts";

describe("carried proofs", () => {
  const proof = {
    extra: Uint8Array.of(1, 2, 3),
    index: 73894,
    proof: [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)],
    checkpoint: CHECKPOINT,
  };

  it("are the text of the specification", () => {
    const text = formatTlogProof(proof);
    expect(text.split("\n").slice(0, 5)).toEqual([
      "c2sp.org/tlog-proof@v1",
      "extra AQID",
      "index 73894",
      "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
      "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    ]);
    expect(text.endsWith(`\n\n${CHECKPOINT}`)).toBe(true);
    expect(parseTlogProof(text)).toEqual(proof);
  });

  it("may be without extra data and without hashes", () => {
    const bare = { ...proof, extra: null, proof: [], index: 0 };
    expect(parseTlogProof(formatTlogProof(bare))).toEqual(bare);
  });

  it.each([
    ["another version", (text: string) => text.replace("@v1", "@v2")],
    ["no index", (text: string) => text.replace("index 73894\n", "")],
    ["a leading zero", (text: string) => text.replace("73894", "073894")],
    ["loose base64", (text: string) => text.replace("AQE=\n", "AQF=\n")],
    ["a short hash", (text: string) => text.replace("AgICAg", "AgI")],
    ["extra data behind the index", (text: string) => text.replace(/(extra .*\n)(.*\n)/, "$2$1")],
    ["64 hashes", (text: string) => text.replace(/(AgI.*\n)/, (line) => line.repeat(63))],
  ])("are refused with %s", (_, change) => {
    expect(parseTlogProof(change(formatTlogProof(proof)))).toBeNull();
  });
});

describe("witness policies", async () => {
  const keys = await Promise.all(
    [1, 2, 3, 4].map((n) => importSeed(new Uint8Array(32).fill(100 + n))),
  );
  const vkeys = keys.map((key, i) => formatVkey(witnessKey(`w${i}.example`, key.publicKey)));
  const example = `# two organisations
log ${VKEY} https://log.example/
witness X1 ${vkeys[0]}
\twitness X2 ${vkeys[1]}  https://x2.example/
witness X3 ${vkeys[2]}

group X 2 X1 X2 X3
witness Y1 ${vkeys[3]}
group X-and-Y all X Y1
quorum X-and-Y
`;

  function policy(text: string) {
    const parsed = parsePolicy(text);
    if (!parsed.ok) throw new Error(`${parsed.line}: ${parsed.message}`);
    return parsed.policy;
  }

  it("read the quorum of groups of witnesses", () => {
    const read = policy(example);
    expect(read.witnesses.map(({ name, url }) => [name, url])).toEqual([
      ["X1", null],
      ["X2", "https://x2.example/"],
      ["X3", null],
      ["Y1", null],
    ]);
    expect(isQuorum(read, new Set(["X1", "X3", "Y1"]))).toBe(true);
    expect(isQuorum(read, new Set(["X1", "X2", "X3"]))).toBe(false);
    expect(isQuorum(read, new Set(["X1", "Y1"]))).toBe(false);
    expect(isQuorum(policy("quorum none\n"), new Set())).toBe(true);
  });

  it.each([
    ["no quorum", "", 0],
    ["two quorums", "quorum none\nquorum none", 2],
    ["an unknown keyword", "quorums none", 1],
    ["an undefined quorum", "quorum X", 1],
    ["a log's key as a witness", `witness X ${VKEY}\nquorum X`, 1],
    ["a witness's key as a log", `log ${vkeys[0]}\nquorum none`, 1],
    ["a key twice", `witness A ${vkeys[0]}\nwitness B ${vkeys[0]}\nquorum A`, 2],
    ["a log twice", `log ${VKEY}\nlog ${VKEY}\nquorum none`, 2],
    ["a name twice", `witness A ${vkeys[0]}\nwitness A ${vkeys[1]}\nquorum A`, 2],
    ["the name none", `witness none ${vkeys[0]}\nquorum none`, 1],
    ["a group before its members", `group G any A\nwitness A ${vkeys[0]}\nquorum G`, 1],
    ["a member twice", `witness A ${vkeys[0]}\ngroup G any A A\nquorum G`, 2],
    ["a member of two groups", `witness A ${vkeys[0]}\ngroup G any A\ngroup H any A\nquorum G`, 3],
    ["a threshold of none", `witness A ${vkeys[0]}\ngroup G 0 A\nquorum G`, 2],
    ["a threshold out of reach", `witness A ${vkeys[0]}\ngroup G 2 A\nquorum G`, 2],
    ["an empty group", "group G any\nquorum G", 1],
    ["a carriage return", "quorum none\r\n", 1],
  ])("are refused with %s", (_, text, line) => {
    expect(parsePolicy(text)).toMatchObject({ ok: false, line });
  });

  it("judge a checkpoint by its cosignatures", async () => {
    const [x1, , x3, y1] = keys;
    if (x1 === undefined || x3 === undefined || y1 === undefined) throw new Error("no keys");
    const text = CHECKPOINT.slice(0, CHECKPOINT.indexOf("\n\n") + 1);
    const two =
      CHECKPOINT +
      (await cosign("w0.example", x1, 11, text)) +
      (await cosign("w3.example", y1, 12, text));
    expect(await judgeCheckpoint(policy(example), two)).toEqual({ ok: false, reason: "no_quorum" });
    const three = two + (await cosign("w2.example", x3, 13, text));
    expect(await judgeCheckpoint(policy(example), three)).toMatchObject({
      ok: true,
      checkpoint: { origin: ORIGIN, size: 8 },
      cosigned: [
        { name: "X1", time: 11 },
        { name: "Y1", time: 12 },
        { name: "X3", time: 13 },
      ],
    });
    // The same witness under another name counts once only: its key is listed once.
    const forged = two + (await cosign("w2.example", x1, 13, text));
    expect((await judgeCheckpoint(policy(example), forged)).ok).toBe(false);
  });

  it("do not take another log's word", async () => {
    const other = noteSigner("other.example", await importSeed(SEED));
    const root = new Uint8Array(32);
    const note = await signNote(formatCheckpoint({ origin: "other.example", size: 1, root }), [
      other,
    ]);
    const lenient = policy(`log ${VKEY}\nquorum none\n`);
    expect(await judgeCheckpoint(lenient, note)).toEqual({
      ok: false,
      reason: "no_known_signature",
    });
  });
});

describe("leaves", () => {
  const hash = "ab".repeat(32);
  const head: Leaf = {
    v: 1,
    kind: "head",
    seq: 3,
    session: hash,
    hash_chain: hash,
    timestamp: "2026-11-22T10:00:00.123Z",
  };

  it("are RFC 8785 texts with the keys of the format", () => {
    expect(leafText({ ...head, kind: "open", seq: 1 })).toBe(
      `{"hash_chain":"${hash}","kind":"open","seq":1,"session":"${hash}","timestamp":"2026-11-22T10:00:00.123Z","v":1}`,
    );
    expect(parseLeaf(leafText(head))).toEqual(head);
  });

  it("name keys and retirements with what belongs to them", () => {
    const { timestamp } = head;
    const key: Leaf = { v: 1, kind: "key", action: "add", vkey: VKEY, timestamp };
    expect(parseLeaf(leafText(key))).toEqual(key);
    const retired: Leaf = { ...head, kind: "retire", reason: "erasure", remains: "chain" };
    expect(parseLeaf(leafText(retired))).toEqual(retired);
  });

  const text = leafText(head);
  it.each([
    ["a space", text.replace(":3", ": 3")],
    ["keys in another order", `{"v":1,${text.slice(1).replace(',"v":1', "")}`],
    ["a key twice", text.replace('"seq":3', '"seq":3,"seq":3')],
    ["another key", text.replace('"v":1', '"tenant":"x","v":1')],
    ["a seq of 0", text.replace(":3", ":0")],
    ["an opening at another record than the first", text.replace("head", "open")],
    ["an unknown kind", text.replace("head", "tail")],
    ["upper-case hex", text.replace("ab", "AB")],
    ["a time that is no date", text.replace("11-22T10", "99-99T99")],
    ["a day that no month has", text.replace("11-22", "02-30")],
    ["nothing", ""],
    ["a byte order mark", `\ufeff${text}`],
  ])("are none with %s", (_, changed) => {
    expect(parseLeaf(changed)).toBeNull();
    expect(parseLeaf(new TextEncoder().encode(changed))).toBeNull();
  });
});
