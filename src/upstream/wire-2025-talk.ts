/**
 * @module
 * What is said on a stream of the 2025 era besides the answer that is waited
 * for: notifications are handed on, and requests of the upstream are answered
 * by POSTs of their own, while the stream is read on.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcNotification, RpcRequest } from "../mcp/jsonrpc.ts";
import { INTERNAL_ERROR, METHOD_NOT_FOUND, type RequestId } from "../mcp/jsonrpc.ts";
import type { ClientAnswer, WireFailure, WireHooks, WireTarget } from "./types.ts";
import { discard, failure, type Sent, send, statusFailure, untilAborted } from "./wire-http.ts";
import { type Answer, type Incoming, readMessages } from "./wire-message.ts";
import type { Silence } from "./wire-silence.ts";
import { readSse, SseError, type SseMessage } from "./wire-sse.ts";

/** Longer ones are no cursor, and no server takes such a header. */
const MAX_EVENT_ID_BYTES = 4 * 1024;

/** One request and its stream, or one listening stream. */
export type Talk = {
  readonly target: WireTarget;
  /** Null while `initialize` has not said. */
  readonly session: { id: string | null; version: string | null };
  readonly hooks: WireHooks;
  readonly silence: Silence;
  /** Of the request whose answer is waited for; null on a listening stream. */
  readonly requestId: RequestId | null;
  /** Requests of the upstream that are being answered. */
  readonly asked: Map<RequestId, AbortController>;
};

/** Where a stream was left, and how to go on. */
export type Cursor = { lastEventId: string | null; retryMs: number | null; hasMoved: boolean };

export type StreamEnd =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "failed"; readonly failure: WireFailure }
  /** It may be gone on with. */
  | { readonly kind: "ended"; readonly isBroken: boolean };

export function sessionHeaders(session: Talk["session"]): Record<string, string> {
  return {
    ...(session.id === null ? {} : { "Mcp-Session-Id": session.id }),
    ...(session.version === null ? {} : { "MCP-Protocol-Version": session.version }),
  };
}

/** POSTs one message. */
export function post(
  target: WireTarget,
  session: Talk["session"],
  message: JsonObject,
  signal: AbortSignal,
): Promise<Sent> {
  const headers = {
    ...sessionHeaders(session),
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
  };
  return send(target, { method: "POST", headers, body: JSON.stringify(message) }, signal);
}

/** POSTs what has no answer but an HTTP status. Null when it was taken. */
export async function tell(
  target: WireTarget,
  session: Talk["session"],
  message: JsonObject,
  signal: AbortSignal,
): Promise<WireFailure | null> {
  const sent = await post(target, session, message, signal);
  if (!sent.ok) return sent.failure;
  await discard(sent.response);
  const { status, ok } = sent.response;
  if (ok) return null;
  if (status === 404 && session.id !== null) return sessionLost("no");
  return statusFailure(status, "");
}

export function sessionLost(ran: WireFailure["ran"]): WireFailure {
  return failure("session_lost", ran, "404 for the session.", 404);
}

/** GETs a stream: where `lastEventId` left it, or the session's own. */
export function getStream(
  talk: Talk,
  lastEventId: string | null,
  signal: AbortSignal,
): Promise<Sent> {
  const headers = {
    ...sessionHeaders(talk.session),
    Accept: "text/event-stream",
    ...(lastEventId === null ? {} : { "Last-Event-ID": fieldBytes(lastEventId) }),
  };
  return send(talk.target, { method: "GET", headers }, signal);
}

/** Reads a stream until the answer that is waited for is there, or there is no more. */
export async function readStream(
  talk: Talk,
  body: ReadableStream<Uint8Array>,
  cursor: Cursor,
): Promise<StreamEnd> {
  const events = readSse(body, talk.target.maxBytes, talk.silence.signal);
  try {
    for (;;) {
      const next = await nextEvent(events);
      if ("kind" in next) return next;
      move(cursor, next);
      const isMessage = next.event === null || next.event === "" || next.event === "message";
      if (!isMessage || next.data === null || next.data === "") continue;
      const read = readMessages(next.data);
      // Servers send events of their own making between messages; the answer may still come.
      if (!read.ok) continue;
      for (const incoming of read.messages) {
        const end = hear(talk, incoming);
        if (end !== null) return end;
      }
    }
  } finally {
    await events.return();
  }
}

/**
 * Takes in one message. Not null when it ends what is waited for: the answer
 * itself, or something that has its id and is none.
 */
export function hear(talk: Talk, incoming: Incoming): StreamEnd | null {
  const { hooks, silence, requestId } = talk;
  switch (incoming.kind) {
    case "answer":
      if (requestId === null || incoming.id !== requestId) return null;
      return { kind: "answer", answer: incoming.answer };
    case "invalid": {
      if (requestId === null || incoming.id !== requestId) return null;
      const problem = `The answer is no JSON-RPC: ${incoming.problem}`;
      return { kind: "failed", failure: failure("protocol", "maybe", problem) };
    }
    case "notification":
      silence.restart();
      dropCancelled(talk, incoming.message);
      hooks.onNotification?.(incoming.message);
      return null;
    case "request":
      silence.restart();
      // Not awaited, for the stream goes on meanwhile; it never rejects.
      void answerRequest(talk, incoming.message);
      return null;
  }
}

async function nextEvent(
  events: AsyncGenerator<SseMessage, void, undefined>,
): Promise<SseMessage | StreamEnd> {
  try {
    const { done, value } = await events.next();
    return done === true ? { kind: "ended", isBroken: false } : value;
  } catch (error) {
    if (!(error instanceof SseError)) return { kind: "ended", isBroken: true };
    const reason = error.reason === "too_large" ? "too_large" : "protocol";
    return { kind: "failed", failure: failure(reason, "maybe", `${error.message}.`) };
  }
}

function move(cursor: Cursor, event: SseMessage): void {
  if (event.retry !== null) cursor.retryMs = event.retry;
  if (event.data !== null && event.data !== "") cursor.hasMoved = true;
  if (event.id === null) return;
  const isUsable = event.id !== "" && fieldBytes(event.id).length <= MAX_EVENT_ID_BYTES;
  const id = isUsable ? event.id : null;
  if (id !== cursor.lastEventId) cursor.hasMoved = true;
  cursor.lastEventId = id;
}

async function answerRequest(talk: Talk, request: RpcRequest): Promise<void> {
  const { target, session, silence, asked } = talk;
  const cancelled = new AbortController();
  const signal = AbortSignal.any([silence.signal, cancelled.signal]);
  asked.set(request.id, cancelled);
  silence.pause();
  const answer = await answerTo(talk, request, signal);
  silence.resume();
  asked.delete(request.id);
  if (answer === null) return;
  // An answer that does not arrive leaves the upstream waiting, and its silence ends the exchange.
  await tell(target, session, { jsonrpc: "2.0", id: request.id, ...answer }, silence.signal);
}

/** Null when nobody waits for it any more. */
async function answerTo(
  talk: Talk,
  request: RpcRequest,
  signal: AbortSignal,
): Promise<ClientAnswer | null> {
  if (request.method === "ping") return { result: {} };
  const { onRequest } = talk.hooks;
  if (onRequest === undefined) {
    return { error: { code: METHOD_NOT_FOUND, message: "Method not found" } };
  }
  try {
    return await untilAborted(onRequest(request, signal), signal);
  } catch {
    // What went wrong on this side is not the upstream's to read.
    if (signal.aborted) return null;
    return { error: { code: INTERNAL_ERROR, message: "Internal error" } };
  }
}

/** An upstream that takes its request back gets no answer to it. */
function dropCancelled(talk: Talk, notification: RpcNotification): void {
  if (notification.method !== "notifications/cancelled") return;
  const id = notification.params?.requestId;
  if (typeof id === "string" || typeof id === "number") talk.asked.get(id)?.abort();
}

/** A field value is bytes: UTF-8 as a string of one character a byte, as an `EventSource` sends it. */
function fieldBytes(text: string): string {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
}
