/**
 * @module
 * What a session must remember between two calls, and what crosses the
 * boundary of its object.
 */
import * as z from "zod";
import type { JsonObject } from "../audit/record.ts";
import type { Principal } from "../edge/principal.ts";
import type { JsonValue } from "../mcp/ijson.ts";
import { jsonObjectSchema } from "../mcp/json-object.ts";
import type { RpcRequest } from "../mcp/jsonrpc.ts";
import { LOG_LEVELS, type LogLevel } from "../mcp/log-level.ts";
import { NO_SWITCHES, type SwitchSet, switchSetSchema } from "../policy/kill-switch.ts";
import type { Entry } from "./ledger.ts";

export const ERAS = ["2025", "2026", "ambient"] as const;

/** One row of the object's storage: small, and rewritten only when it changes. */
export const sessionStateSchema = z.object({
  session_id: z.string(),
  tenant: z.string(),
  principal: z.string(),
  /** Of an ambient session, the role of whoever opened it: each of its calls has its own. */
  role: z.string(),
  era: z.enum(ERAS),
  protocol_version: z.string().nullable(),
  created_at: z.string(),
  workspace_root: z.string().nullable(),
  plan_hash: z.string().nullable(),
  /** Every workspace that it was bound to. */
  roots: z.array(z.string()),
  /** The session's random key, wrapped under `SECRETS_KEY`. */
  wrapped_key: z.string(),
  ended_at: z.string().nullable(),
  /** What the client of the 2025 era said that it can do, as far as the gateway relays it. */
  client_capabilities: jsonObjectSchema.default({}),
  /** The least severe log messages that the client of the 2025 era wants. */
  log_level: z.enum(LOG_LEVELS).nullable().default(null),
  /** The version of the directory that the client was last told of. */
  directory_version: z.number().nullable().default(null),
  /** The kill switches that concern the session, as it last saw them change. */
  switches: switchSetSchema.default(NO_SWITCHES),
});

export type SessionState = z.infer<typeof sessionStateSchema>;

export type OpenInput = {
  readonly sessionId: string;
  readonly principal: Principal;
  readonly era: SessionState["era"];
  readonly protocolVersion: string | null;
  readonly requestId: string;
  /** Client name and version, gateway version, colo: the context of `session_open`. */
  readonly context: JsonObject;
  /** As the client declared them in `initialize`; empty in the other era. */
  readonly capabilities: JsonObject;
};

/** A POST of the 2025 era: one message or a batch, parsed and checked at the edge. */
export type Call = {
  readonly principal: Principal;
  readonly payload: JsonValue;
  readonly requestId: string;
  /** What the Worker knows to be stopped of what this principal may do. */
  readonly switches: SwitchSet;
  /** The caller's access token, for upstreams that are asked in its name: kept in memory alone. */
  readonly accessToken?: string;
};

/** A request of the 2026 era that a session answers, its headers checked against its body. */
export type StatelessCall = {
  readonly principal: Principal;
  readonly request: RpcRequest;
  readonly requestId: string;
  readonly switches: SwitchSet;
  /** As in {@link Call}. */
  readonly accessToken?: string;
  /** How the ambient session is opened when it is the one that is asked; null on a session of its own. */
  readonly ambient: OpenInput | null;
  /** Whether its handle named no session of the caller's: the call is refused, and recorded here. */
  readonly handleRefused: boolean;
  /** What the client declared with this request. */
  readonly capabilities: JsonObject;
  /** The least severe log messages that it asked for with it. */
  readonly logLevel: LogLevel | null;
  /** The id of the session that `begin_session` opens. */
  readonly newSessionId: string;
  readonly protocolVersion: string;
  /** The context of its first record. */
  readonly openContext: JsonObject;
};

/** What `begin_session` of the 2026 era has decided: the new session and its second record. */
export type BoundOpening = {
  readonly open: OpenInput;
  readonly bind: { readonly workspace_root: string; readonly plan_hash: string | null };
  readonly entry: Entry;
};

/** Why a session does not answer: it is not there, or it is someone else's. To the caller both are one 404. */
export type Absent = { readonly kind: "absent" | "foreign" };

export type Reply =
  /** A body to send as it is, or none for 202. */
  | {
      readonly kind: "reply";
      readonly status: 200 | 202 | 400 | 404;
      readonly body: string | null;
      readonly log: CallLog;
    }
  /** The answer comes on a stream of the session: fetch it there. */
  | { readonly kind: "stream"; readonly stream: number; readonly log: CallLog }
  /** The caller has asked too much; when it may ask again, in ms. */
  | { readonly kind: "limited"; readonly retryAfterMs: number }
  /** Too many records wait for the sinks. */
  | { readonly kind: "overloaded" }
  /** An intent of an earlier life cannot be settled yet. */
  | { readonly kind: "unsettled" }
  | Absent;

/** What the request's one log line says of the call. */
export type CallLog = {
  readonly method: string | null;
  readonly tool: string | null;
  readonly error_code: string | null;
};

/** What a session's index row says of it, from the object itself. */
export type SessionStatus = Omit<SessionState, "client_capabilities" | "switches"> & {
  readonly entries: number;
  readonly head: string;
  readonly last_seen_at: string;
};
