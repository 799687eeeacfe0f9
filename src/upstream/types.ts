/**
 * @module
 * What federation is made of: an upstream as an operator registered it, what
 * it offers as far as that was approved, and how one exchange with it ends.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcErrorObject, RpcNotification, RpcRequest } from "../mcp/jsonrpc.ts";
import type { Role } from "../policy/roles.ts";

// ── the registry ────────────────────────────────────────────────────────────

/** Who may call what: under a plan that names it, only what reads, or everything. */
export type Gate = "plan" | "read_only" | "open";

/** An upstream as it is registered, without its credentials. */
export type UpstreamConfig = {
  readonly name: string;
  readonly url: string;
  /** Of exposed names, followed by `_`; empty keeps the upstream's own. */
  readonly prefix: string;
  readonly gate: Gate;
  readonly tenants: readonly string[];
  readonly roles: readonly Role[];
  /** Longest silence of a request, in ms. */
  readonly timeout_ms: number;
  readonly session_param: boolean;
  /** Whether it may ask the client for a completion, or its user for input. */
  readonly sampling: boolean;
  readonly elicitation: boolean;
  /** URIs that are its own; none takes all that is nobody else's. */
  readonly resource_prefixes: readonly string[];
};

export type DefinitionKind = "tool" | "prompt" | "resource_template";

/** A tool, prompt or template whose definition an operator approved, in the approved copy. */
export type Definition = {
  readonly kind: DefinitionKind;
  readonly upstream: string;
  /** The upstream's own name of it; of a template its `uriTemplate`. */
  readonly name: string;
  /** The name that clients see; of a template its `uriTemplate`. */
  readonly exposed: string;
  /** As the upstream defines it, its own name included. */
  readonly definition: JsonObject;
  /** SHA-256 of the RFC 8785 form of `definition`, hex. */
  readonly pin: string;
  /** `changed`: the upstream now defines it otherwise, and calls are refused. `gone`: it no longer offers it. */
  readonly status: "approved" | "changed" | "gone";
  /** Whether an operator marked it as reading only. */
  readonly reads: boolean;
};

/** What is known of an upstream from its last refresh. */
export type UpstreamEntry = {
  readonly config: UpstreamConfig;
  /** Its credentials, sealed. */
  readonly auth: string;
  /** Null while it never answered. */
  readonly era: "2025" | "2026" | null;
  readonly protocolVersion: string | null;
  readonly capabilities: JsonObject;
  /** The approved copy of its instructions. */
  readonly instructions: string | null;
  /** Whether its last refresh went well. */
  readonly available: boolean;
  /** Least `ttlMs` that its lists gave; null where none did. */
  readonly ttlMs: number | null;
  /** Its resources at the last refresh, as it listed them. */
  readonly resources: readonly JsonObject[];
  /** By kind and name order. */
  readonly definitions: readonly Definition[];
};

// ── the wire ────────────────────────────────────────────────────────────────

/** How an upstream is reached. */
export type WireTarget = {
  readonly name: string;
  readonly url: string;
  /** Headers that authenticate a request, asked before each; `again` after a 401, for a new token. */
  readonly authorize: (again: boolean) => Promise<Readonly<Record<string, string>>>;
  /** Refuses addresses that are not public, redirects to them included; see `address.ts`. */
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** Longest body, and longest single SSE event, in bytes. */
  readonly maxBytes: number;
};

export type WireFailure = {
  readonly reason:
    | "unreachable"
    | "timeout"
    | "unauthorized"
    /**
     * An HTTP status that says the request was not taken: 4xx other than the ones named here, 429,
     * 503; or an address that nothing is sent to.
     */
    | "refused"
    /** What came is no answer: another content type, no JSON-RPC, a stream that ended without one. */
    | "protocol"
    | "too_large"
    | "cancelled"
    /** 2025 era: 404 for its session; another one must be initialised. */
    | "session_lost";
  /** Whether the request may have been carried out: `no` only where that is certain. */
  readonly ran: "no" | "maybe";
  /** For the operator's log; never shown to an agent. */
  readonly detail: string;
  readonly httpStatus: number | null;
};

/** How one request ended. */
export type WireOutcome =
  | {
      readonly kind: "result";
      /** As JavaScript holds it; `text` is what was sent. */
      readonly result: JsonObject;
      /** The very text of the `result` member. */
      readonly text: string;
      /** Whether `result` says all that `text` does (RFC 7493). */
      readonly isIJson: boolean;
    }
  | { readonly kind: "error"; readonly error: RpcErrorObject }
  | { readonly kind: "failed"; readonly failure: WireFailure };

/** The answer to a server-to-client request. */
export type ClientAnswer = { readonly result: JsonObject } | { readonly error: RpcErrorObject };

export type WireHooks = {
  /** Longest silence in ms: starts anew with each message, and rests while a request of the upstream is being answered. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** A notification that belongs to this request, or, on a listening stream, any. */
  readonly onNotification?: (notification: RpcNotification) => void;
  /**
   * 2025 era: a request of the upstream to the client. Without it, −32601.
   * `signal` aborts when nobody waits for the answer any more: the upstream
   * cancelled its request, or the exchange that it belongs to is over.
   */
  readonly onRequest?: (request: RpcRequest, signal: AbortSignal) => Promise<ClientAnswer>;
};

/** A session with an upstream of the 2025 era: kept between two requests, across lives of its holder. */
export type WireSession2025 = {
  readonly sessionId: string | null;
  readonly protocolVersion: string;
  readonly capabilities: JsonObject;
};
