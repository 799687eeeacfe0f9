/**
 * @module
 * A client's SSE response, held by the Worker: written from wherever events
 * come, kept alive by comments, ended when the client leaves or when its
 * credential no longer holds.
 *
 * Trade-off: the Worker's timers keep the response alive through proxies and
 * look after the caller's right to it, so that the objects that feed it need
 * neither and may hibernate.
 */
import { SSE_HEADERS, sseComment, sseEvent } from "../mcp/sse.ts";

/** How often a silent stream says that it is alive, in ms: proxies give up after 30 to 60 s. */
const KEEP_ALIVE_MS = 15_000;
/**
 * The same for the response to a call: behind some proxies a client that has
 * left is noticed only by writing to it, and a call that nobody waits for must end.
 */
const CALL_KEEP_ALIVE_MS = 5_000;
/** How often the caller's right to the stream is looked at again, in ms: well within the minute that a revocation may take. */
const RECHECK_MS = 20_000;
/** How often the kill switches are looked at, in ms: with the age that a copy may have, within the 5 s that one may take. */
const STOP_CHECK_MS = 1_500;

/**
 * Messages that may wait for a client that does not read: one that is further
 * behind has no use for the stream, which ends. What a session's object feeds
 * never comes so far, for the object waits until the client has read.
 */
const MAX_QUEUED = 1_000;

export type EventStreamOptions = {
  /** Written at once, such as the priming event of 2025-11-25. */
  readonly first: string | null;
  readonly isCall: boolean;
  /** Whether the caller may still listen; asked now and then. A throw ends nothing. */
  readonly recheck: () => Promise<boolean>;
  /** Whether a kill switch ends the stream; null for the response to a call, which ends as it does. */
  readonly isStopped: (() => Promise<boolean>) | null;
  /** Called once, when the stream is over, whoever ended it. */
  readonly onEnd: () => void;
  readonly headers?: Readonly<Record<string, string>>;
};

export type EventStream = {
  readonly response: Response;
  /** Queues text; `onWritten` is told when the client has taken it. */
  readonly write: (text: string, onWritten?: () => void) => void;
  /** Ends the stream after what is queued. */
  readonly end: () => void;
};

/** Opens a response that stays open until it is ended, from either side. */
export function openEventStream(options: EventStreamOptions): EventStream {
  const encoder = new TextEncoder();
  const queue: { text: string; onWritten: (() => void) | undefined }[] = [];
  const keepAliveMs = options.isCall ? CALL_KEEP_ALIVE_MS : KEEP_ALIVE_MS;
  let isOver = false;
  let lastWrite = Date.now();
  let wake: (() => void) | null = null;

  const write = (text: string, onWritten?: () => void): void => {
    if (isOver) return;
    queue.push({ text, onWritten });
    wake?.();
    if (queue.length > MAX_QUEUED) end();
  };
  const end = (): void => {
    if (isOver) return;
    isOver = true;
    for (const timer of timers) clearInterval(timer);
    wake?.();
    options.onEnd();
  };
  const timers = [
    setInterval(() => {
      const isSilent = queue.length === 0 && Date.now() - lastWrite >= keepAliveMs / 2;
      if (isSilent) write(sseComment("keep-alive"));
    }, keepAliveMs),
    setInterval(() => {
      options.recheck().then(
        (mayListen) => {
          if (!mayListen) end();
        },
        // What cannot be looked up now is looked up the next time.
        () => {},
      );
    }, RECHECK_MS),
  ];
  const { isStopped } = options;
  if (isStopped !== null) {
    timers.push(
      setInterval(() => {
        isStopped().then(
          (stopped) => {
            if (stopped) end();
          },
          () => {},
        );
      }, STOP_CHECK_MS),
    );
  }
  if (options.first !== null) write(options.first);

  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        while (queue.length === 0 && !isOver) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          wake = null;
        }
        const next = queue.shift();
        if (next === undefined) return controller.close();
        lastWrite = Date.now();
        controller.enqueue(encoder.encode(next.text));
        next.onWritten?.();
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
  const response = new Response(body, { headers: { ...SSE_HEADERS, ...options.headers } });
  return { response, write, end };
}

/**
 * Feeds a stream from the socket of a session's object. A frame is `P` (more of
 * this event follows) or `E`, the event's id or nothing, a line feed, and data;
 * each is acknowledged with `w`, the last of an event once the client has it.
 */
export function feedFromSocket(socket: WebSocket, stream: EventStream): void {
  let parts: string[] = [];
  const written = (): void => {
    if (socket.readyState === WebSocket.OPEN) socket.send("w");
  };
  socket.addEventListener("message", ({ data }) => {
    if (typeof data !== "string") return;
    const lineEnd = data.indexOf("\n");
    parts.push(data.slice(lineEnd + 1));
    // Off the object's hands: what there is of an event waits here until it is whole.
    if (data[0] === "P") return written();
    const id = data.slice(1, lineEnd);
    const text = parts.join("");
    parts = [];
    stream.write(sseEvent({ event: "message", data: text, ...(id === "" ? {} : { id }) }), written);
  });
  socket.addEventListener("close", stream.end);
  socket.addEventListener("error", stream.end);
  socket.accept();
}

/** Closes a socket that is still open. */
export function leave(socket: WebSocket): void {
  if (socket.readyState === WebSocket.OPEN) socket.close(1000, "left");
}
