/**
 * @module
 * The client's side of Streamable HTTP, 2026-07-28: every request stands alone,
 * its stream is never resumed, and closing it cancels the request.
 */
import { nameHeader } from "../mcp/headers.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import {
  HEADER_MISMATCH,
  INTERNAL_ERROR,
  MISSING_CAPABILITY,
  type RpcErrorObject,
  type RpcNotification,
  UNSUPPORTED_VERSION,
} from "../mcp/jsonrpc.ts";
import { SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { PROTOCOL_VERSION_META_KEY, VERSIONS_2026 } from "../mcp/versions.ts";
import type { WireFailure, WireHooks, WireOutcome, WireTarget } from "./types.ts";
import {
  bodyFailure,
  discard,
  failedBy,
  failure,
  mediaType,
  noAnswer,
  readText,
  type Sent,
  send,
  statusFailure,
} from "./wire-http.ts";
import { type Incoming, objectOf, readMessages } from "./wire-message.ts";
import { endedBy, Silence, sleep } from "./wire-silence.ts";
import { readSse, SseError } from "./wire-sse.ts";

/** Between two subscriptions, doubled with each that brought nothing, in ms. */
const FIRST_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;

const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";

/** Errors by which a server of this era refuses a request as such; proxies send them without an id. */
const MODERN_REFUSALS = [HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION];

export type RequestOptions = {
  readonly clientInfo: JsonObject;
  readonly clientCapabilities: JsonObject;
  /** More for `_meta`: a progress token, a trace. */
  readonly meta?: JsonObject;
  /** `Mcp-Param-*`, encoded; see `paramHeaders`. */
  readonly paramHeaders?: Readonly<Record<string, string>>;
  /** The latest unless given. */
  readonly protocolVersion?: string;
};

type Hooks = Pick<WireHooks, "timeoutMs" | "signal" | "onNotification">;

export type Discovered =
  | {
      readonly ok: true;
      readonly supportedVersions: readonly string[];
      readonly capabilities: JsonObject;
      readonly instructions: string | null;
      readonly serverInfo: JsonObject;
      readonly ttlMs: number | null;
    }
  /** `result`: something was answered that is no `DiscoverResult`. */
  | { readonly ok: false; readonly outcome: WireOutcome };

/**
 * Sends a request and sees it through to its answer or its failure. When
 * `hooks` end it, its connection is closed, which cancels it at the server.
 * Requests of the server on the stream are passed over: this era has none.
 */
export async function request(
  target: WireTarget,
  method: string,
  params: JsonObject | undefined,
  options: RequestOptions,
  hooks: Hooks,
): Promise<WireOutcome> {
  const silence = new Silence(hooks.timeoutMs, hooks.signal);
  const onNotification = (notification: RpcNotification) => {
    silence.restart();
    hooks.onNotification?.(notification);
  };
  try {
    const call = { target, requestId: crypto.randomUUID(), signal: silence.signal };
    const outcome = await exchange(call, method, params, options, onNotification);
    if (outcome.kind !== "failed") return outcome;
    return failedBy(endedBy(outcome.failure, silence));
  } finally {
    silence.dispose();
  }
}

/** Asks which revisions the server speaks and what it offers (`server/discover`). */
export async function discover(
  target: WireTarget,
  options: RequestOptions,
  hooks: Hooks,
): Promise<Discovered> {
  const outcome = await request(target, "server/discover", undefined, options, hooks);
  if (outcome.kind !== "result") return { ok: false, outcome };
  const { supportedVersions, capabilities, instructions, ttlMs, _meta } = outcome.result;
  const isDiscovery =
    Array.isArray(supportedVersions) &&
    supportedVersions.every((version) => typeof version === "string");
  if (!isDiscovery) return { ok: false, outcome };
  return {
    ok: true,
    supportedVersions,
    capabilities: objectOf(capabilities),
    instructions: typeof instructions === "string" ? instructions : null,
    serverInfo: objectOf(objectOf(_meta)[SERVER_INFO_META_KEY]),
    ttlMs: typeof ttlMs === "number" && ttlMs >= 0 ? Math.floor(ttlMs) : null,
  };
}

export type ListenEnd =
  | { readonly kind: "error"; readonly error: RpcErrorObject }
  | { readonly kind: "failed"; readonly failure: WireFailure };

/**
 * Keeps a subscription (`subscriptions/listen`) open until `hooks.signal`
 * aborts, and opens another whenever one ends. `onAcknowledged` gets what the
 * server granted, each time: what changed between two of them was not told.
 * Null when it was ended, and when the server grants nothing; else why it was
 * given up. `hooks.timeoutMs` is for the acknowledgement.
 */
export async function listen(
  target: WireTarget,
  filter: JsonObject,
  options: RequestOptions,
  hooks: Hooks & { readonly onAcknowledged?: (granted: JsonObject) => void },
): Promise<ListenEnd | null> {
  const signal = hooks.signal ?? new AbortController().signal;
  const isOver = () => signal.aborted;
  for (let tries = 1; ; tries++) {
    const silence = new Silence(hooks.timeoutMs, signal);
    let granted: JsonObject | null = null;
    const onNotification = (notification: RpcNotification) => {
      if (notification.method !== ACKNOWLEDGED) return hooks.onNotification?.(notification);
      granted = objectOf(notification.params?.notifications);
      // From here on it may be silent for as long as it likes.
      silence.pause();
      hooks.onAcknowledged?.(granted);
    };
    try {
      const call = { target, requestId: crypto.randomUUID(), signal: silence.signal };
      const params = { notifications: filter };
      const outcome = await exchange(call, "subscriptions/listen", params, options, onNotification);
      if (isOver()) return null;
      const end = finalEnd(outcome);
      if (end !== null) return end;
      if (granted !== null && Object.keys(granted).length === 0) return null;
      if (granted !== null) tries = 1;
      await sleep(Math.min(FIRST_BACKOFF_MS * 2 ** (tries - 1), MAX_BACKOFF_MS), signal);
      if (isOver()) return null;
    } finally {
      silence.dispose();
    }
  }
}

/** Why another try would fare no better, or null. */
function finalEnd(outcome: WireOutcome): ListenEnd | null {
  if (outcome.kind === "result") return null;
  // Too many subscriptions, or trouble of the server's own: that passes.
  if (outcome.kind === "error") return outcome.error.code === INTERNAL_ERROR ? null : outcome;
  const { reason, httpStatus } = outcome.failure;
  const passes =
    reason === "unreachable" ||
    reason === "timeout" ||
    reason === "cancelled" ||
    httpStatus === 429 ||
    httpStatus === 503 ||
    // A stream that was cut off, before or after its acknowledgement.
    (reason === "protocol" && httpStatus === null);
  return passes ? null : outcome;
}

type Call = {
  readonly target: WireTarget;
  readonly requestId: string;
  readonly signal: AbortSignal;
};

type OnNotification = (notification: RpcNotification) => void;

const CUT_OFF = "The stream ended without the answer.";

async function exchange(
  call: Call,
  method: string,
  params: JsonObject | undefined,
  options: RequestOptions,
  onNotification: OnNotification,
): Promise<WireOutcome> {
  const version = options.protocolVersion ?? VERSIONS_2026[0];
  const name = nameHeader(method, params);
  const headers = {
    ...options.paramHeaders,
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
    "MCP-Protocol-Version": version,
    "Mcp-Method": method,
    ...(name === null ? {} : { "Mcp-Name": name }),
  };
  const _meta = {
    ...objectOf(params?._meta),
    ...options.meta,
    [PROTOCOL_VERSION_META_KEY]: version,
    "io.modelcontextprotocol/clientInfo": options.clientInfo,
    "io.modelcontextprotocol/clientCapabilities": options.clientCapabilities,
  };
  const message = { jsonrpc: "2.0", id: call.requestId, method, params: { ...params, _meta } };
  const body = JSON.stringify(message);
  const sent = await send(call.target, { method: "POST", headers, body }, call.signal);
  return sent.ok ? await answerIn(call, sent, onNotification) : failedBy(sent.failure);
}

async function answerIn(
  call: Call,
  { response, quote }: Sent & { ok: true },
  onNotification: OnNotification,
): Promise<WireOutcome> {
  const { status, ok } = response;
  const type = mediaType(response);
  if (ok && type === "text/event-stream" && response.body !== null) {
    return await follow(call, response.body, onNotification);
  }
  if (ok && type !== "application/json") {
    await discard(response);
    const detail = `HTTP ${status} with content type ${quote(JSON.stringify(type))}.`;
    return failedBy(failure("protocol", "maybe", detail, status));
  }
  const body = await readText(response, call.target.maxBytes, call.signal);
  if (!ok) {
    const refusal = body.ok ? refusalOf(call, body.text) : null;
    return refusal ?? failedBy(statusFailure(status, body.ok ? quote(body.text) : ""));
  }
  if (!body.ok) return failedBy(bodyFailure(body.reason));
  const read = readMessages(body.text);
  const [only] = read.ok ? read.messages : [];
  if (read.ok && read.messages.length === 1 && only?.kind === "answer") {
    // An error without an id is about this request: the server says nothing else.
    if (only.id === call.requestId || only.id === null) return only.answer;
  }
  return failedBy(noAnswer(status));
}

/** The JSON-RPC error by which a server refuses with a status of 4xx or 5xx. */
function refusalOf(call: Call, text: string): WireOutcome | null {
  const read = readMessages(text);
  const [only] = read.ok ? read.messages : [];
  if (only?.kind !== "answer" || only.answer.kind !== "error") return null;
  const isModern = only.id === null && MODERN_REFUSALS.includes(only.answer.error.code);
  return only.id === call.requestId || isModern ? only.answer : null;
}

/** Reads a stream to the answer. */
async function follow(
  call: Call,
  body: ReadableStream<Uint8Array>,
  onNotification: OnNotification,
): Promise<WireOutcome> {
  const events = readSse(body, call.target.maxBytes, call.signal);
  try {
    for (;;) {
      const next = await nextData(events);
      if (typeof next !== "string") return failedBy(next);
      const read = readMessages(next);
      // Servers send events of their own making between messages; the answer may still come.
      if (!read.ok) continue;
      for (const incoming of read.messages) {
        const end = hear(call, incoming, onNotification);
        if (end !== null) return end;
      }
    }
  } finally {
    await events.return();
  }
}

function hear(call: Call, incoming: Incoming, onNotification: OnNotification): WireOutcome | null {
  if (incoming.kind === "notification") onNotification(incoming.message);
  if (incoming.kind === "answer" && incoming.id === call.requestId) return incoming.answer;
  if (incoming.kind === "invalid" && incoming.id === call.requestId) {
    const detail = `The answer is no JSON-RPC: ${incoming.problem}`;
    return failedBy(failure("protocol", "maybe", detail));
  }
  return null;
}

/** The data of the next message event, or how the stream ended. */
async function nextData(events: ReturnType<typeof readSse>): Promise<string | WireFailure> {
  try {
    for (;;) {
      const { done, value } = await events.next();
      if (done === true) return failure("protocol", "maybe", CUT_OFF);
      const isMessage = value.event === null || value.event === "" || value.event === "message";
      if (isMessage && value.data !== null && value.data !== "") return value.data;
    }
  } catch (error) {
    if (!(error instanceof SseError)) {
      return failure("unreachable", "maybe", "The connection broke within the stream.");
    }
    const reason = error.reason === "too_large" ? "too_large" : "protocol";
    return failure(reason, "maybe", `${error.message}.`);
  }
}
