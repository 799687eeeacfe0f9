/**
 * @module
 * How a relayed request ends: the result or error of its upstream, a failure, a
 * refusal. Each is a record before it is an answer.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import type { JsonObject } from "../../mcp/ijson.ts";
import { type RpcErrorObject, rpcError } from "../../mcp/jsonrpc.ts";
import { relayResult } from "../../mcp/relay-result.ts";
import { refusalResult, rpcResultBody } from "../../mcp/tool-result.ts";
import type { Refusal } from "../../policy/errors.ts";
import { type KillSwitch, stoppedRefusal } from "../../policy/kill-switch.ts";
import type { WireFailure, WireOutcome } from "../../upstream/types.ts";
import { covers, isObject } from "../capabilities.ts";
import type { Question } from "../exchange.ts";
import type { Receipt } from "../ledger.ts";
import { cannotBeAsked, errorCodeOf, errorStatus, errorTo2026, messageOf } from "../relay-words.ts";
import { type Answered, receiptMembers } from "../tool-call.ts";
import { inputRequired } from "./input-required.ts";
import { common, eventsOf, type Job, log } from "./job.ts";
import { mayAsk, recordRefused } from "./questions.ts";
import { taskMembers } from "./task.ts";

export const NOT_ALLOWED_TO_ASK: WireFailure = {
  reason: "protocol",
  ran: "maybe",
  detail: "it asked for input in a way that the protocol or the client does not allow",
  httpStatus: null,
};

export function succeeded(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  outcome: Extract<WireOutcome, { kind: "result" }>,
): Answered {
  const { runtime, client, route } = job;
  const replaced = taskMembers(job, outcome.result);
  if (replaced === null) {
    return failed(job, intent, context, NOT_ALLOWED_TO_ASK);
  }
  const result = relayResult(outcome, client.era, route.kind === "resource", replaced);
  const isError = route.kind === "tool" && outcome.result.isError === true;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: eventsOf(job).result,
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
export function errored(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  error: RpcErrorObject,
): Answered {
  const { runtime, client, request } = job;
  const known = client.era === "2026" ? errorTo2026(error, request.params ?? {}) : { error };
  if ("questions" in known) {
    const refusedOnes = [...known.questions.values()].filter((question) => !mayAsk(job, question));
    for (const question of refusedOnes) recordRefused(job, question);
    if (refusedOnes.length === 0) {
      return inputRequired(job, intent, context, {}, known.questions, {
        state: null,
        waiting: null,
      });
    }
  }
  const sent = "questions" in known ? refusedQuestions(job, known.questions) : known.error;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: eventsOf(job).result,
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

function refusedQuestions(job: Job, questions: ReadonlyMap<string, Question>): RpcErrorObject {
  const doesClientSupport = [...questions.values()].every((question) =>
    covers(job.client.capabilities, question),
  );
  return cannotBeAsked(job.route.entry.config.name, doesClientSupport);
}

export function failed(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  failure: WireFailure,
): Answered {
  log(job, "upstream_failed", `${failure.reason}: ${failure.detail}`);
  const code = errorCodeOf(failure);
  const message = messageOf(failure, job.route.entry.config.name, job.requestId);
  return closed(job, intent, { code, message }, { ...context, ran: failure.ran });
}

/** Ends a request whose intent is open with a refusal. */
export function closed(
  job: Job,
  intent: Receipt,
  refusal: Refusal,
  context: JsonObject | null,
): Answered {
  return refusalAnswer(job, refusal, (hashed) =>
    job.runtime.ledger.result(intent.seq, {
      ...common(job),
      event: eventsOf(job).result,
      result: "error",
      error_code: refusal.code,
      result_text: hashed,
      context,
    }),
  );
}

/** Ends a request that a kill switch stops: the record names it. */
export function stopped(job: Job, stopping: KillSwitch): Answered {
  return refused(job, stoppedRefusal(stopping), { kill_switch: stopping.id });
}

/** Ends a request that was not begun: one record. */
export function refused(job: Job, refusal: Refusal, details: JsonObject = {}): Answered {
  return refusalAnswer(job, refusal, (hashed) =>
    job.runtime.ledger.append({
      ...common(job),
      event: eventsOf(job).refusal,
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
export function invalid(job: Job, message: string): Answered {
  const { runtime, request, route, client } = job;
  const receipt = runtime.ledger.append({
    ...common(job),
    event: eventsOf(job).refusal,
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

export function answered(job: Job, resultText: string, errorCode: string | null): Answered {
  return {
    body: rpcResultBody(job.request.id, resultText),
    log: { method: job.request.method, tool: job.route.label, error_code: errorCode },
    status: 200,
  };
}

/** The RFC 8785 form, or none for what has none: an upstream's error may hold half a surrogate pair. */
function canonicalText(value: JsonObject): string | null {
  try {
    return canonicalJson(value);
  } catch {
    return null;
  }
}
