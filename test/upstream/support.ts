import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { WireTarget } from "../../src/upstream/types.ts";

export type Seen = {
  readonly method: string;
  readonly headers: IncomingMessage["headers"];
  /** The parsed body; null without one. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages freely.
  readonly body: any;
};

export type Exchange = Seen & {
  readonly response: ServerResponse;
  json(status: number, body: unknown, headers?: Record<string, string>): void;
  /** Opens an event stream; the function writes text to it. */
  sse(headers?: Record<string, string>): (text: string) => void;
  /** Answers the request with a result. */
  result(result: unknown): void;
};

/** A hand-written server on a free port, which keeps what it was asked. */
export type FaultyServer = {
  readonly url: string;
  readonly seen: Seen[];
  /** Waits until so many of a kind were seen. */
  until(count: number, wanted: (seen: Seen) => boolean): Promise<Seen[]>;
  close(): Promise<void>;
};

export const event = (message: unknown, id?: string): string =>
  `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(message)}\n\n`;

export async function faultyServer(
  handle: (exchange: Exchange) => void | Promise<void>,
): Promise<FaultyServer> {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString("utf8");
    const entry: Seen = {
      method: request.method ?? "",
      headers: request.headers,
      body: text === "" ? null : JSON.parse(text),
    };
    seen.push(entry);
    const json: Exchange["json"] = (status, body, headers = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    };
    await handle({
      ...entry,
      response,
      json,
      sse: (headers = {}) => {
        response.writeHead(200, { "content-type": "text/event-stream", ...headers });
        response.flushHeaders();
        return (piece) => void response.write(piece);
      },
      result: (result) => json(200, { jsonrpc: "2.0", id: entry.body.id, result }),
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    seen,
    until: async (count, wanted) => {
      const deadline = Date.now() + 5_000;
      for (;;) {
        const found = seen.filter(wanted);
        if (found.length >= count) return found;
        if (Date.now() > deadline) throw new Error(`Only ${found.length} of ${count} were seen`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function targetOf(url: string, changes: Partial<WireTarget> = {}): WireTarget {
  return {
    name: "test",
    url,
    authorize: async () => ({}),
    fetch: (to, init) => fetch(to, init),
    maxBytes: 64 * 1024,
    ...changes,
  };
}

/** Serves a web-standard handler, the way the SDKs' servers come, on a free port. */
export async function webServer(
  handle: (request: Request) => Promise<Response>,
): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const aborter = new AbortController();
    outgoing.on("close", () => aborter.abort());
    const headers = new Headers();
    for (const [name, value] of Object.entries(incoming.headers)) {
      headers.set(name, Array.isArray(value) ? value.join(", ") : (value ?? ""));
    }
    const response = await handle(
      new Request(`http://${incoming.headers.host}${incoming.url}`, {
        method: incoming.method ?? "GET",
        headers,
        signal: aborter.signal,
        ...(chunks.length === 0 ? {} : { body: Buffer.concat(chunks) }),
      }),
    );
    outgoing.writeHead(response.status, Object.fromEntries(response.headers.entries()));
    outgoing.flushHeaders();
    const reader = response.body?.getReader();
    outgoing.on("close", () => void reader?.cancel().catch(() => undefined));
    for (;;) {
      const read = await reader?.read().catch(() => undefined);
      if (read === undefined || read.done) break;
      outgoing.write(read.value);
    }
    outgoing.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
