/**
 * @module
 * A fetch handler on a free port of 127.0.0.1, as an upstream of the tests: it
 * streams its answers and aborts a request whose client has left.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

export type Listening = {
  /** Of the MCP endpoint. */
  readonly url: string;
  /** Ends the server and every connection that is open. */
  close(): Promise<void>;
};

const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;

export async function listen(handle: (request: Request) => Promise<Response>): Promise<Listening> {
  const server = createServer((incoming, outgoing) => {
    const left = new AbortController();
    outgoing.once("close", () => left.abort());
    serve(incoming, outgoing, left.signal, handle).catch((error: unknown) => {
      // A client that left in the middle is part of the tests; all else is a fault of the server.
      if (!left.signal.aborted) console.error(error);
      outgoing.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}/mcp`,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error === undefined ? resolve() : reject(error)));
        server.closeAllConnections();
      }),
  };
}

async function serve(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  signal: AbortSignal,
  handle: (request: Request) => Promise<Response>,
): Promise<void> {
  const response = isLocal(incoming.headers)
    ? await handle(await requestOf(incoming, signal))
    : new Response("This server answers loopback names only.\n", { status: 403 });
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  if (response.body === null) {
    outgoing.end();
    return;
  }
  // Headers of a stream must be out before its first event.
  outgoing.flushHeaders();
  await relay(response.body, outgoing, signal);
}

/** Pipes a body out, as fast as it is read; a client that left cancels it. */
async function relay(
  body: ReadableStream<Uint8Array>,
  outgoing: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const reader = body.getReader();
  const cancel = () => void reader.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!outgoing.write(value)) await once(outgoing, "drain", { signal });
  }
  signal.removeEventListener("abort", cancel);
  outgoing.end();
}

/** Against DNS rebinding: both the name asked for and the page that asks must be this machine's. */
function isLocal({ host = "", origin }: IncomingMessage["headers"]): boolean {
  return (
    LOOPBACK.test(host) && (origin === undefined || LOOPBACK.test(URL.parse(origin)?.host ?? ""))
  );
}

async function requestOf(incoming: IncomingMessage, signal: AbortSignal): Promise<Request> {
  const headers = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const method = incoming.method ?? "GET";
  return new Request(`http://${incoming.headers.host}${incoming.url}`, {
    method,
    headers,
    signal,
    body: method === "POST" ? Buffer.concat(chunks) : null,
  });
}
