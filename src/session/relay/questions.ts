/**
 * @module
 * What an upstream asks of the client in the course of a call: which of it may be
 * asked, how a client of the 2025 era is asked, and the records of it.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import type { JsonObject } from "../../mcp/ijson.ts";
import { allow, type Decision, refuse } from "../../policy/errors.ts";
import type { ClientAnswer } from "../../upstream/types.ts";
import { covers, isObject } from "../capabilities.ts";
import type { Question } from "../exchange.ts";
import type { Receipt } from "../ledger.ts";
import { forEra, labelled } from "../relay-words.ts";
import { common, eventsOf, intentNote, type Job, type Route, withoutMeta } from "./job.ts";
import { nameOf } from "./resume.ts";

/** Requests whose result may be `input_required` (2026-07-28, Multi Round-Trip Requests). */
export const MAY_NEED_INPUT: ReadonlySet<Route["kind"]> = new Set(["tool", "prompt", "resource"]);

/** Whether the upstream may ask this now: of a client of the 2026 era there is no way to ask but by a result. */
export function mayAsk(job: Job, question: Question): boolean {
  const canBeAsked = job.client.era === "2025" || MAY_NEED_INPUT.has(job.route.kind);
  return canBeAsked && covers(job.declared, question);
}

/** The questions of an `input_required` result; null for what is none. */
export function questionsOf(result: JsonObject): Map<string, Question> | null {
  const { inputRequests, requestState } = result;
  if (inputRequests === undefined) return typeof requestState === "string" ? new Map() : null;
  if (!isObject(inputRequests)) return null;
  const questions = new Map<string, Question>();
  for (const [key, value] of Object.entries(inputRequests)) {
    if (!isObject(value) || typeof value.method !== "string") return null;
    questions.set(key, {
      method: value.method,
      params: isObject(value.params) ? value.params : undefined,
    });
  }
  return questions;
}

/** Asks a client of the 2025 era; recorded before the question leaves and when the answer is there. */
export async function askClient(
  job: Job,
  question: Question,
  signal: AbortSignal,
): Promise<ClientAnswer> {
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
    notes: typeof action === "string" ? `the user's answer: ${nameOf(action)}` : null,
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
export function refuseQuestion(job: Job, question: Question): Promise<ClientAnswer> {
  recordRefused(job, question);
  return Promise.resolve({
    error: { code: -32601, message: `The client does not support ${question.method} here.` },
  });
}

export function recordRefused(job: Job, question: Question): void {
  job.runtime.ledger.append({
    event: "client_request",
    tool: question.method,
    result: "error",
    error_code: "FORBIDDEN",
    request_id: job.requestId,
    args: question.params ?? null,
    context: { upstream: job.route.entry.config.name },
  });
}

/** Asks a client of the 2025 era all that an upstream of the other wants to know. */
export async function askAll(
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
export function recordAsked(
  job: Job,
  intent: Receipt,
  context: JsonObject,
  questions: ReadonlyMap<string, Question>,
  resultText: string,
): Receipt {
  const { runtime, requestId, client } = job;
  const receipt = runtime.ledger.result(intent.seq, {
    ...common(job),
    event: eventsOf(job).result,
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

export function labelledAll(
  questions: ReadonlyMap<string, Question>,
  upstream: string,
): JsonObject {
  return Object.fromEntries(
    [...questions].map(([key, question]) => {
      const { method, params } = forEra(question, "2026");
      return [key, { method, params: labelled(params, upstream) }];
    }),
  );
}
