/**
 * @module
 * A TCP proxy before PostgreSQL that can fail as networks do: refuse, fall
 * silent, or cut a connection after the server has committed and before its
 * answer has come through.
 */
import { connect, createServer, type Server, type Socket } from "node:net";

/** CommandComplete of COMMIT, as the server sends it. */
const COMMITTED = Buffer.from("COMMIT\0");

export class PostgresProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: number;
  #cuts = 0;
  #down = false;

  private constructor(server: Server, port: number, target: number) {
    this.#server = server;
    this.port = port;
    this.#target = target;
  }

  static async start(targetPort: number): Promise<PostgresProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    const proxy = new PostgresProxy(server, address.port, targetPort);
    server.on("connection", (client) => proxy.#join(client));
    return proxy;
  }

  /** The URL of a database, through here. */
  through(url: string): string {
    const changed = new URL(url);
    changed.port = String(this.port);
    return changed.href;
  }

  /** Cuts the next `times` connections that commit, once they have. */
  cutAfterCommit(times: number): void {
    this.#cuts = times;
  }

  get cutsLeft(): number {
    return this.#cuts;
  }

  /** Sends new connections elsewhere, as a Hyperdrive that is given another database does. */
  repoint(port: number): void {
    this.#target = port;
  }

  /** Cuts every connection and refuses new ones. */
  down(): void {
    this.#down = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  up(): void {
    this.#down = false;
  }

  async close(): Promise<void> {
    this.down();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket): void {
    if (this.#down) {
      client.destroy();
      return;
    }
    const server = connect(this.#target, "127.0.0.1");
    const end = () => {
      client.destroy();
      server.destroy();
      this.#sockets.delete(client);
      this.#sockets.delete(server);
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", end);
      socket.on("close", end);
    }
    client.on("data", (bytes) => server.write(bytes));
    server.on("data", (bytes) => {
      if (this.#cuts > 0 && bytes.includes(COMMITTED)) {
        this.#cuts -= 1;
        end();
      } else client.write(bytes);
    });
  }
}
