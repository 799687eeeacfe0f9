/**
 * @module
 * The event streams of a session: what was sent to the client, in the object's
 * storage until the client has it, and the sockets over which the Workers that
 * hold the client's SSE responses fetch it.
 *
 * Lifecycle: a stream is opened by a call that must stream, or by GET; it
 * outlives its socket, its Worker and its object, so that a client of the 2025
 * era resumes it with `Last-Event-ID`. A stream of the 2026 era cannot be
 * resumed: it ends with its socket.
 *
 * Trade-off: every event is one more row than a stream from memory would cost;
 * in return nothing is lost with the object, and a client that reads slowly
 * costs storage and not memory. The sockets hibernate: an idle stream keeps
 * nothing awake.
 */
import * as z from "zod";

const TABLES = `
  CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
    sent INTEGER NOT NULL, done INTEGER NOT NULL, chars INTEGER NOT NULL, request TEXT
  );
  CREATE TABLE IF NOT EXISTS events (
    stream INTEGER NOT NULL, n INTEGER NOT NULL, part INTEGER NOT NULL, last INTEGER NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (stream, n, part)
  ) WITHOUT ROWID;
`;

/** Characters of one part: three bytes of UTF-8 each stay below the 2 MB of a stored value, and a frame below 1 MiB. */
const PART_CHARS = 300_000;
/** Characters under way to a Worker that has not yet written them: what a slow client costs in memory. */
const WINDOW_CHARS = 600_000;
/** Frames under way: a socket's attachment, which lists them, is small. */
const WINDOW_FRAMES = 64;
/** Finished streams that a session keeps for clients that may still come back, and their characters. */
const MAX_KEPT_STREAMS = 1_000;
const MAX_KEPT_CHARS = 64_000_000;
/** GET streams that a session keeps: those that clients have left, and do not come back to, are forgotten. */
const MAX_GET_STREAMS = 32;
/** Events that a GET stream keeps: it has no end, and nobody resumes from a place so far back. */
const MAX_GET_EVENTS = 1_000;

/** `get`: server-to-client, of the 2025 era. `post`: of one POST, resumable. `call`: of one POST of the 2026 era. */
export const STREAM_KINDS = ["get", "post", "call"] as const;
export type StreamKind = (typeof STREAM_KINDS)[number];

/** What a socket remembers across a hibernation. `n` and `part` are of the last frame sent. */
const attachmentSchema = z.object({
  stream: z.number(),
  n: z.number(),
  part: z.number(),
  /** Characters sent and not yet written by the Worker. */
  unwritten: z.array(z.number()),
});
type Attachment = z.infer<typeof attachmentSchema>;

/** The request whose response a stream is: what its client calls it, and what the gateway does. */
const streamRequestSchema = z.object({
  id: z.union([z.string(), z.number()]),
  request_id: z.string(),
});
export type StreamRequest = z.infer<typeof streamRequestSchema>;

/** `first` is the oldest event that is kept, `next` the one to come, `sent` the last that went to a socket. */
type StreamRow = {
  id: number;
  kind: StreamKind;
  first: number;
  next: number;
  sent: number;
  done: number;
  chars: number;
};
const COLUMNS = "id, kind, first, next, sent, done, chars";

/** The id of an event, unique within its session (2025-11-25, Resumability). */
export function eventId(stream: number, n: number): string {
  return `${stream}-${n}`;
}

const EVENT_ID = /^(\d{1,15})-(\d{1,15})$/;

/** The place that a `Last-Event-ID` names, or null for what no stream gave out. */
export function parseEventId(id: string): { stream: number; n: number } | null {
  const match = EVENT_ID.exec(id);
  return match === null ? null : { stream: Number(match[1]), n: Number(match[2]) };
}

export class Streams {
  readonly #ctx: DurableObjectState;
  readonly #sql: SqlStorage;
  /** Whether this life has made sure of the tables. */
  #ready = false;
  /** Finished streams that are kept, and their characters; null until this life has counted them. */
  #kept: { streams: number; chars: number } | null = null;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    this.#sql = ctx.storage.sql;
  }

  /** Opens a stream. Its first event is 1; 0 is the place before it. `request` is what a `post` or a `call` answers. */
  open(kind: StreamKind, request: StreamRequest | null): number {
    this.#prepare();
    const { id } = this.#sql
      .exec<{ id: number }>(
        `INSERT INTO streams (kind, first, next, sent, done, chars, request)
         VALUES (?, 1, 1, 0, 0, 0, ?) RETURNING id`,
        kind,
        request === null ? null : JSON.stringify(request),
      )
      .one();
    if (kind === "get") this.#forgetLeft();
    return id;
  }

  /**
   * The responses that are not finished. At the beginning of a life these are
   * of calls that were lost with the one before. Reads only.
   */
  unfinished(): { stream: number; request: StreamRequest }[] {
    const made = this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'streams'").toArray();
    if (made.length === 0) return [];
    return this.#sql
      .exec<{ id: number; request: string }>(
        "SELECT id, request FROM streams WHERE done = 0 AND request IS NOT NULL ORDER BY id",
      )
      .toArray()
      .map(({ id, request }) => ({
        stream: id,
        request: streamRequestSchema.parse(JSON.parse(request)),
      }));
  }

  /** Appends one message, and sends it if a socket is there. `last` ends the stream. */
  append(stream: number, text: string, last: boolean): void {
    this.#prepare();
    const row = this.#row(stream);
    if (row === null || row.done === 1) return;
    this.#ctx.storage.transactionSync(() => {
      const parts = partsOf(text);
      for (const [part, piece] of parts.entries()) {
        this.#sql.exec(
          "INSERT INTO events (stream, n, part, last, text) VALUES (?, ?, ?, ?, ?)",
          stream,
          row.next,
          part,
          part === parts.length - 1 ? 1 : 0,
          piece,
        );
      }
      this.#sql.exec(
        "UPDATE streams SET next = next + 1, done = ?, chars = chars + ? WHERE id = ?",
        last ? 1 : 0,
        text.length,
        stream,
      );
      if (row.kind === "get") this.#forgetOld(row);
    });
    this.#push(stream);
    if (last) this.#finished(row.chars + text.length);
  }

  /** Ends a stream without another event. */
  end(stream: number): void {
    this.#prepare();
    const row = this.#row(stream);
    if (row === null || row.done === 1) return;
    this.#sql.exec("UPDATE streams SET done = 1 WHERE id = ?", stream);
    this.#push(stream);
    this.#finished(row.chars);
  }

  /**
   * Whether a place may be resumed: `gone` when no event of a resumable stream
   * that is kept, `over` when the stream has ended and its client has all of it.
   */
  placeOf(place: { stream: number; n: number }): "open" | "over" | "gone" {
    const row = this.#row(place.stream);
    if (row === null || row.kind === "call" || place.n >= row.next || place.n < row.first - 1) {
      return "gone";
    }
    return row.done === 1 && place.n === row.next - 1 ? "over" : "open";
  }

  /** What a stream is for; null for one that is not kept. */
  kindOf(stream: number): StreamKind | null {
    return this.#row(stream)?.kind ?? null;
  }

  /** The open GET stream that a message of the server's own goes to: the newest with a socket, else the newest. */
  standalone(): number | null {
    this.#prepare();
    const ids = this.#sql
      .exec<{ id: number }>(
        "SELECT id FROM streams WHERE kind = 'get' AND done = 0 ORDER BY id DESC",
      )
      .toArray()
      .map(({ id }) => id);
    const held = this.#held();
    return ids.find((id) => held.has(id)) ?? ids[0] ?? null;
  }

  /** Whether the object has room for another socket. */
  get openStreams(): number {
    return this.#ctx.getWebSockets().length;
  }

  /**
   * Gives a stream to a Worker, from the event after `after`. An older socket
   * of the same stream is closed: a client that resumes has left it.
   */
  attach(stream: number, after: number): WebSocket {
    this.#prepare();
    for (const { socket, at } of this.#sockets()) {
      if (at.stream === stream) close(socket, "resumed elsewhere");
    }
    const { 0: client, 1: server } = new WebSocketPair();
    this.#ctx.acceptWebSocket(server);
    save(server, { stream, n: after, part: Number.MAX_SAFE_INTEGER, unwritten: [] });
    // What was never sent on an earlier GET stream goes to the one that the client opened instead.
    if (this.#row(stream)?.kind === "get") this.#adopt(stream);
    this.#pushTo(server, load(server));
    return client;
  }

  /** The Worker has written a frame to its client. */
  written(socket: WebSocket): void {
    const at = load(socket);
    at.unwritten.shift();
    this.#pushTo(socket, at);
  }

  /** A socket is gone. The stream whose client left with it, for a stream that cannot be resumed. */
  closed(socket: WebSocket): number | null {
    const { stream } = load(socket);
    const row = this.#row(stream);
    if (row === null || row.kind !== "call") return null;
    this.#delete(stream);
    return row.done === 1 ? null : stream;
  }

  /** Closes every socket: the session has ended. */
  closeAll(): void {
    for (const socket of this.#ctx.getWebSockets()) close(socket, "the session has ended");
  }

  // ── inside ──────────────────────────────────────────────────────────────

  #prepare(): void {
    if (this.#ready) return;
    this.#sql.exec(TABLES);
    this.#ready = true;
  }

  #row(stream: number): StreamRow | null {
    this.#prepare();
    return (
      this.#sql
        .exec<StreamRow>(`SELECT ${COLUMNS} FROM streams WHERE id = ?`, stream)
        .toArray()[0] ?? null
    );
  }

  #sockets(): { socket: WebSocket; at: Attachment }[] {
    return this.#ctx
      .getWebSockets()
      .filter((socket) => socket.readyState === WebSocket.OPEN)
      .map((socket) => ({ socket, at: load(socket) }));
  }

  #push(stream: number): void {
    for (const { socket, at } of this.#sockets()) {
      if (at.stream === stream) this.#pushTo(socket, at);
    }
  }

  /** Sends what the socket has not had, as far as its window allows. */
  #pushTo(socket: WebSocket, at: Attachment): void {
    const row = this.#row(at.stream);
    if (row === null) {
      close(socket, "no such stream");
      return;
    }
    let room = WINDOW_CHARS - at.unwritten.reduce((sum, chars) => sum + chars, 0);
    while (room > 0 && at.unwritten.length < WINDOW_FRAMES) {
      const frame = this.#sql
        .exec<{ n: number; part: number; last: number; text: string }>(
          `SELECT n, part, last, text FROM events WHERE stream = ? AND (n, part) > (?, ?)
           ORDER BY n, part LIMIT 1`,
          at.stream,
          at.n,
          at.part,
        )
        .toArray()[0];
      if (frame === undefined) break;
      const head = row.kind === "call" ? "" : eventId(at.stream, frame.n);
      if (!send(socket, `${frame.last === 1 ? "E" : "P"}${head}\n${frame.text}`)) return;
      at.n = frame.n;
      // After the last part, the next event: n is compared first.
      at.part = frame.last === 1 ? Number.MAX_SAFE_INTEGER : frame.part;
      at.unwritten.push(frame.text.length);
      room -= frame.text.length;
      if (frame.last === 1 && row.kind === "get") {
        this.#sql.exec("UPDATE streams SET sent = ? WHERE id = ?", frame.n, at.stream);
      }
    }
    save(socket, at);
    const isOver = row.done === 1 && at.n >= row.next - 1 && at.part === Number.MAX_SAFE_INTEGER;
    if (isOver && at.unwritten.length === 0) close(socket, "done");
  }

  /** Moves what no socket ever sent from GET streams that nobody holds to the newest. */
  #adopt(stream: number): void {
    const held = this.#held();
    const others = this.#sql
      .exec<StreamRow>(
        `SELECT ${COLUMNS} FROM streams WHERE kind = 'get' AND done = 0 AND id < ? ORDER BY id`,
        stream,
      )
      .toArray();
    for (const other of others) {
      if (held.has(other.id) || other.sent >= other.next - 1) continue;
      this.#ctx.storage.transactionSync(() => {
        const { next } = this.#sql
          .exec<{ next: number }>("SELECT next FROM streams WHERE id = ?", stream)
          .one();
        this.#sql.exec(
          "UPDATE events SET stream = ?, n = n - ? + ? WHERE stream = ? AND n > ?",
          stream,
          other.sent + 1,
          next,
          other.id,
          other.sent,
        );
        this.#sql.exec(
          "UPDATE streams SET next = next + ? WHERE id = ?",
          other.next - 1 - other.sent,
          stream,
        );
        this.#sql.exec(
          "UPDATE streams SET first = min(first, ?), next = ? WHERE id = ?",
          other.sent + 1,
          other.sent + 1,
          other.id,
        );
      });
    }
  }

  /** Counts a stream that has just finished, and forgets the oldest ones while a session keeps too much. */
  #finished(chars: number): void {
    // Counted once a life: the table is not read at the end of every call.
    if (this.#kept === null) {
      this.#kept = this.#sql
        .exec<{ streams: number; chars: number }>(
          "SELECT count(*) AS streams, coalesce(sum(chars), 0) AS chars FROM streams WHERE done = 1",
        )
        .one();
    } else {
      this.#kept.streams += 1;
      this.#kept.chars += chars;
    }
    if (!this.#keepsTooMuch()) return;
    const held = this.#held();
    const oldest = this.#sql
      .exec<{ id: number }>("SELECT id FROM streams WHERE done = 1 ORDER BY id")
      .toArray();
    for (const { id } of oldest) {
      if (!this.#keepsTooMuch()) return;
      if (!held.has(id)) this.#delete(id);
    }
  }

  #keepsTooMuch(): boolean {
    const { streams, chars } = this.#kept ?? { streams: 0, chars: 0 };
    return streams > MAX_KEPT_STREAMS || chars > MAX_KEPT_CHARS;
  }

  /** Forgets the oldest events of a GET stream to which one was just appended. */
  #forgetOld({ id, first, next }: StreamRow): void {
    const keepFrom = next + 1 - MAX_GET_EVENTS;
    if (keepFrom <= first) return;
    this.#sql.exec("DELETE FROM events WHERE stream = ? AND n < ?", id, keepFrom);
    this.#sql.exec("UPDATE streams SET first = ? WHERE id = ?", keepFrom, id);
  }

  /** Forgets the oldest GET streams that nobody holds. What was never sent on them goes with them. */
  #forgetLeft(): void {
    const held = this.#held();
    const left = this.#sql
      .exec<{ id: number }>("SELECT id FROM streams WHERE kind = 'get' ORDER BY id DESC")
      .toArray()
      .slice(MAX_GET_STREAMS);
    for (const { id } of left) if (!held.has(id)) this.#delete(id);
  }

  /** The streams that have a socket. */
  #held(): Set<number> {
    return new Set(this.#sockets().map(({ at }) => at.stream));
  }

  #delete(stream: number): void {
    const row = this.#row(stream);
    if (row?.done === 1 && this.#kept !== null) {
      this.#kept.streams -= 1;
      this.#kept.chars -= row.chars;
    }
    this.#sql.exec("DELETE FROM events WHERE stream = ?", stream);
    this.#sql.exec("DELETE FROM streams WHERE id = ?", stream);
  }
}

/**
 * A text in parts that can be stored and sent by themselves. No cut is within a
 * surrogate pair: half a character would not survive UTF-8.
 */
export function partsOf(text: string): string[] {
  const parts: string[] = [];
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + PART_CHARS, text.length);
    const isPair = to < text.length && /[\ud800-\udbff]/.test(text.charAt(to - 1));
    if (isPair) to -= 1;
    parts.push(text.slice(from, to));
    from = to;
  }
  return parts.length === 0 ? [""] : parts;
}

function load(socket: WebSocket): Attachment {
  return attachmentSchema.parse(socket.deserializeAttachment());
}

function save(socket: WebSocket, at: Attachment): void {
  socket.serializeAttachment(at);
}

/** False when the socket is no longer there; its close handler sees to the rest. */
function send(socket: WebSocket, frame: string): boolean {
  if (socket.readyState !== WebSocket.OPEN) return false;
  socket.send(frame);
  return true;
}

function close(socket: WebSocket, reason: string): void {
  if (socket.readyState === WebSocket.OPEN) socket.close(1000, reason);
}
