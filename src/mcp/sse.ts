/**
 * @module
 * Server-sent events as the WHATWG HTML standard writes them (section 9.2).
 */

export type SseEvent = {
  /** What the client sends back as `Last-Event-ID`. */
  id?: string;
  /** The event's type; without it, it is `message`. */
  event?: string;
  /** Empty to give the client nothing but an id. */
  data: string;
  /** How long the client waits before it reconnects, in ms. */
  retry?: number;
};

/** `no-transform` and `X-Accel-Buffering` keep proxies from holding events back to compress or batch them. */
export const SSE_HEADERS = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-store, no-transform",
  "X-Accel-Buffering": "no",
} as const;

const LINE_BREAK = /\r\n|\r|\n/;

/**
 * The text of one event, its final blank line included. Line breaks in `data`
 * reach the client as `\n`, whichever they were. Throws a `TypeError` for a line break or
 * NUL in `id` or `event`, which would forge a field or make the client ignore the
 * id, and for a `retry` that is not a whole number of milliseconds.
 */
export function sseEvent({ id, event, data, retry }: SseEvent): string {
  let text = "";
  if (event !== undefined) text += `event: ${fieldValue("event", event)}\n`;
  if (id !== undefined) text += `id: ${fieldValue("id", id)}\n`;
  if (retry !== undefined) text += `retry: ${wholeMilliseconds(retry)}\n`;
  for (const line of data.split(LINE_BREAK)) text += `data: ${line}\n`;
  return `${text}\n`;
}

/** An id and a pause without data: a client remembers both, and is given no event. */
export function ssePlace(id: string, retry: number): string {
  return `id: ${fieldValue("id", id)}\nretry: ${wholeMilliseconds(retry)}\n\n`;
}

/** A comment, which clients pass over: it keeps a silent connection open. */
export function sseComment(text: string): string {
  return `: ${fieldValue("comment", text)}\n\n`;
}

function fieldValue(field: string, value: string): string {
  if (/[\r\n\0]/.test(value)) throw new TypeError(`A line break or NUL in an event's ${field}`);
  return value;
}

function wholeMilliseconds(retry: number): number {
  if (!Number.isSafeInteger(retry) || retry < 0)
    throw new TypeError(`An event's retry is a whole number of milliseconds, not ${retry}`);
  return retry;
}
