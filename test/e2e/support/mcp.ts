/**
 * @module
 * MCP as clients speak it: through the official SDK, and by hand where a test
 * is about the bytes.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as z from "zod";
import { type Answer, at, send, textAt } from "./http.ts";

export const receiptSchema = z.strictObject({
  session_id: z.string(),
  seq: z.int(),
  hash_chain: z.string().regex(/^[0-9a-f]{64}$/),
});

export type Receipt = z.infer<typeof receiptSchema>;

export type Outcome = {
  /** Null when the call went well. */
  readonly code: string | null;
  readonly text: string;
  readonly structured: unknown;
  readonly receipt: Receipt;
};

const toolResult = z.object({
  isError: z.boolean().optional(),
  content: z.array(z.object({ type: z.literal("text"), text: z.string() })),
  structuredContent: z.record(z.string(), z.unknown()).optional(),
  _meta: z.object({
    "dev.atlas-gate/receipt": receiptSchema,
    "dev.atlas-gate/error": z.strictObject({ code: z.string(), message: z.string() }).optional(),
  }),
});

/** One `tools/call` result, held against what the contract says of every one. */
export function readToolResult(result: unknown): Outcome {
  const { isError, content, structuredContent, _meta } = toolResult.parse(result);
  const text = content.map((part) => part.text).join("");
  const receipt = _meta["dev.atlas-gate/receipt"];
  const error = _meta["dev.atlas-gate/error"];
  if (isError === true) {
    if (error === undefined || structuredContent !== undefined) {
      throw new Error(`Not the form of a refusal: ${JSON.stringify(result)}`);
    }
    if (text !== `[${error.code}] ${error.message}`) throw new Error(`Another text: ${text}`);
    return { code: error.code, text, structured: undefined, receipt };
  }
  if (error !== undefined || structuredContent === undefined) {
    throw new Error(`Not the form of a result: ${JSON.stringify(result)}`);
  }
  return { code: null, text, structured: structuredContent, receipt };
}

/** A client of the official SDK on a session of its own. */
export class Agent {
  readonly client: Client;
  readonly #transport: StreamableHTTPClientTransport;

  private constructor(url: string, key: string) {
    this.client = new Client({ name: "e2e", version: "1.0.0" });
    this.#transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${key}` } },
    });
  }

  static async connect(url: string, key: string): Promise<Agent> {
    const agent = new Agent(url, key);
    // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
    await agent.client.connect(agent.#transport as Parameters<Client["connect"]>[0]);
    // From here on the SDK holds each structured answer against the tool's output schema.
    await agent.client.listTools();
    return agent;
  }

  get sessionId(): string {
    const { sessionId } = this.#transport;
    if (sessionId === undefined) throw new Error("there is no session");
    return sessionId;
  }

  async call(name: string, args: Record<string, unknown> = {}): Promise<Outcome> {
    return readToolResult(await this.client.callTool({ name, arguments: args }));
  }

  /** A call that must go well; answers with its structured content. */
  async ok(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const outcome = await this.call(name, args);
    if (outcome.code !== null) throw new Error(`${name}: ${outcome.text}`);
    return outcome.structured;
  }

  /** Ends the session, as a client that is done does. */
  async end(): Promise<void> {
    await this.#transport.terminateSession();
    await this.client.close();
  }

  /** Goes away without a word. */
  async close(): Promise<void> {
    await this.client.close();
  }
}

export const ACCEPT = "application/json, text/event-stream";

export type RawCall = {
  readonly key?: string;
  readonly session?: string;
  readonly headers?: Readonly<Record<string, string>>;
};

/** POSTs a body to `/mcp` as it is: text and bytes unchanged, all else as JSON. */
export function postMcp(url: string, body: unknown, call: RawCall = {}): Promise<Answer> {
  return send(`${url}/mcp`, {
    method: "POST",
    headers: {
      accept: ACCEPT,
      "content-type": "application/json",
      ...(call.key === undefined ? {} : { authorization: `Bearer ${call.key}` }),
      ...(call.session === undefined ? {} : { "mcp-session-id": call.session }),
      ...call.headers,
    },
    body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
  });
}

export function initializeMessage(
  protocolVersion = "2025-11-25",
  id: string | number = 1,
  capabilities: object = {},
) {
  return {
    jsonrpc: "2.0",
    id,
    method: "initialize",
    params: {
      protocolVersion,
      capabilities,
      clientInfo: { name: "e2e raw", version: "1.0.0" },
    },
  };
}

export function toolCall(id: string | number, name: string, args: unknown = {}) {
  return { jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: args } };
}

/** A session of the raw protocol; `rpc` sends one request on it and gives the whole answer. */
export class RawSession {
  readonly url: string;
  readonly key: string;
  readonly id: string;
  readonly version: string;
  #next = 1;

  private constructor(url: string, key: string, id: string, version: string) {
    this.url = url;
    this.key = key;
    this.id = id;
    this.version = version;
  }

  static async open(
    url: string,
    key: string,
    version = "2025-11-25",
    capabilities: object = {},
  ): Promise<RawSession> {
    const answer = await postMcp(url, initializeMessage(version, 1, capabilities), { key });
    const id = answer.headers["mcp-session-id"];
    if (answer.status !== 200 || typeof id !== "string") {
      throw new Error(`initialize: ${answer.status} ${answer.text}`);
    }
    return new RawSession(url, key, id, textAt(answer.json, "result.protocolVersion"));
  }

  /** POSTs any body on this session. */
  post(body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return postMcp(this.url, body, { key: this.key, session: this.id, headers });
  }

  request(method: string, params?: unknown): Promise<Answer> {
    this.#next += 1;
    return this.post({
      jsonrpc: "2.0",
      id: this.#next,
      method,
      ...(params === undefined ? {} : { params }),
    });
  }

  async call(name: string, args: unknown = {}): Promise<Outcome> {
    const answer = await this.request("tools/call", { name, arguments: args });
    if (answer.status !== 200) throw new Error(`${name}: ${answer.status} ${answer.text}`);
    return readToolResult(at(answer.json, "result"));
  }

  /** A call that must go well; answers with its structured content. */
  async ok(name: string, args: unknown = {}): Promise<unknown> {
    const outcome = await this.call(name, args);
    if (outcome.code !== null) throw new Error(`${name}: ${outcome.text}`);
    return outcome.structured;
  }

  end(): Promise<Answer> {
    return send(`${this.url}/mcp`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${this.key}`, "mcp-session-id": this.id },
    });
  }
}
