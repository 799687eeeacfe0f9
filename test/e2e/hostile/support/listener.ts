/**
 * @module
 * A server on this machine that nobody should reach: it counts who does, and
 * sends everybody on to where it is told to.
 */
import { createServer } from "node:http";
import { at } from "../../support/http.ts";

export class Listener {
  readonly url: string;
  readonly port: number;
  /** Connections so far, whether a request came on them or not. */
  connections = 0;
  readonly #close: () => Promise<void>;

  private constructor(port: number, close: () => Promise<void>) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#close = close;
  }

  /** Answers with a redirect where `location` is given, else with an empty object. */
  static async start(location?: string): Promise<Listener> {
    const server = createServer((_request, response) => {
      if (location !== undefined) response.writeHead(307, { location });
      else response.writeHead(200, { "content-type": "application/json" });
      response.end("{}");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const listener = new Listener(Number(at(server.address(), "port")), () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    });
    server.on("connection", () => {
      listener.connections += 1;
    });
    return listener;
  }

  close(): Promise<void> {
    return this.#close();
  }
}
