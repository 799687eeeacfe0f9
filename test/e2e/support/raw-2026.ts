/**
 * @module
 * Requests of 2026-07-28 by hand, with the headers that a conforming client
 * mirrors, and their answers with the bytes that came.
 */
import { send } from "./http.ts";
import { ACCEPT } from "./mcp.ts";

export const VERSION = "2026-07-28";

export type Reply = {
  readonly status: number;
  /** The JSON-RPC message, taken out of its stream where it came on one. */
  readonly text: string;
  readonly body: unknown;
};

/** The value at a path; names may hold dots, as the keys of `_meta` do. */
export function pick(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>(
    (found, name) =>
      typeof found === "object" && found !== null ? Reflect.get(found, name) : undefined,
    value,
  );
}

/** A client of one key, which declares these capabilities with each request. */
export class Raw2026 {
  readonly url: string;
  readonly key: string;
  readonly capabilities: object;
  /** Further keys of every request's `_meta`. */
  meta: Readonly<Record<string, unknown>> = {};
  #next = 0;

  constructor(url: string, key: string, capabilities: object = {}) {
    this.url = url;
    this.key = key;
    this.capabilities = capabilities;
  }

  async post(
    method: string,
    params: Readonly<Record<string, unknown>> = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> {
    this.#next += 1;
    const args = params.arguments;
    const session = pick(args, "session_id") ?? pick(args, "atlas_session");
    const name = params.name ?? params.uri;
    const answer = await send(`${this.url}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${this.key}`,
        "content-type": "application/json",
        accept: ACCEPT,
        "mcp-protocol-version": VERSION,
        "mcp-method": method,
        ...(typeof name === "string" ? { "mcp-name": name } : {}),
        ...(typeof session === "string" ? { "mcp-param-atlas-session": session } : {}),
        ...headers,
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: this.#next,
        method,
        params: {
          ...params,
          _meta: {
            ...this.meta,
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": this.capabilities,
            "io.modelcontextprotocol/clientInfo": { name: "raw", version: "1" },
          },
        },
      }),
    });
    const text = lastMessage(answer.text);
    return { status: answer.status, text, body: JSON.parse(text) };
  }

  call(
    name: string,
    args: Readonly<Record<string, unknown>> = {},
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<Reply> {
    return this.post("tools/call", { name, arguments: args, ...more });
  }

  /** `begin_session`; answers with its handle. */
  async begin(workspaceRoot: string, planHash?: string): Promise<string> {
    const { text, body } = await this.call("begin_session", {
      workspace_root: workspaceRoot,
      ...(planHash === undefined ? {} : { plan_hash: planHash }),
    });
    const session = pick(body, "result", "structuredContent", "session_id");
    if (typeof session !== "string") throw new Error(text);
    return session;
  }
}

/** A tool's refusal code; null when it went well, undefined when it is no tool's result. */
export function codeOf({ body }: Reply): unknown {
  const meta = pick(body, "result", "_meta");
  if (meta === undefined) return undefined;
  return pick(meta, "dev.atlas-gate/error", "code") ?? null;
}

/** The session that an answer's record is in. */
export function sessionOf({ body, text }: Reply): string {
  const receipt =
    pick(body, "result", "_meta", "dev.atlas-gate/receipt") ??
    pick(body, "error", "data", "receipt");
  const session = pick(receipt, "session_id");
  if (typeof session !== "string") throw new Error(`no receipt: ${text}`);
  return session;
}

/** The text of the response in a body that may be an event stream. */
export function lastMessage(text: string): string {
  if (!/^(?:id|event|data|retry|:)/.test(text)) return text;
  const data = text
    .split(/\r?\n/)
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice("data:".length).trimStart())
    .filter((line) => line !== "");
  return data.at(-1) ?? "";
}
