/**
 * @module
 * One `tools/call`, from its checks to its receipt: schema, kill switch, role,
 * session, path, plan; the intent before anything leaves; the result before the reply.
 * Whatever happens, the call ends in a record.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { type JsonObject, MAX_TOOL_UNITS } from "../audit/record.ts";
import { withoutCredential } from "../audit/redact.ts";
import type { Principal } from "../edge/principal.ts";
import { INVALID_PARAMS, type RpcRequest, rpcError } from "../mcp/jsonrpc.ts";
import { SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { okResult, type ResultType, refusalResult, rpcResultBody } from "../mcp/tool-result.ts";
import { logEvent } from "../ops/log.ts";
import { allow, type Decision, type ErrorCode, type Refusal, refuse } from "../policy/errors.ts";
import { type KillSwitch, stoppedRefusal } from "../policy/kill-switch.ts";
import { mayUseTool } from "../policy/tool-list.ts";
import { findTool } from "../tools/index.ts";
import type { BuiltInTool, PreparedCall, ToolAnswer, ToolContext } from "../tools/tool.ts";
import type { ClientSide } from "./client-side.ts";
import type { Entry, IntentNote, Receipt } from "./ledger.ts";
import { askWorkspace } from "./settle.ts";
import type { CallLog, SessionState } from "./state.ts";
import type { Streams } from "./streams.ts";
import type { UpstreamSide } from "./upstream-side.ts";

/** The chain as a call sees it: what it appends is in its caller's role. See the ledger. */
export type CallLedger = {
  readonly append: (entry: Entry) => Receipt;
  readonly appendWith: (entry: Entry, change: () => void) => Receipt;
  readonly intent: (entry: Omit<Entry, "result">, note: IntentNote) => Receipt;
  readonly result: (intentSeq: number, entry: Entry) => Receipt;
};

/** What a call needs of the session's object. */
export type CallRuntime = {
  readonly env: Env;
  /** The caller's: a session of its own is of one role, an ambient one of all that its principal has. */
  readonly role: string;
  /** What the call came with, for upstreams that are asked in its caller's name: no other call may use it. */
  readonly accessToken: string | null;
  readonly ledger: CallLedger;
  readonly state: () => SessionState;
  readonly bind: (to: Bind) => void;
  /** Changes what the session keeps of its client; for use in a ledger's transaction. */
  readonly remember: (change: ClientNote) => void;
  readonly context: (caller: Principal, intentSeq: number | null) => ToolContext;
  /** The kill switch that stops a call of the session's, as far as the session has heard. */
  readonly stoppedBy: (what: {
    readonly tool: string | null;
    readonly upstream: string | null;
  }) => KillSwitch | null;
  /** Has the session hear of switches that were engaged while a call is under way. */
  readonly renewSwitches: () => Promise<void>;
  /** How a call of the 2026 era differs; null in the 2025 era. */
  readonly stateless: Stateless | null;
  readonly streams: Streams;
  readonly client: ClientSide;
  readonly upstreams: UpstreamSide;
};

/** 2026 era: the session is an argument, and `begin_session` opens another one. */
export type Stateless = {
  /** Whether the call gave a handle that names no session of the caller's. */
  readonly handleRefused: boolean;
  readonly newSessionId: string;
  /** Opens that session with its first two records; the receipt is for the second. */
  readonly begin: (bind: Bind, entry: Entry) => Promise<Receipt>;
  /** Unix ms at which a session that is opened now ends if nothing more happens. */
  readonly newExpiresAt: number;
};

export type Bind = { readonly workspace_root: string; readonly plan_hash: string | null };

/** What a session keeps of its client between two requests. */
export type ClientNote = Partial<Pick<SessionState, "log_level" | "directory_version">>;

export type Answered = {
  readonly body: string;
  readonly log: CallLog;
  readonly status: 200 | 400 | 404;
};

/** The argument that names a session in the 2026 era. */
export const HANDLE_ARGUMENT = "session_id";

/** The meta key of a receipt, and that of a refusal's code for programs. */
const RECEIPT_KEY = "dev.atlas-gate/receipt";
const ERROR_KEY = "dev.atlas-gate/error";
const SERVER_INFO_MEMBER = `"${SERVER_INFO_META_KEY}":${canonicalJson(SERVER_INFO)}`;

export async function callTool(
  runtime: CallRuntime,
  request: RpcRequest,
  caller: Principal,
  requestId: string,
): Promise<Answered> {
  const { name, arguments: given } = request.params ?? {};
  const args = given === undefined ? {} : given;
  const isVisible = typeof name === "string" && mayUseTool(caller.tools, name);
  const tool = isVisible ? findTool(name) : null;
  if (tool === null || !isObject(args)) {
    return refuseParams(runtime, request, requestId, {
      tool: typeof name === "string" ? name : null,
      isKnown: tool !== null,
      args: isObject(args) ? args : null,
    });
  }
  // A re-bind may come while this call waits: its records are of the workspace it was made in.
  const { workspace_root } = runtime.state();
  const call: OneCall = { runtime, request, caller, requestId, tool, args, workspace_root };
  const own = ownArguments(runtime, tool, args);
  const prepared = own.ok ? tool.prepare(own.value) : own;
  if (!prepared.ok) return refuseCall(call, null, prepared.refusal);
  const planHash = prepared.value.planHash ?? runtime.state().plan_hash;
  const stopping = runtime.stoppedBy({ tool: tool.name, upstream: null });
  if (stopping !== null) {
    return refuseCall(call, planHash, stoppedRefusal(stopping), { kill_switch: stopping.id });
  }
  const early = earlyRefusal(call, prepared.value);
  if (early !== null) return refuseCall(call, planHash, early);
  return tool.record === "effect"
    ? effectCall(call, prepared.value, planHash)
    : plainCall(call, prepared.value, planHash);
}

type OneCall = {
  readonly runtime: CallRuntime;
  readonly request: RpcRequest;
  readonly caller: Principal;
  readonly requestId: string;
  readonly tool: BuiltInTool;
  readonly args: JsonObject;
  readonly workspace_root: string | null;
};

/** Role, session, path and plan given, in this order: the first that fails is the answer. */
function earlyRefusal(call: OneCall, prepared: PreparedCall): Refusal | null {
  const { runtime, caller, tool } = call;
  const state = runtime.state();
  if (!tool.roles.includes(caller.role)) {
    return {
      code: "ROLE_FORBIDDEN",
      message: `The role ${caller.role} may not call ${tool.name}; ${tool.roles.join(" or ")} may.`,
    };
  }
  if (runtime.stateless?.handleRefused === true) {
    return {
      code: "SESSION_NOT_FOUND",
      message:
        "There is no such session. Call begin_session, and pass the session_id it answers with.",
    };
  }
  if (prepared.needsWorkspace && state.workspace_root === null) {
    return {
      code: "SESSION_REQUIRED",
      message:
        runtime.stateless === null
          ? `${tool.name} works on a workspace. Call begin_session with a workspace_root first.`
          : `${tool.name} works on a workspace. Call begin_session, and pass the session_id it answers with.`,
    };
  }
  return prepared.check(runtime.context(caller, null));
}

/** The arguments that are the tool's own: in the 2026 era the handle is the gateway's, and checked here. */
function ownArguments(
  runtime: CallRuntime,
  tool: BuiltInTool,
  args: JsonObject,
): Decision<JsonObject> {
  if (runtime.stateless === null || !tool.takesHandle) return allow(args);
  const { [HANDLE_ARGUMENT]: handle, ...own } = args;
  return handle === undefined || typeof handle === "string"
    ? allow(own)
    : refuse("INVALID_ARGUMENT", `${HANDLE_ARGUMENT}: must be a string.`);
}

/** A call without an effect outside the session: one record, before the reply. */
async function plainCall(
  call: OneCall,
  prepared: PreparedCall,
  planHash: string | null,
): Promise<Answered> {
  const { runtime } = call;
  const { answer, failure } = await attempt(call, () => prepared.run(plainContext(call)));
  if (answer === null) return refuseCall(call, planHash, failure);
  if (!answer.ok) return refuseCall(call, planHash, answer.refusal, answer.details);
  const result = okResult(answer.text, resultType(call));
  const entry = {
    ...common(call, planHash),
    event: call.tool.record === "bind" ? "session_bind" : "tool_call",
    result: "ok",
    args: call.args,
    contentKeys: call.tool.contentKeys,
    result_text: result.hashed,
    context: answer.context ?? null,
  } as const satisfies Entry;
  const { bind } = answer;
  if (bind === undefined) {
    return sent(call, result.withMeta(metaText(call, runtime.ledger.append(entry), null)), null);
  }
  const { stateless } = runtime;
  if (stateless === null) {
    const receipt = runtime.ledger.appendWith({ ...entry, ...bind }, () => runtime.bind(bind));
    return sent(call, result.withMeta(metaText(call, receipt, null)), null);
  }
  try {
    const receipt = await stateless.begin(bind, { ...entry, ...bind });
    return sent(call, result.withMeta(metaText(call, receipt, null)), null);
  } catch (error) {
    logFailure(call, "begin_failed", error);
    return refuseCall(call, planHash, failure);
  }
}

/** What a tool without an effect sees; `begin_session` of the 2026 era sees the session that it opens. */
function plainContext({ runtime, caller, tool }: OneCall): ToolContext {
  const context = runtime.context(caller, null);
  const { stateless } = runtime;
  if (stateless === null || tool.record !== "bind") return context;
  return {
    ...context,
    state: { ...context.state, session_id: stateless.newSessionId },
    expiresAt: stateless.newExpiresAt,
  };
}

/** A call that changes something: the intent is durable before the change is asked for. */
async function effectCall(
  call: OneCall,
  prepared: PreparedCall,
  planHash: string | null,
): Promise<Answered> {
  const { runtime, caller, tool, requestId } = call;
  const note: IntentNote = {
    event: "tool_intent",
    result_event: "tool_result",
    tool: tool.name,
    workspace_root: call.workspace_root,
    plan_hash: planHash,
    request_id: requestId,
    upstream: null,
  };
  const intent = runtime.ledger.intent(
    {
      ...common(call, planHash),
      event: "tool_intent",
      args: call.args,
      contentKeys: tool.contentKeys,
    },
    note,
  );
  const { answer, failure } = await attempt(call, () =>
    prepared.run(runtime.context(caller, intent.seq)),
  );
  const outcome = answer ?? (await settleFailure(call, intent.seq, note, failure));
  const base = { ...common(call, planHash), event: "tool_result" };
  if (!outcome.ok) {
    const { code, message } = outcome.refusal;
    const result = refusalResult(code, message, resultType(call));
    const receipt = runtime.ledger.result(intent.seq, {
      ...base,
      result: "error",
      error_code: code,
      result_text: result.hashed,
      ...(outcome.details === undefined ? {} : { context: outcome.details }),
    });
    return sent(call, result.withMeta(metaText(call, receipt, outcome.refusal)), code);
  }
  const result = okResult(outcome.text, resultType(call));
  const receipt = runtime.ledger.result(intent.seq, {
    ...base,
    result: "ok",
    result_text: result.hashed,
    context: outcome.context ?? null,
  });
  return sent(call, result.withMeta(metaText(call, receipt, null)), null);
}

/**
 * A change whose answer did not come: the Workspace says whether it was made,
 * or refuses it for ever. The client learns only that the answer was lost.
 */
async function settleFailure(
  call: OneCall,
  seq: number,
  note: IntentNote,
  failure: Refusal,
): Promise<Extract<ToolAnswer, { ok: false }>> {
  const { runtime } = call;
  try {
    const settlement = await askWorkspace(runtime.env, runtime.state(), seq, note);
    if (settlement?.done === false) return { ok: false, refusal: failure };
    if (settlement?.done === true && settlement.outcome.kind === "file") {
      const { effect, approval } = settlement.outcome;
      return { ok: false, refusal: UNKNOWN, details: { effect, approval } };
    }
  } catch (error) {
    logFailure(call, "settle_failed", error);
  }
  return { ok: false, refusal: UNKNOWN };
}

const UNKNOWN: Refusal = {
  code: "OUTCOME_UNKNOWN",
  message:
    "The answer was lost on the way: the change may have been made. Read before you repeat it.",
};

/** Runs a tool; a throw becomes a refusal that says nothing of the inside. */
async function attempt(
  call: OneCall,
  run: () => Promise<ToolAnswer>,
): Promise<{ answer: ToolAnswer; failure: Refusal } | { answer: null; failure: Refusal }> {
  const failure: Refusal = {
    code: "INTERNAL_ERROR",
    message: `The gateway could not finish this call. Try again; if it goes on, give the operator the request id ${call.requestId}.`,
  };
  try {
    return { answer: await run(), failure };
  } catch (error) {
    logFailure(call, "tool_failed", error);
    return { answer: null, failure };
  }
}

function logFailure(call: OneCall, event: string, error: unknown): void {
  logEvent("error", event, {
    tool: call.tool.name,
    session_id: call.runtime.state().session_id,
    request_id: call.requestId,
    error: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  });
}

/** A refusal before anything was done: one record, and a tool result that says what to do. */
function refuseCall(
  call: OneCall,
  planHash: string | null,
  refusal: Refusal,
  details?: JsonObject,
): Answered {
  const result = refusalResult(refusal.code, refusal.message, resultType(call));
  const receipt = call.runtime.ledger.append({
    ...common(call, planHash),
    event: "tool_call",
    result: "error",
    error_code: refusal.code,
    args: call.args,
    contentKeys: call.tool.contentKeys,
    result_text: result.hashed,
    context: details ?? null,
  });
  return sent(call, result.withMeta(metaText(call, receipt, refusal)), refusal.code);
}

/** Parameters that name no tool, or none that the caller may know of: a protocol error, recorded. */
function refuseParams(
  runtime: CallRuntime,
  request: RpcRequest,
  requestId: string,
  call: { tool: string | null; isKnown: boolean; args: JsonObject | null },
): Answered {
  const known = call.tool === null || call.isKnown;
  const code: ErrorCode = known ? "INVALID_ARGUMENT" : "TOOL_NOT_FOUND";
  const message =
    call.tool === null
      ? "name: must be the name of a tool, as a string"
      : known
        ? "arguments: must be an object"
        : "There is no tool of this name; tools/list shows those there are";
  // The name is the caller's text, whatever it holds.
  const tool = call.tool === null ? null : withoutCredential(call.tool.slice(0, MAX_TOOL_UNITS));
  const receipt = runtime.ledger.append({
    event: "tool_call",
    tool,
    result: "error",
    error_code: code,
    plan_hash: runtime.state().plan_hash,
    args: call.args,
    request_id: requestId,
  });
  const error = rpcError(request.id, INVALID_PARAMS, message, {
    code,
    request_id: requestId,
    receipt: { ...receipt },
  });
  return {
    body: JSON.stringify(error),
    log: { method: request.method, tool, error_code: code },
    // In the 2026 era invalid parameters are also a bad HTTP request.
    status: runtime.stateless === null ? 200 : 400,
  };
}

function common(call: OneCall, planHash: string | null) {
  const { tool, workspace_root, requestId } = call;
  return { tool: tool.name, workspace_root, plan_hash: planHash, request_id: requestId };
}

function metaText({ runtime }: OneCall, receipt: Receipt, refusal: Refusal | null): string {
  return `{${receiptMembers(runtime, receipt, refusal).join(",")}}`;
}

/** The gateway's own members of `_meta`, in RFC 8785 order; a receipt is put together by hand, for every result has one. */
export function receiptMembers(
  runtime: CallRuntime,
  receipt: Receipt,
  refusal: Refusal | null,
): string[] {
  const { hash_chain, seq, session_id } = receipt;
  const members = [
    `"${RECEIPT_KEY}":{"hash_chain":"${hash_chain}","seq":${seq},"session_id":"${session_id}"}`,
  ];
  if (refusal !== null) members.unshift(`"${ERROR_KEY}":${canonicalJson(refusal)}`);
  if (runtime.stateless !== null) members.push(SERVER_INFO_MEMBER);
  return members;
}

function resultType({ runtime }: OneCall): ResultType {
  return runtime.stateless === null ? null : "complete";
}

function sent(call: OneCall, resultText: string, errorCode: string | null): Answered {
  return {
    body: rpcResultBody(call.request.id, resultText),
    log: { method: call.request.method, tool: call.tool.name, error_code: errorCode },
    status: 200,
  };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
