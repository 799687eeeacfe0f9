/**
 * @module
 * A reader of server-sent events (WHATWG HTML, section 9.2) over a stream of
 * bytes. Unlike an `EventSource` it also tells of events that carry nothing but
 * an id or a `retry`: servers of MCP send those to be resumed from. And it
 * decodes strictly: a replacement character would be text that nobody sent.
 */

/** One event as it was sent; null for a field that it does not have. */
export type SseMessage = {
  readonly id: string | null;
  /** The type; null and "" mean `message`. */
  readonly event: string | null;
  readonly data: string | null;
  /** In ms, as sent. */
  readonly retry: number | null;
};

/** Why a stream was given up that itself did not break. */
export class SseError extends Error {
  readonly reason: "too_large" | "not_utf8";
  constructor(reason: SseError["reason"]) {
    super(reason === "too_large" ? "An event is too large" : "An event is not UTF-8");
    this.name = "SseError";
    this.reason = reason;
  }
}

const LF = 0x0a;
const CR = 0x0d;
const COLON = 0x3a;
const BOM = [0xef, 0xbb, 0xbf] as const;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The events of a stream, until it ends, breaks (what `read` throws is thrown
 * on) or `signal` aborts (it ends then). An event that the end cuts off is
 * dropped. Throws an {@link SseError} for an event over `maxBytes`, comments not
 * counted, and for one that is not UTF-8. However it ends, the stream is cancelled.
 */
export async function* readSse(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal?: AbortSignal,
): AsyncGenerator<SseMessage, void, undefined> {
  const reader = stream.getReader();
  // Aborting the fetch does not everywhere end a read of its body; cancelling the reader does.
  const cancel = () => void reader.cancel().catch(() => undefined);
  if (signal?.aborted === true) cancel();
  else signal?.addEventListener("abort", cancel, { once: true });
  const lines = new LineSplitter(maxBytes);
  const event = new EventBuilder(maxBytes);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal?.aborted === true) break;
      for (const line of lines.push(value)) {
        if (line.length > 0) event.add(line);
        else {
          const message = event.take();
          if (message !== null) yield message;
        }
      }
      if (event.bytes + lines.bytes > maxBytes) throw new SseError("too_large");
    }
    // A retry holds from its line on, not from the end of its event.
    const { retry } = event;
    if (retry !== null) yield { id: null, event: null, data: null, retry };
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/** Cuts chunks into lines; what is not yet a whole line is kept in a buffer that doubles, so that a byte is copied few times. */
class LineSplitter {
  #kept: Uint8Array = new Uint8Array(0);
  #isAfterCr = false;
  #isFirstLine = true;
  readonly #maxBytes: number;
  /** Of the line that is not yet whole. */
  bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  *push(chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
    let start = 0;
    if (this.#isAfterCr && chunk.length > 0) {
      this.#isAfterCr = false;
      if (chunk[0] === LF) start = 1;
    }
    let lf = chunk.indexOf(LF, start);
    let cr = chunk.indexOf(CR, start);
    while (lf !== -1 || cr !== -1) {
      const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
      yield this.#line(chunk.subarray(start, end));
      start = end + 1;
      if (end === cr) {
        if (start === chunk.length) this.#isAfterCr = true;
        else if (chunk[start] === LF) start++;
        cr = chunk.indexOf(CR, start);
      }
      if (lf !== -1 && lf < start) lf = chunk.indexOf(LF, start);
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  #keep(part: Uint8Array): void {
    const bytes = this.bytes + part.length;
    if (bytes > this.#maxBytes) throw new SseError("too_large");
    if (bytes > this.#kept.length) {
      const larger = new Uint8Array(Math.max(bytes, 2 * this.#kept.length));
      larger.set(this.#kept.subarray(0, this.bytes));
      this.#kept = larger;
    }
    this.#kept.set(part, this.bytes);
    this.bytes = bytes;
  }

  /** Good until the next call. */
  #line(last: Uint8Array): Uint8Array {
    let line = last;
    if (this.bytes > 0) {
      this.#keep(last);
      line = this.#kept.subarray(0, this.bytes);
      this.bytes = 0;
    }
    if (!this.#isFirstLine) return line;
    this.#isFirstLine = false;
    return BOM.every((byte, index) => line[index] === byte) ? line.subarray(BOM.length) : line;
  }
}

/** Gathers the fields of one event. */
class EventBuilder {
  readonly #maxBytes: number;
  #id: string | null = null;
  #event: string | null = null;
  #data: string[] = [];
  #isEmpty = true;
  retry: number | null = null;
  /** Of its lines so far; whole lines count, so that a million empty ones cannot hide. */
  bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(line: Uint8Array): void {
    if (line[0] === COLON) return;
    this.bytes += line.length;
    if (this.bytes > this.#maxBytes) throw new SseError("too_large");
    const text = decoded(line);
    const colon = text.indexOf(":");
    const field = colon === -1 ? text : text.slice(0, colon);
    const afterColon = colon === -1 ? "" : text.slice(colon + 1);
    const value = afterColon.startsWith(" ") ? afterColon.slice(1) : afterColon;
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    else return;
    this.#isEmpty = false;
  }

  /** The event that a blank line ends; null when nothing was said. */
  take(): SseMessage | null {
    const data = this.#data.length === 0 ? null : this.#data.join("\n");
    const message = { id: this.#id, event: this.#event, data, retry: this.retry };
    const isEmpty = this.#isEmpty;
    this.#id = null;
    this.#event = null;
    this.#data = [];
    this.#isEmpty = true;
    this.retry = null;
    this.bytes = 0;
    return isEmpty ? null : message;
  }
}

function decoded(line: Uint8Array): string {
  try {
    return decoder.decode(line);
  } catch (error) {
    if (error instanceof TypeError) throw new SseError("not_utf8");
    throw error;
  }
}
