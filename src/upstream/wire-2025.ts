/**
 * @module
 * The client's side of Streamable HTTP, 2025-03-26 to 2025-11-25: sessions,
 * requests whose streams are resumed when they break, and the session's own
 * stream. Nothing is kept here between two calls: a session is a value that its
 * holder stores.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcErrorObject } from "../mcp/jsonrpc.ts";
import { isSupported2025, LATEST_2025 } from "../mcp/versions.ts";
import type { WireFailure, WireHooks, WireOutcome, WireSession2025, WireTarget } from "./types.ts";
import {
  type Cursor,
  getStream,
  hear,
  post,
  readStream,
  sessionHeaders,
  sessionLost,
  type Talk,
  tell,
} from "./wire-2025-talk.ts";
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
import { objectOf, readMessages } from "./wire-message.ts";
import { endedBy, Silence, sleep } from "./wire-silence.ts";

/** Before a stream is gone on with, where the server says nothing (`retry`), in ms. */
const DEFAULT_RETRY_MS = 1_000;
/** Repeated failures double the wait up to this, in ms. */
const MAX_BACKOFF_MS = 30_000;
/** In a row without anything new: 1 + 2 + 4 + 8 + 16 s at the default. */
const MAX_RESUMES = 5;
/** How long a request's end waits for its cancellation to be sent, in ms. */
const CANCEL_TIMEOUT_MS = 2_000;
/** How long the end of a session waits for the server, in ms. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Visible ASCII (2025-11-25, Session Management); as long as headers may be with every server. */
const SESSION_ID = /^[\x21-\x7e]{1,4096}$/;

export type ClientIdentity = { readonly clientInfo: JsonObject; readonly capabilities: JsonObject };

export type Initialized =
  | {
      readonly ok: true;
      readonly session: WireSession2025;
      readonly serverInfo: JsonObject;
      readonly instructions: string | null;
    }
  | { readonly ok: false; readonly failure: WireFailure }
  | { readonly ok: false; readonly error: RpcErrorObject };

/**
 * Opens a session: asks for the latest revision, takes any that the gateway
 * knows, and says `notifications/initialized`. A session that is of no use (an
 * unknown revision) is closed again.
 */
export async function initialize(
  target: WireTarget,
  identity: ClientIdentity,
  hooks: WireHooks,
): Promise<Initialized> {
  const own: Talk["session"] = { id: null, version: null };
  const params = { protocolVersion: LATEST_2025, ...identity };
  const outcome = await exchange(target, own, "initialize", params, hooks);
  if (outcome.kind === "failed") return { ok: false, failure: outcome.failure };
  if (outcome.kind === "error") return { ok: false, error: outcome.error };
  const { protocolVersion, capabilities, serverInfo, instructions } = outcome.result;
  if (typeof protocolVersion !== "string" || !isSupported2025(protocolVersion)) {
    const named = JSON.stringify(protocolVersion ?? null).slice(0, 40);
    await closeBy(target, own);
    const detail = `The server answers initialize with revision ${named}.`;
    return { ok: false, failure: failure("protocol", "no", detail) };
  }
  const session: WireSession2025 = {
    sessionId: own.id,
    protocolVersion,
    capabilities: objectOf(capabilities),
  };
  const untold = await notify(target, session, "notifications/initialized", undefined, hooks);
  if (untold !== null) {
    await close(target, session);
    return { ok: false, failure: untold };
  }
  return {
    ok: true,
    session,
    serverInfo: objectOf(serverInfo),
    instructions: typeof instructions === "string" ? instructions : null,
  };
}

/**
 * Sends a request and sees it through: to its answer, its failure, or its end
 * by `hooks`, of which the server is told then. Never rejects by itself; what
 * `onNotification` throws is thrown on.
 */
export function request(
  target: WireTarget,
  session: WireSession2025,
  method: string,
  params: JsonObject | undefined,
  hooks: WireHooks,
): Promise<WireOutcome> {
  return exchange(target, headersOf(session), method, params, hooks);
}

/** Sends a notification. Null when the server took it. */
export async function notify(
  target: WireTarget,
  session: WireSession2025,
  method: string,
  params: JsonObject | undefined,
  hooks: Pick<WireHooks, "timeoutMs" | "signal">,
): Promise<WireFailure | null> {
  const silence = new Silence(hooks.timeoutMs, hooks.signal);
  try {
    const message = { jsonrpc: "2.0", method, ...(params === undefined ? {} : { params }) };
    const untold = await tell(target, headersOf(session), message, silence.signal);
    return untold === null ? null : endedBy(untold, silence);
  } finally {
    silence.dispose();
  }
}

/**
 * Keeps the session's own stream open until `hooks.signal` aborts, and goes on
 * where it was left whenever it breaks. Null when it was ended, and when the
 * server has none (405); else why it was given up. `hooks.timeoutMs` is for
 * opening it: a stream may be silent for as long as it likes.
 */
export async function listen(
  target: WireTarget,
  session: WireSession2025,
  hooks: WireHooks,
  events: { readonly onOpen?: () => void } = {},
): Promise<WireFailure | null> {
  const silence = new Silence(Infinity, hooks.signal);
  const own = headersOf(session);
  const talk: Talk = { target, session: own, hooks, silence, requestId: null, asked: new Map() };
  const cursor: Cursor = { lastEventId: null, retryMs: null, hasMoved: false };
  let tries = 0;
  try {
    for (;;) {
      const opened = await openStream(talk, cursor, hooks.timeoutMs);
      if (silence.reason !== null || opened.kind === "none") return null;
      if (opened.kind === "failed") return opened.failure;
      if (opened.kind === "open") {
        events.onOpen?.();
        const end = await readStream(talk, opened.body, cursor);
        if (silence.reason !== null) return null;
        if (end.kind === "failed") return end.failure;
      }
      tries = cursor.hasMoved ? 1 : tries + 1;
      cursor.hasMoved = false;
      await sleep(delayMs(cursor, tries), silence.signal);
      if (silence.signal.aborted) return null;
    }
  } finally {
    silence.dispose();
  }
}

/** Ends the session, as well as that can be done: a server may not offer it, and nobody can act on it. */
export async function close(target: WireTarget, session: WireSession2025): Promise<void> {
  await closeBy(target, headersOf(session));
}

async function closeBy(target: WireTarget, session: Talk["session"]): Promise<void> {
  if (session.id === null) return;
  const limit = new Silence(CLOSE_TIMEOUT_MS);
  try {
    const headers = sessionHeaders(session);
    const sent = await send(target, { method: "DELETE", headers }, limit.signal);
    if (sent.ok) await discard(sent.response);
  } finally {
    limit.dispose();
  }
}

/** One request from its POST to its end. `session.id` is set when the server gives one to an `initialize`. */
async function exchange(
  target: WireTarget,
  session: Talk["session"],
  method: string,
  params: JsonObject | undefined,
  hooks: WireHooks,
): Promise<WireOutcome> {
  const silence = new Silence(hooks.timeoutMs, hooks.signal);
  // Unique over all lives of the session's holder, which a counter would not be.
  const requestId = crypto.randomUUID();
  const talk: Talk = { target, session, hooks, silence, requestId, asked: new Map() };
  try {
    const message = { jsonrpc: "2.0", id: requestId, method, ...(params && { params }) };
    const sent = await post(target, session, message, silence.signal);
    const outcome = sent.ok ? await answerIn(talk, sent, method) : failedBy(sent.failure);
    if (outcome.kind !== "failed" || silence.reason === null) return outcome;
    const why = endedBy(outcome.failure, silence);
    // An initialize must not be cancelled (2025-11-25, Cancellation).
    if (why.ran === "maybe" && method !== "initialize") await cancel(talk, silence.reason);
    return failedBy(why);
  } finally {
    silence.dispose();
  }
}

async function answerIn(
  talk: Talk,
  { response, quote }: Sent & { ok: true },
  method: string,
): Promise<WireOutcome> {
  const { session } = talk;
  if (!response.ok) {
    if (response.status === 404 && session.id !== null) {
      await discard(response);
      return failedBy(sessionLost("no"));
    }
    const body = await readText(response, talk.target.maxBytes, talk.silence.signal);
    const answer = body.ok ? answerOf(talk, body.text, false) : null;
    if (answer?.kind === "error") return answer;
    return failedBy(statusFailure(response.status, body.ok ? quote(body.text) : ""));
  }
  const given = response.headers.get("mcp-session-id");
  if (method === "initialize" && given !== null) {
    if (!SESSION_ID.test(given)) {
      await discard(response);
      return failedBy(failure("protocol", "no", "The session id is not visible ASCII."));
    }
    session.id = given;
  }
  const type = mediaType(response);
  if (type === "text/event-stream" && response.body !== null) {
    return await follow(talk, response.body);
  }
  if (type !== "application/json") {
    await discard(response);
    const detail = `HTTP ${response.status} with content type ${quote(JSON.stringify(type))}.`;
    return failedBy(failure("protocol", "maybe", detail, response.status));
  }
  const body = await readText(response, talk.target.maxBytes, talk.silence.signal);
  if (!body.ok) return failedBy(bodyFailure(body.reason));
  return answerOf(talk, body.text, true) ?? failedBy(noAnswer(response.status));
}

/**
 * The answer in a JSON body, or null; what else is in it is heard. An error
 * without an id is about this request where it is all that the server says.
 */
function answerOf(talk: Talk, text: string, takesIdless: boolean): WireOutcome | null {
  const read = readMessages(text);
  if (!read.ok) return null;
  let found: WireOutcome | null = null;
  for (const incoming of read.messages) {
    const end = hear(talk, incoming);
    if (end?.kind === "answer") found = end.answer;
    else if (end?.kind === "failed") found = failedBy(end.failure);
  }
  const [only] = read.messages;
  const isIdless = read.messages.length === 1 && only?.kind === "answer" && only.id === null;
  return found ?? (takesIdless && isIdless ? only.answer : null);
}

/** Reads the stream of a request to its answer, over as many connections as it takes. */
async function follow(talk: Talk, first: ReadableStream<Uint8Array>): Promise<WireOutcome> {
  const { silence } = talk;
  const cursor: Cursor = { lastEventId: null, retryMs: null, hasMoved: false };
  let body: ReadableStream<Uint8Array> | null = first;
  for (let tries = 0; ; ) {
    let isBroken = true;
    if (body !== null) {
      const end = await readStream(talk, body, cursor);
      if (end.kind === "answer") return end.answer;
      if (end.kind === "failed") return failedBy(end.failure);
      isBroken = end.isBroken;
    }
    tries = cursor.hasMoved ? 1 : tries + 1;
    cursor.hasMoved = false;
    if (cursor.lastEventId === null || tries > MAX_RESUMES) {
      return failedBy(failure(isBroken ? "unreachable" : "protocol", "maybe", CUT_OFF));
    }
    await sleep(delayMs(cursor, tries), silence.signal);
    const opened = await openStream(talk, cursor, Infinity);
    if (opened.kind === "failed") return failedBy({ ...opened.failure, ran: "maybe" });
    if (opened.kind === "none") return failedBy(failure("protocol", "maybe", CUT_OFF, 405));
    body = opened.kind === "open" ? opened.body : null;
  }
}

const CUT_OFF = "The stream ended without the answer.";

type Opened =
  | { readonly kind: "open"; readonly body: ReadableStream<Uint8Array> }
  /** For now: another try may do better. */
  | { readonly kind: "unavailable" }
  /** The server has no such stream. */
  | { readonly kind: "none" }
  | { readonly kind: "failed"; readonly failure: WireFailure };

/** GETs a stream; its head must be there within `timeoutMs`. */
async function openStream(talk: Talk, cursor: Cursor, timeoutMs: number): Promise<Opened> {
  const head = new AbortController();
  const timer = timeoutMs === Infinity ? undefined : setTimeout(() => head.abort(), timeoutMs);
  const signal = AbortSignal.any([talk.silence.signal, head.signal]);
  const sent = await getStream(talk, cursor.lastEventId, signal);
  clearTimeout(timer);
  if (!sent.ok) {
    // An abort of the caller's is seen by whoever asked for this.
    const isFinal = sent.failure.reason === "unauthorized" || talk.silence.signal.aborted;
    return isFinal ? { kind: "failed", failure: sent.failure } : { kind: "unavailable" };
  }
  const { response } = sent;
  const { status, ok, body } = response;
  if (ok && body !== null && mediaType(response) === "text/event-stream") {
    return { kind: "open", body };
  }
  await discard(response);
  if (status === 405) return { kind: "none" };
  if (status === 404 && talk.session.id !== null) {
    return { kind: "failed", failure: sessionLost("no") };
  }
  // 409: the server has not noticed yet that the last connection is gone.
  const isForNow = status === 409 || status === 429 || status >= 500;
  if (isForNow) return { kind: "unavailable" };
  const why = ok
    ? failure("protocol", "no", "No event stream.", status)
    : statusFailure(status, "");
  return { kind: "failed", failure: why };
}

/** The server's own `retry`, doubled with each try that brought nothing. */
function delayMs(cursor: Cursor, tries: number): number {
  const retryMs = cursor.retryMs ?? DEFAULT_RETRY_MS;
  return Math.max(retryMs, Math.min(retryMs * 2 ** (tries - 1), MAX_BACKOFF_MS));
}

async function cancel(talk: Talk, reason: "cancelled" | "timeout"): Promise<void> {
  const { target, session, requestId } = talk;
  const limit = new Silence(CANCEL_TIMEOUT_MS);
  try {
    const why = reason === "timeout" ? "The answer took too long." : "The caller gave up.";
    const params = { requestId, reason: why };
    const message = { jsonrpc: "2.0", method: "notifications/cancelled", params };
    // Best effort: a server that cannot be told learns it from the closed connection.
    await tell(target, session, message, limit.signal);
  } finally {
    limit.dispose();
  }
}

function headersOf(session: WireSession2025): Talk["session"] {
  return { id: session.sessionId, version: session.protocolVersion };
}
