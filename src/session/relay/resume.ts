/**
 * @module
 * A client of the 2026 era that comes back with answers: what its request goes
 * on with, and the sealed state that it is given for the next time.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import type { JsonObject, JsonValue } from "../../mcp/ijson.ts";
import { allow, type Decision, refuse } from "../../policy/errors.ts";
import { isObject } from "../capabilities.ts";
import type { Exchange } from "../exchange.ts";
import {
  openState,
  paramsDigest,
  type RequestState,
  STATE_TTL_MS,
  sealState,
  stateProblem,
} from "../request-state.ts";
import type { Job } from "./job.ts";

/** Answers that a record names one by one, and characters of each name; the hash covers all of them. */
const MOST_NAMED_ANSWERS = 32;
const MAX_NAME_UNITS = 64;

type Resumed = {
  readonly exchange: Exchange | null;
  readonly params: JsonObject;
  /** The client's answers to what the exchange waits for. */
  readonly brought: Readonly<Record<string, JsonObject>>;
};

/** What a request goes on with: nothing, the upstream's own state, or an exchange that waited. */
export function resume(job: Job): Decision<Resumed> {
  const { route, client, request, host } = job;
  const given = request.params ?? {};
  const { requestState: sealed, inputResponses: responses } = given;
  const isPlain = sealed === undefined && responses === undefined;
  // A task's answers are parameters of `tasks/update`, and no retry.
  if (client.era === "2025" || isPlain || route.kind === "task") {
    return allow({ exchange: null, params: route.params, brought: {} });
  }
  if (sealed === undefined) {
    // An upstream that keeps no state may take answers without one.
    return allow({
      exchange: null,
      params: {
        ...route.params,
        ...(responses === undefined ? {} : { inputResponses: responses }),
      },
      brought: {},
    });
  }
  const bad = (why: string) => refuse("INVALID_ARGUMENT", `requestState: ${why}.`);
  const state = typeof sealed === "string" ? openState(host.secretsKey, sealed) : null;
  if (state === null) return bad("it is not one that was given out here");
  const { tenant, session_id } = job.runtime.state();
  const problem = stateProblem(state, {
    principal: job.runtime.state().principal,
    tenant,
    role: job.runtime.role,
    session: session_id,
    method: request.method,
    upstream: route.entry.config.name,
    params: given,
    now: Date.now(),
  });
  if (problem !== null) return bad(problem);
  if (!host.spend(state.nonce, state.expires_at)) return bad("it was used before");
  if (state.waiting === null) {
    return allow({
      exchange: null,
      params: {
        ...route.params,
        ...(responses === undefined ? {} : { inputResponses: responses }),
        ...(state.state === null ? {} : { requestState: state.state }),
      },
      brought: {},
    });
  }
  const exchange = host.waiting.take(state.waiting);
  if (exchange === null) return bad("the call that it belongs to is no longer waiting");
  const brought = isObject(responses) ? objectsOf(responses) : {};
  return allow({ exchange, params: route.params, brought });
}

/** What the client answered, before anything goes on with it; a client of the 2025 era is asked, and recorded, one by one. */
export function recordAnswers(job: Job): void {
  const { client, request, requestId, runtime, route } = job;
  const responses = request.params?.inputResponses;
  if (client.era === "2025" || !isObject(responses)) return;
  const actions = Object.entries(responses).slice(0, MOST_NAMED_ANSWERS);
  runtime.ledger.append({
    event: "client_request",
    tool: null,
    result: "ok",
    request_id: requestId,
    result_text: canonicalJson(responses),
    context: {
      upstream: route.entry.config.name,
      answers: Object.fromEntries(actions.map(([key, answer]) => [nameOf(key), actionOf(answer)])),
    },
  });
}

/** What a user did with a question; null where the answer says nothing of that. */
function actionOf(answer: JsonValue): string | null {
  const action = isObject(answer) ? answer.action : null;
  return typeof action === "string" ? nameOf(action) : null;
}

/** Cut, but never into half a surrogate pair: a record must have a canonical form. */
export function nameOf(text: string): string {
  return text.slice(0, MAX_NAME_UNITS).toWellFormed();
}

function objectsOf(responses: JsonObject): Record<string, JsonObject> {
  return Object.fromEntries(
    Object.entries(responses).flatMap(([key, value]) => (isObject(value) ? [[key, value]] : [])),
  );
}

export function newState(job: Job, with_: Pick<RequestState, "state" | "waiting">): string {
  const { tenant, principal, session_id } = job.runtime.state();
  return sealState(job.host.secretsKey, {
    principal,
    tenant,
    role: job.runtime.role,
    session: session_id,
    upstream: job.route.entry.config.name,
    method: job.request.method,
    digest: paramsDigest(job.request.params ?? {}),
    expires_at: Date.now() + STATE_TTL_MS,
    nonce: crypto.randomUUID(),
    ...with_,
  });
}
