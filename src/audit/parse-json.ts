/**
 * @module
 * JSON.parse, but right about keys with escapes.
 *
 * V8 12.8 to 14.6 (Node 24 and 26, Chrome of those days) can read one key for
 * another: having seen `{"h":0,"\\":0}`, it reads `{"h":0,"\"":0}` as
 * having the key `\` (nodejs/node#63785). A verifier would then call an honest
 * record changed, and whoever chooses the keys of a call's arguments could make it do so.
 */
import { copyJson, type JsonValue } from "./json.ts";

/**
 * The value of a JSON text. Of keys that are there twice, the last counts.
 *
 * @throws SyntaxError for what is not JSON.
 */
export function parseJson(text: string): JsonValue {
  const encoded = text.includes("\\") ? withoutKeyEscapes(text) : null;
  if (encoded === null) return JSON.parse(text);
  return copyJson(JSON.parse(encoded), { text: (value) => value, key: decodeKey });
}

/**
 * The text with each key written without backslashes and quotes, or null if no key has
 * one. Only what stands inside keys changes, so the result is JSON exactly if
 * the text is, as far as the escapes in keys are; those are checked when decoded.
 */
function withoutKeyEscapes(text: string): string | null {
  const pieces: string[] = [];
  let copied = 0;
  let escapes = false;
  for (let open = text.indexOf('"'); open !== -1; ) {
    const close = closingQuote(text, open);
    if (close === -1) return null;
    if (isBeforeColon(text, close + 1)) {
      const key = text.slice(open + 1, close);
      escapes ||= key.includes("\\");
      pieces.push(text.slice(copied, open + 1), encodeKey(key));
      copied = close;
    }
    open = text.indexOf('"', close + 1);
  }
  return escapes ? `${pieces.join("")}${text.slice(copied)}` : null;
}

/** Where the string that opens at `open` closes: at a quote after an even number of backslashes. */
export function closingQuote(text: string, open: number): number {
  let close = text.indexOf('"', open + 1);
  while (close !== -1) {
    let backslashes = 0;
    while (text[close - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return close;
    close = text.indexOf('"', close + 1);
  }
  return -1;
}

/** Whether the next character that is no space is a colon: then the string before it is a key. */
export function isBeforeColon(text: string, from: number): boolean {
  let at = from;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at += 1;
  return text[at] === ":";
}

function encodeKey(raw: string): string {
  return raw.replaceAll("%", "%25").replaceAll("\\", "%5c").replaceAll('"', "%22");
}

function decodeKey(encoded: string): string {
  const raw = encoded.replaceAll("%22", '"').replaceAll("%5c", "\\").replaceAll("%25", "%");
  return raw.includes("\\") ? JSON.parse(`"${raw}"`) : raw;
}
