/**
 * @module
 * The ambient session of a principal: one a UTC day, for what belongs to no
 * session of its own: an operator's changes, a refused use of someone else's
 * session.
 */
import { sha256Hex } from "../audit/hash-node.ts";
import type { Principal } from "../edge/principal.ts";
import { sessionStub } from "../objects.ts";
import { VERSION } from "../version.ts";
import { ambientSessionId } from "./ids.ts";
import type { Entry, Receipt } from "./ledger.ts";
import type { Limited } from "./limits.ts";
import type { OpenInput } from "./state.ts";

/** How the principal's ambient session of today is opened, should it not be open yet. */
export function ambientOpening(principal: Principal, requestId: string): OpenInput {
  return {
    sessionId: ambientSessionId(
      sha256Hex,
      { tenant: principal.tenant, principal: principal.id },
      Date.now(),
    ),
    principal,
    era: "ambient",
    protocolVersion: null,
    requestId,
    context: { era: "ambient", gateway: { version: VERSION } },
    capabilities: {},
  };
}

/** Appends one record; durable when this resolves. */
export async function recordAmbient(
  env: Env,
  principal: Principal,
  entry: Entry,
): Promise<Receipt> {
  const open = ambientOpening(principal, entry.request_id);
  return sessionStub(env, open.sessionId).record(open, entry);
}

/** The same for a request of the principal's own: it is counted, and may be one too many. */
export async function recordRequest(
  env: Env,
  principal: Principal,
  entry: Entry,
): Promise<Receipt | Limited> {
  const open = ambientOpening(principal, entry.request_id);
  return sessionStub(env, open.sessionId).recordRequest(open, entry);
}

/**
 * Makes a change that is recorded before and after: pending, then `ok` or
 * `error`. A throw is recorded as such and thrown on.
 *
 * @param describe what of the outcome belongs in the record
 */
export async function recordChange<T>(
  env: Env,
  principal: Principal,
  entry: Omit<Entry, "result">,
  change: () => Promise<T>,
  describe: (outcome: T) => Pick<Entry, "result" | "error_code" | "context">,
): Promise<T> {
  const open = ambientOpening(principal, entry.request_id);
  const intent = await sessionStub(env, open.sessionId).intent(open, entry);
  // A stub stays broken once its object was lost, and the day may have changed: the same session, anew.
  const report = (result: Entry) =>
    sessionStub(env, open.sessionId).result(open, intent.seq, result);
  const { args: _args, ...base } = entry;
  let outcome: T;
  try {
    outcome = await change();
  } catch (error) {
    await report({
      ...base,
      result: "error",
      error_code: "OUTCOME_UNKNOWN",
      notes: "the change failed on the way; it may have been made",
    });
    throw error;
  }
  await report({ ...base, ...describe(outcome) });
  return outcome;
}
