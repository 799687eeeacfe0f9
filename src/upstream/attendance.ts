/**
 * @module
 * Listens to an upstream session's own stream while calls are under way: in
 * the 2025 era log messages, and now and then requests, need not come on the
 * response to the call that they belong to.
 */
import type { RpcNotification } from "../mcp/jsonrpc.ts";
import type { WireHooks, WireSession2025, WireTarget } from "./types.ts";
import { listen } from "./wire-2025.ts";

/** How long a call waits for the stream to be open, in ms: not every upstream has one. */
const OPEN_MS = 1_000;
/** How long the stream stays after the last call, in ms: what was logged last may come after the result. */
const LINGER_MS = 1_000;

type Attended = {
  readonly aborter: AbortController;
  /** The hooks of the calls under way, newest last: what comes belongs to the newest. */
  readonly calls: WireHooks[];
  readonly opened: Promise<undefined>;
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
      const end = (): void => {
        if (this.#attended.get(key) === attended) this.#attended.delete(key);
        attended.aborter.abort(new Error("no call is under way"));
      };
      if (atOnce) end();
      else attended.linger = setTimeout(end, LINGER_MS);
    };
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
    const attended: Attended = { aborter, calls, opened, linger: null };
    this.#attended.set(key, attended);
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
        if (call === undefined) this.#aside(notification);
        else call.onNotification?.(notification);
      },
      onRequest: async (request, withdrawn) =>
        (await calls.at(-1)?.onRequest?.(request, withdrawn)) ?? {
          error: { code: -32601, message: "No request is under way." },
        },
    };
    void listen(target, session, hooks, { onOpen }).then(() => {
      clearTimeout(timer);
      onOpen();
      if (this.#attended.get(key) === attended) this.#attended.delete(key);
    });
    return attended;
  }
}
