/**
 * @module
 * HTTP/1.1 byte by byte: what no HTTP client would send, and every response
 * that came back for it.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Answer } from "../../support/http.ts";

/** One connection. Nothing is sent that the test did not write. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #closed: Promise<void>;
  #received = Buffer.alloc(0);
  #wake: (() => void) | null = null;
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const wake = () => this.#wake?.();
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      wake();
    });
    // A server that cuts the connection has answered, too.
    socket.on("error", wake);
    this.#closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#isClosed = true;
        wake();
        resolve();
      });
    });
  }

  static async open(url: string): Promise<RawConnection> {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    await once(socket, "connect");
    return new RawConnection(socket);
  }

  write(bytes: string | Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Says that nothing more will come, and reads on. */
  end(): void {
    this.#socket.end();
  }

  /** Cuts the connection. */
  cut(): void {
    this.#socket.destroy();
  }

  /** The first response, as soon as it is whole; null when the connection ended without one. */
  async answer(): Promise<Answer | null> {
    for (;;) {
      const [first] = this.answers();
      if (first !== undefined) return first;
      if (this.#isClosed) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Every whole response so far. */
  answers(): Answer[] {
    const found: Answer[] = [];
    let rest = this.#received;
    for (;;) {
      const response = responseIn(rest);
      if (response === null) return found;
      found.push(response.answer);
      rest = rest.subarray(response.length);
    }
  }

  get closed(): Promise<void> {
    return this.#closed;
  }
}

/**
 * Sends these bytes on a connection of their own, waits for a first answer, and
 * then for the server to close: every response that there was, none where the
 * connection was closed without one.
 */
export async function exchange(url: string, bytes: string | Uint8Array): Promise<Answer[]> {
  const connection = await RawConnection.open(url);
  connection.write(bytes);
  await connection.answer();
  connection.end();
  await connection.closed;
  return connection.answers();
}

/** The bytes of a request: its lines are given as they are to stand there, a character a byte. */
export function rawRequest(lines: readonly string[], body = ""): Buffer {
  const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  return Buffer.concat([head, Buffer.from(body, "utf8")]);
}

/** `POST /mcp` with these headers beside those that it always needs; the body's length is right. */
export function rawPost(url: string, headers: readonly string[], body: object | string): Buffer {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return rawRequest(
    [
      "POST /mcp HTTP/1.1",
      `Host: ${new URL(url).host}`,
      "Accept: application/json, text/event-stream",
      "Content-Type: application/json",
      `Content-Length: ${Buffer.byteLength(text)}`,
      ...headers,
    ],
    text,
  );
}

function responseIn(bytes: Buffer): { answer: Answer; length: number } | null {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1]);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  const start = end + 4;
  const body =
    headers["transfer-encoding"] === "chunked"
      ? chunkedIn(bytes, start)
      : sizedIn(bytes, start, Number(headers["content-length"] ?? 0));
  if (body === null) return null;
  const text = body.content.toString("utf8");
  return { answer: { status, headers, text, json: jsonOf(text) }, length: body.end };
}

type Body = { readonly content: Buffer; readonly end: number };

function sizedIn(bytes: Buffer, start: number, length: number): Body | null {
  const end = start + length;
  return bytes.length < end ? null : { content: bytes.subarray(start, end), end };
}

function chunkedIn(bytes: Buffer, start: number): Body | null {
  const chunks: Buffer[] = [];
  let place = start;
  for (;;) {
    const line = bytes.indexOf("\r\n", place);
    if (line < 0) return null;
    const size = Number.parseInt(bytes.subarray(place, line).toString("latin1"), 16);
    const end = line + 2 + size + 2;
    if (bytes.length < end) return null;
    if (size === 0) return { content: Buffer.concat(chunks), end };
    chunks.push(bytes.subarray(line + 2, line + 2 + size));
    place = end;
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
