/**
 * @module
 * The Session object: one a session, holding its state and serialising the
 * appends to its chain.
 *
 * Lifecycle: opened once, by `initialize` (or by the first record of an
 * ambient session); evicted and rebuilt from storage any number of times;
 * ended by DELETE, by an operator or by its idle alarm; its storage is freed
 * only when every sink has every record. An object that was never opened
 * stores nothing, whatever it is asked.
 */
import { DurableObject } from "cloudflare:workers";
import type { StoredRecord } from "../audit/record.ts";
import { wrapSessionKey } from "../audit/seal.ts";
import { requireConfig } from "../config.ts";
import type { Principal } from "../edge/principal.ts";
import { sessionStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { concerning, NO_SWITCHES, type SwitchSet } from "../policy/kill-switch.ts";
import { MAX_STREAMS } from "../policy/limits.ts";
import { relayable } from "./capabilities.ts";
import { dispatch, type OnStream } from "./dispatch.ts";
import { dispatch2026 } from "./dispatch-2026.ts";
import type { Entry, Receipt } from "./ledger.ts";
import { type Limited, requestsIn } from "./limits.ts";
import { LiveSession } from "./live-session.ts";
import type {
  BoundOpening,
  Call,
  OpenInput,
  Reply,
  SessionState,
  SessionStatus,
  StatelessCall,
} from "./state.ts";
import { SessionStore, type SinkName } from "./store.ts";
import {
  changeSchema,
  LISTS_CHANGED,
  STREAM_REQUEST_HEADER,
  type StreamWish,
  streamRequestSchema,
} from "./stream-request.ts";
import { parseEventId } from "./streams.ts";
import type { Stateless } from "./tool-call.ts";

const SESSION_KEY_BYTES = 32;
const ALARM_RETRY_MS = 60_000;

export class SessionObject extends DurableObject<Env> {
  readonly #store: SessionStore;
  /** Undefined until this life has looked. */
  #loaded: LiveSession | null | undefined;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new SessionStore(ctx.storage.sql);
  }

  /**
   * The session as this life holds it, built at the first use. Not in the
   * constructor: secrets that do not fit would make it throw, and an alarm that
   * finds no object is dropped after a few tries.
   */
  get #session(): LiveSession | null {
    if (this.#loaded === undefined) {
      const state = this.#store.load();
      this.#loaded = state === null ? null : this.#live(state);
      // A lost alarm is set again by whatever wakes the object.
      this.#loaded?.rearm();
      void this.#loaded?.watchAgain();
    }
    return this.#loaded;
  }

  /** Opens the session with its first record. False when the id is taken: the caller mints another. */
  open(input: OpenInput): boolean {
    if (this.#session !== null) return false;
    this.#create(input);
    return true;
  }

  /** Answers one POST of the 2025 era. */
  async handle(call: Call): Promise<Reply> {
    const session = await this.#admit(call.principal, "2025");
    if (typeof session === "string") return { kind: session };
    session.noteSwitches(call.switches);
    const limited = session.admitRequests(call.principal, requestsIn(call.payload));
    if (limited !== null) return limited;
    session.upstreams.calledWith(call.accessToken ?? null);
    return this.#take(session, call.requestId, (onStream) =>
      dispatch(session.runtime(call), call, onStream),
    );
  }

  /** Answers a request of the 2026 era, on a session of its own or on the ambient one. */
  async call(call: StatelessCall): Promise<Reply> {
    const session =
      call.ambient === null
        ? await this.#admit(call.principal, "2026")
        : this.#ambient(call.ambient);
    if (typeof session === "string") return { kind: session };
    session.noteSwitches(call.switches);
    const limited = session.admitRequests(call.principal, 1);
    if (limited !== null) return limited;
    // The ambient session does nothing between calls.
    if (call.ambient === null) session.upstreams.calledWith(call.accessToken ?? null);
    return this.#take(session, call.requestId, async (onStream) => {
      const runtime = session.runtime(call, this.#stateless(call));
      return { kind: "reply", ...(await dispatch2026(runtime, call, onStream)) };
    });
  }

  /** A kill switch of this very session was engaged or lifted: it does not wait for the next call to hear of it. */
  noteSwitches(set: SwitchSet): void {
    const session = this.#session;
    session?.noteSwitches(concerning(set, session.state));
  }

  /** The client of a call of the 2026 era has left: the call ends as soon as it can. */
  cancel(requestId: string): void {
    this.#session?.client.cancel(requestId, "the client left");
  }

  /** Opens a session of the 2026 era with the two records of its `begin_session`. Null when the id is taken. */
  openBound({ open, bind, entry }: BoundOpening): Receipt | null {
    if (this.#session !== null) return null;
    return this.#create(open).begin(bind, entry);
  }

  /** Ends the session at its owner's wish. */
  async end(
    principal: Principal,
    requestId: string,
  ): Promise<"ended" | "absent" | "foreign" | "unsettled"> {
    const session = await this.#admit(principal, "2025");
    if (typeof session === "string") return session;
    return (await this.#close(session, "ended by the client", requestId)) ? "ended" : "unsettled";
  }

  /** Ends the session at an operator's wish. Ambient sessions only end with their day. */
  async endByOperator(requestId: string): Promise<"ended" | "absent" | "ambient" | "unsettled"> {
    const session = this.#session;
    if (session?.state.era === "ambient") return "ambient";
    if (session === null || session.ended) return "absent";
    return (await this.#close(session, "ended by an operator", requestId)) ? "ended" : "unsettled";
  }

  // ── streams ─────────────────────────────────────────────────────────────

  /**
   * Gives a Worker the socket of a stream, for the session's owner: of a call
   * that has become one, of a new GET stream, or of one that the client resumes.
   */
  override async fetch(request: Request): Promise<Response> {
    const { principal, wish, switches, requestId } = streamRequestSchema.parse(
      JSON.parse(request.headers.get(STREAM_REQUEST_HEADER) ?? "null"),
    );
    const session = await this.#attending(principal, wish);
    if (typeof session === "string") return new Response(session, { status: 404 });
    const { streams } = session;
    try {
      // What an earlier life lost is answered on its stream, before a client asks for it.
      await session.settle();
    } catch (error) {
      this.#logUnsettled(session, null, error);
      return new Response("unsettled", { status: 409 });
    }
    session.noteSwitches(switches);
    const place = wish.kind === "resume" ? parseEventId(wish.after) : null;
    // What was called before the stop ends as it does, and its client may fetch how.
    const isNews =
      wish.kind === "get" || (place !== null && streams.kindOf(place.stream) === "get");
    const stopping = isNews ? session.refuseStream(requestId) : null;
    if (stopping !== null) return Response.json(stopping, { status: 403 });
    // A call is under way already: only its session's bound holds for its answer.
    const most = wish.kind === "call" ? MAX_STREAMS : (principal.limits?.streams ?? MAX_STREAMS);
    if (streams.openStreams >= most) {
      return new Response("full", { status: 503 });
    }
    if (wish.kind === "resume") {
      const state = place === null ? "gone" : streams.placeOf(place);
      if (place === null || state === "gone") return new Response("gone", { status: 410 });
      if (state === "over") return new Response(null, { status: 204 });
      return attached(session, place.stream, place.n);
    }
    if (wish.kind === "call") {
      return streams.kindOf(wish.stream) === null
        ? new Response("gone", { status: 410 })
        : attached(session, wish.stream, 0);
    }
    const stream = streams.open("get", null);
    const response = attached(session, stream, 0);
    session.noteDirectory(wish.directory, LISTS_CHANGED);
    return response;
  }

  override webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): void {
    const session = this.#session;
    if (session === null || typeof message !== "string") return;
    if (message === "w") session.streams.written(socket);
    else {
      const { directory, changed } = changeSchema.parse(JSON.parse(message));
      session.noteDirectory(directory, changed);
    }
  }

  override webSocketClose(socket: WebSocket): void {
    // Without an answer the other end would wait for one.
    if (socket.readyState !== WebSocket.CLOSED) socket.close(1000, "left");
    this.#leave(socket);
  }

  override webSocketError(socket: WebSocket): void {
    this.#leave(socket);
  }

  /** In the 2026 era a call ends with the response that carries it. */
  #leave(socket: WebSocket): void {
    const session = this.#session;
    const left = session?.streams.closed(socket) ?? null;
    if (left !== null) session?.client.cancelStream(left, "the client left");
  }

  /** The session whose stream is asked for; that of a call may be of any era. */
  async #attending(
    principal: Principal,
    wish: StreamWish,
  ): Promise<LiveSession | "absent" | "foreign"> {
    if (wish.kind !== "call") return this.#admit(principal, "2025");
    const session = this.#session;
    if (session === null) return "absent";
    return session.owns(principal) ? session : "foreign";
  }

  // ── the ambient session ─────────────────────────────────────────────────

  /** Appends a record to a principal's ambient session, opening it with the day's first. */
  record(open: OpenInput, entry: Entry): Receipt {
    return this.#ambient(open).append(open.principal.role, entry);
  }

  /** The same for a request that is answered elsewhere: it counts as one of the session's. */
  recordRequest(open: OpenInput, entry: Entry): Receipt | Limited {
    return this.#ambient(open).admitRequests(open.principal, 1) ?? this.record(open, entry);
  }

  /** The pending record of a change that the caller is about to make. */
  intent(open: OpenInput, entry: Omit<Entry, "result">): Receipt {
    return this.#ambient(open).intent(open.principal.role, entry);
  }

  /** The result of that change, once: naming its intent. */
  result(open: OpenInput, intentSeq: number, entry: Entry): Receipt {
    return this.#ambient(open).result(open.principal.role, intentSeq, entry);
  }

  // ── evidence ────────────────────────────────────────────────────────────

  /** What the session is, its lost intents settled, or null when it was never opened or is gone. */
  async status(): Promise<SessionStatus | null> {
    await this.#session?.settle();
    return this.#session?.status() ?? null;
  }

  /** Whether the last flush to a sink failed and none has gone well since. */
  isBehind(sink: SinkName): boolean {
    return this.#session !== null && this.#store.sink(sink).failures > 0;
  }

  /** A page of records, or null when the object no longer holds them. Open intents of an earlier life are settled first. */
  async page(afterSeq: number, limit: number): Promise<StoredRecord[] | null> {
    await this.#session?.settle();
    return this.#session === null ? null : this.#store.records(afterSeq, limit);
  }

  override async alarm(): Promise<void> {
    try {
      const session = this.#session;
      if (session === null) return;
      await session.ring(Date.now());
      if (!session.released) return;
      await this.ctx.storage.deleteAll();
      this.#loaded = null;
      logEvent("info", "session_released", { session_id: session.state.session_id });
    } catch (error) {
      // An alarm that throws is retried a few times and then dropped for good.
      logEvent("error", "alarm_failed", { retry_ms: ALARM_RETRY_MS, error: String(error) });
      await this.ctx.storage.setAlarm(Date.now() + ALARM_RETRY_MS);
    }
  }

  // ── inside ──────────────────────────────────────────────────────────────

  /** The session, for its owner and while it lives. A session past its idle life ends here if its alarm is late. */
  async #admit(
    principal: Principal,
    era: "2025" | "2026",
  ): Promise<LiveSession | "absent" | "foreign"> {
    const session = this.#session;
    if (session === null || session.state.era === "ambient") return "absent";
    if (!session.owns(principal)) return "foreign";
    // A header of one era is no argument of the other.
    if (session.state.era !== era) return "absent";
    const now = Date.now();
    if (session.accepts(now)) return session;
    if (!session.ended && session.inFlight === 0 && now >= session.expiresAt()) {
      await this.#close(session, "idle", crypto.randomUUID());
    }
    return "absent";
  }

  /** Closes a session; false while a lost call of it cannot be settled. */
  async #close(session: LiveSession, reason: string, requestId: string): Promise<boolean> {
    try {
      await session.close(reason, requestId);
      return true;
    } catch (error) {
      this.#logUnsettled(session, requestId, error);
      return false;
    }
  }

  #logUnsettled(session: LiveSession, requestId: string | null, error: unknown): void {
    logEvent("error", "settle_failed", {
      session_id: session.state.session_id,
      request_id: requestId,
      error: String(error),
    });
  }

  /**
   * Runs a call on a session that was admitted: settled first, and not closed in
   * the meantime. The reply may come before the call is over, as a stream.
   */
  async #take(
    session: LiveSession,
    requestId: string,
    work: (onStream: OnStream) => Promise<Reply>,
  ): Promise<Reply> {
    if (session.overloaded) return { kind: "overloaded" };
    try {
      await session.settle();
    } catch (error) {
      this.#logUnsettled(session, requestId, error);
      return { kind: "unsettled" };
    }
    // It may have been closed in the meantime; nothing is awaited from here to the call's count.
    if (!session.accepts(Date.now())) return { kind: "absent" };
    return new Promise((resolve, reject) => {
      let isStream = false;
      const onStream: OnStream = (stream, log) => {
        isStream = true;
        resolve({ kind: "stream", stream, log });
      };
      session
        .during(() => work(onStream))
        .then(resolve, (error: unknown) => {
          if (isStream)
            logEvent("error", "call_failed", { request_id: requestId, error: String(error) });
          else reject(error);
        });
    });
  }

  #stateless(call: StatelessCall): Stateless {
    const { principal, newSessionId, openContext, requestId } = call;
    return {
      handleRefused: call.handleRefused,
      newSessionId,
      newExpiresAt: Date.now() + requireConfig(this.env).sessionTtlMs,
      begin: async (bind, entry) => {
        const receipt = await sessionStub(this.env, newSessionId).openBound({
          open: {
            sessionId: newSessionId,
            principal,
            era: "2026",
            protocolVersion: call.protocolVersion,
            requestId,
            context: openContext,
            capabilities: {},
          },
          bind,
          entry,
        });
        if (receipt === null) throw new Error("the id of a new session was taken");
        return receipt;
      },
    };
  }

  #ambient(open: OpenInput): LiveSession {
    const session = this.#session ?? this.#create(open);
    if (session.ended) throw new Error("the ambient session of this day is closed");
    return session;
  }

  #create(input: OpenInput): LiveSession {
    const config = requireConfig(this.env);
    const { sessionId, principal } = input;
    const now = Date.now();
    const key = crypto.getRandomValues(new Uint8Array(SESSION_KEY_BYTES));
    const state: SessionState = {
      session_id: sessionId,
      tenant: principal.tenant,
      principal: principal.id,
      role: principal.role,
      era: input.era,
      protocol_version: input.protocolVersion,
      created_at: new Date(now).toISOString(),
      workspace_root: null,
      plan_hash: null,
      roots: [],
      wrapped_key: wrapSessionKey(config.secretsKey, key, sessionId),
      ended_at: null,
      client_capabilities: relayable(input.capabilities, input.era === "2025" ? "2025" : "2026"),
      log_level: null,
      directory_version: null,
      switches: NO_SWITCHES,
    };
    const session = this.ctx.storage.transactionSync(() => {
      this.#store.create(state);
      const opened = this.#live(state);
      opened.open({
        event: "session_open",
        result: "ok",
        request_id: input.requestId,
        context: input.context,
      });
      return opened;
    });
    this.#loaded = session;
    session.rearm();
    return session;
  }

  #live(state: SessionState): LiveSession {
    return new LiveSession({
      env: this.env,
      config: requireConfig(this.env),
      store: this.#store,
      ctx: this.ctx,
      state,
    });
  }
}

/** The socket of a stream, from the event after one. */
function attached({ streams, state }: LiveSession, stream: number, after: number): Response {
  const kind = streams.kindOf(stream) ?? "get";
  return new Response(null, {
    status: 101,
    webSocket: streams.attach(stream, after),
    headers: {
      "x-stream": String(stream),
      "x-stream-after": String(after),
      "x-stream-kind": kind,
      "x-stream-version": state.protocol_version ?? "",
    },
  });
}
