/**
 * @module
 * An upstream of the 2025 era, on the official SDK 1.x, whose every move is the
 * test's: calls wait until they are let go, resources change when they are
 * touched, and what was cancelled can be seen.
 */
import { randomUUID } from "node:crypto";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import {
  CallToolRequestSchema,
  type CallToolResult,
  CompleteRequestSchema,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  ReadResourceRequestSchema,
  ResultSchema,
  type ServerNotification,
  type ServerRequest,
  SetLevelRequestSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { type Listening, listen } from "../../conformance/everything/listen.ts";
import { eventually } from "./eventually.ts";

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;
type Fate = "running" | "released" | "cancelled";

const ASKS = {
  form: {
    method: "elicitation/create",
    params: {
      mode: "form",
      message: "Which branch?",
      requestedSchema: {
        type: "object",
        properties: { branch: { type: "string" } },
        required: ["branch"],
      },
    },
  },
  url: {
    method: "elicitation/create",
    params: {
      mode: "url",
      message: "Sign in",
      elicitationId: "sign-in-1",
      url: "https://example.com/sign-in",
    },
  },
  sampling: {
    method: "sampling/createMessage",
    params: {
      messages: [{ role: "user", content: { type: "text", text: "Say it" } }],
      maxTokens: 10,
    },
  },
  roots: { method: "roots/list" },
} as const satisfies Record<string, ServerRequest>;

export type Asked = keyof typeof ASKS;

const said = (text: string): CallToolResult => ({ content: [{ type: "text", text }] });
const STRINGS = { type: "object" as const };

export class Upstream2025 {
  readonly #listening: Listening;
  readonly #calls = new Map<string, { fate: Fate; release: () => void }>();
  readonly #sessions = new Map<string, WebStandardStreamableHTTPServerTransport>();
  readonly #servers = new Map<string, { server: Server; uris: Set<string> }>();
  readonly #tools = new Set(["hold", "big", "steps", "ask", "echo"]);
  /** Levels that sessions asked for, in order. */
  readonly levels: string[] = [];

  private constructor(listening: Listening) {
    this.#listening = listening;
  }

  static async start(): Promise<Upstream2025> {
    let upstream: Upstream2025 | null = null;
    const listening = await listen(async (request) => {
      if (upstream === null) return new Response(null, { status: 503 });
      return upstream.#serve(request);
    });
    upstream = new Upstream2025(listening);
    return upstream;
  }

  get url(): string {
    return this.#listening.url;
  }

  async close(): Promise<void> {
    for (const { release } of this.#calls.values()) release();
    await Promise.all([...this.#sessions.values()].map((each) => each.close()));
    await this.#listening.close();
  }

  /** How a held call stands; null before it has come. */
  fateOf(token: string): Fate | null {
    return this.#calls.get(token)?.fate ?? null;
  }

  /** Waits until a held call has come to stand so. */
  async untilFate(token: string, fate: Fate): Promise<void> {
    await eventually(`${token} is ${fate}`, () => (this.fateOf(token) === fate ? true : null));
  }

  release(token: string): void {
    this.#calls.get(token)?.release();
  }

  /** How many sessions are subscribed to a resource. */
  subscribers(uri: string): number {
    return [...this.#servers.values()].filter(({ uris }) => uris.has(uri)).length;
  }

  /** Changes a resource: its subscribers are told. */
  async touch(uri: string): Promise<void> {
    for (const { server, uris } of this.#servers.values()) {
      if (uris.has(uri)) await server.sendResourceUpdated({ uri });
    }
  }

  /** Has another tool from now on, and says so. */
  async addTool(name: string): Promise<void> {
    this.#tools.add(name);
    for (const { server } of this.#servers.values()) await server.sendToolListChanged();
  }

  async #serve(request: Request): Promise<Response> {
    const id = request.headers.get("mcp-session-id");
    const transport = id === null ? await this.#open() : this.#sessions.get(id);
    if (transport === undefined) return new Response(null, { status: 404 });
    return transport.handleRequest(request);
  }

  async #open(): Promise<WebStandardStreamableHTTPServerTransport> {
    const uris = new Set<string>();
    const server = this.#newServer(uris);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => {
        this.#sessions.set(id, transport);
        this.#servers.set(id, { server, uris });
      },
      onsessionclosed: (id) => {
        this.#sessions.delete(id);
        this.#servers.delete(id);
      },
    });
    await server.connect(transport);
    return transport;
  }

  #newServer(uris: Set<string>): Server {
    const server = new Server(
      { name: "upstream-2025", version: "1.0.0" },
      {
        capabilities: {
          tools: { listChanged: true },
          prompts: {},
          resources: { subscribe: true },
          completions: {},
          logging: {},
        },
      },
    );
    server.setRequestHandler(ListToolsRequestSchema, () => ({
      tools: [...this.#tools].map((name) => ({
        name,
        description: `Does ${name}`,
        inputSchema: STRINGS,
      })),
    }));
    server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) =>
      this.#call(server, params.name, params.arguments ?? {}, extra),
    );
    server.setRequestHandler(ListPromptsRequestSchema, () => ({
      prompts: [{ name: "greet", arguments: [{ name: "who", required: true }] }],
    }));
    server.setRequestHandler(GetPromptRequestSchema, ({ params }) => ({
      messages: [
        { role: "user", content: { type: "text", text: `Hello ${params.arguments?.who}` } },
      ],
    }));
    server.setRequestHandler(CompleteRequestSchema, ({ params }) => ({
      completion: { values: [`${params.argument.value}!`] },
    }));
    server.setRequestHandler(ListResourcesRequestSchema, () => ({
      resources: [
        { uri: "doc://a", name: "a" },
        { uri: "doc://b", name: "b" },
      ],
    }));
    server.setRequestHandler(ListResourceTemplatesRequestSchema, () => ({
      resourceTemplates: [{ uriTemplate: "doc://any/{name}", name: "any" }],
    }));
    server.setRequestHandler(ReadResourceRequestSchema, ({ params: { uri } }) => ({
      contents: [{ uri, text: `the text of ${uri}` }],
    }));
    server.setRequestHandler(SubscribeRequestSchema, ({ params: { uri } }) => {
      uris.add(uri);
      return {};
    });
    server.setRequestHandler(UnsubscribeRequestSchema, ({ params: { uri } }) => {
      uris.delete(uri);
      return {};
    });
    server.setRequestHandler(SetLevelRequestSchema, ({ params: { level } }) => {
      this.levels.push(level);
      return {};
    });
    return server;
  }

  async #call(
    server: Server,
    name: string,
    args: Record<string, unknown>,
    extra: Extra,
  ): Promise<CallToolResult> {
    switch (name) {
      case "hold":
        return this.#hold(String(args.token), extra);
      case "big":
        // A word first, so that the response is a stream.
        await extra.sendNotification({
          method: "notifications/message",
          params: { level: "info", data: "a lot is coming" },
        });
        return said(`${args.lead}${String(args.unit).repeat(Number(args.times))}`);
      case "steps":
        return steps(Number(args.n), extra);
      case "ask": {
        const asked = ASKS[String(args.what) as Asked];
        const answer = args.aside
          ? await server.request(asked, ResultSchema)
          : await extra.sendRequest(asked, ResultSchema);
        return said(JSON.stringify(answer));
      }
      default:
        return said(JSON.stringify(args));
    }
  }

  async #hold(token: string, { signal }: Extra): Promise<CallToolResult> {
    await new Promise<void>((resolve) => {
      const end = (fate: Fate) => {
        const call = this.#calls.get(token);
        if (call?.fate === "running") call.fate = fate;
        resolve();
      };
      this.#calls.set(token, { fate: "running", release: () => end("released") });
      signal.addEventListener("abort", () => end("cancelled"));
    });
    return said(`held ${token}`);
  }
}

/** So many times progress and a log message, on the stream of the call. */
async function steps(n: number, extra: Extra): Promise<CallToolResult> {
  const progressToken = extra._meta?.progressToken;
  for (let progress = 1; progress <= n; progress++) {
    if (progressToken !== undefined) {
      const params = { progressToken, progress, total: n, message: `step ${progress}` };
      await extra.sendNotification({ method: "notifications/progress", params });
    }
    await extra.sendNotification({
      method: "notifications/message",
      params: { level: "info", logger: "steps", data: { step: progress } },
    });
  }
  return said("stepped");
}
