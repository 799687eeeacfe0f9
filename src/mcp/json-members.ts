/**
 * @module
 * Where the parts of a JSON text are, so that a part can be passed on as the
 * very text that it came as: parsing and printing it again would change numbers,
 * escapes and white space that somebody may have signed or hashed.
 */

/** A member of an object: `text.slice(keyStart, …)` begins with its key's quote, `[valueStart, valueEnd)` is its value. */
export type MemberSpan = {
  readonly key: string;
  readonly keyStart: number;
  readonly valueStart: number;
  readonly valueEnd: number;
};

export type ElementSpan = { readonly valueStart: number; readonly valueEnd: number };

const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * The members of the object that begins at `start` (white space before it is
 * passed over), in their order, a key that is there twice included. The text
 * must be JSON: what is returned for any other has no meaning, and a key that
 * is no string may throw a `SyntaxError`.
 */
export function memberSpans(text: string, start = 0): MemberSpan[] {
  const spans: MemberSpan[] = [];
  let at = skipSpace(text, skipSpace(text, start) + 1);
  while (at < text.length && !isClosing(text.charCodeAt(at))) {
    const keyStart = at;
    const keyEnd = skipString(text, keyStart);
    // One past the colon.
    const valueStart = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const valueEnd = skipValue(text, valueStart);
    spans.push({ key: keyOf(text, keyStart, keyEnd), keyStart, valueStart, valueEnd });
    at = skipComma(text, valueEnd);
  }
  return spans;
}

/** The elements of the array that begins at `start`; as {@link memberSpans}. */
export function elementSpans(text: string, start = 0): ElementSpan[] {
  const spans: ElementSpan[] = [];
  let at = skipSpace(text, skipSpace(text, start) + 1);
  while (at < text.length && !isClosing(text.charCodeAt(at))) {
    const valueEnd = skipValue(text, at);
    spans.push({ valueStart: at, valueEnd });
    at = skipComma(text, valueEnd);
  }
  return spans;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  for (;;) {
    const char = text.charCodeAt(at);
    if (char !== SPACE && char !== LF && char !== CR && char !== TAB) return at;
    at++;
  }
}

function skipComma(text: string, start: number): number {
  const at = skipSpace(text, start);
  return text.charCodeAt(at) === COMMA ? skipSpace(text, at + 1) : at;
}

/** One past the quote that ends the string which begins at `start`. */
function skipString(text: string, start: number): number {
  let at = start + 1;
  for (;;) {
    const quote = text.indexOf('"', at);
    if (quote === -1) return text.length;
    let run = quote;
    while (run > at && text.charCodeAt(run - 1) === BACKSLASH) run--;
    at = quote + 1;
    // An even run of backslashes escapes itself.
    if ((quote - run) % 2 === 0) return at;
  }
}

/** One past the value that begins at `start`. */
function skipValue(text: string, start: number): number {
  const first = text.charCodeAt(start);
  if (first === QUOTE) return skipString(text, start);
  let at = start;
  if (first !== OPEN_OBJECT && first !== OPEN_ARRAY) {
    while (at < text.length && !endsLiteral(text.charCodeAt(at))) at++;
    return at;
  }
  let depth = 0;
  while (at < text.length) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) {
      at = skipString(text, at);
      continue;
    }
    at++;
    if (char === OPEN_OBJECT || char === OPEN_ARRAY) depth++;
    else if (isClosing(char) && --depth === 0) return at;
  }
  return at;
}

function endsLiteral(char: number): boolean {
  return char === COMMA || isClosing(char) || char === SPACE || char < SPACE;
}

function isClosing(char: number): boolean {
  return char === CLOSE_OBJECT || char === CLOSE_ARRAY;
}

function keyOf(text: string, keyStart: number, keyEnd: number): string {
  const raw = text.slice(keyStart + 1, keyEnd - 1);
  return raw.includes("\\") ? String(JSON.parse(`"${raw}"`)) : raw;
}
