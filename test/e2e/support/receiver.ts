/**
 * @module
 * A receiver of alerts on this machine: it keeps what it is sent, and answers
 * as it is told to.
 */
import { createServer, type ServerResponse } from "node:http";
import { eventually } from "./eventually.ts";

/** `hang` takes the request and answers nothing; a URL is where it redirects to. */
export type Answering = number | "hang" | { readonly redirect: string };

export class Receiver {
  readonly url: string;
  /** Bodies, in the order in which they came. */
  readonly bodies: unknown[] = [];
  answering: Answering = 200;
  /** Requests that it has taken and keeps waiting, until who sent them gives up. */
  unanswered = 0;
  readonly #close: () => Promise<void>;

  private constructor(url: string, close: () => Promise<void>) {
    this.url = url;
    this.#close = close;
  }

  /** One at a path of its own, which is its credential. */
  static async start(path: string): Promise<Receiver> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    const receiver = new Receiver(`http://127.0.0.1:${address.port}${path}`, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    server.on("request", (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isOwn = request.method === "POST" && request.url === path;
        receiver.bodies.push(isOwn ? JSON.parse(text) : `${request.method} ${request.url} ${text}`);
        if (receiver.answering === "hang") {
          receiver.unanswered += 1;
          response.once("close", () => {
            receiver.unanswered -= 1;
          });
        } else answer(response, receiver.answering);
      });
    });
    return receiver;
  }

  close(): Promise<void> {
    return this.#close();
  }

  /** Waits until it has been sent something that fits. */
  received(what: string, fits: (body: unknown) => boolean): Promise<true> {
    return eventually(what, () => (this.bodies.some(fits) ? true : null));
  }
}

function answer(response: ServerResponse, answering: Exclude<Answering, "hang">): void {
  if (typeof answering === "number") response.writeHead(answering).end("noted");
  else response.writeHead(307, { location: answering.redirect }).end();
}
