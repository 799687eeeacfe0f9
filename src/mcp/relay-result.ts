/**
 * @module
 * An upstream's result on its way to a client: the very text that came, with
 * only those members changed that the gateway must change. What needs no
 * understanding is never parsed and written anew: a number or a duplicate key
 * that JavaScript cannot hold reaches the client as it was sent.
 */
import { canonicalJson } from "../audit/canonical.ts";
import type { JsonObject } from "./ijson.ts";
import { memberSpans } from "./json-members.ts";
import { SERVER_INFO_META_KEY } from "./server-info.ts";

/** Keys of `_meta` that are the gateway's own: an upstream's copy of them is dropped. */
export const OWN_META_PREFIX = "dev.atlas-gate/";

export type UpstreamResult = {
  readonly result: JsonObject;
  readonly text: string;
  readonly isIJson: boolean;
};

export type RelayedResult = {
  /** What the record's hash covers: the RFC 8785 form without `_meta`, or, outside I-JSON, the text without it. */
  readonly hashed: string;
  /** The text to send, with these members (JSON texts `"key":value`) of the gateway's own in `_meta`. */
  readonly withMeta: (members: readonly string[]) => string;
};

/** Members that only results of 2026-07-28 have. */
const MEMBERS_2026 = new Set(["resultType", "ttlMs", "cacheScope"]);

/**
 * The result as a client of `era` may have it. For 2025: without the members of
 * 2026-07-28 and without structured content that is no object. For 2026: with a
 * `resultType`; a read result is cacheable there, for nobody but this caller
 * and, where the upstream said nothing, for no time. `replaced` has members that
 * are the gateway's own business, such as the id of a task.
 */
export function relayResult(
  upstream: UpstreamResult,
  era: "2025" | "2026",
  isCacheable: boolean,
  replaced: JsonObject = {},
): RelayedResult {
  const { text, result, isIJson } = upstream;
  const added: JsonObject = { ...replaced };
  if (era === "2026") {
    if (typeof result.resultType !== "string") added.resultType = "complete";
    if (isCacheable) {
      // At least 0 and whole (2026-07-28, Caching): anything else is as good as nothing.
      if (!isTtl(result.ttlMs)) added.ttlMs = 0;
      added.cacheScope = "private";
    }
  }
  const isDropped = (key: string): boolean => {
    if (key === "_meta" || Object.hasOwn(added, key)) return true;
    if (era === "2026") return false;
    return MEMBERS_2026.has(key) || (key === "structuredContent" && !isObject(result[key]));
  };
  const spans = memberSpans(text);
  const members = [
    ...Object.entries(added).map(([key, value]) => `"${key}":${JSON.stringify(value)}`),
    ...spans
      .filter(({ key }) => !isDropped(key))
      .map(({ keyStart, valueEnd }) => text.slice(keyStart, valueEnd)),
  ];
  const body = members.join(",");
  return {
    hashed: isIJson
      ? canonicalJson({
          ...Object.fromEntries(Object.entries(result).filter(([key]) => !isDropped(key))),
          ...added,
        })
      : `{${body}}`,
    withMeta: (own) => {
      const meta = [...metaMembers(text, spans), ...own].join(",");
      const parts = [...(meta === "" ? [] : [`"_meta":{${meta}}`]), ...(body === "" ? [] : [body])];
      return `{${parts.join(",")}}`;
    },
  };
}

/** The upstream's own members of `_meta`, as texts. */
function metaMembers(text: string, spans: ReturnType<typeof memberSpans>): string[] {
  const meta = spans.findLast(({ key }) => key === "_meta");
  if (meta === undefined || text[meta.valueStart] !== "{") return [];
  return memberSpans(text, meta.valueStart)
    .filter(({ key }) => !key.startsWith(OWN_META_PREFIX) && key !== SERVER_INFO_META_KEY)
    .map(({ keyStart, valueEnd }) => text.slice(keyStart, valueEnd));
}

function isTtl(value: JsonObject[string] | undefined): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
