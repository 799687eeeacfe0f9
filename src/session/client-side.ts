/**
 * @module
 * The client's side of a session: its calls under way, how each is reached, and
 * what it was asked. In memory only: a call does not outlive the object, and an
 * answer to a question of an earlier life is passed over.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { RequestId, RpcNotification, RpcResponse } from "../mcp/jsonrpc.ts";
import type { ClientAnswer } from "../upstream/types.ts";
import type { StreamKind, StreamRequest, Streams } from "./streams.ts";

/** How one call reaches its client while it is under way. */
export type Channel = {
  /** Aborted when the client, an operator or the session's end cancels the call. */
  readonly signal: AbortSignal;
  /** Sends a notification on the response to the call, which becomes a stream. */
  readonly notify: (notification: RpcNotification) => void;
  /** Whether requests can be sent to the client while it waits (2025 era). */
  readonly canAsk: boolean;
  /** Sends a request to the client on the same stream; rejects when the call is cancelled. */
  readonly ask: (method: string, params: JsonObject | undefined) => Promise<ClientAnswer>;
};

/** A channel, as the session's object serves it. */
export type OpenChannel = Channel & {
  /** The stream of the response, if there is one. */
  readonly stream: () => number | null;
  /** Makes the response a stream now. */
  readonly open: () => number;
  /** Ends the call for a reason that its client does not know, and is told as the answer. */
  readonly cancel: (reason: string) => void;
  /** Ends the call at its client's wish. */
  readonly withdraw: (reason: string) => void;
  /** Whether it was the client that cancelled the call: it wants no answer. */
  readonly isUnwanted: () => boolean;
  readonly close: () => void;
};

/** What a call of a batch, or one that nobody can reach, has for a channel. */
export function silentChannel(signal: AbortSignal): Channel {
  return {
    signal,
    notify: () => {},
    canAsk: false,
    ask: async () => ({ error: { code: -32601, message: "The client cannot be asked here." } }),
  };
}

export class ClientSide {
  readonly #streams: Streams;
  readonly #calls = new Map<string, OpenChannel>();
  readonly #asked = new Map<RequestId, (answer: ClientAnswer) => void>();

  constructor(streams: Streams) {
    this.#streams = streams;
  }

  /**
   * A channel for a call. `key` names it for a cancellation: a request's id in
   * the 2025 era, the gateway's own request id in the other. `onOpen` is told
   * once, when the response becomes a stream.
   */
  begin(
    key: string,
    kind: Exclude<StreamKind, "get">,
    request: StreamRequest,
    onOpen: (stream: number) => void,
  ): OpenChannel {
    const aborter = new AbortController();
    let stream: number | null = null;
    let isUnwanted = false;
    const open = (): number => {
      if (stream === null) {
        stream = this.#streams.open(kind, request);
        onOpen(stream);
      }
      return stream;
    };
    const channel: OpenChannel = {
      signal: aborter.signal,
      canAsk: kind === "post",
      notify: (notification) => {
        if (!aborter.signal.aborted) {
          this.#streams.append(open(), JSON.stringify(notification), false);
        }
      },
      ask: (method, params) =>
        this.#ask(aborter.signal, method, params, (text) =>
          this.#streams.append(open(), text, false),
        ),
      stream: () => stream,
      open,
      cancel: (reason) => aborter.abort(new Error(reason)),
      withdraw: (reason) => {
        isUnwanted = true;
        aborter.abort(new Error(reason));
      },
      isUnwanted: () => isUnwanted,
      close: () => {
        if (this.#calls.get(key) === channel) this.#calls.delete(key);
      },
    };
    this.#calls.set(key, channel);
    return channel;
  }

  /** Whether a call of that name is under way: two requests at a time may not have the same id. */
  isUnderWay(key: string): boolean {
    return this.#calls.has(key);
  }

  /** Cancels a call for its client; one that is over, or never was, is passed over. */
  cancel(key: string, reason: string): void {
    this.#calls.get(key)?.withdraw(reason);
  }

  /** Cancels the call whose response a stream is, for the client that closed it. */
  cancelStream(stream: number, reason: string): void {
    for (const channel of this.#calls.values()) {
      if (channel.stream() === stream) channel.withdraw(reason);
    }
  }

  /** Cancels every call: the session ends. */
  cancelAll(reason: string): void {
    for (const channel of this.#calls.values()) channel.cancel(reason);
  }

  /** Takes the client's answer to a request of ours. */
  answer(response: RpcResponse): void {
    if (response.id === undefined || response.id === null) return;
    const resolve = this.#asked.get(response.id);
    if (resolve === undefined) return;
    this.#asked.delete(response.id);
    resolve("result" in response ? { result: response.result } : { error: response.error });
  }

  /** Sends a message that belongs to no call, if a GET stream is or was there to take it. */
  tell(notification: RpcNotification): void {
    const stream = this.#streams.standalone();
    if (stream !== null) this.#streams.append(stream, JSON.stringify(notification), false);
  }

  /** Asks the client on its GET stream, for an upstream that asks outside a call. */
  askAside(
    signal: AbortSignal,
    method: string,
    params: JsonObject | undefined,
  ): Promise<ClientAnswer> | null {
    const stream = this.#streams.standalone();
    if (stream === null) return null;
    return this.#ask(signal, method, params, (text) => this.#streams.append(stream, text, false));
  }

  #ask(
    signal: AbortSignal,
    method: string,
    params: JsonObject | undefined,
    send: (text: string) => void,
  ): Promise<ClientAnswer> {
    // Of the gateway's own, and not to be guessed: another upstream's client may be listening.
    const id = crypto.randomUUID();
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#asked.delete(id);
        reject(signal.reason);
      };
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#asked.set(id, (answer) => {
        signal.removeEventListener("abort", abort);
        resolve(answer);
      });
      send(
        JSON.stringify({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) }),
      );
    });
  }
}

/** The name of a request in the 2025 era: `1` and `"1"` are two. */
export function callKey(id: RequestId): string {
  return `${typeof id} ${id}`;
}
