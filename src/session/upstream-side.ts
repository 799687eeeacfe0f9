/**
 * @module
 * The upstreams' side of a session: its upstream sessions and subscriptions,
 * kept across lives of the object, and the calls that wait for the client.
 *
 * Trade-off: a subscription to a resource keeps a stream of the upstream open
 * and the object awake, for an upstream has no other way to tell. A session
 * without subscriptions holds nothing open.
 */
import * as z from "zod";
import type { Config } from "../config.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { jsonObjectSchema } from "../mcp/json-object.ts";
import type { RpcNotification } from "../mcp/jsonrpc.ts";
import { isAtLeast } from "../mcp/log-level.ts";
import { logEvent } from "../ops/log.ts";
import { refreshAndAnnounce } from "../upstream/announce.ts";
import { directoryOf } from "../upstream/directory.ts";
import { type SessionShelf, UpstreamLinks } from "../upstream/links.ts";
import { targetOfEntry } from "../upstream/target.ts";
import type { UpstreamEntry, WireOutcome } from "../upstream/types.ts";
import { declaredTo, tellsOfRoots } from "./capabilities.ts";
import type { ClientSide } from "./client-side.ts";
import { WaitingExchanges } from "./exchange.ts";
import type { RelayHost } from "./relay/job.ts";
import type { SessionState } from "./state.ts";

const TABLES = `
  CREATE TABLE IF NOT EXISTS upstream_sessions (
    key TEXT PRIMARY KEY, upstream TEXT NOT NULL, json TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS subscriptions (uri TEXT PRIMARY KEY, upstream TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS spent_states (nonce TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID;
`;

/** Resources that one session may be subscribed to. */
const MAX_SUBSCRIPTIONS = 256;

const wireSessionSchema = z.object({
  sessionId: z.string().nullable(),
  protocolVersion: z.string(),
  capabilities: jsonObjectSchema,
});

export class UpstreamSide implements RelayHost {
  readonly links: UpstreamLinks;
  readonly waiting = new WaitingExchanges();
  readonly secretsKey: Uint8Array;
  readonly #env: Env;
  readonly #config: Config;
  readonly #sql: SqlStorage;
  readonly #client: ClientSide;
  readonly #state: () => SessionState;
  /** For what is done between calls. In memory alone: it is the caller's, and lasts as long as the caller calls. */
  #accessToken: string | null = null;
  readonly #watches = new Map<string, AbortController>();
  #ready = false;

  constructor(options: {
    env: Env;
    config: Config;
    sql: SqlStorage;
    client: ClientSide;
    state: () => SessionState;
  }) {
    this.#env = options.env;
    this.#config = options.config;
    this.#sql = options.sql;
    this.#client = options.client;
    this.#state = options.state;
    this.secretsKey = options.config.secretsKey;
    this.links = new UpstreamLinks({
      target: (entry, token) =>
        targetOfEntry(options.config, entry, {
          kind: "caller",
          principal: options.state().principal,
          token: token ?? (() => this.#accessToken),
        }),
      // The ambient session only records: each of its calls has an upstream session of its own.
      shelf: options.state().era === "ambient" ? null : this.#shelf(),
      aside: (notification) => this.#aside(notification),
    });
  }

  /**
   * Notes the access token of the owner's newest call, for what the session does
   * between calls: watching resources, saying goodbye. A call without one leaves
   * none. A call itself is made with the token that it came with.
   */
  calledWith(accessToken: string | null): void {
    this.#accessToken = accessToken;
  }

  spend(nonce: string, expiresAt: number): boolean {
    this.#prepare();
    this.#sql.exec("DELETE FROM spent_states WHERE expires_at < ?", Date.now());
    return (
      this.#sql
        .exec(
          "INSERT INTO spent_states (nonce, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1",
          nonce,
          expiresAt,
        )
        .toArray().length > 0
    );
  }

  listChanged(entry: UpstreamEntry): void {
    void refreshAndAnnounce(this.#env, this.#config, entry.config.name);
  }

  resourceUpdated(entry: UpstreamEntry, notification: RpcNotification): void {
    const uri = notification.params?.uri;
    if (typeof uri !== "string") return;
    // Only what the client subscribed to, and only from the upstream that it belongs to.
    if (!this.#subscribed(entry.config.name).includes(uri)) return;
    this.#client.tell({ jsonrpc: "2.0", method: notification.method, params: { uri } });
  }

  /** The client's roots changed: told to every upstream that was promised to hear of it. */
  rootsChanged(): void {
    if (!tellsOfRoots(this.#state().client_capabilities) || !this.#hasSessions()) return;
    directoryOf(this.#env)
      .then((directory) =>
        this.links.tell(
          (upstream) => directory.entry(upstream),
          "notifications/roots/list_changed",
        ),
      )
      .catch((error: unknown) => logEvent("warn", "roots_untold", { error: String(error) }));
  }

  // ── subscriptions ───────────────────────────────────────────────────────

  /** Whether another resource may be subscribed to. */
  get full(): boolean {
    this.#prepare();
    const { n } = this.#sql.exec<{ n: number }>("SELECT count(*) AS n FROM subscriptions").one();
    return n >= MAX_SUBSCRIPTIONS;
  }

  /** Subscribes the session to a resource; an upstream of the 2026 era is told by the stream that watches it. */
  async subscribe(
    entry: UpstreamEntry,
    uri: string,
    accessToken: string | null,
  ): Promise<WireOutcome> {
    const outcome = await this.#tell(entry, "resources/subscribe", uri, accessToken);
    if (outcome.kind !== "result") return outcome;
    this.#prepare();
    this.#sql.exec(
      "INSERT INTO subscriptions (uri, upstream) VALUES (?, ?) ON CONFLICT (uri) DO UPDATE SET upstream = excluded.upstream",
      uri,
      entry.config.name,
    );
    this.#watch(entry, entry.era === "2026");
    return outcome;
  }

  async unsubscribe(
    entry: UpstreamEntry,
    uri: string,
    accessToken: string | null,
  ): Promise<WireOutcome> {
    this.#prepare();
    this.#sql.exec("DELETE FROM subscriptions WHERE uri = ?", uri);
    if (this.#subscribed(entry.config.name).length === 0) this.#stop(entry.config.name);
    else if (entry.era === "2026") this.#watch(entry, true);
    return this.#tell(entry, "resources/unsubscribe", uri, accessToken);
  }

  /** Watches again what an earlier life watched. */
  async resume(): Promise<void> {
    const found = this.#sql
      .exec("SELECT 1 FROM sqlite_master WHERE name = 'subscriptions'")
      .toArray();
    if (found.length === 0) return;
    const names = this.#sql
      .exec<{ upstream: string }>("SELECT DISTINCT upstream FROM subscriptions")
      .toArray();
    if (names.length === 0) return;
    const directory = await directoryOf(this.#env);
    for (const { upstream } of names) {
      const entry = directory.entry(upstream);
      if (entry !== null) this.#watch(entry, false);
    }
  }

  /** Ends everything: the session is over. */
  async close(): Promise<void> {
    this.waiting.abandonAll("the session has ended");
    for (const name of [...this.#watches.keys()]) this.#stop(name);
    if (!this.#hasSessions()) return;
    try {
      const directory = await directoryOf(this.#env);
      await this.links.close((upstream) => directory.entry(upstream));
    } catch (error) {
      // The upstreams will find out by themselves.
      logEvent("warn", "upstream_goodbye_failed", { error: String(error) });
    }
  }

  // ── inside ──────────────────────────────────────────────────────────────

  /** What an upstream says to this session alone, and about no request. */
  #aside(notification: RpcNotification): void {
    const { method, params } = notification;
    const { log_level: least } = this.#state();
    const isWanted =
      method === "notifications/message"
        ? least === null || isAtLeast(params?.level, least)
        : method === "notifications/elicitation/complete";
    if (isWanted) this.#client.tell(notification);
  }

  #prepare(): void {
    if (this.#ready) return;
    this.#sql.exec(TABLES);
    this.#ready = true;
  }

  #shelf(): SessionShelf {
    return {
      load: (key) => {
        this.#prepare();
        const row = this.#sql
          .exec<{ json: string }>("SELECT json FROM upstream_sessions WHERE key = ?", key)
          .toArray()[0];
        return row === undefined ? null : wireSessionSchema.parse(JSON.parse(row.json));
      },
      save: (key, upstream, session) => {
        this.#prepare();
        this.#sql.exec(
          `INSERT INTO upstream_sessions (key, upstream, json) VALUES (?, ?, ?)
           ON CONFLICT (key) DO UPDATE SET json = excluded.json`,
          key,
          upstream,
          JSON.stringify(session),
        );
      },
      drop: (key) => {
        this.#prepare();
        this.#sql.exec("DELETE FROM upstream_sessions WHERE key = ?", key);
      },
      all: () => {
        this.#prepare();
        return this.#sql
          .exec<{ key: string; upstream: string; json: string }>(
            "SELECT key, upstream, json FROM upstream_sessions",
          )
          .toArray()
          .map(({ key, upstream, json }) => ({
            key,
            upstream,
            session: wireSessionSchema.parse(JSON.parse(json)),
          }));
      },
    };
  }

  #hasSessions(): boolean {
    return (
      this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'upstream_sessions'").toArray()
        .length > 0
    );
  }

  #declared(entry: UpstreamEntry): JsonObject {
    return declaredTo(entry.config, this.#state().client_capabilities);
  }

  async #tell(
    entry: UpstreamEntry,
    method: string,
    uri: string,
    accessToken: string | null,
  ): Promise<WireOutcome> {
    if (entry.era === "2026") return { kind: "result", result: {}, text: "{}", isIJson: true };
    return this.links.exchange(
      entry,
      {
        method,
        params: { uri },
        meta: {},
        capabilities: this.#declared(entry),
        logLevel: null,
        progressToken: null,
        paramHeaders: {},
      },
      { timeoutMs: entry.config.timeout_ms, token: () => accessToken },
    );
  }

  #subscribed(upstream: string): string[] {
    this.#prepare();
    return this.#sql
      .exec<{ uri: string }>("SELECT uri FROM subscriptions WHERE upstream = ?", upstream)
      .toArray()
      .map(({ uri }) => uri);
  }

  /** Watches an upstream; `anew` when the stream itself says what it is for. */
  #watch(entry: UpstreamEntry, anew: boolean): void {
    const { name } = entry.config;
    const old = this.#watches.get(name);
    if (old !== undefined && !anew) return;
    const aborter = new AbortController();
    this.#watches.set(name, aborter);
    void this.links.watch(
      entry,
      () => ({ resourceSubscriptions: this.#subscribed(name) }),
      this.#declared(entry),
      {
        signal: aborter.signal,
        onNotification: (notification) => {
          if (notification.method === "notifications/resources/updated") {
            this.resourceUpdated(entry, notification);
          } else if (notification.method.endsWith("/list_changed")) this.listChanged(entry);
          else this.#aside(notification);
        },
      },
    );
    // The old stream goes once the new one has had time to be there: twice told is better than never.
    if (old !== undefined) setTimeout(() => old.abort(new Error("replaced")), WATCH_OVERLAP_MS);
  }

  #stop(upstream: string): void {
    this.#watches.get(upstream)?.abort(new Error("no longer watched"));
    this.#watches.delete(upstream);
  }
}

/** How long two streams of an upstream stand side by side when one replaces the other, in ms. */
const WATCH_OVERLAP_MS = 2_000;
