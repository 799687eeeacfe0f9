/**
 * @module
 * How many streams of `subscriptions/listen` a principal has open here: they
 * belong to no session, whose object would count them. Exact in an isolate;
 * across isolates the rate of the ambient session bounds how fast they are opened.
 */
import { MAX_STREAMS } from "../policy/limits.ts";
import { tooManyStreams } from "./mcp-answer.ts";
import type { Principal } from "./principal.ts";

/** A stream says more often that it is alive, in ms: one whose request the platform ended says nothing more. */
const SILENT_MS = 60_000;

export type StreamPlace = {
  /** Says that the stream is still open. */
  readonly seen: () => void;
  /** Gives the place back, once or more often. */
  readonly leave: () => void;
};

/** When each stream of a principal last said that it is open, Unix ms. */
const open = new Map<string, Map<symbol, number>>();
let sweptAt = Number.NEGATIVE_INFINITY;

/** Takes a place for one more stream. Throws `HttpRefusal` 503 when the principal has as many as it may. */
export function takeStreamPlace(principal: Principal): StreamPlace {
  const now = Date.now();
  if (now - sweptAt >= SILENT_MS) sweep(now);
  const key = `${principal.tenant}\n${principal.id}`;
  const streams = open.get(key) ?? new Map<symbol, number>();
  if (streams.size >= (principal.limits?.streams ?? MAX_STREAMS)) throw tooManyStreams();
  open.set(key, streams);
  const place = Symbol("stream");
  streams.set(place, now);
  return {
    seen: () => {
      if (streams.has(place)) streams.set(place, Date.now());
    },
    leave: () => {
      streams.delete(place);
      if (streams.size === 0 && open.get(key) === streams) open.delete(key);
    },
  };
}

function sweep(now: number): void {
  sweptAt = now;
  for (const [key, streams] of open) {
    for (const [place, seenAt] of streams) {
      if (now - seenAt >= SILENT_MS) streams.delete(place);
    }
    if (streams.size === 0) open.delete(key);
  }
}
