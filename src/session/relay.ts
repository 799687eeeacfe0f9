/**
 * @module
 * One request of a client's that an upstream answers: policy, the intent before
 * it leaves, what the upstream asks meanwhile, the result before the reply. One
 * flow for both eras on both sides; what differs is a turn of it.
 */
import { canonicalJson } from "../audit/canonical.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import {
  type RpcErrorObject,
  type RpcNotification,
  type RpcRequest,
  rpcError,
} from "../mcp/jsonrpc.ts";
import { relayResult } from "../mcp/relay-result.ts";
import { refusalResult, rpcResultBody } from "../mcp/tool-result.ts";
import { workspaceStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { inObject, observe } from "../ops/metrics/collect.ts";
import { allow, type Decision, type Refusal, refuse } from "../policy/errors.ts";
import { type KillSwitch, stoppedRefusal } from "../policy/kill-switch.ts";
import type { UpstreamLinks, UpstreamRequest } from "../upstream/links.ts";
import type {
  ClientAnswer,
  Definition,
  UpstreamEntry,
  WireFailure,
  WireOutcome,
} from "../upstream/types.ts";
import { covers, declaredTo, isObject } from "./capabilities.ts";
import type { Channel } from "./client-side.ts";
import { Exchange, type Question, type WaitingExchanges } from "./exchange.ts";
import type { Entry, IntentNote, Receipt } from "./ledger.ts";
import {
  errorCodeOf,
  errorStatus,
  errorTo2026,
  forEra,
  labelled,
  messageOf,
} from "./relay-words.ts";
import {
  openState,
  paramsDigest,
  type RequestState,
  STATE_TTL_MS,
  sealState,
  stateProblem,
} from "./request-state.ts";
import { type Answered, type CallRuntime, receiptMembers } from "./tool-call.ts";

/** Rounds of questions that one request of a client of the 2025 era may go through. */
const MOST_ROUNDS = 16;
/** Exchanges of one session that may wait for a client at a time. */
const MOST_WAITING = 32;
/** Pause before an upstream that asked nothing, and only wants to be asked again, is; in ms. */
const BARE_RETRY_MS = 250;

/** What relaying needs of the session's object. */
export type RelayHost = {
  readonly links: UpstreamLinks;
  readonly waiting: WaitingExchanges;
  readonly secretsKey: Uint8Array;
  /** Marks a state as spent; false when it was. */
  readonly spend: (nonce: string, expiresAt: number) => boolean;
  /** An upstream said that one of its lists changed. */
  readonly listChanged: (entry: UpstreamEntry) => void;
  /** An upstream said that a resource changed. */
  readonly resourceUpdated: (entry: UpstreamEntry, notification: RpcNotification) => void;
};

/** Who asks, and how they are reached while the request is under way. */
export type RelayClient = {
  readonly era: "2025" | "2026";
  /** What the gateway can relay of what the client declared. */
  readonly capabilities: JsonObject;
  readonly logLevel: string | null;
  readonly channel: Channel;
};

/** Where a request goes. */
export type Route = {
  readonly entry: UpstreamEntry;
  /** Of a tool or a prompt. */
  readonly definition: Definition | null;
  readonly kind: "tool" | "prompt" | "resource" | "completion";
  /** For the upstream, in its own names; without `_meta`. */
  readonly params: JsonObject;
  /** What records call it. */
  readonly label: string | null;
  /** What records keep of the parameters. */
  readonly args: JsonObject;
  readonly paramHeaders: Readonly<Record<string, string>>;
};

export type RelayJob = {
  readonly runtime: CallRuntime;
  readonly host: RelayHost;
  readonly client: RelayClient;
  readonly request: RpcRequest;
  readonly requestId: string;
  readonly route: Route;
};

/** One job with what was found out about it. */
type Job = RelayJob & {
  readonly workspace_root: string | null;
  readonly plan_hash: string | null;
  readonly declared: JsonObject;
};

const EVENTS = {
  tool: { intent: "tool_intent", result: "tool_result", refusal: "tool_call" },
  prompt: { intent: "prompt_get", result: "prompt_get", refusal: "prompt_get" },
  resource: { intent: "resource_read", result: "resource_read", refusal: "resource_read" },
  completion: { intent: "completion", result: "completion", refusal: "completion" },
} as const;

/** Answers one relayed request. Whatever happens, it ends in a record. */
export async function relay(given: RelayJob): Promise<Answered> {
  const { workspace_root, plan_hash } = given.runtime.state();
  const job: Job = {
    ...given,
    workspace_root,
    plan_hash,
    declared: declaredTo(given.route.entry.config, given.client.capabilities),
  };
  const stopping = stoppedNow(job);
  if (stopping !== null) return stopped(job, stopping);
  const early = earlyRefusal(job);
  if (early !== null) return refused(job, early);
  const resumed = resume(job);
  if (!resumed.ok) return invalid(job, resumed.refusal.message);
  let { exchange, params } = resumed.value;

  for (let round = 1; round <= MOST_ROUNDS; round++) {
    if (round > 1) {
      await job.runtime.renewSwitches();
      const late = stoppedNow(job);
      if (late !== null) return stopped(job, late);
    }
    const intent = openIntent(job);
    const decision = await decide(job);
    if (!decision.ok) {
      exchange?.abandon("refused");
      return closed(job, intent, decision.refusal, null);
    }
    const context = upstreamContext(job, decision.value);
    exchange ??= begin(job, params);
    const began = Date.now();
    const turn = await exchange.next(job.client.channel.signal, (notification) =>
      passNotification(job, notification),
    );
    observe(
      job.runtime.env,
      inObject,
      "mcp_upstream_duration_seconds",
      { upstream: job.route.entry.config.name },
      Date.now() - began,
    );
    if (turn.kind === "asked") return suspend(job, intent, context, exchange, turn.questions);
    const { outcome } = turn;
    if (outcome.kind === "failed") return failed(job, intent, context, outcome.failure);
    if (outcome.kind === "error") return errored(job, intent, context, outcome.error);
    if (outcome.result.resultType !== "input_required") {
      return succeeded(job, intent, context, outcome);
    }
    const questions = questionsOf(job, outcome.result);
    if (questions === null) {
      return failed(job, intent, context, {
        reason: "protocol",
        ran: "maybe",
        detail: "it asked for input in a way that the protocol or the client does not allow",
        httpStatus: null,
      });
    }
    if (job.client.era === "2026") {
      return passQuestions(job, intent, context, outcome.result, questions);
    }
    const upstreamState = outcome.result.requestState;
    recordAsked(job, intent, context, questions, canonicalJson(withoutMeta(outcome.result)));
    const answers = await askAll(job, questions);
    if (!answers.ok) return refused(job, answers.refusal);
    if (questions.size === 0) await new Promise((resolve) => setTimeout(resolve, BARE_RETRY_MS));
    params = {
      ...job.route.params,
      inputResponses: answers.value,
      ...(typeof upstreamState === "string" ? { requestState: upstreamState } : {}),
    };
    exchange = null;
  }
  return refused(job, {
    code: "UPSTREAM_ERROR",
    message: `${job.route.entry.config.name} asked for input ${MOST_ROUNDS} times and did not finish.`,
  });
}

// ── policy ──────────────────────────────────────────────────────────────────

/** The kill switch that stops this request, at its beginning and before each further round of it. */
function stoppedNow({ runtime, route }: Job): KillSwitch | null {
  return runtime.stoppedBy({
    tool: route.kind === "tool" ? route.label : null,
    upstream: route.entry.config.name,
  });
}

/** Session, definition, gate and plan given, in this order: the first that fails is the answer. */
function earlyRefusal({ runtime, route, workspace_root, plan_hash }: Job): Refusal | null {
  const { entry, definition, kind, label } = route;
  const { name, gate } = entry.config;
  if (runtime.stateless?.handleRefused === true) {
    return {
      code: "SESSION_NOT_FOUND",
      message:
        "There is no such session. Call begin_session, and pass the session_id it answers with.",
    };
  }
  if (definition !== null && definition.status === "changed") {
    return {
      code: "TOOL_CHANGED",
      message: `${name} has changed ${label} since an operator approved it. Ask an operator to approve it as it is now.`,
    };
  }
  if (kind !== "tool" || gate === "open") return null;
  if (gate === "read_only") {
    if (definition?.reads === true) return null;
    return {
      code: "FORBIDDEN",
      message: `Only what an operator marked as reading may be called at ${name}, and ${label} is not.`,
    };
  }
  if (workspace_root === null) {
    return {
      code: "SESSION_REQUIRED",
      message: `${label} needs a session with a workspace. Call begin_session first.`,
    };
  }
  if (plan_hash === null) {
    return {
      code: "PLAN_REQUIRED",
      message: `${label} needs an approved plan that names it. Call begin_session with its plan_hash.`,
    };
  }
  return null;
}

/** Asks the Workspace object about a planned call: no cached approval is trusted. */
async function decide(
  job: Job,
): Promise<Decision<{ approval: { by: string; at: string } } | null>> {
  const { route, runtime, workspace_root, plan_hash } = job;
  const { definition, label, entry } = route;
  if (route.kind !== "tool" || entry.config.gate !== "plan") return allow(null);
  if (workspace_root === null || plan_hash === null || definition === null || label === null) {
    return refuse("PLAN_REQUIRED", "This call needs an approved plan.");
  }
  try {
    const workspace = workspaceStub(runtime.env, runtime.state().tenant, workspace_root);
    return await workspace.decideUpstream({
      planHash: plan_hash,
      tool: label,
      args: route.args,
      pin: definition.pin,
    });
  } catch (error) {
    log(job, "plan_undecided", error);
    return refuse("OVERLOADED", "The plan cannot be looked at now. Nothing was called; try again.");
  }
}

function upstreamContext(
  { route }: Job,
  approved: { approval: { by: string; at: string } } | null,
): JsonObject {
  const { entry, definition } = route;
  return {
    upstream: entry.config.name,
    pin: definition?.pin ?? null,
    gate: entry.config.gate,
    ...(approved === null ? {} : { approval: { ...approved.approval } }),
  };
}

// ── a client that comes back ────────────────────────────────────────────────

/** What a request goes on with: nothing, the upstream's own state, or an exchange that waited. */
function resume(job: Job): Decision<{ exchange: Exchange | null; params: JsonObject }> {
  const { route, client, request, host } = job;
  const given = request.params ?? {};
  const { requestState: sealed, inputResponses: responses } = given;
  if (client.era === "2025" || (sealed === undefined && responses === undefined)) {
    return allow({ exchange: null, params: route.params });
  }
  if (sealed === undefined) {
    // An upstream that keeps no state may take answers without one.
    return allow({
      exchange: null,
      params: {
        ...route.params,
        ...(responses === undefined ? {} : { inputResponses: responses }),
      },
    });
  }
  const bad = (why: string) => refuse("INVALID_ARGUMENT", `requestState: ${why}.`);
  const state = typeof sealed === "string" ? openState(host.secretsKey, sealed) : null;
  if (state === null) return bad("it is not one that was given out here");
  const { tenant, session_id } = job.runtime.state();
  const problem = stateProblem(state, {
    principal: job.runtime.state().principal,
    tenant,
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
    });
  }
  const exchange = host.waiting.take(state.waiting);
  if (exchange === null) return bad("the call that it belongs to is no longer waiting");
  exchange.answer(isObject(responses) ? objectsOf(responses) : {});
  return allow({ exchange, params: route.params });
}

function objectsOf(responses: JsonObject): Record<string, JsonObject> {
  return Object.fromEntries(
    Object.entries(responses).flatMap(([key, value]) => (isObject(value) ? [[key, value]] : [])),
  );
}

function newState(job: Job, with_: Pick<RequestState, "state" | "waiting">): string {
  const { tenant, principal, session_id } = job.runtime.state();
  return sealState(job.host.secretsKey, {
    principal,
    tenant,
    session: session_id,
    upstream: job.route.entry.config.name,
    method: job.request.method,
    digest: paramsDigest(job.request.params ?? {}),
    expires_at: Date.now() + STATE_TTL_MS,
    nonce: crypto.randomUUID(),
    ...with_,
  });
}

// ── the exchange ────────────────────────────────────────────────────────────

function begin(job: Job, params: JsonObject): Exchange {
  const { route, client, host, request } = job;
  const { _meta: _own, ...rest } = params;
  const given = isObject(request.params?._meta) ? request.params._meta : {};
  const upstream: UpstreamRequest = {
    method: request.method,
    params: rest,
    meta: passedMeta(given),
    capabilities: job.declared,
    logLevel: client.logLevel,
    // Of the gateway's own: a client's may be another client's too.
    progressToken: given.progressToken === undefined ? null : crypto.randomUUID(),
    paramHeaders: route.paramHeaders,
  };
  return new Exchange(host.links, route.entry, upstream, (question, signal) => {
    if (!covers(job.declared, question)) return refuseQuestion(job, question);
    return client.era === "2025" ? askClient(job, question, signal) : null;
  });
}

/** The client's keys of `_meta` that are neither the protocol's nor the gateway's own. */
function passedMeta(meta: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(meta).filter(
      ([key]) =>
        key !== "progressToken" &&
        !key.startsWith("dev.atlas-gate/") &&
        !key.startsWith("io.modelcontextprotocol/"),
    ),
  );
}

/** Passes on what the upstream says of the request while it is under way. */
function passNotification(job: Job, notification: RpcNotification): void {
  const { client, host, route, request } = job;
  const { method, params } = notification;
  switch (method) {
    case "notifications/progress": {
      const meta = request.params?._meta;
      const token = isObject(meta) ? meta.progressToken : undefined;
      if (token === undefined || token === null) return;
      client.channel.notify({
        jsonrpc: "2.0",
        method,
        params: { ...params, progressToken: token },
      });
      return;
    }
    case "notifications/message":
      if (client.logLevel !== null || client.era === "2025") client.channel.notify(notification);
      return;
    case "notifications/tools/list_changed":
    case "notifications/prompts/list_changed":
    case "notifications/resources/list_changed":
      host.listChanged(route.entry);
      return;
    case "notifications/resources/updated":
      host.resourceUpdated(route.entry, notification);
      return;
    case "notifications/cancelled":
      return;
    case "notifications/elicitation/complete":
      if (client.era === "2025") client.channel.notify(notification);
      return;
    default:
      // Nothing that the other era's client would not know.
      if (client.era === (route.entry.era ?? client.era)) client.channel.notify(notification);
  }
}

// ── questions ───────────────────────────────────────────────────────────────

/** The questions of an `input_required` result; null for what may not be asked. */
function questionsOf(job: Job, result: JsonObject): Map<string, Question> | null {
  const { inputRequests, requestState } = result;
  if (inputRequests === undefined) return typeof requestState === "string" ? new Map() : null;
  if (!isObject(inputRequests)) return null;
  const questions = new Map<string, Question>();
  for (const [key, value] of Object.entries(inputRequests)) {
    if (!isObject(value) || typeof value.method !== "string") return null;
    const question = {
      method: value.method,
      params: isObject(value.params) ? value.params : undefined,
    };
    if (!covers(job.declared, question)) return null;
    questions.set(key, question);
  }
  return questions;
}

/** Asks a client of the 2025 era; recorded before the question leaves and when the answer is there. */
async function askClient(job: Job, question: Question, signal: AbortSignal): Promise<ClientAnswer> {
  const { runtime, client, route, requestId } = job;
  const { method } = question;
  const name = route.entry.config.name;
  const common = {
    event: "client_request",
    tool: method,
    workspace_root: job.workspace_root,
    plan_hash: job.plan_hash,
    request_id: requestId,
    context: { upstream: name },
  };
  const params = forEra(question, "2025").params;
  const intent = runtime.ledger.intent(
    { ...common, args: params ?? null },
    { ...intentNote(job), event: "client_request", result_event: "client_request", tool: method },
  );
  let answer: ClientAnswer;
  try {
    if (!client.channel.canAsk) throw new Error("the client cannot be asked on this response");
    answer = await cancellable(client.channel.ask(method, labelled(params, name)), signal);
  } catch {
    runtime.ledger.result(intent.seq, { ...common, result: "error", error_code: "CANCELLED" });
    return { error: { code: -32603, message: "The client did not answer." } };
  }
  const text = canonicalJson("result" in answer ? withoutMeta(answer.result) : answer.error);
  const action = "result" in answer ? answer.result.action : null;
  runtime.ledger.result(intent.seq, {
    ...common,
    result: "result" in answer ? "ok" : "error",
    error_code: "result" in answer ? null : "CANCELLED",
    result_text: text,
    notes: typeof action === "string" ? `the user's answer: ${action}`.slice(0, 64) : null,
  });
  return answer;
}

function cancellable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** A question that the client, or the operator, does not let the upstream ask: refused, and recorded. */
function refuseQuestion(job: Job, question: Question): Promise<ClientAnswer> {
  job.runtime.ledger.append({
    event: "client_request",
    tool: question.method,
    result: "error",
    error_code: "FORBIDDEN",
    request_id: job.requestId,
    args: question.params ?? null,
    context: { upstream: job.route.entry.config.name },
  });
  return Promise.resolve({
    error: { code: -32601, message: `The client does not support ${question.method} here.` },
  });
}

/** Asks a client of the 2025 era all that an upstream of the other wants to know. */
async function askAll(
  job: Job,
  questions: ReadonlyMap<string, Question>,
): Promise<Decision<JsonObject>> {
  const { signal } = job.client.channel;
  const answers = await Promise.all(
    [...questions].map(
      async ([key, question]) => [key, question, await askClient(job, question, signal)] as const,
    ),
  );
  const responses: JsonObject = {};
  for (const [key, { method }, answer] of answers) {
    if ("result" in answer) responses[key] = answer.result;
    // A form that could not be shown is one that was not filled in.
    else if (method === "elicitation/create" && !signal.aborted)
      responses[key] = { action: "cancel" };
    else {
      return refuse(
        "CANCELLED",
        `${job.route.entry.config.name} needs ${method} from the client, and did not get it.`,
      );
    }
  }
  return allow(responses);
}

/** Closes an intent with the questions that the upstream asked, each of which is a record. */
function recordAsked(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  questions: ReadonlyMap<string, Question>,
  resultText: string,
): Receipt {
  const { runtime, requestId, client } = job;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: EVENTS[job.route.kind].result,
    result: "input_required",
    result_text: resultText,
    context: { ...context, asked: [...questions.values()].map(({ method }) => method) },
  });
  if (client.era === "2025") return receipt;
  let last = receipt;
  for (const { method, params } of questions.values()) {
    last = runtime.ledger.append({
      event: "client_request",
      tool: method,
      result: "input_required",
      request_id: requestId,
      args: params ?? null,
      context: { upstream: job.route.entry.config.name },
    });
  }
  return last;
}

/** A client of the 2026 era is asked in the result: the waiting exchange goes on with its retry. */
function suspend(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  exchange: Exchange,
  questions: ReadonlyMap<string, Question>,
): Answered {
  if (job.host.waiting.size >= MOST_WAITING) {
    exchange.abandon("too many calls are waiting");
    return closed(
      job,
      intent,
      {
        code: "OVERLOADED",
        message: "Too many calls of this session wait for answers. Answer some of them first.",
      },
      context,
    );
  }
  const waiting = job.host.waiting.keep(exchange, STATE_TTL_MS);
  return inputRequired(job, intent, context, {}, questions, { state: null, waiting });
}

/** The questions of an upstream of the 2026 era, with its state sealed into the gateway's. */
function passQuestions(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  result: JsonObject,
  questions: ReadonlyMap<string, Question>,
): Answered {
  const { _meta: _own, inputRequests: _questions, requestState, ...rest } = result;
  const state = typeof requestState === "string" ? requestState : null;
  return inputRequired(job, intent, context, rest, questions, { state, waiting: null });
}

function inputRequired(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  rest: JsonObject,
  questions: ReadonlyMap<string, Question>,
  state: Pick<RequestState, "state" | "waiting">,
): Answered {
  const { name } = job.route.entry.config;
  const inputRequests = Object.fromEntries(
    [...questions].map(([key, question]) => {
      const { method, params } = forEra(question, "2026");
      return [key, { method, params: labelled(params, name) }];
    }),
  );
  const result: JsonObject = {
    ...rest,
    resultType: "input_required",
    ...(questions.size === 0 ? {} : { inputRequests }),
    requestState: newState(job, state),
  };
  const text = JSON.stringify(result);
  const receipt = recordAsked(job, intent, context, questions, canonicalJson(result));
  const members = receiptMembers(job.runtime, receipt, null).join(",");
  return answered(job, `{"_meta":{${members}},${text.slice(1)}`, null);
}

// ── ends ────────────────────────────────────────────────────────────────────

function succeeded(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  outcome: Extract<WireOutcome, { kind: "result" }>,
): Answered {
  const { runtime, client, route } = job;
  const result = relayResult(outcome, client.era, route.kind === "resource");
  const isError = route.kind === "tool" && outcome.result.isError === true;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: EVENTS[route.kind].result,
    result: isError ? "error" : "ok",
    error_code: isError ? "UPSTREAM_ERROR" : null,
    result_text: result.hashed,
    notes: outcome.isIJson
      ? null
      : "the result is outside I-JSON: relayed and hashed as it was sent",
    context,
  });
  return answered(job, result.withMeta(receiptMembers(runtime, receipt, null)), null);
}

/** A JSON-RPC error of the upstream: its code, message and data, and the receipt. */
function errored(job: Job, intent: Receipt, context: JsonObject, error: RpcErrorObject): Answered {
  const { runtime, client, request } = job;
  const known = client.era === "2026" ? errorTo2026(error, request.params ?? {}) : { error };
  if ("questions" in known) {
    const covered = [...known.questions.values()].every((question) =>
      covers(job.declared, question),
    );
    if (covered) {
      return inputRequired(job, intent, context, {}, known.questions, {
        state: null,
        waiting: null,
      });
    }
  }
  const sent = "questions" in known ? error : known.error;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: EVENTS[job.route.kind].result,
    result: "error",
    error_code: "UPSTREAM_ERROR",
    result_text: canonicalText({ ...sent }),
    context: { ...context, rpc_code: sent.code },
  });
  const data = sent.data;
  const withReceipt =
    data === undefined || isObject(data) ? { ...data, receipt: { ...receipt } } : data;
  return {
    body: JSON.stringify(rpcError(request.id, sent.code, sent.message, withReceipt)),
    log: { method: request.method, tool: job.route.label, error_code: "UPSTREAM_ERROR" },
    status: client.era === "2026" ? errorStatus(sent.code) : 200,
  };
}

function failed(job: Job, intent: Receipt, context: JsonObject, failure: WireFailure): Answered {
  log(job, "upstream_failed", `${failure.reason}: ${failure.detail}`);
  const code = errorCodeOf(failure);
  const message = messageOf(failure, job.route.entry.config.name, job.requestId);
  return closed(job, intent, { code, message }, { ...context, ran: failure.ran });
}

/** Ends a request whose intent is open with a refusal. */
function closed(job: Job, intent: Receipt, refusal: Refusal, context: JsonObject | null): Answered {
  return refusalAnswer(job, refusal, (hashed) =>
    job.runtime.ledger.result(intent.seq, {
      ...common(job),
      event: EVENTS[job.route.kind].result,
      result: "error",
      error_code: refusal.code,
      result_text: hashed,
      context,
    }),
  );
}

function stopped(job: Job, stopping: KillSwitch): Answered {
  return refused(job, stoppedRefusal(stopping), { kill_switch: stopping.id });
}

/** Ends a request that was not begun: one record. */
function refused(job: Job, refusal: Refusal, details: JsonObject = {}): Answered {
  return refusalAnswer(job, refusal, (hashed) =>
    job.runtime.ledger.append({
      ...common(job),
      event: EVENTS[job.route.kind].refusal,
      result: "error",
      error_code: refusal.code,
      args: job.route.args,
      result_text: hashed,
      context: { upstream: job.route.entry.config.name, ...details },
    }),
  );
}

/** A refusal is a result of a tool, and an error of anything else. */
function refusalAnswer(
  job: Job,
  refusal: Refusal,
  record: (hashed: string | null) => Receipt,
): Answered {
  const { runtime, client, request, route } = job;
  if (route.kind === "tool") {
    const type = client.era === "2026" ? "complete" : null;
    const result = refusalResult(refusal.code, refusal.message, type);
    const receipt = record(result.hashed);
    const meta = `{${receiptMembers(runtime, receipt, refusal).join(",")}}`;
    return answered(job, result.withMeta(meta), refusal.code);
  }
  const receipt = record(null);
  return {
    body: JSON.stringify(
      rpcError(request.id, -32603, `[${refusal.code}] ${refusal.message}`, {
        code: refusal.code,
        request_id: job.requestId,
        receipt: { ...receipt },
      }),
    ),
    log: { method: request.method, tool: route.label, error_code: refusal.code },
    status: 200,
  };
}

/** Parameters that do not fit: a protocol error, recorded. */
function invalid(job: Job, message: string): Answered {
  const { runtime, request, route, client } = job;
  const receipt = runtime.ledger.append({
    ...common(job),
    event: EVENTS[route.kind].refusal,
    result: "error",
    error_code: "INVALID_ARGUMENT",
    args: route.args,
    notes: message,
  });
  return {
    body: JSON.stringify(
      rpcError(request.id, -32602, message, {
        code: "INVALID_ARGUMENT",
        request_id: job.requestId,
        receipt: { ...receipt },
      }),
    ),
    log: { method: request.method, tool: route.label, error_code: "INVALID_ARGUMENT" },
    status: client.era === "2026" ? 400 : 200,
  };
}

function answered(job: Job, resultText: string, errorCode: string | null): Answered {
  return {
    body: rpcResultBody(job.request.id, resultText),
    log: { method: job.request.method, tool: job.route.label, error_code: errorCode },
    status: 200,
  };
}

// ── records ─────────────────────────────────────────────────────────────────

function openIntent(job: Job): Receipt {
  const { entry, definition } = job.route;
  return job.runtime.ledger.intent(
    {
      ...common(job),
      event: EVENTS[job.route.kind].intent,
      args: job.route.args,
      context: {
        upstream: entry.config.name,
        pin: definition?.pin ?? null,
        gate: entry.config.gate,
      },
    },
    intentNote(job),
  );
}

function intentNote(job: Job): IntentNote {
  const events = EVENTS[job.route.kind];
  return {
    event: events.intent,
    result_event: events.result,
    upstream: job.route.entry.config.name,
    ...common(job),
  };
}

function common(job: Job): Pick<Entry, "request_id"> & {
  tool: string | null;
  workspace_root: string | null;
  plan_hash: string | null;
} {
  return {
    tool: job.route.label,
    workspace_root: job.workspace_root,
    plan_hash: job.plan_hash,
    request_id: job.requestId,
  };
}

function withoutMeta({ _meta, ...rest }: JsonObject): JsonObject {
  return rest;
}

/** The RFC 8785 form, or none for what has none: an upstream's error may hold half a surrogate pair. */
function canonicalText(value: JsonObject): string | null {
  try {
    return canonicalJson(value);
  } catch {
    return null;
  }
}

function log(job: Job, event: string, error: unknown): void {
  logEvent("error", event, {
    upstream: job.route.entry.config.name,
    session_id: job.runtime.state().session_id,
    request_id: job.requestId,
    error: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  });
}
