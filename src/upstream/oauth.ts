/**
 * @module
 * Access tokens of a token endpoint for an upstream (RFC 8707): the gateway's
 * own, of the client credentials grant (RFC 6749, section 4.4), or a caller's
 * (token-exchange.ts). They live in the isolate's memory alone: a new isolate
 * asks for one of its own.
 */
import * as z from "zod";
import { sha256Hex } from "../audit/hash-node.ts";
import { basicCredentials } from "./client-authentication.ts";
import type { ClientCredentials } from "./config.ts";
import { SingleFlight } from "./single-flight.ts";
import type { WireTarget } from "./types.ts";

/** A token endpoint's answer is a few hundred bytes; a token may be long. */
const MAX_ANSWER_BYTES = 64 * 1024;
const REQUEST_TIMEOUT_MS = 15_000;
/** Longer than any request of it takes. */
const PATIENCE_MS = REQUEST_TIMEOUT_MS + 5_000;
/** Of a token whose life the server does not say (RFC 6749, section 5.1, only recommends it). */
const DEFAULT_LIFE_MS = 300_000;
/** Renewed at so much of its life, or so long before its end, whichever comes first, but not in its first half. */
const RENEW_AT = 0.8;
const RENEW_BEFORE_MS = 60_000;
const LEAST_USE = 0.5;
/** Credentials of an isolate; past so many, the oldest go. */
const MAX_SOURCES = 1_000;

/** A token could not be had. The message is for the operator's log. */
export class TokenRefused extends Error {
  override readonly name = "TokenRefused";
}

export type AccessToken = { readonly value: string; readonly renewAt: number };

type Source = { token: AccessToken | null; readonly flight: SingleFlight<AccessToken> };

const sources = new Map<string, Source>();

/**
 * A token for the upstream: the one at hand, or a new one where that is due for
 * renewal or is `rejected`, which an upstream has answered with 401. Requests
 * that ask at the same time share one.
 *
 * @throws TokenRefused when the server gives none
 */
export async function accessToken(
  upstream: string,
  credentials: ClientCredentials,
  send: WireTarget["fetch"],
  rejected: string | null = null,
): Promise<string> {
  // By the credentials too: after they were changed, a token of the old ones is no answer.
  const key = sha256Hex(JSON.stringify([upstream, credentials]));
  const request = { url: credentials.token_url, ...tokenRequest(credentials) };
  return tokenOf(key, request, send, rejected);
}

/** A request to a token endpoint. */
export type TokenRequest = {
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of an exchange: the types of token that will do (RFC 8693, section 2.2.1). */
  readonly issues?: readonly string[];
};

/**
 * The token that is kept under a key, or a new one, by the request; shared and
 * renewed as {@link accessToken} says. The key must name all that the token
 * depends on, and be no secret.
 *
 * @throws TokenRefused when the server gives none
 */
export async function tokenOf(
  key: string,
  request: TokenRequest,
  send: WireTarget["fetch"],
  rejected: string | null,
): Promise<string> {
  const source = sourceOf(key);
  const { token } = source;
  if (token !== null && token.value !== rejected && Date.now() < token.renewAt) return token.value;
  const renewed = await source.flight.run(async () => {
    source.token = await requestToken(request, send, Date.now());
    return source.token;
  });
  return renewed.value;
}

function sourceOf(key: string): Source {
  const known = sources.get(key);
  if (known !== undefined) {
    // The one used last goes last.
    sources.delete(key);
    sources.set(key, known);
    return known;
  }
  const oldest = sources.keys().next();
  if (sources.size >= MAX_SOURCES && !oldest.done) sources.delete(oldest.value);
  const source: Source = { token: null, flight: new SingleFlight(PATIENCE_MS) };
  sources.set(key, source);
  return source;
}

/** When a token that was given out at `now` is renewed, Unix ms. */
export function renewalTime(now: number, lifeMs: number): number {
  const due = Math.min(lifeMs * RENEW_AT, lifeMs - RENEW_BEFORE_MS);
  return now + Math.max(lifeMs * LEAST_USE, due);
}

const answerSchema = z.looseObject({
  access_token: z.string().regex(/^[\x21-\x7e]{1,16384}$/),
  token_type: z.string(),
  // Some servers write the number as a string.
  expires_in: z.coerce.number().nonnegative().optional(),
});

async function requestToken(
  { url, body, headers, issues }: TokenRequest,
  send: WireTarget["fetch"],
  now: number,
): Promise<AccessToken> {
  const response = await send(url, {
    method: "POST",
    headers,
    body,
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const text = await boundedText(response);
  const value = text === null ? null : parseJson(text);
  if (!response.ok) {
    throw new TokenRefused(`The token endpoint answers ${response.status}${errorCode(value)}.`);
  }
  const parsed = answerSchema.safeParse(value);
  if (!parsed.success) throw new TokenRefused("The token endpoint's answer is no token response.");
  const { access_token, token_type, expires_in, issued_token_type: issued } = parsed.data;
  if (token_type.toLowerCase() !== "bearer") {
    throw new TokenRefused("The token endpoint gives tokens that are not bearer tokens.");
  }
  // Required, and left out by some; of what one says, something else is not to be shown to an upstream.
  if (issues !== undefined && issued !== undefined && !issues.some((type) => type === issued)) {
    throw new TokenRefused("The token endpoint issued a token that is no access token.");
  }
  const lifeMs = expires_in === undefined ? DEFAULT_LIFE_MS : expires_in * 1000;
  return { value: access_token, renewAt: renewalTime(now, lifeMs) };
}

/** The request of RFC 6749, section 4.4.2, with the client authenticated as section 2.3.1 says. */
export function tokenRequest(credentials: ClientCredentials): {
  body: string;
  headers: Record<string, string>;
} {
  const { scope, resource } = credentials;
  const form = new URLSearchParams({ grant_type: "client_credentials" });
  if (scope !== undefined) form.set("scope", scope);
  if (typeof resource === "string") form.set("resource", resource);
  return authenticatedForm(credentials, form);
}

/** A form with the client authenticated by HTTP Basic or in the body (RFC 6749, section 2.3.1). */
export function authenticatedForm(
  client: Pick<ClientCredentials, "client_id" | "client_secret" | "auth_method">,
  form: URLSearchParams,
): { body: string; headers: Record<string, string> } {
  const { client_id, client_secret, auth_method } = client;
  const headers: Record<string, string> = {
    accept: "application/json",
    "content-type": "application/x-www-form-urlencoded",
  };
  if (auth_method === "post") {
    form.set("client_id", client_id);
    form.set("client_secret", client_secret);
  } else {
    headers.authorization = basicCredentials(client_id, client_secret);
  }
  return { body: form.toString(), headers };
}

/** The code of RFC 6749, section 5.2; the description beside it is left out, for it may quote anything. */
function errorCode(value: unknown): string {
  const parsed = z.looseObject({ error: z.string().regex(/^[a-z_]{1,64}$/) }).safeParse(value);
  return parsed.success ? ` (${parsed.data.error})` : "";
}

/** The body as text, or null for one that is too long. */
async function boundedText(response: Response): Promise<string | null> {
  if (response.body === null) return "";
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > MAX_ANSWER_BYTES) {
      await reader.cancel();
      return null;
    }
    chunks.push(value);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
