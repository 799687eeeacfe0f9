/**
 * @module
 * Listens to an upstream session's own stream while calls are under way, or
 * while its owner watches it: in the 2025 era log messages, and now and then
 * requests, need not come on the response to the call that they belong to. A
 * server has one such stream a session, so that calls and the watch share it.
 */
import type { RpcNotification } from "../mcp/jsonrpc.ts";
import type { WireFailure, WireHooks, WireSession2025, WireTarget } from "./types.ts";
import { listen } from "./wire-2025.ts";

/** How long a call waits for the stream to be open, in ms: not every upstream has one. */
const OPEN_MS = 1_000;
/** How long the stream stays after the last call, in ms: what was logged last may come after the result. */
const LINGER_MS = 1_000;

type Attended = {
  readonly aborter: AbortController;
  /** The hooks of the calls under way, newest last: what comes belongs to the newest. */
  readonly calls: WireHooks[];
  /** Who watches the stream for its own sake, however many calls there are. */
  watcher: WireHooks | null;
  readonly opened: Promise<undefined>;
  /** How the stream ended; see `listen`. */
  readonly over: Promise<WireFailure | null>;
  linger: ReturnType<typeof setTimeout> | null;
};

export class Attendance {
  readonly #attended = new Map<string, Attended>();
  readonly #aside: (notification: RpcNotification) => void;

  /** @param aside hears what comes when no call is under way any more */
  constructor(aside: (notification: RpcNotification) => void) {
    this.#aside = aside;
  }

  /**
   * Has the stream of an upstream session open for a call. The function that
   * ends that, `atOnce` where the session ends with the call.
   */
  async begin(
    target: WireTarget,
    session: WireSession2025,
    hooks: WireHooks,
    atOnce: boolean,
  ): Promise<() => void> {
    const key = `${target.name} ${session.sessionId}`;
    const attended = this.#attended.get(key) ?? this.#open(key, target, session, hooks);
    if (attended.linger !== null) clearTimeout(attended.linger);
    attended.linger = null;
    attended.calls.push(hooks);
    await attended.opened;
    return () => {
      attended.calls.splice(attended.calls.indexOf(hooks), 1);
      if (attended.calls.length > 0) return;
      if (atOnce) this.#endIfUnused(key, attended);
      else attended.linger = setTimeout(() => this.#endIfUnused(key, attended), LINGER_MS);
    };
  }

  /** Keeps the stream of an upstream session open until `hooks.signal` aborts; answers as `listen` does. */
  async watch(
    target: WireTarget,
    session: WireSession2025,
    hooks: WireHooks & { readonly signal: AbortSignal },
  ): Promise<WireFailure | null> {
    if (hooks.signal.aborted) return null;
    const key = `${target.name} ${session.sessionId}`;
    const attended = this.#attended.get(key) ?? this.#open(key, target, session, hooks);
    attended.watcher = hooks;
    const stop = (): void => {
      if (attended.watcher !== hooks) return;
      attended.watcher = null;
      this.#endIfUnused(key, attended);
    };
    const { promise: stopped, resolve } = Promise.withResolvers<null>();
    const onAbort = (): void => resolve(null);
    hooks.signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([attended.over, stopped]);
    } finally {
      hooks.signal.removeEventListener("abort", onAbort);
      stop();
    }
  }

  #endIfUnused(key: string, attended: Attended): void {
    if (attended.calls.length > 0 || attended.watcher !== null) return;
    if (this.#attended.get(key) === attended) this.#attended.delete(key);
    attended.aborter.abort(new Error("nobody listens"));
  }

  #open(
    key: string,
    target: WireTarget,
    session: WireSession2025,
    { timeoutMs }: WireHooks,
  ): Attended {
    const aborter = new AbortController();
    const calls: WireHooks[] = [];
    const { promise: opened, resolve } = Promise.withResolvers<undefined>();
    const onOpen = (): void => resolve(undefined);
    const timer = setTimeout(onOpen, OPEN_MS);
    const hooks: WireHooks = {
      timeoutMs,
      signal: aborter.signal,
      onNotification: (notification) => {
        // Progress names its call, and each call knows its own.
        if (notification.method === "notifications/progress") {
          for (const call of [...calls]) call.onNotification?.(notification);
          return;
        }
        const call = calls.at(-1);
        const { watcher } = attended;
        // Changes are news for who watches; all else belongs to the newest call.
        const isNews = /\/(list_changed|updated)$/.test(notification.method);
        const hearer = isNews ? (watcher ?? call) : (call ?? watcher);
        if (hearer === undefined || hearer === null) this.#aside(notification);
        else hearer.onNotification?.(notification);
      },
      onRequest: async (request, withdrawn) =>
        (await calls.at(-1)?.onRequest?.(request, withdrawn)) ?? {
          error: { code: -32601, message: "No request is under way." },
        },
    };
    const over = listen(target, session, hooks, { onOpen }).then((ended) => {
      clearTimeout(timer);
      onOpen();
      if (this.#attended.get(key) === attended) this.#attended.delete(key);
      return ended;
    });
    const attended: Attended = { aborter, calls, watcher: null, opened, over, linger: null };
    this.#attended.set(key, attended);
    return attended;
  }
}
