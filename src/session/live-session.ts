/**
 * @module
 * A session that is open, as one life of its object holds it: state, chain,
 * schedule. Everything here can be rebuilt from storage at any time.
 */
import { deriveSealKey, unwrapSessionKey } from "../audit/seal.ts";
import type { Config } from "../config.ts";
import type { Principal } from "../edge/principal.ts";
import { workspaceStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import type { KillSwitch, SwitchSet } from "../policy/kill-switch.ts";
import type { ToolContext } from "../tools/tool.ts";
import { Backlog } from "./backlog.ts";
import { ClientSide } from "./client-side.ts";
import { type AuditSource, mayAudit, openSource } from "./evidence.ts";
import { ambientCloseMs, mintedAtMs } from "./ids.ts";
import { type Entry, Ledger, type Receipt, recordTimestamp } from "./ledger.ts";
import { type Limited, SessionLimits } from "./limits.ts";
import { LostCalls } from "./lost-calls.ts";
import { Schedule } from "./schedule.ts";
import { StandingSwitches } from "./standing-switches.ts";
import type { Call, SessionState, SessionStatus } from "./state.ts";
import type { SessionStore } from "./store.ts";
import type { ListName } from "./stream-request.ts";
import { Streams } from "./streams.ts";
import type { Bind, CallLedger, CallRuntime, ClientNote, Stateless } from "./tool-call.ts";
import { UpstreamSide } from "./upstream-side.ts";

/** How long a session that cannot be closed waits before it is tried again. */
const CLOSE_RETRY_MS = 60_000;
/** How far the persisted end of life may lag behind the one in memory: saves a write a call. */
const TOUCH_FRACTION = 20;

/** Who makes a call: several clients may share a session, each with a token of its own. */
type Caller = Pick<Call, "principal" | "accessToken">;

export class LiveSession {
  readonly #env: Env;
  readonly #config: Config;
  readonly #store: SessionStore;
  readonly #schedule: Schedule;
  readonly #ledger: Ledger;
  #state: SessionState;
  #lastSeen: number;
  readonly #backlog: Backlog;
  readonly #lost: LostCalls;
  readonly #switches: StandingSwitches;
  #inFlight = 0;
  #closing = false;
  readonly #limits: SessionLimits;
  readonly #idleWaiters: (() => void)[] = [];
  readonly streams: Streams;
  readonly client: ClientSide;
  readonly upstreams: UpstreamSide;

  constructor(options: {
    env: Env;
    config: Config;
    store: SessionStore;
    ctx: DurableObjectState;
    state: SessionState;
  }) {
    const { env, config, store, ctx, state } = options;
    const { storage } = ctx;
    this.#env = env;
    this.#config = config;
    this.#store = store;
    this.#state = state;
    const current = () => this.#state;
    const key = unwrapSessionKey(config.secretsKey, state.wrapped_key, state.session_id);
    this.#schedule = new Schedule(store, storage);
    this.#ledger = new Ledger({
      store,
      storage,
      state: current,
      sessionKey: key,
      auditArgs: config.auditArgs,
    });
    this.#backlog = new Backlog({
      env,
      config,
      store,
      schedule: this.#schedule,
      ledger: this.#ledger,
      sealKey: deriveSealKey(key),
      status: () => this.status(),
    });
    this.#switches = new StandingSwitches(env, current, (switches) =>
      this.#save({ ...this.#state, switches }),
    );
    this.#limits = new SessionLimits(config.sessionRate);
    this.streams = new Streams(ctx);
    this.#lost = new LostCalls({
      env,
      store,
      ledger: this.#ledger,
      streams: this.streams,
      state: current,
      onAppend: () => this.#backlog.appended(),
    });
    this.client = new ClientSide(this.streams);
    this.upstreams = new UpstreamSide({
      env,
      config,
      sql: storage.sql,
      client: this.client,
      state: current,
    });
    const last = store.lastRecord();
    const recorded =
      last === null ? Date.parse(state.created_at) : Date.parse(recordTimestamp(last.line));
    const idleAt = this.#schedule.at("idle");
    this.#lastSeen =
      idleAt === null || state.era === "ambient"
        ? recorded
        : Math.max(recorded, idleAt - config.sessionTtlMs);
  }

  get state(): SessionState {
    return this.#state;
  }

  get ended(): boolean {
    return this.#state.ended_at !== null;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether more records wait for the sinks than a session may hold back. */
  get overloaded(): boolean {
    return this.#backlog.isFull;
  }

  /** Lets so many requests of the owner's in, or says when to come back. */
  admitRequests({ limits }: Principal, requests: number): Limited | null {
    return this.#limits.admit(limits, requests, this.#inFlight, Date.now());
  }

  /** Whether calls are taken: not closing, not ended, not past its idle life. */
  accepts(now: number): boolean {
    return !this.ended && !this.#closing && (this.#inFlight > 0 || now < this.expiresAt());
  }

  expiresAt(): number {
    return this.#state.era === "ambient"
      ? ambientCloseMs(mintedAtMs(this.#state.session_id))
      : this.#lastSeen + this.#config.sessionTtlMs;
  }

  /** Whether a session is a principal's. The ambient one is, in whichever role it comes. */
  owns(principal: Principal): boolean {
    const { principal: owner, tenant, role, era } = this.#state;
    const isOfRole = era === "ambient" || role === principal.role;
    return owner === principal.id && tenant === principal.tenant && isOfRole;
  }

  status(): SessionStatus {
    const { client_capabilities: _, switches: _switches, ...state } = this.#state;
    return {
      ...state,
      entries: this.#ledger.head.seq,
      head: this.#ledger.head.hash_chain,
      last_seen_at: new Date(this.#lastSeen).toISOString(),
    };
  }

  /** Runs a call, lost intents having been settled; a close waits until it is over. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#inFlight += 1;
    this.#lastSeen = Date.now();
    try {
      return await work();
    } finally {
      this.#lastSeen = Date.now();
      this.#inFlight -= 1;
      this.#persistLife();
      if (this.#inFlight === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
    }
  }

  noteSwitches(given: SwitchSet): void {
    this.#switches.note(given);
  }

  /** Refuses a new stream while the session is stopped, with a record; null while it is not. */
  refuseStream(requestId: string): KillSwitch | null {
    const { role } = this.#state;
    const stopping = this.#switches.stopping(role, { tool: null, upstream: null });
    if (stopping === null) return null;
    this.append(role, {
      event: "stream_open",
      result: "error",
      error_code: "KILL_SWITCH",
      request_id: requestId,
      context: { kill_switch: stopping.id },
    });
    return stopping;
  }

  /** Binds a session of the 2026 era that has just been opened, with its second record. */
  begin(bind: Bind, entry: Entry): Receipt {
    const { role } = this.#state;
    return this.#scheduled(() => this.#ledger.appendWith(role, entry, () => this.#bind(bind)));
  }

  /** Appends a record from outside a call: an admin change, a refused use of another's session. */
  append(role: string, entry: Entry): Receipt {
    return this.#scheduled(() => this.#ledger.append(role, entry));
  }

  /** The pending record of an admin change; its result names it. */
  intent(role: string, entry: Omit<Entry, "result">): Receipt {
    return this.#scheduled(() =>
      this.#ledger.intent(role, entry, {
        event: entry.event,
        result_event: entry.event,
        tool: entry.tool ?? null,
        workspace_root: entry.workspace_root ?? null,
        plan_hash: entry.plan_hash ?? null,
        request_id: entry.request_id,
        upstream: null,
      }),
    );
  }

  result(role: string, intentSeq: number, entry: Entry): Receipt {
    return this.#scheduled(() => this.#ledger.result(role, intentSeq, entry));
  }

  /** Settles what an earlier life of the object left open. */
  settle(): Promise<void> {
    return this.#lost.settle();
  }

  /**
   * Ends the session: no new calls, those under way finish, open intents are
   * settled, then the last record. Ended twice is ended once.
   */
  async close(reason: string, requestId: string): Promise<void> {
    if (this.ended) return;
    this.#closing = true;
    this.client.cancelAll(reason);
    this.upstreams.waiting.abandonAll(reason);
    try {
      while (this.#inFlight > 0) {
        await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
      }
      // Nothing is under way any more: what is open now has lost its answer in this life.
      await this.#lost.settleAll();
      if (this.ended) return;
      this.#lost.abandonRest();
      this.#ledger.appendWith(
        this.#state.role,
        { event: "session_close", result: "ok", request_id: requestId, notes: reason },
        () => this.#save({ ...this.#state, ended_at: new Date().toISOString() }),
      );
    } finally {
      this.#closing = false;
    }
    this.streams.closeAll();
    void this.upstreams.close();
    this.#schedule.clear("idle");
    this.#backlog.finish();
  }

  /** Serves what is due. Never throws: an alarm that does is retried a few times and then dropped. */
  async ring(now: number): Promise<void> {
    this.#schedule.rang();
    const ripe = this.#schedule.ripe(now);
    for (const what of ripe) {
      if (what === "idle") await this.#idle(now);
      else await this.#backlog.flush(what);
    }
    await this.#backlog.anchor(ripe);
    this.#schedule.rearm();
  }

  /**
   * Makes sure that what is left to do is due and that an alarm is set, after a
   * wake-up and for a new session.
   */
  rearm(): void {
    this.#backlog.remind(this.released);
    this.#schedule.rearm();
  }

  async #idle(now: number): Promise<void> {
    if (this.#inFlight > 0 || now < this.expiresAt()) {
      this.#schedule.set("idle", Math.max(this.expiresAt(), now + 1000));
      return;
    }
    const reason = this.#state.era === "ambient" ? "the day is over" : "idle";
    try {
      await this.close(reason, crypto.randomUUID());
    } catch (error) {
      // A Workspace could not be asked to settle; the session stays open until it can be.
      this.#schedule.set("idle", now + CLOSE_RETRY_MS);
      logEvent("error", "close_failed", {
        session_id: this.#state.session_id,
        retry_ms: CLOSE_RETRY_MS,
        error: String(error),
      });
    }
  }

  /** Whether every sink has every record of the ended session, so that its storage may go. */
  get released(): boolean {
    return this.ended && this.#backlog.isOut;
  }

  /** What a caller's call runs in; `stateless` in the 2026 era. */
  runtime(call: Caller, stateless: Stateless | null = null): CallRuntime {
    const { role } = call.principal;
    return {
      stateless,
      role,
      accessToken: call.accessToken ?? null,
      env: this.#env,
      ledger: this.#ledgerOf(role),
      state: () => this.#state,
      bind: (to) => this.#bind(to),
      remember: (change) => this.remember(change),
      streams: this.streams,
      client: this.client,
      upstreams: this.upstreams,
      stoppedBy: (what) => this.#switches.stopping(role, what),
      renewSwitches: () => this.#switches.renew(),
      context: (caller, intentSeq) => this.#toolContext(caller, intentSeq),
    };
  }

  /** The ledger as a role's calls see it: each append also sees to its flush. */
  #ledgerOf(role: string): CallLedger {
    const scheduled = <T>(work: () => T): T => this.#scheduled(work);
    const ledger = this.#ledger;
    return {
      append: (entry) => scheduled(() => ledger.append(role, entry)),
      appendWith: (entry, change) => scheduled(() => ledger.appendWith(role, entry, change)),
      intent: (entry, note) => scheduled(() => ledger.intent(role, entry, note)),
      result: (seq, entry) => scheduled(() => ledger.result(role, seq, entry)),
    };
  }

  #scheduled<T>(work: () => T): T {
    const done = work();
    this.#backlog.appended();
    return done;
  }

  /** Appends the first record and sets the due times of a new session; the alarm is the caller's to arm. */
  open(entry: Entry): void {
    this.#ledger.append(this.#state.role, entry);
    this.#schedule.put("idle", this.expiresAt());
    this.#backlog.begin();
  }

  #persistLife(): void {
    if (this.ended || this.#state.era === "ambient") return;
    const { sessionTtlMs } = this.#config;
    const persisted = Math.max(
      Date.parse(this.#ledger.head.timestamp),
      (this.#schedule.at("idle") ?? 0) - sessionTtlMs,
    );
    if (this.#lastSeen - persisted > sessionTtlMs / TOUCH_FRACTION) {
      this.#schedule.set("idle", this.#lastSeen + sessionTtlMs);
    }
  }

  #bind(bind: Bind): void {
    const roots = new Set([...this.#state.roots, bind.workspace_root]);
    this.#save({ ...this.#state, ...bind, roots: [...roots] });
  }

  /** Watches again the resources that an earlier life watched. */
  async watchAgain(): Promise<void> {
    if (this.ended) return;
    try {
      await this.upstreams.resume();
    } catch (error) {
      logEvent("error", "watch_failed", {
        session_id: this.#state.session_id,
        error: String(error),
      });
    }
  }

  /**
   * Tells the client which lists have changed since it was last told. Without
   * a version of its own the client has just come, and has seen nothing older.
   */
  noteDirectory(version: number, changed: readonly ListName[]): void {
    const known = this.#state.directory_version;
    if (known === version || this.ended) return;
    this.remember({ directory_version: version });
    if (known === null) return;
    for (const list of changed) {
      this.client.tell({ jsonrpc: "2.0", method: `notifications/${list}/list_changed` });
    }
  }

  remember(change: ClientNote): void {
    this.#save({ ...this.#state, ...change });
  }

  #save(state: SessionState): void {
    this.#store.saveState(state);
    this.#state = state;
  }

  #toolContext(caller: Principal, intentSeq: number | null): ToolContext {
    const state = this.#state;
    return {
      state,
      caller,
      env: this.#env,
      now: Date.now(),
      expiresAt: this.expiresAt(),
      workspace: () => {
        if (state.workspace_root === null) throw new Error("no workspace is bound");
        return workspaceStub(this.#env, state.tenant, state.workspace_root);
      },
      records: (afterSeq, limit) => this.#store.records(afterSeq, limit),
      head: () => this.#ledger.head,
      audited: (sessionId) => this.#audited(caller, sessionId),
      intentSeq,
    };
  }

  /** Another session, for an auditor: of its own tenant, and within its key's workspaces. */
  async #audited(caller: Principal, sessionId: string): Promise<Decision<AuditSource>> {
    const source = await openSource(this.#env, sessionId);
    if (source !== null && (await mayAudit(caller, source))) return allow(source);
    return refuse("SESSION_NOT_FOUND", "There is no such session in this tenant.");
  }
}
