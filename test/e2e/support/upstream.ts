/**
 * @module
 * An upstream that a test has in its hand, of either era: it keeps every
 * request with its headers, says what the test has it say, byte for byte where
 * that matters, and fails in every way that the test asks for.
 */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import { at } from "./http.ts";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Obj = { [key: string]: Json };

export type Seen = {
  readonly http: string;
  readonly headers: IncomingHttpHeaders;
  /** The JSON-RPC method; empty for an answer, and for what has no body. */
  readonly method: string;
  readonly message: Obj;
};

export type Question = { readonly method: string; readonly params?: Obj };

/** One request that a tool (or anything else) answers. */
export type Call = {
  readonly args: Obj;
  readonly params: Obj;
  readonly meta: Obj;
  readonly session: string | null;
  readonly headers: IncomingHttpHeaders;
  readonly signal: AbortSignal;
  readonly response: ServerResponse;
  /** Sends a notification on the response, which becomes a stream. */
  readonly notify: (method: string, params: Obj) => void;
  /**
   * Asks the client: in the 2025 era on the stream; in the 2026 era the call ends
   * with the questions, and begins anew when it is retried with the answers.
   */
  readonly ask: (questions: Record<string, Question>, state?: string) => Promise<Obj>;
};

/** `raw`: the very text of the result. `over`: the response was dealt with by the tool itself. */
export type Said = Obj | { readonly raw: string } | { readonly error: Obj } | "over";
type Run = (call: Call) => Said | Promise<Said>;
type Tool = { definition: Obj; run: Run };

class InputRequired extends Error {
  readonly questions: Record<string, Question>;
  readonly state: string;
  constructor(questions: Record<string, Question>, state: string) {
    super("input required");
    this.questions = questions;
    this.state = state;
  }
}

export const said = (text: string): Obj => ({ content: [{ type: "text", text }] });

export class Upstream {
  readonly era: "2025" | "2026";
  readonly seen: Seen[] = [];
  readonly tools = new Map<string, Tool>();
  readonly prompts: Obj[] = [];
  readonly resources: Obj[] = [];
  readonly templates: Obj[] = [];
  /** Answers to other methods than `tools/call`. */
  readonly methods = new Map<string, Run>();
  instructions: string | null = null;
  capabilities: Obj = { tools: { listChanged: true } };
  /** Sessions that it knows; a test makes it forget one by taking it out. */
  readonly sessions = new Map<string, Obj>();
  /** Takes a request over; true when it did. */
  fault: ((seen: Seen, response: ServerResponse) => boolean) | null = null;
  #url = "";
  #close: () => Promise<void> = async () => {};
  readonly #asked = new Map<string, (answer: Obj) => void>();
  #sessions = 0;

  private constructor(era: "2025" | "2026") {
    this.era = era;
  }

  static async start(era: "2025" | "2026"): Promise<Upstream> {
    const upstream = new Upstream(era);
    const server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString("utf8");
      const message: Obj = text.startsWith("{") ? JSON.parse(text) : {};
      const method = typeof message.method === "string" ? message.method : "";
      const seen = { http: request.method ?? "", headers: request.headers, method, message };
      upstream.seen.push(seen);
      if (upstream.fault?.(seen, response) === true) return;
      await upstream.#serve(seen, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const port = at(server.address(), "port");
    upstream.#url = `http://127.0.0.1:${port}/mcp`;
    upstream.#close = () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    };
    return upstream;
  }

  get url(): string {
    return this.#url;
  }

  close(): Promise<void> {
    return this.#close();
  }

  tool(name: string, run: Run, changes: Obj = {}): this {
    const definition = { name, description: `Does ${name}.`, inputSchema: { type: "object" } };
    this.tools.set(name, { definition: { ...definition, ...changes }, run });
    return this;
  }

  /** The requests of a method, of a tool where one is named. */
  asked(method: string, tool?: string): Seen[] {
    return this.seen.filter(
      (seen) =>
        seen.method === method && (tool === undefined || at(seen.message, "params.name") === tool),
    );
  }

  async #serve(seen: Seen, response: ServerResponse): Promise<void> {
    const { http, headers, method, message } = seen;
    const session = headers["mcp-session-id"];
    const sessionId = typeof session === "string" ? session : null;
    if (this.era === "2025" && method === "server/discover") return json(response, 400, {});
    if (this.era === "2025" && method === "initialize") return this.#initialize(message, response);
    if (this.era === "2025" && !this.sessions.has(sessionId ?? "")) {
      return json(response, sessionId === null ? 400 : 404, {});
    }
    if (http === "DELETE") {
      this.sessions.delete(sessionId ?? "");
      return void response.writeHead(200).end();
    }
    if (http === "GET") return void response.writeHead(405).end();
    if (method === "" && typeof message.id === "string") this.#asked.get(message.id)?.(message);
    if (message.id === undefined || method === "") return void response.writeHead(202).end();
    await this.#answer(seen, sessionId, response);
  }

  #initialize(message: Obj, response: ServerResponse): void {
    this.#sessions += 1;
    const id = `session-${this.#sessions}-${crypto.randomUUID()}`;
    this.sessions.set(id, message);
    const result = {
      protocolVersion: "2025-11-25",
      capabilities: this.capabilities,
      serverInfo: { name: "in the hand", version: "1" },
      ...(this.instructions === null ? {} : { instructions: this.instructions }),
    };
    json(
      response,
      200,
      { jsonrpc: "2.0", id: message.id ?? null, result },
      { "mcp-session-id": id },
    );
  }

  async #answer(seen: Seen, session: string | null, response: ServerResponse): Promise<void> {
    const { message, headers, method } = seen;
    const params = objectOf(message.params);
    const left = new AbortController();
    response.once("close", () => left.abort());
    const send = (text: string): void => {
      if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${text}\n\n`);
    };
    const call: Call = {
      params,
      args: objectOf(params.arguments),
      meta: objectOf(params._meta),
      session,
      headers,
      signal: left.signal,
      response,
      notify: (name, given) =>
        send(JSON.stringify({ jsonrpc: "2.0", method: name, params: given })),
      ask: (questions, state = "upstream state") =>
        this.era === "2025" ? this.#askOn(send, questions) : retried(params, questions, state),
    };
    const reply = await this.#run(method, call);
    if (reply === "over" || response.destroyed) return;
    const id = JSON.stringify(message.id);
    const text = `{"jsonrpc":"2.0","id":${id},${reply}}`;
    if (response.headersSent) return void response.end(`data: ${text}\n\n`);
    response.writeHead(200, { "content-type": "application/json" }).end(text);
  }

  /** The `result` or `error` member, as text. */
  async #run(method: string, call: Call): Promise<string | "over"> {
    try {
      const found = await this.#find(method, call);
      if (found === "over") return found;
      if ("raw" in found && typeof found.raw === "string") return `"result":${found.raw}`;
      if ("error" in found) return `"error":${JSON.stringify(found.error)}`;
      const complete = this.era === "2026" ? { resultType: "complete" } : {};
      return `"result":${JSON.stringify({ ...complete, ...found })}`;
    } catch (error) {
      if (!(error instanceof InputRequired)) throw error;
      const { questions: inputRequests, state: requestState } = error;
      return `"result":${JSON.stringify({ resultType: "input_required", inputRequests, requestState })}`;
    }
  }

  async #find(method: string, call: Call): Promise<Said> {
    const own = this.methods.get(method);
    if (own !== undefined) return own(call);
    const cache = this.era === "2026" ? { ttlMs: 30_000, cacheScope: "public" } : {};
    switch (method) {
      case "server/discover":
        return {
          supportedVersions: ["2026-07-28"],
          capabilities: this.capabilities,
          ...cache,
          ...(this.instructions === null ? {} : { instructions: this.instructions }),
          _meta: { "io.modelcontextprotocol/serverInfo": { name: "in the hand", version: "1" } },
        };
      case "tools/list":
        return { tools: [...this.tools.values()].map(({ definition }) => definition), ...cache };
      case "prompts/list":
        return { prompts: this.prompts, ...cache };
      case "resources/list":
        return { resources: this.resources, ...cache };
      case "resources/templates/list":
        return { resourceTemplates: this.templates, ...cache };
      case "tools/call": {
        const tool = this.tools.get(String(call.params.name));
        return tool === undefined
          ? { error: { code: -32602, message: "no such tool" } }
          : tool.run(call);
      }
      case "logging/setLevel":
        return {};
      default:
        return { error: { code: -32601, message: "no such method" } };
    }
  }

  async #askOn(send: (text: string) => void, questions: Record<string, Question>): Promise<Obj> {
    const answers = Object.entries(questions).map(async ([key, { method, params }]) => {
      const id = crypto.randomUUID();
      const answer = new Promise<Obj>((resolve) => this.#asked.set(id, resolve));
      send(JSON.stringify({ jsonrpc: "2.0", id, method, ...(params && { params }) }));
      const { result, error } = await answer;
      return [key, result ?? { error: error ?? null }] as const;
    });
    return Object.fromEntries(await Promise.all(answers));
  }
}

async function retried(
  params: Obj,
  questions: Record<string, Question>,
  state: string,
): Promise<Obj> {
  const given = objectOf(params.inputResponses);
  const isWhole = Object.keys(questions).every((key) => Object.hasOwn(given, key));
  if (isWhole && params.requestState === state) return given;
  throw new InputRequired(questions, state);
}

export function objectOf(value: Json | undefined): Obj {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

function json(
  response: ServerResponse,
  status: number,
  body: Json,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

/** Never answers. */
export const hang: Run = ({ signal }) =>
  new Promise((resolve) => signal.addEventListener("abort", () => resolve("over")));
