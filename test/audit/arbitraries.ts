/**
 * @module
 * Random sessions: records whose texts try to look like the parts of a line,
 * chained by the code under test.
 */
import fc from "fast-check";
import { appendRecord, argsStoredHash, emptyHead } from "../../src/audit/chain.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import type { JsonObject, JsonValue, RecordInput, StoredRecord } from "../../src/audit/record.ts";
import { canonical } from "./reference.ts";

export const SESSION = { tenant: "default", session_id: "0199a3c2-7b1f-8abc-9def-0123456789ab" };
const START_MS = Date.UTC(2026, 10, 22, 10);

/** Texts that a splice by search could fall for, and ones that JSON must escape. */
const nasty = fc.constantFrom(
  ',"seq":',
  ',"seq":9,"x":"',
  '","intent_seq":1,"',
  '\\","intent_seq":',
  "\\",
  '"',
  ",",
  '"hash_chain":"',
  "\u0000\u001f\u007f\u0080",
  "\u2028\u2029",
  "😀é",
  "\ufeff",
  "__proto__",
  "toJSON",
  "seq",
  "intent_seq",
  "",
);
export const loneSurrogate = fc.constantFrom("\ud800", "a\udc00b", "\udfff\ud800", "x\ud83d");
export const text = fc.oneof(
  nasty,
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.array(nasty, { maxLength: 4 }).map((parts) => parts.join("")),
);
const name = fc.tuple(fc.constantFrom("a", "key:", "é"), text).map((parts) => parts.join(""));
const digest = fc
  .array(fc.constantFrom(..."0123456789abcdef"), { minLength: 64, maxLength: 64 })
  .map((digits) => digits.join(""));
const integer = fc.maxSafeInteger().map((value) => value + 0);

/** An object with any keys; `Object.fromEntries` makes `__proto__` an own one. */
function objectOf(value: fc.Arbitrary<JsonValue>): fc.Arbitrary<JsonObject> {
  return fc
    .array(fc.tuple(text, value), { maxLength: 4 })
    .map((entries) => Object.fromEntries(entries));
}

function jsonOf(leaf: fc.Arbitrary<JsonValue>): fc.Arbitrary<JsonObject> {
  const { object } = fc.letrec<{ value: JsonValue; object: JsonObject }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      leaf,
      fc.array(tie("value"), { maxLength: 3 }),
      tie("object"),
    ),
    object: objectOf(tie("value")),
  }));
  return object;
}

const scalar = fc.oneof(text, integer, fc.boolean(), fc.constant(null));
export const context = jsonOf(scalar);
/** Arguments hold fractions too. */
export const json = jsonOf(
  fc.oneof(
    scalar,
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
  ),
);

export const input: fc.Arbitrary<RecordInput> = fc.record({
  principal: name,
  role: name,
  event: fc.constantFrom("session_open", "tool_call", "admin", "an event of tomorrow"),
  tool: fc.option(text),
  workspace_root: fc.option(text),
  plan_hash: fc.option(digest),
  result: fc.constantFrom("ok", "error", "input_required"),
  error_code: fc.option(name),
  args_hash: fc.option(digest),
  args_stored_hash: fc.constant(null),
  result_hash: fc.option(digest),
  intent_seq: fc.constant(null),
  request_id: name,
  notes: fc.option(text),
  context: fc.option(context),
});

type Step = {
  input: RecordInput;
  pair: boolean;
  args: JsonObject | null;
  salt: string;
  waitMs: number;
};

const step: fc.Arbitrary<Step> = fc.record({
  input,
  pair: fc.boolean(),
  args: fc.option(json),
  salt: digest.map((digits) => digits.slice(32)),
  // The clock may stand still or run back; the chain's time may not.
  waitMs: fc.integer({ min: -5, max: 2000 }),
});

/** Makes a session's records from steps; a step is one record, or an intent and its result. */
function record(steps: readonly Step[], closed: boolean, session = SESSION): StoredRecord[] {
  const stored: StoredRecord[] = [];
  let head = emptyHead(sha256Hex, session.tenant, session.session_id);
  let now = START_MS;
  const append = (from: RecordInput, args: JsonObject | null, salt: string): void => {
    const argsText = args === null ? null : canonical(args);
    const bound =
      argsText === null
        ? from
        : { ...from, args_stored_hash: argsStoredHash(sha256Hex, salt, argsText) };
    const next = appendRecord(sha256Hex, session, head, bound, now);
    head = next.head;
    stored.push({
      seq: head.seq,
      line: next.line,
      hash_chain: head.hash_chain,
      args: argsText,
      salt: argsText === null ? null : salt,
    });
  };
  for (const { input: from, pair, args, salt, waitMs } of steps) {
    now += waitMs;
    if (pair) {
      append({ ...from, event: "tool_intent", result: "pending" }, args, salt);
      append({ ...from, event: "tool_result", intent_seq: head.seq }, null, salt);
    } else {
      append(from, args, salt);
    }
  }
  const last = steps.at(-1);
  if (closed && last !== undefined)
    append({ ...last.input, event: "session_close" }, null, last.salt);
  return stored;
}

/** Sessions of at least `minSteps` records. */
export function sessions(minSteps: number, session = SESSION): fc.Arbitrary<StoredRecord[]> {
  return fc
    .tuple(fc.array(step, { minLength: minSteps, maxLength: minSteps + 5 }), fc.boolean())
    .map(([steps, closed]) => record(steps, closed, session));
}
