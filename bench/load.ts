/**
 * @module
 * The load generator: keep-alive HTTP/1.1 over plain sockets with requests that
 * are bytes already, one in flight a connection. Node's own clients cost as
 * much as the gateway does, and would share its processors.
 *
 * Every answer is checked: 200, a JSON-RPC result, not a refused tool call.
 */
import { connect, type Socket } from "node:net";

/** What one connection sends, call after call. */
export type Lane = () => Buffer;

const HEAD_END = Buffer.from("\r\n\r\n");
/** Inside a JSON string these quotes would be escaped, so file contents cannot imitate them. */
const RESULT = Buffer.from('"result":{');
const REFUSED = Buffer.from('"isError":true');
const MAX_SHOWN_BYTES = 2_000;

/** A POST with a JSON body, as the bytes that go over the wire. */
export function postBytes(
  url: URL,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: string,
): Buffer {
  const lines = [
    `POST ${path} HTTP/1.1`,
    `host: ${url.host}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n${body}`);
}

export type Load = {
  readonly calls: number;
  readonly seconds: number;
  /** Of each call, in ms. */
  readonly latencies: readonly number[];
};

/** Called as the measured time begins and as it ends, to read the clocks of other processes. */
export type Edges = { readonly start: () => void; readonly end: () => void };

const NO_EDGES: Edges = { start: () => undefined, end: () => undefined };

/** Drives all lanes for `warmMs`, unmeasured, and then for `measureMs`. */
export async function driveFor(
  url: URL,
  lanes: readonly Lane[],
  time: { readonly warmMs: number; readonly measureMs: number },
  signal: AbortSignal,
  edges: Edges = NO_EDGES,
): Promise<Load> {
  const latencies: number[] = [];
  const begun = performance.now();
  let start = 0;
  let end = 0;
  await drive(url, lanes, signal, (latency, now) => {
    if (end > 0) return false;
    if (start > 0) latencies.push(latency);
    if (start === 0 && now - begun >= time.warmMs) {
      edges.start();
      start = performance.now();
    } else if (start > 0 && now - start >= time.measureMs) {
      end = now;
      edges.end();
    }
    return end === 0;
  });
  return { calls: latencies.length, seconds: (end - start) / 1000, latencies };
}

/** Drives all lanes until `calls` calls have been made between them. */
export async function driveCalls(
  url: URL,
  lanes: readonly Lane[],
  calls: number,
  signal: AbortSignal,
): Promise<Load> {
  const used = lanes.slice(0, calls);
  const latencies: number[] = [];
  let asked = used.length;
  const begun = performance.now();
  await drive(url, used, signal, (latency) => {
    latencies.push(latency);
    if (asked >= calls) return false;
    asked += 1;
    return true;
  });
  return { calls: latencies.length, seconds: (performance.now() - begun) / 1000, latencies };
}

/** Runs every lane until `goOn`, told of each call, says to stop. */
async function drive(
  url: URL,
  lanes: readonly Lane[],
  signal: AbortSignal,
  goOn: (latency: number, now: number) => boolean,
): Promise<void> {
  const sockets = await Promise.all(lanes.map(() => open(url)));
  const close = () => {
    for (const socket of sockets) socket.destroy();
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    await Promise.all(
      sockets.map((socket, at) => {
        const lane = lanes[at];
        if (lane === undefined) throw new Error("a connection without a lane");
        return runLane(socket, lane, goOn);
      }),
    );
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

function open(url: URL): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(url.port), url.hostname);
    socket.setNoDelay(true);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

function runLane(
  socket: Socket,
  next: Lane,
  goOn: (latency: number, now: number) => boolean,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let sentAt = 0;
    let chunks: Buffer[] = [];
    let received = 0;
    let expected = 0;
    const send = () => {
      sentAt = performance.now();
      socket.write(next());
    };
    const take = (chunk: Buffer) => {
      chunks.push(chunk);
      received += chunk.length;
      if (expected === 0) {
        const head = joined(chunks);
        chunks = [head];
        expected = responseBytes(head);
      }
      if (expected === 0 || received < expected) return;
      const now = performance.now();
      refuseFailure(joined(chunks));
      chunks = [];
      received = 0;
      expected = 0;
      if (goOn(now - sentAt, now)) send();
      else resolve();
    };
    socket.on("data", (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        reject(error);
      }
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("The host closed a connection in use.")));
    send();
  });
}

function joined(chunks: readonly Buffer[]): Buffer {
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
}

/** Bytes of the whole response, 0 while its head is not complete. */
function responseBytes(bytes: Buffer): number {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd === -1) return 0;
  const length = /\r\ncontent-length: *(\d+)/i.exec(bytes.toString("latin1", 0, headEnd))?.[1];
  if (length === undefined) throw new Error(`A response without a length: ${shown(bytes)}`);
  return headEnd + HEAD_END.length + Number(length);
}

function refuseFailure(response: Buffer): void {
  const ok =
    response.toString("latin1", 9, 12) === "200" &&
    response.indexOf(RESULT) !== -1 &&
    response.indexOf(REFUSED) === -1;
  if (!ok) throw new Error(`A call failed:\n${shown(response)}`);
}

function shown(bytes: Buffer): string {
  return bytes.subarray(0, MAX_SHOWN_BYTES).toString();
}
