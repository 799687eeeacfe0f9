/**
 * @module
 * JSON that means the same to every reader. A parser keeps the last of two equal
 * keys and rounds large integers; another one may keep the first, and all
 * digits. What two honest programs could read differently is refused, so
 * that evidence cannot show one thing to a verifier and another to a person.
 */
import type { JsonValue } from "./json.ts";
import { keepsItsValue } from "./json-number.ts";
import { closingQuote, isBeforeColon, parseJson } from "./parse-json.ts";

export type StrictJson =
  | { readonly ok: true; readonly value: JsonValue }
  | { readonly ok: false; readonly message: string };

/** What a number's literal goes on with after its first character. */
const NUMBER_REST = /[0-9.eE+-]*/y;
const INTEGER = /^-?\d+$/;

/** Parses a text of any layout; the message says what is wrong, and quotes nothing of the text. */
export function parseStrictJson(text: string): StrictJson {
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return { ok: false, message: "not JSON" };
    throw error;
  }
  const problem = ambiguity(text);
  return problem === null ? { ok: true, value } : { ok: false, message: problem };
}

/** What is ambiguous in a text that is JSON, or null. Without recursion: texts come from outside. */
function ambiguity(text: string): string | null {
  /** The keys so far of each open object; null for an array. */
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? "";
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(null);
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const close = closingQuote(text, at);
      const keys = open.at(-1);
      if (keys instanceof Set && isBeforeColon(text, close + 1)) {
        const key = keyOf(text.slice(at + 1, close));
        if (keys.has(key)) return `a key is there twice in one object, at character ${at}`;
        keys.add(key);
      }
      at = close;
    } else if (character === "-" || (character >= "0" && character <= "9")) {
      NUMBER_REST.lastIndex = at + 1;
      const literal = character + (NUMBER_REST.exec(text)?.[0] ?? "");
      // Digits are exact to many readers, above all in whole numbers; JavaScript must not have rounded one.
      const isRounded = INTEGER.test(literal) && String(Number(literal)) !== literal;
      if (isRounded || !keepsItsValue(literal)) {
        return `a number that not every reader keeps, at character ${at}`;
      }
      at += literal.length - 1;
    }
  }
  return null;
}

function keyOf(raw: string): string {
  return raw.includes("\\") ? String(JSON.parse(`"${raw}"`)) : raw;
}
