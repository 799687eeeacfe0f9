/**
 * @module
 * The links of one owner, a session or a listener, to its upstreams. An owner
 * never shares an upstream session with another: what an upstream remembers of
 * one principal cannot reach the next.
 *
 * A session that the upstream has forgotten is initialised once more without
 * the client noticing. A request that certainly did not run is tried again; one
 * that may have run never is.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcNotification } from "../mcp/jsonrpc.ts";
import { SERVER_INFO } from "../mcp/server-info.ts";
import { Attendance } from "./attendance.ts";
import { CircuitBreaker } from "./breaker.ts";
import { probeEra } from "./probe.ts";
import type {
  UpstreamEntry,
  WireFailure,
  WireHooks,
  WireOutcome,
  WireSession2025,
  WireTarget,
} from "./types.ts";
import * as wire2025 from "./wire-2025.ts";
import * as wire2026 from "./wire-2026.ts";

/** Tries of a request that certainly did not run, the first included. */
const MOST_TRIES = 3;
/** Pause before the second try, doubled for the third, in ms; up to as much again is added at random. */
const RETRY_MS = 150;
/** How long an era that was learnt outside a refresh is remembered in the isolate, in ms. */
const ERA_TTL_MS = 60_000;

/** Where an owner keeps its upstream sessions across lives of its object. */
export type SessionShelf = {
  readonly load: (key: string) => WireSession2025 | null;
  readonly save: (key: string, upstream: string, session: WireSession2025) => void;
  readonly drop: (key: string) => void;
  readonly all: () => readonly { key: string; upstream: string; session: WireSession2025 }[];
};

/** One request, in terms of neither era. */
export type UpstreamRequest = {
  readonly method: string;
  /** Without `_meta`. */
  readonly params: JsonObject;
  /** The client's own keys of `_meta`, which pass through. */
  readonly meta: JsonObject;
  /** What the client can do, as far as this upstream may ask for it. */
  readonly capabilities: JsonObject;
  readonly logLevel: string | null;
  readonly progressToken: string | null;
  readonly paramHeaders: Readonly<Record<string, string>>;
};

/**
 * The access token of whoever a request is made for, for an upstream that is
 * asked in the caller's name; null for a caller that came with something else.
 */
export type CallerToken = () => string | null;

/** Hooks of a request, and whose it is: null for what the owner does outside any request. */
type LinkHooks = WireHooks & { readonly token: CallerToken | null };

const breaker = new CircuitBreaker();
const learntEras = new Map<string, { era: "2025" | "2026"; until: number }>();

export class UpstreamLinks {
  readonly #target: (entry: UpstreamEntry, token: CallerToken | null) => WireTarget;
  /** Null for an owner whose calls have upstream sessions of their own. */
  readonly #shelf: SessionShelf | null;
  readonly #opening = new Map<string, { token: string | null; opened: Promise<Opened> }>();
  /** The level that an upstream session was last told, by its key. */
  readonly #levels = new Map<string, string>();
  readonly #attendance: Attendance;

  constructor(options: {
    /** How an upstream is reached for a caller, or, with null, for what is done outside any request. */
    target: (entry: UpstreamEntry, token: CallerToken | null) => WireTarget;
    shelf: SessionShelf | null;
    /** Hears what an upstream session tells when no call is under way any more. */
    aside?: (notification: RpcNotification) => void;
  }) {
    this.#target = options.target;
    this.#shelf = options.shelf;
    this.#attendance = new Attendance(options.aside ?? (() => {}));
  }

  /** Makes one request of an upstream, in its caller's name. Never throws: what fails in the gateway itself is a failure too. */
  async exchange(
    entry: UpstreamEntry,
    request: UpstreamRequest,
    hooks: WireHooks & { readonly token: CallerToken },
  ): Promise<WireOutcome> {
    try {
      return await this.#tries(entry, request, hooks);
    } catch (error) {
      breaker.gaveUp(placeOf(entry));
      const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
      return failed("unreachable", "maybe", `The gateway failed: ${detail}`);
    }
  }

  async #tries(
    entry: UpstreamEntry,
    request: UpstreamRequest,
    hooks: LinkHooks,
  ): Promise<WireOutcome> {
    const place = placeOf(entry);
    const heard = hearing(hooks, () => breaker.succeeded(place));
    for (let tries = 1; ; tries++) {
      if (!breaker.admits(place, Date.now())) {
        return failed(
          "unreachable",
          "no",
          "its last calls all failed; it is left alone for a while",
        );
      }
      const outcome = await this.#once(entry, request, heard);
      note(place, outcome);
      if (!mayTryAgain(outcome) || tries === MOST_TRIES || hooks.signal?.aborted) return outcome;
      await pause(RETRY_MS * 2 ** (tries - 1) * (1 + Math.random()), hooks.signal);
    }
  }

  /**
   * Keeps a stream of the upstream open for what it tells outside a call, until
   * the signal aborts. In the 2025 era the URIs are subscribed to first. `filter`
   * is asked anew whenever the stream has to be opened again.
   */
  async watch(
    entry: UpstreamEntry,
    filter: () => WatchFilter,
    capabilities: JsonObject,
    hooks: {
      readonly signal: AbortSignal;
      readonly onNotification: (notification: RpcNotification) => void;
    },
  ): Promise<void> {
    const wire = { timeoutMs: entry.config.timeout_ms, ...hooks, token: null };
    for (let tries = 1; !hooks.signal.aborted; tries++) {
      const era = await this.#eraOf(entry, wire);
      if (era === "2026") {
        const ended = await wire2026.listen(
          this.#target(entry, null),
          { ...filter() },
          { clientInfo: SERVER_INFO, clientCapabilities: capabilities },
          wire,
        );
        // It grants nothing, or does not know the question: asking again would not change that.
        if (ended === null || ended.kind === "error") return;
      } else if (era === "2025") {
        if ((await this.#watch2025(entry, filter(), capabilities, wire)) === "none") return;
      }
      const ms = Math.min(WATCH_RETRY_MS * 2 ** Math.min(tries - 1, 10), MAX_WATCH_RETRY_MS);
      await pause(ms * (1 + Math.random()), hooks.signal);
    }
  }

  /** Sends a notification to every upstream session that is open. Best effort. */
  async tell(entryOf: (upstream: string) => UpstreamEntry | null, method: string): Promise<void> {
    await Promise.allSettled(
      (this.#shelf?.all() ?? []).map(async ({ upstream, session }) => {
        const entry = entryOf(upstream);
        if (entry === null) return;
        const hooks = { timeoutMs: entry.config.timeout_ms };
        await wire2025.notify(this.#target(entry, null), session, method, undefined, hooks);
      }),
    );
  }

  /** Says goodbye to every upstream session. Best effort. */
  async close(entryOf: (upstream: string) => UpstreamEntry | null): Promise<void> {
    const kept = this.#shelf?.all() ?? [];
    await Promise.allSettled(
      kept.map(async ({ key, upstream, session }) => {
        this.#shelf?.drop(key);
        const entry = entryOf(upstream);
        if (entry !== null) await this.#goodbye(entry, session, null);
      }),
    );
  }

  async #once(
    entry: UpstreamEntry,
    request: UpstreamRequest,
    hooks: LinkHooks,
  ): Promise<WireOutcome> {
    const era = await this.#eraOf(entry, hooks);
    if (typeof era !== "string") return { kind: "failed", failure: era };
    return era === "2026"
      ? this.#once2026(entry, request, hooks)
      : this.#once2025(entry, request, hooks);
  }

  #once2026(
    entry: UpstreamEntry,
    request: UpstreamRequest,
    hooks: LinkHooks,
  ): Promise<WireOutcome> {
    const { progressToken, logLevel } = request;
    return wire2026.request(
      this.#target(entry, hooks.token),
      request.method,
      request.params,
      {
        clientInfo: SERVER_INFO,
        clientCapabilities: request.capabilities,
        meta: {
          ...request.meta,
          ...(progressToken === null ? {} : { progressToken }),
          ...(logLevel === null ? {} : { "io.modelcontextprotocol/logLevel": logLevel }),
        },
        paramHeaders: request.paramHeaders,
      },
      hooks,
    );
  }

  async #once2025(
    entry: UpstreamEntry,
    request: UpstreamRequest,
    hooks: LinkHooks,
  ): Promise<WireOutcome> {
    const key = sessionKey(entry, request.capabilities);
    const opened = await this.#session(entry, key, request.capabilities, hooks);
    if (!opened.ok) return opened.outcome;
    let { session } = opened;
    try {
      const outcome = await this.#request2025(entry, key, session, request, hooks);
      if (outcome.kind !== "failed" || outcome.failure.reason !== "session_lost") return outcome;
      // The upstream has forgotten the session, and did not run the request: once more, on a new one.
      this.#forget(key);
      const again = await this.#session(entry, key, request.capabilities, hooks);
      if (!again.ok) return again.outcome;
      session = again.session;
      return await this.#request2025(entry, key, session, request, hooks);
    } finally {
      if (this.#shelf === null) void this.#goodbye(entry, session, hooks.token);
    }
  }

  async #request2025(
    entry: UpstreamEntry,
    key: string,
    session: WireSession2025,
    request: UpstreamRequest,
    hooks: LinkHooks,
  ): Promise<WireOutcome> {
    const target = this.#target(entry, hooks.token);
    const { logLevel, progressToken } = request;
    if (
      logLevel !== null &&
      session.capabilities.logging !== undefined &&
      this.#levels.get(key) !== logLevel
    ) {
      const told = await wire2025.request(
        target,
        session,
        "logging/setLevel",
        { level: logLevel },
        hooks,
      );
      if (told.kind === "failed" && told.failure.reason === "session_lost") return told;
      if (this.#shelf !== null && told.kind === "result") this.#levels.set(key, logLevel);
    }
    const meta = { ...request.meta, ...(progressToken === null ? {} : { progressToken }) };
    // This era asks on the stream: it knows neither answers nor states in a request.
    const { inputResponses: _answers, requestState: _state, ...own } = request.params;
    const params = Object.keys(meta).length === 0 ? own : { ...own, _meta: meta };
    const isLogging = logLevel !== null && session.capabilities.logging !== undefined;
    // Many a server asks its questions on the session's own stream.
    const mayAsk = hooks.onRequest !== undefined && Object.keys(request.capabilities).length > 0;
    const leave =
      isLogging || mayAsk
        ? await this.#attendance.begin(target, session, hooks, this.#shelf === null)
        : null;
    try {
      return await wire2025.request(target, session, request.method, params, hooks);
    } finally {
      leave?.();
    }
  }

  /** The owner's session with an upstream of the 2025 era, initialised if need be; one opening at a time. */
  async #session(
    entry: UpstreamEntry,
    key: string,
    capabilities: JsonObject,
    hooks: LinkHooks,
  ): Promise<Opened> {
    if (this.#shelf === null) return this.#open(entry, capabilities, hooks);
    const token = hooks.token?.() ?? null;
    for (;;) {
      const kept = this.#shelf.load(key);
      if (kept !== null) return { ok: true, session: kept };
      const under = this.#opening.get(key);
      if (under === undefined) break;
      const opened = await under.opened;
      // That another caller may not come in says nothing of this one.
      if (under.token === token || !isRefusedToCaller(opened)) return opened;
    }
    // Not with all hooks of the call that happens to be first: others wait for it too.
    const opened = this.#open(entry, capabilities, {
      timeoutMs: hooks.timeoutMs,
      token: hooks.token,
    })
      .then((opened) => {
        if (opened.ok) this.#shelf?.save(key, entry.config.name, opened.session);
        return opened;
      })
      .finally(() => this.#opening.delete(key));
    this.#opening.set(key, { token, opened });
    return opened;
  }

  async #open(entry: UpstreamEntry, capabilities: JsonObject, hooks: LinkHooks): Promise<Opened> {
    const { timeoutMs, signal } = hooks;
    const opened = await wire2025.initialize(
      this.#target(entry, hooks.token),
      { clientInfo: SERVER_INFO, capabilities },
      { timeoutMs, ...(signal === undefined ? {} : { signal }) },
    );
    if (opened.ok) return { ok: true, session: opened.session };
    if ("error" in opened) {
      return {
        ok: false,
        outcome: failed(
          "refused",
          "no",
          `initialize: ${opened.error.code} ${opened.error.message}`,
        ),
      };
    }
    // Whatever happened to initialize, the request itself was never sent.
    return { ok: false, outcome: { kind: "failed", failure: { ...opened.failure, ran: "no" } } };
  }

  /** `none`: the upstream has no stream to watch, or it was ended. */
  async #watch2025(
    entry: UpstreamEntry,
    filter: WatchFilter,
    capabilities: JsonObject,
    hooks: LinkHooks & { readonly signal: AbortSignal },
  ): Promise<"none" | "again"> {
    const key = sessionKey(entry, capabilities);
    const opened = await this.#session(entry, key, capabilities, hooks);
    if (!opened.ok) return "again";
    const target = this.#target(entry, hooks.token);
    try {
      for (const uri of filter.resourceSubscriptions ?? []) {
        const told = await wire2025.request(
          target,
          opened.session,
          "resources/subscribe",
          { uri },
          hooks,
        );
        if (told.kind === "failed" && told.failure.reason === "session_lost") {
          this.#forget(key);
          return "again";
        }
      }
      const ended = await this.#attendance.watch(target, opened.session, hooks);
      if (ended === null) return "none";
      if (ended.reason === "session_lost") this.#forget(key);
      return "again";
    } finally {
      if (this.#shelf === null) void this.#goodbye(entry, opened.session, hooks.token);
    }
  }

  /** The era that a refresh found, else one found now: only an answer is remembered. */
  async #eraOf(entry: UpstreamEntry, hooks: LinkHooks): Promise<"2025" | "2026" | WireFailure> {
    if (entry.era !== null) return entry.era;
    const place = placeOf(entry);
    const learnt = learntEras.get(place);
    if (learnt !== undefined && learnt.until > Date.now()) return learnt.era;
    const target = this.#target(entry, hooks.token);
    const probed = await probeEra(target, {
      clientInfo: SERVER_INFO,
      capabilities2025: {},
      capabilities2026: {},
      timeoutMs: hooks.timeoutMs,
      ...(hooks.signal === undefined ? {} : { signal: hooks.signal }),
    });
    if (probed.era === null) return { ...probed.failure, ran: "no" };
    if (probed.era === "2025") void this.#goodbye(entry, probed.session, hooks.token);
    learntEras.set(place, { era: probed.era, until: Date.now() + ERA_TTL_MS });
    return probed.era;
  }

  #forget(key: string): void {
    this.#shelf?.drop(key);
    this.#levels.delete(key);
  }

  async #goodbye(
    entry: UpstreamEntry,
    session: WireSession2025,
    token: CallerToken | null,
  ): Promise<void> {
    if (session.sessionId === null) return;
    await wire2025.close(this.#target(entry, token), session);
  }
}

/**
 * Hooks that say when the upstream gave a sign of life. A call may wait for its client for minutes,
 * and the breaker must not take that for an upstream that does not answer.
 */
function hearing(hooks: LinkHooks, onLife: () => void): LinkHooks {
  const { onRequest } = hooks;
  return {
    ...hooks,
    onNotification: (notification) => {
      onLife();
      hooks.onNotification?.(notification);
    },
    ...(onRequest === undefined
      ? {}
      : {
          onRequest: (request, signal) => {
            onLife();
            return onRequest(request, signal);
          },
        }),
  };
}

/** Counts an outcome for the breaker. */
function note(place: string, outcome: WireOutcome): void {
  const reason = outcome.kind === "failed" ? outcome.failure.reason : null;
  if (reason === "unreachable" || reason === "timeout") breaker.failed(place, Date.now());
  else if (reason === "cancelled") breaker.gaveUp(place);
  else breaker.succeeded(place);
}

/** An upstream where it is now: what is known of it elsewhere says nothing of another address. */
function placeOf({ config: { name, url } }: UpstreamEntry): string {
  return `${name} ${url}`;
}

/** What to be told of, in the words of `subscriptions/listen`. */
export type WatchFilter = {
  readonly toolsListChanged?: boolean;
  readonly promptsListChanged?: boolean;
  readonly resourcesListChanged?: boolean;
  readonly resourceSubscriptions?: string[];
};

/** Pause before a watch that ended is begun again, in ms, doubled each time; up to as much again is added at random. */
const WATCH_RETRY_MS = 1_000;
const MAX_WATCH_RETRY_MS = 60_000;

type Opened = { ok: true; session: WireSession2025 } | { ok: false; outcome: WireOutcome };

/** Whether an upstream session was not opened because of the credential that was shown. */
function isRefusedToCaller(opened: Opened): boolean {
  if (opened.ok || opened.outcome.kind !== "failed") return false;
  const { reason, httpStatus } = opened.outcome.failure;
  return reason === "unauthorized" || httpStatus === 403;
}

/**
 * One upstream session for each set of capabilities: what was declared at its start holds for its
 * life. The address is a part of it, for another server knows nothing of the session.
 */
function sessionKey(entry: UpstreamEntry, capabilities: JsonObject): string {
  const { name, url } = entry.config;
  return `${name} ${sha256Hex(canonicalJson({ capabilities, url })).slice(0, 16)}`;
}

function mayTryAgain(outcome: WireOutcome): boolean {
  if (outcome.kind !== "failed" || outcome.failure.ran !== "no") return false;
  const { reason, httpStatus } = outcome.failure;
  return (
    reason === "unreachable" || (reason === "refused" && (httpStatus === 429 || httpStatus === 503))
  );
}

function failed(
  reason: WireFailure["reason"],
  ran: WireFailure["ran"],
  detail: string,
): WireOutcome {
  return { kind: "failed", failure: { reason, ran, detail, httpStatus: null } };
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
  });
}
