/**
 * @module
 * Content negotiation of the MCP endpoint (RFC 9110, sections 8.3 and 12.5.1).
 */

export type AcceptedForms = { ok: true; prefer: "json" | "sse" } | { ok: false; message: string };

/** A media range, in lower case and without its parameters, and its weight. */
type MediaRange = { range: string; weight: number };

/** What the clients of the official SDKs send, and so nearly every request. */
const USUAL_ACCEPT = "application/json, text/event-stream";

const JSON_TYPE = "application/json";
const EVENT_STREAM_TYPE = "text/event-stream";

/** A weight as RFC 9110 writes it, and `.5`, which Java's own client sends. */
const WEIGHT = /^(?:0?\.\d+|0\.?|1(?:\.0*)?)$/;
/** A name with a token or a quoted string, of which groups 2 and 3 have the value. */
const PARAMETER = /^([!#$%&'*+\-.^_`|~\w]+)=(?:([!#$%&'*+\-.^_`|~\w]+)|"((?:[^"\\]|\\.)*)")$/;

/**
 * Whether the client of a POST takes both forms that an answer may have, as
 * every revision of MCP demands, and which of them it would rather have: JSON,
 * unless it weighs event streams higher. No header at all takes everything.
 */
export function acceptsMcp(accept: string | null): AcceptedForms {
  if (accept === null || accept === USUAL_ACCEPT) return { ok: true, prefer: "json" };
  const ranges = parseAccept(accept);
  const json = weightOf(ranges, JSON_TYPE);
  const sse = weightOf(ranges, EVENT_STREAM_TYPE);
  if (json > 0 && sse > 0) return { ok: true, prefer: sse > json ? "sse" : "json" };
  return { ok: false, message: `Accept must take both ${JSON_TYPE} and ${EVENT_STREAM_TYPE}.` };
}

/** Whether the client of a GET takes an event stream. No header at all takes everything. */
export function acceptsEventStream(accept: string | null): boolean {
  return accept === null || weightOf(parseAccept(accept), EVENT_STREAM_TYPE) > 0;
}

/** Whether a body is declared as JSON: `application/json`, if with a charset then UTF-8. */
export function isJsonContentType(contentType: string | null): boolean {
  if (contentType === null) return false;
  if (contentType === JSON_TYPE) return true;
  const [type = "", ...parameters] = splitOutsideQuotes(contentType, ";");
  if (type.toLowerCase() !== JSON_TYPE) return false;
  return parameters.every((parameter) => {
    if (parameter === "") return true;
    const [, name, token, quoted] = PARAMETER.exec(parameter) ?? [];
    if (name === undefined) return false;
    const value = token ?? quoted?.replace(/\\(.)/g, "$1");
    return name.toLowerCase() !== "charset" || value?.toLowerCase() === "utf-8";
  });
}

/**
 * The weight of a type by the most specific range that covers it, 0 where none
 * does. Parameters other than `q` are passed over, as the field's servers do: the
 * answer has none that a client could mean.
 */
function weightOf(ranges: MediaRange[], type: string): number {
  const [major = ""] = type.split("/");
  for (const covering of [type, `${major}/*`, "*/*"]) {
    const weights = ranges.filter(({ range }) => range === covering).map(({ weight }) => weight);
    if (weights.length > 0) return Math.max(...weights);
  }
  return 0;
}

/** The ranges of an Accept header. One with a malformed weight says nothing, rather than everything. */
function parseAccept(accept: string): MediaRange[] {
  return splitOutsideQuotes(accept, ",").flatMap((element) => {
    const [range = "", ...parameters] = splitOutsideQuotes(element, ";");
    const weight = parameters.find((parameter) => /^q=/i.test(parameter))?.slice(2) ?? "1";
    return WEIGHT.test(weight) ? [{ range: range.toLowerCase(), weight: Number(weight) }] : [];
  });
}

/** The parts between separators that are not in a quoted string, without the white space around them. */
function splitOutsideQuotes(text: string, separator: "," | ";"): string[] {
  const parts: string[] = [];
  let start = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') isQuoted = !isQuoted;
    else if (char === "\\" && isQuoted) at++;
    else if (char === separator && !isQuoted) {
      parts.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}
