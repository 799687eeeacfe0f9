/**
 * @module
 * Protocol revisions, and which of the two eras a message belongs to: up to
 * 2025-11-25 a session is opened by `initialize`; from 2026-07-28 on every
 * request names its own revision in `_meta`.
 */
import type { JsonValue } from "./ijson.ts";

/** Oldest first. */
export const VERSIONS_2025 = ["2025-03-26", "2025-06-18", "2025-11-25"] as const;
export type Version2025 = (typeof VERSIONS_2025)[number];
export const LATEST_2025: Version2025 = "2025-11-25";

/** Oldest first. */
export const VERSIONS_2026 = ["2026-07-28"] as const;

/** Where a request of the 2026 era names its revision (2026-07-28, Overview, `_meta`). */
export const PROTOCOL_VERSION_META_KEY = "io.modelcontextprotocol/protocolVersion";

const FIRST_2026 = "2026-07-28";

export type Era =
  | { era: "2025" }
  /** `version` is null where only the header says which era it is. */
  | { era: "2026"; version: string | null };

export function isSupported2025(version: string): version is Version2025 {
  return VERSIONS_2025.some((supported) => supported === version);
}

/** What `initialize` answers: the requested revision if it is supported, else the latest of its era (2025-11-25, Lifecycle). */
export function negotiateVersion(requested: string): Version2025 {
  return isSupported2025(requested) ? requested : LATEST_2025;
}

/** JSON-RPC batches came with 2025-03-26 and went with 2025-06-18. */
export function supportsBatch(version: Version2025): boolean {
  return version === "2025-03-26";
}

/**
 * The era of one message: 2026 when `params._meta` names a revision that is no
 * date before 2026-07-28, supported or not, or when the `MCP-Protocol-Version`
 * header names 2026-07-28 or a later date, whatever `_meta` says: two that
 * differ are then a mismatch of that era. Only requests of the 2026 era name a
 * revision in `_meta`; an earlier date there is 2025.
 */
export function eraOf(message: JsonValue, header: string | null = null): Era {
  const version = member(member(member(message, "params"), "_meta"), PROTOCOL_VERSION_META_KEY);
  // ISO dates order as text does.
  const is2026 = header !== null && isIsoDate(header) && header >= FIRST_2026;
  if (typeof version === "string") {
    const isEarlier = isIsoDate(version) && version < FIRST_2026;
    return isEarlier && !is2026 ? { era: "2025" } : { era: "2026", version };
  }
  return is2026 ? { era: "2026", version: null } : { era: "2025" };
}

function member(value: JsonValue | undefined, key: string): JsonValue | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value[key]
    : undefined;
}

/** `YYYY-MM-DD` of a day that exists. */
function isIsoDate(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false;
  const time = Date.parse(`${text}T00:00:00Z`);
  // Engines roll 30 February over into March, so what comes back must be what went in.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}
