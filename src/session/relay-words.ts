/**
 * @module
 * What is said differently on the two sides of a relay: the same question and
 * the same error in the words of each era, and an upstream's failure in the
 * gateway's own, without a word of the upstream's.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import { INVALID_PARAMS, type RpcErrorObject } from "../mcp/jsonrpc.ts";
import { OWN_META_PREFIX } from "../mcp/relay-result.ts";
import type { ErrorCode } from "../policy/errors.ts";
import type { WireFailure } from "../upstream/types.ts";
import { isObject } from "./capabilities.ts";
import type { Question } from "./exchange.ts";

/** Where a question says which upstream asks it. */
const UPSTREAM_KEY = `${OWN_META_PREFIX}upstream`;

/** 2025-11-25 `RESOURCE_NOT_FOUND`, which 2026-07-28 has as invalid parameters. */
const RESOURCE_NOT_FOUND = -32002;
/** 2025-11-25 `URL_ELICITATION_REQUIRED`, which 2026-07-28 has as an input request. */
const URL_ELICITATION_REQUIRED = -32042;

/** A question as an era writes it: URL elicitations have an id in 2025-11-25, and none after. */
export function forEra(question: Question, era: "2025" | "2026"): Question {
  const { method, params } = question;
  if (method !== "elicitation/create" || params?.mode !== "url") return question;
  const { elicitationId, ...rest } = params;
  return {
    method,
    params:
      era === "2026" ? rest : { ...rest, elicitationId: elicitationId ?? crypto.randomUUID() },
  };
}

/** A question's parameters with the name of the upstream that asks; its own copy of the gateway's keys is dropped. */
export function labelled(params: JsonObject | undefined, upstream: string): JsonObject {
  const meta = isObject(params?._meta) ? params._meta : {};
  const passed = Object.entries(meta).filter(([key]) => !key.startsWith(OWN_META_PREFIX));
  return { ...params, _meta: { ...Object.fromEntries(passed), [UPSTREAM_KEY]: upstream } };
}

/** An error of a 2025-era upstream as 2026-07-28 has it; for URL elicitations, as the questions that they are there. */
export function errorTo2026(
  error: RpcErrorObject,
  params: JsonObject,
): { error: RpcErrorObject } | { questions: ReadonlyMap<string, Question> } {
  if (error.code === RESOURCE_NOT_FOUND) {
    const data = isObject(error.data) ? error.data : {};
    const { uri } = params;
    return {
      error: {
        ...error,
        code: INVALID_PARAMS,
        data: { ...data, ...(uri === undefined ? {} : { uri }) },
      },
    };
  }
  if (error.code !== URL_ELICITATION_REQUIRED || !isObject(error.data)) return { error };
  const { elicitations } = error.data;
  if (!Array.isArray(elicitations)) return { error };
  const questions = elicitations.flatMap((elicitation, at) =>
    isObject(elicitation) ? ([[`elicitation_${at + 1}`, urlQuestion(elicitation)]] as const) : [],
  );
  return questions.length === 0 ? { error } : { questions: new Map(questions) };
}

function urlQuestion(elicitation: JsonObject): Question {
  return forEra({ method: "elicitation/create", params: { ...elicitation, mode: "url" } }, "2026");
}

/** The HTTP status of a JSON-RPC error of 2026-07-28 (Streamable HTTP). */
export function errorStatus(code: number): 200 | 400 | 404 {
  if (code === -32601) return 404;
  return code === INVALID_PARAMS || (code <= -32020 && code >= -32099) ? 400 : 200;
}

export function errorCodeOf({ reason }: WireFailure): ErrorCode {
  switch (reason) {
    case "cancelled":
      return "CANCELLED";
    case "timeout":
      return "UPSTREAM_TIMEOUT";
    case "unauthorized":
      return "UPSTREAM_UNAUTHORIZED";
    case "unreachable":
    case "refused":
    case "session_lost":
      return "UPSTREAM_UNAVAILABLE";
    case "protocol":
    case "too_large":
      return "UPSTREAM_ERROR";
  }
}

/** What happened and what to do. An upstream's own words are for the operator's log alone. */
export function messageOf(failure: WireFailure, upstream: string, requestId: string): string {
  const what = {
    cancelled: `The call to ${upstream} was cancelled.`,
    timeout: `${upstream} did not answer in time.`,
    unauthorized: `${upstream} does not accept the gateway's credential.`,
    unreachable: `${upstream} cannot be reached.`,
    refused: `${upstream} did not take the request.`,
    session_lost: `${upstream} lost the gateway's session twice.`,
    protocol: `What ${upstream} sent is no answer that the protocol allows.`,
    too_large: `The answer of ${upstream} is too large.`,
  }[failure.reason];
  const then =
    failure.ran === "maybe"
      ? "It may have been carried out: look before you repeat it."
      : "It was not carried out.";
  return `${what} ${then} An operator finds the details under the request id ${requestId}.`;
}
