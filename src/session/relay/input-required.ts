/**
 * @module
 * The answer to a client of the 2026 era that has to bring something first.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import type { JsonObject } from "../../mcp/ijson.ts";
import type { Exchange, Question } from "../exchange.ts";
import type { Receipt } from "../ledger.ts";
import { type RequestState, STATE_TTL_MS } from "../request-state.ts";
import { type Answered, receiptMembers } from "../tool-call.ts";
import { answered, closed } from "./ends.ts";
import type { Job } from "./job.ts";
import { labelledAll, recordAsked } from "./questions.ts";
import { newState } from "./resume.ts";

/** Exchanges of one session that may wait for a client at a time. */
const MOST_WAITING = 32;

/** A client of the 2026 era is asked in the result: the waiting exchange goes on with its retry. */
export function suspend(
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
export function passQuestions(
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

export function inputRequired(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  rest: JsonObject,
  questions: ReadonlyMap<string, Question>,
  state: Pick<RequestState, "state" | "waiting">,
): Answered {
  const { name } = job.route.entry.config;
  const inputRequests = labelledAll(questions, name);
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
