/**
 * @module
 * What a Worker asks of a session's object when it wants the socket of a
 * stream, and what it tells over it.
 */
import * as z from "zod";
import { principalSchema } from "../edge/principal.ts";
import { switchSetSchema } from "../policy/kill-switch.ts";

/** Where the request is written: an upgrade has no body. Only the gateway's own Workers reach an object. */
export const STREAM_REQUEST_HEADER = "x-stream-request";

export const LISTS_CHANGED = ["tools", "prompts", "resources"] as const;
export type ListName = (typeof LISTS_CHANGED)[number];

const listNames = z.array(z.enum(LISTS_CHANGED)).readonly();

const wishSchema = z.discriminatedUnion("kind", [
  /** The response to a call. */
  z.object({ kind: z.literal("call"), stream: z.number() }),
  /** A new GET stream; `directory` is the version that the client's lists now have. */
  z.object({ kind: z.literal("get"), directory: z.number() }),
  /** GET with `Last-Event-ID`. */
  z.object({ kind: z.literal("resume"), after: z.string() }),
]);

export type StreamWish = z.infer<typeof wishSchema>;

export const streamRequestSchema = z.object({
  principal: principalSchema,
  wish: wishSchema,
  /** Of the request that asks, for the record of a refusal. */
  requestId: z.string(),
  switches: switchSetSchema,
});
export type StreamRequest = z.infer<typeof streamRequestSchema>;

/** Lists have changed: sent over the socket by the Worker, which hears it from the hub. */
export const changeSchema = z.object({ directory: z.number(), changed: listNames });
export type DirectoryChange = z.infer<typeof changeSchema>;
