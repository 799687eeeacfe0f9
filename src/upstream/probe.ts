/**
 * @module
 * Which era an upstream speaks. It is of the 2026 era only when it said so
 * itself, in an answer to `server/discover`; that it refuses the question the way
 * servers of the 2025 era do means that `initialize` is worth a try. A failure
 * that may pass says nothing, and must not be remembered as an era.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import { UNSUPPORTED_VERSION } from "../mcp/jsonrpc.ts";
import { VERSIONS_2026 } from "../mcp/versions.ts";
import type { WireFailure, WireOutcome, WireSession2025, WireTarget } from "./types.ts";
import { initialize } from "./wire-2025.ts";
import { discover } from "./wire-2026.ts";
import { failure } from "./wire-http.ts";
import { objectOf } from "./wire-message.ts";

export type ProbeOptions = {
  readonly clientInfo: JsonObject;
  /** What the gateway can do for an upstream: of `initialize`, and of each request of the 2026 era. */
  readonly capabilities2025: JsonObject;
  readonly capabilities2026: JsonObject;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
};

export type Probed =
  | {
      readonly era: "2026";
      readonly protocolVersion: string;
      readonly capabilities: JsonObject;
      readonly instructions: string | null;
      readonly serverInfo: JsonObject;
      readonly ttlMs: number | null;
    }
  | {
      readonly era: "2025";
      /** Open, and the holder's to close. */
      readonly session: WireSession2025;
      readonly capabilities: JsonObject;
      readonly instructions: string | null;
      readonly serverInfo: JsonObject;
    }
  | { readonly era: null; readonly failure: WireFailure };

/** Statuses that are about the caller or the moment, not about the question. */
const SAYS_NOTHING = [401, 403, 407, 408, 425, 429];

/** Asks `server/discover`, then, if that is not a question that the server knows, `initialize`. */
export async function probeEra(target: WireTarget, options: ProbeOptions): Promise<Probed> {
  const { clientInfo, capabilities2025, capabilities2026, timeoutMs, signal } = options;
  const hooks = { timeoutMs, ...(signal === undefined ? {} : { signal }) };
  const asked = { clientInfo, clientCapabilities: capabilities2026 };
  let discovered = await discover(target, asked, hooks);
  // It may know the revision and say otherwise, for the moment: it is asked once more (Versioning).
  if (!discovered.ok && refusesKnownVersion(discovered.outcome)) {
    discovered = await discover(target, asked, hooks);
  }
  if (discovered.ok) {
    const { supportedVersions, capabilities, instructions, serverInfo, ttlMs } = discovered;
    const protocolVersion = VERSIONS_2026.findLast((known) => supportedVersions.includes(known));
    if (protocolVersion !== undefined) {
      return { era: "2026", protocolVersion, capabilities, instructions, serverInfo, ttlMs };
    }
  } else if (discovered.outcome.kind === "failed" && !mayBe2025(discovered.outcome)) {
    return { era: null, failure: discovered.outcome.failure };
  }
  const opened = await initialize(target, { clientInfo, capabilities: capabilities2025 }, hooks);
  if (opened.ok) {
    const { session, instructions, serverInfo } = opened;
    return { era: "2025", session, capabilities: session.capabilities, instructions, serverInfo };
  }
  if ("failure" in opened) return { era: null, failure: opened.failure };
  const detail = `The server refuses both server/discover and initialize (${opened.error.code}).`;
  return { era: null, failure: failure("protocol", "no", detail) };
}

/** Whether an answer refuses the revision and offers one that the gateway knows. */
function refusesKnownVersion(outcome: WireOutcome): boolean {
  if (outcome.kind !== "error" || outcome.error.code !== UNSUPPORTED_VERSION) return false;
  const { supported } = objectOf(outcome.error.data);
  return Array.isArray(supported) && VERSIONS_2026.some((known) => supported.includes(known));
}

/** Whether a failed `server/discover` is how a server of the 2025 era takes a method that it does not know. */
function mayBe2025({ failure }: WireOutcome & { kind: "failed" }): boolean {
  const { reason, httpStatus } = failure;
  // Some take everything without `initialize` for a notification.
  if (reason === "protocol") return httpStatus === 202;
  const is4xx = httpStatus !== null && httpStatus >= 400 && httpStatus < 500;
  return reason === "refused" && is4xx && !SAYS_NOTHING.includes(httpStatus);
}
