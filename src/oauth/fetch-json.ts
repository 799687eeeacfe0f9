/**
 * @module
 * Small JSON documents of authorization servers: bounded in size and time, and
 * from nowhere but where upstreams may be too.
 */
import type { guardedFetch } from "../upstream/address.ts";
import { readText } from "../upstream/wire-http.ts";

/** Key sets and metadata have a few kilobytes; a certificate chain beside each key makes it some more. */
const MAX_DOCUMENT_BYTES = 256 * 1024;
/** A caller waits for it. */
const TIMEOUT_MS = 5_000;

export type Send = ReturnType<typeof guardedFetch>;

export type Fetched =
  | { readonly ok: true; readonly value: unknown }
  /** `detail` is for the log: a status, or what went wrong, in words of the gateway's own. */
  | { readonly ok: false; readonly status: number | null; readonly detail: string };

/** Fetches one document. Never throws. */
export async function fetchJson(send: Send, url: string, init: RequestInit = {}): Promise<Fetched> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const headers = new Headers(init.headers);
    headers.set("accept", "application/json");
    const response = await send(url, { ...init, headers, signal });
    if (!response.ok) {
      await response.body?.cancel();
      return { ok: false, status: response.status, detail: `it answers ${response.status}` };
    }
    const body = await readText(response, MAX_DOCUMENT_BYTES, signal);
    if (!body.ok) return { ok: false, status: null, detail: `its body is ${body.reason}` };
    return { ok: true, value: JSON.parse(body.text) };
  } catch (error) {
    // Names only: a message may quote what was sent.
    const detail = error instanceof Error ? error.name : typeof error;
    return { ok: false, status: null, detail };
  }
}
