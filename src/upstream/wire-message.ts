/**
 * @module
 * What an upstream sent, as JSON-RPC messages, with the very text of each
 * result: it is relayed as it came, so it must not go through a parser and back.
 */
import { type JsonObject, type JsonValue, parseIJsonText } from "../mcp/ijson.ts";
import { elementSpans, memberSpans } from "../mcp/json-members.ts";
import {
  classifyMessage,
  type RequestId,
  type RpcNotification,
  type RpcRequest,
} from "../mcp/jsonrpc.ts";
import type { WireOutcome } from "./types.ts";

export type Answer = Exclude<WireOutcome, { kind: "failed" }>;

export type Incoming =
  | { readonly kind: "request"; readonly message: RpcRequest }
  | { readonly kind: "notification"; readonly message: RpcNotification }
  /** Without an id: an error about a message whose id could not be read. */
  | { readonly kind: "answer"; readonly id: RequestId | null; readonly answer: Answer }
  | { readonly kind: "invalid"; readonly id: RequestId | null; readonly problem: string };

export type ReadMessages =
  | { readonly ok: true; readonly messages: readonly Incoming[] }
  | { readonly ok: false; readonly problem: string };

/**
 * The message of a text, or the messages of a batch (2025-03-26). Text that is
 * JSON but not I-JSON is read as `JSON.parse` does; nested deeper than anything
 * here could walk through, it is refused.
 */
export function readMessages(text: string): ReadMessages {
  const parsed = parseIJsonText(text);
  if (!parsed.ok && parsed.kind !== "not_ijson") return { ok: false, problem: parsed.message };
  const value: JsonValue = parsed.ok ? parsed.value : JSON.parse(text);
  if (!Array.isArray(value)) return { ok: true, messages: [readOne(text, 0, value, parsed.ok)] };
  const spans = elementSpans(text);
  const messages = value.map((element, index) =>
    readOne(text, spans[index]?.valueStart ?? 0, element, parsed.ok),
  );
  return { ok: true, messages };
}

function readOne(text: string, start: number, value: JsonValue, isIJson: boolean): Incoming {
  const classified = classifyMessage(value);
  if (classified.kind === "invalid") {
    return { kind: "invalid", id: classified.id, problem: classified.message };
  }
  if (classified.kind === "request") return { kind: "request", message: classified.message };
  if (classified.kind === "notification") {
    return { kind: "notification", message: classified.message };
  }
  const { message } = classified;
  if ("error" in message) {
    const answer: Answer = { kind: "error", error: message.error };
    return { kind: "answer", id: message.id ?? null, answer };
  }
  const answer = resultAnswer(text, start, message.result, isIJson);
  return { kind: "answer", id: message.id, answer };
}

function resultAnswer(text: string, start: number, result: JsonObject, isIJson: boolean): Answer {
  // Of two members with one key, JSON.parse takes the last.
  const span = memberSpans(text, start).findLast(({ key }) => key === "result");
  const own = text.slice(span?.valueStart ?? 0, span?.valueEnd ?? 0);
  // What is wrong may be elsewhere in the message, in a batch even in another one.
  return { kind: "result", result, text: own, isIJson: isIJson || parseIJsonText(own).ok };
}

/** The value if it is an object, else an empty one: what a server leaves out of a handshake says nothing. */
export function objectOf(value: JsonObject[string] | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}
