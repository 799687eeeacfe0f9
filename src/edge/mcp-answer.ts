/**
 * @module
 * What a request to `/mcp` is once it is authenticated, and what becomes of a
 * session's reply, in either era.
 */
import * as z from "zod";
import type { Config } from "../config.ts";
import { headerJson } from "../mcp/header-json.ts";
import { sessionStub } from "../objects.ts";
import { type KillSwitch, type SwitchSet, stoppedRefusal } from "../policy/kill-switch.ts";
import type { Limited } from "../session/limits.ts";
import type { CallLog, Reply } from "../session/state.ts";
import {
  STREAM_REQUEST_HEADER,
  type StreamRequest,
  type StreamWish,
} from "../session/stream-request.ts";
import { STREAM_KINDS, type StreamKind } from "../session/streams.ts";
import { feedFromSocket, leave, openEventStream } from "./event-stream.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

const OVERLOAD_RETRY_SECONDS = 30;
const UNSETTLED_RETRY_SECONDS = 2;

export type McpRequest = {
  readonly request: Request;
  readonly env: Env;
  readonly config: Config;
  readonly principal: Principal;
  /** The access token that it came with, if it did. */
  readonly accessToken: string | null;
  readonly requestId: string;
  /** The kill switches that may concern the principal. */
  readonly switches: SwitchSet;
  /** Whether a kill switch stops the caller, or a session of it, as a whole; for a response that stays open. */
  readonly isStopped: (sessionId: string | null) => Promise<boolean>;
  /** Fills in what the request's log line says of the call. */
  readonly log: (call: CallLog & { session_id?: string }) => void;
  /** Says which era the request turned out to be of. */
  readonly noteEra: (era: "2025" | "2026") => void;
  /** Whether the caller's credential still holds, for a response that stays open. */
  readonly stillAllowed: () => Promise<boolean>;
  /** Lets work go on after the response. */
  readonly waitUntil: (work: Promise<unknown>) => void;
};

/** What goes back to the client: a body, none for 202, or a stream of a session. */
export type Answer =
  | {
      readonly kind: "body";
      readonly status: 200 | 202 | 400 | 404;
      readonly body: string | null;
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly kind: "response"; readonly response: Response };

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
export async function answerOf(
  call: McpRequest,
  sessionId: string,
  reply: Reply,
  first: (opened: SessionStream) => string | null,
): Promise<Answer | null> {
  switch (reply.kind) {
    case "reply":
      call.log({ ...reply.log, session_id: sessionId });
      return { kind: "body", status: reply.status, body: reply.body, headers: {} };
    case "stream": {
      call.log({ ...reply.log, session_id: sessionId });
      const wish: StreamWish = { kind: "call", stream: reply.stream };
      const opened = await openSessionStream(call, sessionId, wish);
      if (!(opened instanceof Response)) return streamOf(call, opened, first(opened), true);
      if (opened.status === 409) throw unsettled();
      throw opened.status === 503 ? tooManyStreams() : streamGone();
    }
    case "unsettled":
      throw unsettled();
    case "limited":
      throw tooManyRequests(reply);
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

/** A session that has asked as much as it may. */
export function tooManyRequests({ retryAfterMs }: Limited): HttpRefusal {
  return new HttpRefusal(
    429,
    "RATE_LIMITED",
    "This session has asked as much as it may for now. Wait as long as Retry-After says.",
    { headers: { "retry-after": String(Math.ceil(retryAfterMs / 1000)) } },
  );
}

export function methodNotAllowed(): HttpRefusal {
  return new HttpRefusal(
    405,
    "INVALID_ARGUMENT",
    "Use POST, GET for a session's stream, or DELETE to end a session.",
    { headers: { allow: "POST, GET, DELETE" } },
  );
}

/** Each stream of a session has a socket, and there is an end to those. */
export function tooManyStreams(): HttpRefusal {
  return new HttpRefusal(
    503,
    "OVERLOADED",
    "This session has as many open streams as it may have.",
    {
      headers: { "retry-after": String(OVERLOAD_RETRY_SECONDS) },
    },
  );
}

/** A stream that a kill switch does not let open. */
export function streamStopped(stopping: KillSwitch): HttpRefusal {
  const { code, message } = stoppedRefusal(stopping);
  return new HttpRefusal(503, code, message, {
    headers: { "retry-after": String(OVERLOAD_RETRY_SECONDS) },
  });
}

function streamGone(): HttpRefusal {
  return new HttpRefusal(
    503,
    "OUTCOME_UNKNOWN",
    "The answer's stream was lost with the session's object. The call may have been made: look before you repeat it.",
  );
}

/** A stream of a session, on its way to this Worker. */
export type SessionStream = {
  readonly socket: WebSocket;
  readonly stream: number;
  /** The event that the client has already; 0 is none. */
  readonly after: number;
  readonly kind: StreamKind;
  /** The revision that the session speaks. */
  readonly version: string;
};

/** Asks a session's object for the socket of a stream; its answer where it gives none. */
export async function openSessionStream(
  call: McpRequest,
  sessionId: string,
  wish: StreamWish,
): Promise<SessionStream | Response> {
  const { principal, switches, requestId } = call;
  const asked: StreamRequest = { principal, switches, requestId, wish };
  const response = await sessionStub(call.env, sessionId).fetch("https://session/stream", {
    headers: { upgrade: "websocket", [STREAM_REQUEST_HEADER]: headerJson(asked) },
  });
  const socket = response.webSocket;
  if (socket === null) return response;
  return { socket, ...streamHeadersSchema.parse(Object.fromEntries(response.headers)) };
}

const streamHeadersSchema = z
  .object({
    "x-stream": z.coerce.number(),
    "x-stream-after": z.coerce.number(),
    "x-stream-kind": z.enum(STREAM_KINDS),
    "x-stream-version": z.string(),
  })
  .transform((headers) => ({
    stream: headers["x-stream"],
    after: headers["x-stream-after"],
    kind: headers["x-stream-kind"],
    version: headers["x-stream-version"],
  }));

/** The response that carries a session's stream. */
export function streamOf(
  call: McpRequest,
  { socket }: SessionStream,
  first: string | null,
  isCall: boolean,
  also: {
    readonly isStopped?: () => Promise<boolean>;
    readonly recheck?: () => Promise<void>;
    readonly onEnd?: () => void;
  } = {},
): Answer {
  const stream = openEventStream({
    first,
    isCall,
    recheck: async () => {
      await also.recheck?.();
      return call.stillAllowed();
    },
    isStopped: also.isStopped ?? null,
    onEnd: () => {
      leave(socket);
      also.onEnd?.();
    },
  });
  feedFromSocket(socket, stream);
  return { kind: "response", response: stream.response };
}
