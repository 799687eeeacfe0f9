/**
 * @module
 * I-JSON once more, the slow and plain way: a recursive parser that shares
 * nothing with the one under test, not even `JSON.parse`, and numbers as exact
 * fractions.
 */
import type { JsonObject, JsonValue } from "../../src/mcp/ijson.ts";

export type Verdict = { kind: "syntax" | "not_ijson" } | { kind: "ok"; value: JsonValue };

class NotJson extends Error {}

export function judge(text: string): Verdict {
  let at = 0;
  let isIJson = true;

  const take = (pattern: RegExp): string => {
    const [taken] = new RegExp(pattern, `${pattern.flags}y`).exec(text.slice(at)) ?? [];
    if (taken === undefined) throw new NotJson();
    at += taken.length;
    return taken;
  };
  const sees = (char: string): boolean => {
    take(/[ \t\n\r]*/);
    return text[at] === char;
  };
  const skip = (char: string): void => {
    if (!sees(char)) throw new NotJson();
    at++;
  };

  const value = (): JsonValue => {
    if (sees("{")) return object();
    if (sees("[")) return array();
    if (sees('"')) return string();
    if (/[-\d]/.test(text[at] ?? "")) return number();
    const word = take(/true|false|null/);
    return word === "null" ? null : word === "true";
  };
  const object = (): JsonObject => {
    const result: JsonObject = {};
    skip("{");
    while (!sees("}")) {
      const key = string();
      if (Object.hasOwn(result, key)) isIJson = false;
      skip(":");
      const member = { value: value(), enumerable: true, writable: true, configurable: true };
      Object.defineProperty(result, key, member);
      if (sees("}")) break;
      skip(",");
      if (!sees('"')) throw new NotJson();
    }
    skip("}");
    return result;
  };
  const array = (): JsonValue[] => {
    const result: JsonValue[] = [];
    skip("[");
    while (!sees("]")) {
      result.push(value());
      if (sees("]")) break;
      skip(",");
      if (sees("]")) throw new NotJson();
    }
    skip("]");
    return result;
  };
  const string = (): string => {
    let units = "";
    skip('"');
    while (text[at] !== '"') units += unit();
    at++;
    if (!units.isWellFormed()) isIJson = false;
    return units;
  };
  const unit = (): string => {
    if (text[at] !== "\\") return take(/[^"\\\p{Cc}]|[\x7f-\x9f]/u);
    const escaped = take(/\\(?:u[\da-fA-F]{4}|["\\/bfnrt])/);
    if (escaped[1] === "u") return String.fromCharCode(Number.parseInt(escaped.slice(2), 16));
    const plain: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
    const char = escaped[1] ?? "";
    return plain[char] ?? char;
  };
  const number = (): number => {
    const literal = take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/);
    if (!holds(literal)) isIJson = false;
    return Number(literal);
  };

  try {
    const result = value();
    take(/[ \t\n\r]*/);
    if (at < text.length) throw new NotJson();
    return isIJson ? { kind: "ok", value: result } : { kind: "not_ijson" };
  } catch (error) {
    if (error instanceof NotJson) return { kind: "syntax" };
    throw error;
  }
}

/** Whether a double keeps what a number literal writes: as its shortest decimal form, or as the very integer. */
export function holds(literal: string): boolean {
  const double = Number(literal);
  if (!Number.isFinite(double)) return false;
  // No BigInt has so many digits; such a literal is zero or far outside of what a double holds.
  if (Math.abs(exponentOf(literal)) > MAX_EXPONENT) return Number(literal) === 0 && isZero(literal);
  const written = fraction(literal);
  if (isSame(written, fraction(String(double)))) return true;
  return written.over !== 0n && written.top % written.over === 0n && isSame(written, exact(double));
}

const MAX_EXPONENT = 100_000;

function exponentOf(literal: string): number {
  return Number(/[eE]([+-]?\d+)$/.exec(literal)?.[1] ?? "0");
}

function isZero(literal: string): boolean {
  return /^-?[0.]+(?:[eE]|$)/.test(literal);
}

type Fraction = { top: bigint; over: bigint };

function isSame(one: Fraction, other: Fraction): boolean {
  return one.top * other.over === other.top * one.over;
}

function fraction(literal: string): Fraction {
  const [, sign, whole = "", part = "", power = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(literal) ?? [];
  const top = BigInt(whole + part) * (sign === "-" ? -1n : 1n);
  const scale = Number(power) - part.length;
  return scale < 0
    ? { top, over: 10n ** BigInt(-scale) }
    : { top: top * 10n ** BigInt(scale), over: 1n };
}

/** What the 64 bits of a double say: significand times two to the exponent. */
function exact(double: number): Fraction {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, double);
  const word = bits.getBigUint64(0);
  const biased = (word >> 52n) & 0x7ffn;
  const stored = word & ((1n << 52n) - 1n);
  const significand = biased === 0n ? stored : stored | (1n << 52n);
  const exponent = (biased === 0n ? 1n : biased) - 1075n;
  const top = word >> 63n === 1n ? -significand : significand;
  return exponent < 0n ? { top, over: 1n << -exponent } : { top: top << exponent, over: 1n };
}
