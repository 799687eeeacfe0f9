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
import { dispatch } from "./dispatch.ts";
import type { Entry, Receipt } from "./ledger.ts";
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
import { SessionStore } from "./store.ts";
import { callTool, type Stateless } from "./tool-call.ts";

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
    return this.#take(session, call.requestId, () => dispatch(session.runtime(), call));
  }

  /** Answers a `tools/call` of the 2026 era, on a session of its own or on the ambient one. */
  async call(call: StatelessCall): Promise<Reply> {
    const session =
      call.ambient === null
        ? await this.#admit(call.principal, "2026")
        : this.#ambient(call.ambient);
    if (typeof session === "string") return { kind: session };
    return this.#take(session, call.requestId, async () => {
      const runtime = session.runtime(this.#stateless(call));
      const answered = await callTool(runtime, call.request, call.principal, call.requestId);
      return { kind: "reply", ...answered };
    });
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

  // ── the ambient session ─────────────────────────────────────────────────

  /** Appends a record to a principal's ambient session, opening it with the day's first. */
  record(open: OpenInput, entry: Entry): Receipt {
    return this.#ambient(open).append(entry);
  }

  /** The pending record of a change that the caller is about to make. */
  intent(open: OpenInput, entry: Omit<Entry, "result">): Receipt {
    return this.#ambient(open).intent(entry);
  }

  /** The result of that change, once: naming its intent. */
  result(open: OpenInput, intentSeq: number, entry: Entry): Receipt {
    return this.#ambient(open).result(intentSeq, entry);
  }

  // ── evidence ────────────────────────────────────────────────────────────

  /** What the session is, its lost intents settled, or null when it was never opened or is gone. */
  async status(): Promise<SessionStatus | null> {
    await this.#session?.settle();
    return this.#session?.status() ?? null;
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

  #logUnsettled(session: LiveSession, requestId: string, error: unknown): void {
    logEvent("error", "settle_failed", {
      session_id: session.state.session_id,
      request_id: requestId,
      error: String(error),
    });
  }

  /** Runs a call on a session that was admitted: settled first, and not closed in the meantime. */
  async #take(session: LiveSession, requestId: string, work: () => Promise<Reply>): Promise<Reply> {
    if (session.overloaded) return { kind: "overloaded" };
    try {
      await session.settle();
    } catch (error) {
      this.#logUnsettled(session, requestId, error);
      return { kind: "unsettled" };
    }
    // It may have been closed in the meantime; nothing is awaited from here to the call's count.
    if (!session.accepts(Date.now())) return { kind: "absent" };
    return session.during(work);
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
      storage: this.ctx.storage,
      state,
    });
  }
}
