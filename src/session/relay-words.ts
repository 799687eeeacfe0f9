/**
 * @module
 * What is said differently on the two sides of a relay: the same question and
 * the same error in the words of each era, and an upstream's failure in the
 * gateway's own, without a word of the upstream's.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import {
  INTERNAL_ERROR,
  INVALID_PARAMS,
  MISSING_CAPABILITY,
  type RpcErrorObject,
} from "../mcp/jsonrpc.ts";
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

/** Codes that MCP keeps to itself (2026-07-28, Overview, Error Codes). */
const FIRST_RESERVED = -32020;
const LAST_RESERVED = -32099;

/**
 * An upstream's error as a client of 2026-07-28 may have it. URL elicitations
 * are questions there. Of the codes that are reserved there, only the one for a
 * missing capability is about what the client sent: the others are of an earlier
 * revision, made up, or about the gateway's own request, and become internal
 * errors that say which they were.
 */
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
  if (error.code === URL_ELICITATION_REQUIRED && isObject(error.data)) {
    const { elicitations } = error.data;
    const questions = (Array.isArray(elicitations) ? elicitations : []).flatMap(
      (elicitation, at) =>
        isObject(elicitation)
          ? ([[`elicitation_${at + 1}`, urlQuestion(elicitation)]] as const)
          : [],
    );
    if (questions.length > 0) return { questions: new Map(questions) };
  }
  return { error: isForeignTo2026(error.code) ? asInternal(error) : error };
}

/**
 * What a client of 2026-07-28 is told where the questions of an error may not be
 * put to it: which capability it lacks, or, where it has it, that they may not.
 */
export function cannotBeAsked(upstream: string, doesClientSupport: boolean): RpcErrorObject {
  return doesClientSupport
    ? { code: INTERNAL_ERROR, message: `${upstream} needs to ask the user, and may not.` }
    : {
        code: MISSING_CAPABILITY,
        message: `${upstream} needs to send the user to a URL, which the client did not declare.`,
        data: { requiredCapabilities: { elicitation: { url: {} } } },
      };
}

function isForeignTo2026(code: number): boolean {
  return code <= FIRST_RESERVED && code >= LAST_RESERVED && code !== MISSING_CAPABILITY;
}

function asInternal({ code, message, data }: RpcErrorObject): RpcErrorObject {
  const isOpen = data === undefined || isObject(data);
  return { code: INTERNAL_ERROR, message, data: isOpen ? { ...data, upstream_code: code } : data };
}

function urlQuestion(elicitation: JsonObject): Question {
  return forEra({ method: "elicitation/create", params: { ...elicitation, mode: "url" } }, "2026");
}

/** The HTTP status of a JSON-RPC error of 2026-07-28 (Streamable HTTP). */
export function errorStatus(code: number): 200 | 400 | 404 {
  if (code === -32601) return 404;
  return code === INVALID_PARAMS || (code <= FIRST_RESERVED && code >= LAST_RESERVED) ? 400 : 200;
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
