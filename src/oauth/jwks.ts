/**
 * @module
 * The keys of an authorization server, kept in the isolate: found by discovery
 * where the deployment does not say where they are, read anew when they are old
 * or when a token names one that is not among them, and at most once a minute
 * whatever tokens come. While the server is away, the keys at hand go on.
 *
 * Trade-off: a key that the server withdrew in an outage of its own key set is
 * accepted until the set can be read again, a day at most. The tokens that it
 * signed end by themselves.
 */
import { createLocalJWKSet, type JWTVerifyGetKey } from "jose";
import * as z from "zod";
import { logEvent } from "../ops/log.ts";
import { SingleFlight } from "../upstream/single-flight.ts";
import { fetchJson, type Send } from "./fetch-json.ts";
import type { TokenIssuer } from "./issuers.ts";

/** How old keys may be before they are read anew, in ms: also how long a withdrawn one is accepted. */
const MAX_AGE_MS = 10 * 60_000;
/** The least time between two attempts to read them, in ms: unknown key ids cost no more than this. */
const COOLDOWN_MS = 60_000;
/** How old keys may be while they cannot be read, in ms. */
const MAX_OUTAGE_MS = 24 * 3_600_000;
/** Three documents at most, five seconds each. */
const PATIENCE_MS = 16_000;
const MAX_KEYS = 128;
/** Issuers of an isolate, in all configurations that it has seen. */
const MAX_SOURCES = 64;

export type KeySet = { readonly find: JWTVerifyGetKey; readonly fetchedAt: number };

export type KeySetResult =
  | { readonly ok: true; readonly keys: KeySet }
  /** No keys at hand, and none to be had now. */
  | { readonly ok: false };

/** Only public keys: a secret in a key set is one that everybody has. */
const keySetSchema = z.object({
  keys: z
    .array(z.looseObject({ kty: z.string() }))
    .max(MAX_KEYS)
    .transform((keys) =>
      keys.filter(
        ({ kty, use }) =>
          ["RSA", "EC", "OKP"].includes(kty) && (use === undefined || use === "sig"),
      ),
    ),
});

const metadataSchema = z.looseObject({ issuer: z.string(), jwks_uri: z.string() });

export class IssuerKeys {
  readonly #issuer: Pick<TokenIssuer, "issuer" | "jwks_uri">;
  readonly #send: Send;
  readonly #flight = new SingleFlight<void>(PATIENCE_MS);
  #keys: KeySet | null = null;
  #attemptedAt = Number.NEGATIVE_INFINITY;
  #lastFailed = false;

  constructor(issuer: Pick<TokenIssuer, "issuer" | "jwks_uri">, send: Send) {
    this.#issuer = issuer;
    this.#send = send;
  }

  /** The keys at hand, read if there are none or they are old. */
  async current(now: number): Promise<KeySetResult> {
    if (this.#keys === null || now - this.#keys.fetchedAt >= MAX_AGE_MS) await this.#refresh(now);
    return this.#atHand(now);
  }

  /**
   * Keys newer than some that did not have the one wanted. Null when there are
   * none: the key does not exist. Not `ok` when that cannot be said.
   */
  async newerThan(old: KeySet, now: number): Promise<KeySetResult | null> {
    await this.#refresh(now);
    if (this.#keys !== null && this.#keys !== old) return this.#atHand(now);
    return this.#lastFailed ? { ok: false } : null;
  }

  #atHand(now: number): KeySetResult {
    return this.#keys !== null && now - this.#keys.fetchedAt < MAX_OUTAGE_MS
      ? { ok: true, keys: this.#keys }
      : { ok: false };
  }

  async #refresh(now: number): Promise<void> {
    await this.#flight.run(async () => {
      if (now - this.#attemptedAt < COOLDOWN_MS) return;
      this.#attemptedAt = now;
      const read = await this.#read();
      this.#lastFailed = !read.ok;
      if (read.ok) this.#keys = { find: read.find, fetchedAt: now };
      else {
        logEvent("error", "issuer_keys_unreadable", {
          issuer: this.#issuer.issuer,
          error: read.detail,
        });
      }
    });
  }

  async #read(): Promise<{ ok: true; find: JWTVerifyGetKey } | { ok: false; detail: string }> {
    const place = await this.#jwksUri();
    if (!place.ok) return place;
    const fetched = await fetchJson(this.#send, place.url);
    if (!fetched.ok) return { ok: false, detail: `key set: ${fetched.detail}` };
    const parsed = keySetSchema.safeParse(fetched.value);
    if (!parsed.success) return { ok: false, detail: "key set: it is none" };
    return { ok: true, find: createLocalJWKSet(parsed.data) };
  }

  async #jwksUri(): Promise<{ ok: true; url: string } | { ok: false; detail: string }> {
    const { issuer, jwks_uri } = this.#issuer;
    if (jwks_uri !== undefined) return { ok: true, url: jwks_uri };
    let detail = "";
    for (const url of discoveryUrls(issuer)) {
      const fetched = await fetchJson(this.#send, url);
      const metadata = fetched.ok ? metadataSchema.safeParse(fetched.value).data : undefined;
      // RFC 8414, section 3.3: metadata that names another issuer is somebody else's.
      if (metadata?.issuer === issuer) return { ok: true, url: metadata.jwks_uri };
      detail ||= fetched.ok ? "it is not this issuer's" : fetched.detail;
    }
    return { ok: false, detail: `metadata: ${detail}` };
  }
}

/** Where an issuer's metadata may be: RFC 8414, section 3.1, and OpenID Connect Discovery, in both forms. */
export function discoveryUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer);
  const path = pathname.replace(/\/+$/, "");
  const urls = [
    `${origin}/.well-known/oauth-authorization-server${path}`,
    `${origin}/.well-known/openid-configuration${path}`,
    `${origin}${path}/.well-known/openid-configuration`,
  ];
  return [...new Set(urls)];
}

const sources = new Map<string, IssuerKeys>();

/** The isolate's keys of an issuer. */
export function keysOf(issuer: TokenIssuer, send: Send): IssuerKeys {
  const key = `${issuer.issuer}\n${issuer.jwks_uri ?? ""}`;
  const known = sources.get(key);
  if (known !== undefined) return known;
  const oldest = sources.keys().next();
  if (sources.size >= MAX_SOURCES && !oldest.done) sources.delete(oldest.value);
  const made = new IssuerKeys(issuer, send);
  sources.set(key, made);
  return made;
}
