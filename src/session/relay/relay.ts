/**
 * @module
 * One request of a client's that an upstream answers: policy, the intent before
 * it leaves, what the upstream asks meanwhile, the result before the reply. One
 * flow for both eras on both sides; what differs is a turn of it.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import type { JsonObject } from "../../mcp/ijson.ts";
import { inObject, observe } from "../../ops/metrics/collect.ts";
import type { WireFailure } from "../../upstream/types.ts";
import { covers, declaredTo, declaresTasks } from "../capabilities.ts";
import type { Answered } from "../tool-call.ts";
import { begin, passNotification } from "./begin.ts";
import {
  closed,
  errored,
  failed,
  invalid,
  NOT_ALLOWED_TO_ASK,
  refused,
  stopped,
  succeeded,
} from "./ends.ts";
import { passQuestions, suspend } from "./input-required.ts";
import { type Job, openIntent, type RelayJob, upstreamContext, withoutMeta } from "./job.ts";
import { decide, earlyRefusal, lateRefusal, stoppedNow } from "./policy.ts";
import { askAll, MAY_NEED_INPUT, questionsOf, recordAsked, recordRefused } from "./questions.ts";
import { recordAnswers, resume } from "./resume.ts";

/** Rounds of questions that one request of a client of the 2025 era may go through. */
const MOST_ROUNDS = 16;

/** Pause before an upstream that asked nothing, and only wants to be asked again, is; in ms. */
const BARE_RETRY_MS = 250;

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
  recordAnswers(job);
  const { brought } = resumed.value;
  let { exchange, params } = resumed.value;

  for (let round = 1; round <= MOST_ROUNDS; round++) {
    if (round > 1) {
      await job.runtime.renewSwitches();
      const stoppedLate = stoppedNow(job);
      if (stoppedLate !== null) return stopped(job, stoppedLate);
      const late = await lateRefusal(job);
      if (late !== null) return refused(job, late);
    }
    const intent = openIntent(job);
    const decision = await decide(job);
    if (!decision.ok) {
      exchange?.abandon("refused");
      return closed(job, intent, decision.refusal, null);
    }
    const context = upstreamContext(job, decision.value);
    // Not before it is decided anew: with the answers the upstream goes on.
    if (exchange !== null) exchange.answer(brought, job.runtime.accessToken);
    else exchange = begin(job, params);
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
      return isKnownResult(job, outcome.result)
        ? succeeded(job, intent, context, outcome)
        : failed(job, intent, context, UNKNOWN_RESULT);
    }
    const questions = MAY_NEED_INPUT.has(job.route.kind) ? questionsOf(outcome.result) : null;
    const refusedOnes = [...(questions?.values() ?? [])].filter(
      (question) => !covers(job.declared, question),
    );
    for (const question of refusedOnes) recordRefused(job, question);
    if (questions === null || refusedOnes.length > 0) {
      return failed(job, intent, context, NOT_ALLOWED_TO_ASK);
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

const UNKNOWN_RESULT: WireFailure = {
  reason: "protocol",
  ran: "maybe",
  detail: "its result is of a type that neither the protocol nor a declared extension has",
  httpStatus: null,
};

/** A type that nobody declared is invalid (2026-07-28, ResultType); the 2025 era has no types. */
function isKnownResult({ route, declared }: Job, { resultType }: JsonObject): boolean {
  if (route.entry.era === "2025" || resultType === undefined) return true;
  return resultType === "complete" || (resultType === "task" && declaresTasks(declared));
}
