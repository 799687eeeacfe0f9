/**
 * @module
 * One HTTP exchange with an upstream: authenticated, bounded, and with every way
 * in which it can fail told apart, above all whether the request may have run.
 */
import type { WireFailure, WireOutcome, WireTarget } from "./types.ts";

/** Of an upstream's own words in a failure. */
const MAX_DETAIL_CHARS = 200;

/** Shorter pieces of a credential are words like `Basic`, not secrets. */
const MIN_SECRET_CHARS = 6;

export type WireRequest = {
  readonly method: "POST" | "GET" | "DELETE";
  /** Without those that authenticate. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
};

export type Sent =
  | { readonly ok: true; readonly response: Response; readonly quote: (text: string) => string }
  | { readonly ok: false; readonly failure: WireFailure };

/**
 * Sends a request and gives back the head of the answer, whatever its status;
 * only a 401 is asked once more, with what `authorize(true)` gives. `quote`
 * shortens the upstream's words for a `detail`, without the credentials that it
 * may have echoed. Does not throw: an abort is `cancelled`.
 */
export async function send(
  target: WireTarget,
  request: WireRequest,
  signal: AbortSignal,
): Promise<Sent> {
  for (const again of [false, true]) {
    const authorized = await authorizedHeaders(target, request, again, signal);
    if (!authorized.ok) return authorized;
    const { headers, quote } = authorized;
    if (signal.aborted) return failed("cancelled", "no", "Given up before it was sent.");
    let response: Response;
    try {
      response = await untilAborted(fetching(target, request, headers, signal), signal, discard);
    } catch (error) {
      if (signal.aborted) return failed("cancelled", "maybe", "Given up before an answer came.");
      const words = quote(wordsOf(error));
      // Another try would go to the same place.
      const isRefused = error instanceof Error && error.name === "AddressRefused";
      return isRefused ? failed("refused", "no", words) : failed("unreachable", "maybe", words);
    }
    if (response.status !== 401) return { ok: true, response, quote };
    await discard(response);
  }
  return failed("unauthorized", "no", "401, also with new credentials.", 401);
}

/** Async, so that what a fetch throws at once is a rejection as well. */
async function fetching(
  target: WireTarget,
  request: WireRequest,
  headers: Headers,
  signal: AbortSignal,
): Promise<Response> {
  const init = { method: request.method, headers, signal, redirect: "manual" } as const;
  return await target.fetch(
    target.url,
    request.body === undefined ? init : { ...init, body: request.body },
  );
}

type Authorized =
  | { ok: true; headers: Headers; quote: (text: string) => string }
  | { ok: false; failure: WireFailure };

async function authorizedHeaders(
  target: WireTarget,
  request: WireRequest,
  again: boolean,
  signal: AbortSignal,
): Promise<Authorized> {
  try {
    const credentials = await untilAborted(target.authorize(again), signal);
    const headers = new Headers(request.headers);
    for (const [name, value] of Object.entries(credentials)) headers.set(name, value);
    return { ok: true, headers, quote: quoter(Object.values(credentials)) };
  } catch (error) {
    if (signal.aborted) return failed("cancelled", "no", "Given up before it was sent.");
    // The message of such an error may quote the credential: `Headers` does for a bad value.
    const name = error instanceof Error ? error.name : typeof error;
    return failed("unauthorized", "no", `No credentials could be had: ${name}.`);
  }
}

/** A promise, unless the signal aborts first: not everything that is waited for knows signals. */
export async function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  dispose?: (late: T) => void,
): Promise<T> {
  let isLate = false;
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      isLate = true;
      reject(new DOMException("Aborted", "AbortError"));
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  // What comes too late is disposed of; that it failed too late is nobody's concern.
  if (dispose !== undefined) {
    promise.then(
      (value) => isLate && dispose(value),
      () => undefined,
    );
  }
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

export type BodyText =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly reason: "too_large" | "not_utf8" | "broken" };

/** The whole body as text. Over `maxBytes` it is cancelled; an abort is `broken`. */
export async function readText(
  response: Response,
  maxBytes: number,
  signal: AbortSignal,
): Promise<BodyText> {
  if (response.body === null) return { ok: true, text: "" };
  if (Number(response.headers.get("content-length")) > maxBytes) {
    await discard(response);
    return { ok: false, reason: "too_large" };
  }
  const reader = response.body.getReader();
  const cancel = () => void reader.cancel().catch(() => undefined);
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  const parts: string[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const read = await readChunk(reader);
      if (read === "broken" || signal.aborted) return { ok: false, reason: "broken" };
      if (read.done) break;
      bytes += read.value.length;
      if (bytes > maxBytes) return { ok: false, reason: "too_large" };
      parts.push(decoder.decode(read.value, { stream: true }));
    }
    parts.push(decoder.decode());
    return { ok: true, text: parts.join("") };
  } catch (error) {
    if (error instanceof TypeError) return { ok: false, reason: "not_utf8" };
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/** Kept apart from decoding: runtimes throw a `TypeError` for a connection that was lost, too. */
async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array> | "broken"> {
  try {
    return await reader.read();
  } catch {
    // Whatever it says, the body cannot be had.
    return "broken";
  }
}

/** Lets go of a body that nobody reads. */
export async function discard(response: Response): Promise<void> {
  // A body that is broken already needs no cancelling.
  await response.body?.cancel().catch(() => undefined);
}

/** The media type in lower case, without its parameters. */
export function mediaType(response: Response): string {
  const [type = ""] = (response.headers.get("content-type") ?? "").split(";");
  return type.trim().toLowerCase();
}

/** What a status other than 2xx and 401 says of a request. */
export function statusFailure(status: number, detail: string): WireFailure {
  // A 503 is the server's way of saying "not now"; with any other 5xx something may have happened.
  const isRefused = status < 500 || status === 503;
  return {
    reason: isRefused ? "refused" : "unreachable",
    ran: isRefused ? "no" : "maybe",
    detail: detail === "" ? `HTTP ${status}.` : `HTTP ${status}: ${detail}`,
    httpStatus: status,
  };
}

export function failure(
  reason: WireFailure["reason"],
  ran: WireFailure["ran"],
  detail: string,
  httpStatus: number | null = null,
): WireFailure {
  return { reason, ran, detail, httpStatus };
}

/** What it means for a request that its answer could not be read. */
export function bodyFailure(reason: "too_large" | "not_utf8" | "broken"): WireFailure {
  switch (reason) {
    case "too_large":
      return failure("too_large", "maybe", "The answer is too large.");
    case "not_utf8":
      return failure("protocol", "maybe", "The answer is not UTF-8.");
    case "broken":
      return failure("unreachable", "maybe", "The connection broke within the answer.");
  }
}

export function noAnswer(status: number): WireFailure {
  return failure("protocol", "maybe", "What came is no answer to the request.", status);
}

/** The outcome of a failure. */
export function failedBy(why: WireFailure): WireOutcome {
  return { kind: "failed", failure: why };
}

function failed(...args: Parameters<typeof failure>): { ok: false; failure: WireFailure } {
  return { ok: false, failure: failure(...args) };
}

/** What an error says, its cause included: Node says "fetch failed" and means the cause. */
function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return `${error.name}: ${error.message}${cause}`;
}

function quoter(credentials: readonly string[]): (text: string) => string {
  const secrets = credentials
    .flatMap((value) => [value, ...value.split(/\s+/)])
    .filter((value) => value.length >= MIN_SECRET_CHARS);
  return (text) => {
    let shown = text;
    for (const secret of secrets) shown = shown.replaceAll(secret, "[redacted]");
    // Control characters could forge lines of a log.
    return shown
      .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ")
      .slice(0, MAX_DETAIL_CHARS)
      .toWellFormed();
  };
}
