/**
 * @module
 * What a request to `/mcp` is once it is authenticated, and what becomes of a
 * session's reply, in either era.
 */
import type { Config } from "../config.ts";
import type { CallLog, Reply } from "../session/state.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

const OVERLOAD_RETRY_SECONDS = 30;
const UNSETTLED_RETRY_SECONDS = 2;

export type McpRequest = {
  readonly request: Request;
  readonly env: Env;
  readonly config: Config;
  readonly principal: Principal;
  readonly requestId: string;
  /** Fills in what the request's log line says of the call. */
  readonly log: (call: CallLog & { session_id?: string }) => void;
};

/** What goes back to the client; no body for 202. */
export type Answer = {
  readonly status: 200 | 202 | 400;
  readonly body: string | null;
  readonly headers: Readonly<Record<string, string>>;
};

/** A lost call of the session must be settled first, and cannot be yet. */
export function unsettled(): HttpRefusal {
  return new HttpRefusal(
    503,
    "OVERLOADED",
    "A call of this session lost its answer, and the workspace cannot be asked about it yet.",
    { headers: { "retry-after": String(UNSETTLED_RETRY_SECONDS) } },
  );
}

/** What a session answered, or why it takes no call at the moment. Null when it is not the caller's. */
export function answerOf(call: McpRequest, sessionId: string, reply: Reply): Answer | null {
  switch (reply.kind) {
    case "reply":
      call.log({ ...reply.log, session_id: sessionId });
      return { status: reply.status, body: reply.body, headers: {} };
    case "unsettled":
      throw unsettled();
    case "overloaded":
      throw new HttpRefusal(
        503,
        "OVERLOADED",
        "This session has too many records that are not archived yet. Try again later.",
        { headers: { "retry-after": String(OVERLOAD_RETRY_SECONDS) } },
      );
    case "absent":
    case "foreign":
      return null;
  }
}

export function methodNotAllowed(): HttpRefusal {
  return new HttpRefusal(405, "INVALID_ARGUMENT", "Use POST, or DELETE to end a session.", {
    headers: { allow: "POST, DELETE" },
  });
}
