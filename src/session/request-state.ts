/**
 * @module
 * The `requestState` that the gateway gives a client of 2026-07-28 in an
 * `input_required` result (Multi Round-Trip Requests): sealed, bound to who,
 * where and what it was given for, short-lived, and spent once. The upstream's
 * own state, or the name of a call that waits in the session's object, is in it.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { openText, sealText } from "../crypto/aead.ts";
import type { JsonObject } from "../mcp/ijson.ts";

/** How long a client has to answer, in ms: people fill in forms. */
export const STATE_TTL_MS = 10 * 60_000;

const PURPOSE = "request-state";

const stateSchema = z.object({
  principal: z.string(),
  tenant: z.string(),
  /** Null where it was sealed without one: then it fits none. */
  role: z.string().nullable().default(null),
  /** The session whose object holds what waits, and knows what is spent. */
  session: z.string(),
  upstream: z.string(),
  method: z.string(),
  /** Of the parameters that a retry repeats. */
  digest: z.string(),
  /** Unix ms. */
  expires_at: z.number(),
  nonce: z.string(),
  /** The upstream's own state. */
  state: z.string().nullable(),
  /** The waiting call of an upstream of the 2025 era. */
  waiting: z.string().nullable(),
});

export type RequestState = z.infer<typeof stateSchema>;

export function sealState(secretsKey: Uint8Array, state: RequestState): string {
  return sealText(secretsKey, PURPOSE, JSON.stringify(state), "");
}

/** What was sealed, or null for anything that this deployment did not seal. */
export function openState(secretsKey: Uint8Array, sealed: string): RequestState | null {
  let text: string;
  try {
    text = openText(secretsKey, PURPOSE, sealed, "");
  } catch {
    // Whatever a client sends that is not ours: tampered, of another deployment, or no state at all.
    return null;
  }
  return stateSchema.parse(JSON.parse(text));
}

/** The digest of what a retry must repeat: its parameters without what a retry adds, and without `_meta`. */
export function paramsDigest(params: JsonObject): string {
  const { _meta, inputResponses: _responses, requestState: _state, ...rest } = params;
  return sha256Hex(canonicalJson(rest));
}

/** Why a state is no good for this request; null when it is. Whether it is spent is the session's to say. */
export function stateProblem(
  state: RequestState,
  request: {
    readonly principal: string;
    readonly tenant: string;
    readonly role: string;
    readonly session: string;
    readonly method: string;
    readonly upstream: string;
    readonly params: JsonObject;
    readonly now: number;
  },
): string | null {
  if (state.principal !== request.principal || state.tenant !== request.tenant) {
    return "it was given to someone else";
  }
  if (state.role !== request.role) return "it was given to another role";
  if (state.session !== request.session) return "it belongs to another session";
  if (state.upstream !== request.upstream || state.method !== request.method) {
    return "it belongs to another request";
  }
  if (state.digest !== paramsDigest(request.params)) return "the parameters are not the same";
  if (state.expires_at <= request.now) return "it has expired";
  return null;
}
