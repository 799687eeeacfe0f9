/**
 * @module
 * The one reader of message bodies. `JSON.parse` alone keeps the last of two
 * equal keys, rounds numbers and accepts half a surrogate pair; whoever checks,
 * hashes or relays such a message may then see another one than its sender
 * wrote. What is outside I-JSON (RFC 7493) is therefore refused.
 *
 * Noncharacters such as U+FFFE, which RFC 7493 also excludes, pass: JavaScript
 * holds them unchanged, Unicode allows them in interchange (Corrigendum 9), and
 * files contain them.
 */
import { keepsItsValue } from "../audit/json-number.ts";
import { elementSpans, memberSpans } from "./json-members.ts";

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = { [key: string]: JsonValue };

/** Far deeper than real messages are, and shallow enough for any recursive code that comes after. */
export const MAX_JSON_DEPTH = 100;

type Refusal = { ok: false; kind: "syntax" | "not_ijson" | "too_deep"; message: string };
export type ParsedIJson = { ok: true; value: JsonValue } | Refusal;

/** One open object or array: its keys so far, or the index of its current element. */
type Frame = { isObject: boolean; keys: string[]; keySet: Set<string> | null; index: number };

/** Up to so many keys, comparing with each is quicker than a `Set`, and most objects are smaller. */
const MAX_LISTED_KEYS = 8;

/** Most strings end within so many characters, and searching natively for the end of those is slower than looking. */
const NEAR_CHARS = 48;

/** A literal without exponent and up to so many characters has at most 15 digits, which a double always keeps. */
const MAX_PLAIN_NUMBER_CHARS = 15;

/** Of the sender's own text in a message, so that a refusal is never as long as what was refused. */
const MAX_QUOTED_CHARS = 128;

const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const UPPER_E = 0x45;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const LOWER_E = 0x65;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const SURROGATE_ESCAPE = /\\u[dD][89a-fA-F]/;

// A byte order mark is kept, so that JSON.parse refuses it (RFC 8259, section 8.1): dropped, it would be
// bytes that went past every check.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a message body. `syntax`: not UTF-8, or not JSON (RFC 8259).
 * `too_deep`: nested deeper than `MAX_JSON_DEPTH`, found before anything that
 * might recurse has run. `not_ijson`: JSON, but with an object that has a key
 * twice (compared after unescaping), with half a surrogate pair in a string, or
 * with a number that {@link keepsItsValue} denies.
 */
export function parseIJson(bytes: Uint8Array): ParsedIJson {
  const text = decodeUtf8(bytes);
  if (text === null) return refused("syntax", "The body is not valid UTF-8.");
  return parseIJsonText(text);
}

/** The same for text that was decoded already. */
export function parseIJsonText(text: string): ParsedIJson {
  const { finding, hasEscapedKey } = scan(text);
  if (finding?.kind === "too_deep") return finding;
  const parsed = parseJson(text);
  if (parsed === null) return refused("syntax", "The body is not valid JSON.");
  if (finding !== null) return finding;
  return { ok: true, value: hasEscapedKey ? readEscapedKeys(text) : parsed.value };
}

/**
 * Walks over the text once, without recursion, and names the first thing that
 * I-JSON forbids. It goes on after a finding, for nesting is worse. What it
 * says of text that is not JSON has no meaning, except `too_deep`.
 */
function scan(text: string): { finding: Refusal | null; hasEscapedKey: boolean } {
  const { length } = text;
  const frames: Frame[] = [];
  let frame: Frame | null = null;
  let isKeyNext = false;
  let finding: Refusal | null = null;
  let hasEscapedKey = false;

  for (let at = 0; at < length; at++) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) {
      const start = at + 1;
      const close = closingQuote(text, start);
      const isEscaped = close < 0;
      at = isEscaped ? ~close : close;
      if (frame !== null && isKeyNext) {
        isKeyNext = false;
        hasEscapedKey ||= isEscaped;
        const raw = text.slice(start, at);
        const key = isEscaped ? unescaped(raw) : raw;
        const isNew = addKey(frame, key);
        if (!isNew) finding ??= refused("not_ijson", duplicate(key, frames));
        else if (isEscaped && !key.isWellFormed())
          finding ??= refused(
            "not_ijson",
            `The key at ${pointer(frames)} has half a surrogate pair.`,
          );
      } else if (isEscaped && !isWellFormed(text.slice(start, at))) {
        finding ??= refused(
          "not_ijson",
          `The string at ${pointer(frames)} has half a surrogate pair.`,
        );
      }
    } else if (char === COMMA) {
      if (frame?.isObject === true) isKeyNext = true;
      else if (frame !== null) frame.index++;
    } else if (char === OPEN_OBJECT || char === OPEN_ARRAY) {
      if (frames.length === MAX_JSON_DEPTH) {
        const message = `The body is nested deeper than ${MAX_JSON_DEPTH} levels.`;
        return { finding: refused("too_deep", message), hasEscapedKey };
      }
      isKeyNext = char === OPEN_OBJECT;
      frame = { isObject: isKeyNext, keys: [], keySet: null, index: 0 };
      frames.push(frame);
    } else if (char === CLOSE_OBJECT || char === CLOSE_ARRAY) {
      frames.pop();
      frame = frames[frames.length - 1] ?? null;
      isKeyNext = false;
    } else if (char === MINUS || (char >= ZERO && char <= NINE)) {
      let end = at + 1;
      while (isDigitOrPoint(text.charCodeAt(end))) end++;
      if (end - at > MAX_PLAIN_NUMBER_CHARS || isExponentMark(text.charCodeAt(end))) {
        while (isNumberChar(text.charCodeAt(end))) end++;
        const literal = text.slice(at, end);
        if (finding === null && !keepsItsValue(literal))
          finding = refused("not_ijson", unheld(literal, frames));
      }
      at = end - 1;
    }
  }
  return { finding, hasEscapedKey };
}

/**
 * Reads text that is JSON, of bounded depth, with keys that are escaped.
 * `JSON.parse` of V8 14 now and then takes a key of one escaped character for
 * the backslash that it is written with, depending on what was parsed before.
 */
function readEscapedKeys(text: string, start = 0, end = text.length): JsonValue {
  const first = text.slice(start, end).trimStart()[0];
  if (first === "{") {
    const read: JsonObject = {};
    for (const { key, valueStart, valueEnd } of memberSpans(text, start)) {
      // Assigning `__proto__` would set the prototype.
      Object.defineProperty(read, key, {
        value: readEscapedKeys(text, valueStart, valueEnd),
        enumerable: true,
        writable: true,
        configurable: true,
      });
    }
    return read;
  }
  if (first === "[") {
    return elementSpans(text, start).map(({ valueStart, valueEnd }) =>
      readEscapedKeys(text, valueStart, valueEnd),
    );
  }
  return JSON.parse(text.slice(start, end));
}

/**
 * The index of the quote that ends the string whose first character is at
 * `start`: as it is, or complemented (`~`) when the string has escapes; the
 * text's length when nothing ends it.
 */
function closingQuote(text: string, start: number): number {
  let isEscaped = false;
  let quote = -1;
  let at = start;
  for (;;) {
    const near = Math.min(at + NEAR_CHARS, text.length);
    for (; at < near; at++) {
      const char = text.charCodeAt(at);
      if (char === QUOTE) return isEscaped ? ~at : at;
      if (char === BACKSLASH) {
        isEscaped = true;
        at++;
      }
    }
    // The quote found last is good until it is passed: searching anew after each escape would be quadratic.
    if (quote < at) quote = text.indexOf('"', at);
    if (quote === -1) return text.length;
    const plain = text.slice(at, quote).indexOf("\\");
    if (plain === -1) return isEscaped ? ~quote : quote;
    at += plain;
  }
}

/** Adds a key to its object; false when the object has it already. The pointer to the frame names it from here on. */
function addKey(frame: Frame, key: string): boolean {
  const { keys, keySet } = frame;
  const isNew = keySet === null ? !keys.includes(key) : !keySet.has(key);
  keys.push(key);
  if (keySet !== null) keySet.add(key);
  else if (keys.length > MAX_LISTED_KEYS) frame.keySet = new Set(keys);
  return isNew;
}

/** The RFC 6901 pointer, quoted, of the member or element that the innermost frame is at. */
function pointer(frames: Frame[]): string {
  const segments = frames.map(({ isObject, keys, index }) =>
    isObject ? (keys.at(-1) ?? "").replaceAll("~", "~0").replaceAll("/", "~1") : String(index),
  );
  return quoted(segments.map((segment) => `/${segment}`).join(""));
}

function duplicate(key: string, frames: Frame[]): string {
  return `The key ${quoted(key)} is there twice, at ${pointer(frames)}.`;
}

function unheld(literal: string, frames: Frame[]): string {
  return `The number ${quoted(literal)} at ${pointer(frames)} is not one that JavaScript can hold.`;
}

function quoted(text: string): string {
  const shown = text.length > MAX_QUOTED_CHARS ? `${text.slice(0, MAX_QUOTED_CHARS)}…` : text;
  return JSON.stringify(shown.toWellFormed());
}

/** Of the characters between a string's quotes. Decoded text has no half pairs, so only escapes can make one. */
function isWellFormed(raw: string): boolean {
  return !SURROGATE_ESCAPE.test(raw) || unescaped(raw).isWellFormed();
}

/** The string whose characters between the quotes these are; as it is where it is no JSON, which is found later. */
function unescaped(raw: string): string {
  const parsed = parseJson(`"${raw}"`);
  return typeof parsed?.value === "string" ? parsed.value : raw;
}

function isDigitOrPoint(char: number): boolean {
  return (char >= ZERO && char <= NINE) || char === POINT;
}

function isExponentMark(char: number): boolean {
  return char === UPPER_E || char === LOWER_E;
}

function isNumberChar(char: number): boolean {
  return isDigitOrPoint(char) || isExponentMark(char) || char === MINUS || char === PLUS;
}

function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

function parseJson(text: string): { value: JsonValue } | null {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function refused(kind: Refusal["kind"], message: string): Refusal {
  return { ok: false, kind, message };
}
