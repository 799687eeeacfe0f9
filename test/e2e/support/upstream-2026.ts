/**
 * @module
 * An upstream of the 2026 era, on the official SDK 2.x, whose every move is the
 * test's.
 */
import {
  type CallToolResult,
  createMcpHandler,
  fromJsonSchema,
  inputRequired,
  McpServer,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { type Listening, listen } from "../../conformance/everything/listen.ts";
import { eventually } from "./eventually.ts";

type Args = Readonly<Record<string, unknown>>;
type Fate = "running" | "released" | "cancelled";

const ANY = { type: "object" as const };
const said = (text: string): CallToolResult => ({ content: [{ type: "text", text }] });

export class Upstream2026 {
  readonly #calls = new Map<string, { fate: Fate; release: () => void }>();
  readonly #extra = new Set<string>();
  readonly #handler = createMcpHandler(() => this.#newServer(), { legacy: "reject" });
  #listening: Listening | null = null;

  static async start(): Promise<Upstream2026> {
    const upstream = new Upstream2026();
    upstream.#listening = await listen((request) => upstream.#handler.fetch(request));
    return upstream;
  }

  get url(): string {
    if (this.#listening === null) throw new Error("not started");
    return this.#listening.url;
  }

  async close(): Promise<void> {
    for (const { release } of this.#calls.values()) release();
    await this.#handler.close();
    await this.#listening?.close();
  }

  /** Waits until a held call has come to stand so. */
  async untilFate(token: string, fate: Fate): Promise<void> {
    await eventually(`${token} is ${fate}`, () =>
      this.#calls.get(token)?.fate === fate ? true : null,
    );
  }

  release(token: string): void {
    this.#calls.get(token)?.release();
  }

  /** Changes a resource: who listens is told. */
  touch(uri: string): void {
    this.#handler.notify.resourceUpdated(uri);
  }

  /** Has another tool from now on, and says so. */
  addTool(name: string): void {
    this.#extra.add(name);
    this.#handler.notify.toolsChanged();
  }

  #newServer(): McpServer {
    const server = new McpServer(
      { name: "upstream-2026", version: "1.0.0" },
      {
        capabilities: {
          tools: { listChanged: true },
          resources: { subscribe: true, listChanged: true },
          logging: {},
        },
      },
    );
    const inputSchema = fromJsonSchema<Args>(ANY);
    server.registerTool("hold", { inputSchema }, ({ token }, ctx) =>
      this.#hold(String(token), ctx),
    );
    server.registerTool("steps", { inputSchema }, async ({ n }, ctx) => {
      const progressToken = ctx.mcpReq._meta?.progressToken;
      for (let progress = 1; progress <= Number(n); progress++) {
        if (progressToken !== undefined) {
          const params = { progressToken, progress, total: Number(n) };
          await ctx.mcpReq.notify({ method: "notifications/progress", params });
        }
        await ctx.mcpReq.log("info", { step: progress });
      }
      return said("stepped");
    });
    server.registerTool("ask", { inputSchema }, async (_args, ctx) => {
      const given = ctx.mcpReq.inputResponses?.branch;
      if (given !== undefined) return said(JSON.stringify(given));
      return inputRequired({
        inputRequests: {
          branch: {
            method: "elicitation/create",
            params: {
              mode: "form",
              message: "Which branch?",
              requestedSchema: { type: "object", properties: { branch: { type: "string" } } },
            },
          },
        },
      });
    });
    for (const name of this.#extra) {
      server.registerTool(name, { inputSchema }, async () => said(name));
    }
    for (const name of ["a", "b"]) {
      const uri = `note://${name}`;
      server.registerResource(name, uri, {}, () => ({ contents: [{ uri, text: name }] }));
    }
    return server;
  }

  async #hold(token: string, { mcpReq }: ServerContext): Promise<CallToolResult> {
    await new Promise<void>((resolve) => {
      const end = (fate: Fate) => {
        const call = this.#calls.get(token);
        if (call?.fate === "running") call.fate = fate;
        resolve();
      };
      this.#calls.set(token, { fate: "running", release: () => end("released") });
      mcpReq.signal.addEventListener("abort", () => end("cancelled"));
    });
    return said(`held ${token}`);
  }
}
