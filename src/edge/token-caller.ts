/**
 * @module
 * Who is calling with an access token. Answers are cached as those for keys
 * are: by digest, for a minute at most, good and bad apart.
 */
import { sha256Hex } from "../audit/hash-node.ts";
import type { Config } from "../config.ts";
import { checkAccessToken, MAX_TOKEN_CHARS } from "../oauth/access-token.ts";
import type { TokenProblem, TokenResult } from "../oauth/token-result.ts";
import { CLOCK_SKEW_SECONDS } from "../oauth/token-result.ts";
import { guardedFetch } from "../upstream/address.ts";
import { SingleFlight } from "../upstream/single-flight.ts";
import { type Looking, remember, unauthenticated } from "./authenticate.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

const GOOD_MS = 60_000;
/** A token that is not valid yet, or whose key is not known yet, may be good soon. */
const BAD_MS = 10_000;
/** How long nobody is asked again about a token that could not be asked about, in ms: what `Retry-After` says. */
const UNAVAILABLE_MS = 5_000;
/** How long others wait for one look at a token, in ms: an issuer has five seconds to answer. */
const PATIENCE_MS = 6_000;

type Good = { readonly principal: Principal; readonly expiresAt: number; readonly seenAt: number };
type Bad = { readonly result: Exclude<TokenResult, { kind: "accepted" }>; readonly until: number };

const good = new Map<string, Good>();
const bad = new Map<string, Bad>();
/** Tokens that are being looked at: a burst of calls with one is one question. */
const flights = new Map<string, SingleFlight<TokenResult>>();

/** Whether a token was good here lately, if perhaps not any more. */
export function wasGoodToken(token: string, resource: string): boolean {
  return token.length <= MAX_TOKEN_CHARS && good.has(digestOf(token, resource));
}

/**
 * The caller that a token of the deployment's issuers speaks for. Throws
 * `HttpRefusal`: 401, 403 for one without a role or tenant, 503 while its
 * issuer cannot be asked.
 */
export async function authenticateToken(
  token: string,
  resource: string,
  config: Config,
  now: number,
  { maxAgeMs = GOOD_MS, beforeLookup, onRefused }: Looking = {},
): Promise<Principal> {
  if (token.length > MAX_TOKEN_CHARS) throw refused({ kind: "invalid", problem: "malformed" });

  const digest = digestOf(token, resource);
  const known = good.get(digest);
  if (known !== undefined && now - known.seenAt < Math.min(maxAgeMs, GOOD_MS)) {
    if (known.expiresAt + CLOCK_SKEW_SECONDS * 1000 > now) return known.principal;
    throw refused({ kind: "invalid", problem: "expired" });
  }
  const refusedBefore = bad.get(digest);
  if (refusedBefore !== undefined && refusedBefore.until > now) throw refused(refusedBefore.result);
  if (known === undefined) await beforeLookup?.();
  const send = guardedFetch(config.allowPrivateUpstreams);
  let isMine = false;
  const result = await once(digest, () => {
    isMine = true;
    return checkAccessToken(token, config.tokenIssuers, resource, send, now);
  });
  if (result.kind !== "accepted") {
    if (result.kind === "invalid" && isMine) onRefused?.();
    const isUnavailable = result.kind === "unavailable";
    remember(bad, digest, { result, until: now + (isUnavailable ? UNAVAILABLE_MS : BAD_MS) });
    if (!isUnavailable) good.delete(digest);
    throw refused(result);
  }
  const { principal: id, tenant, role, scopes } = result.grant;
  const principal: Principal = {
    id,
    tenant,
    role,
    workspaces: null,
    upstreams: null,
    scopes: [...scopes],
  };
  remember(good, digest, { principal, expiresAt: result.expiresAt, seenAt: now });
  return principal;
}

/** One look at a token at a time, for all who wait for it. */
async function once(digest: string, look: () => Promise<TokenResult>): Promise<TokenResult> {
  const flight = flights.get(digest) ?? new SingleFlight<TokenResult>(PATIENCE_MS);
  remember(flights, digest, flight);
  try {
    return await flight.run(look);
  } finally {
    if (flights.get(digest) === flight) flights.delete(digest);
  }
}

/** What a refused token is answered with; the token itself is never in it. */
function refused(result: Exclude<TokenResult, { kind: "accepted" }>): HttpRefusal {
  switch (result.kind) {
    case "invalid":
      return unauthenticated(
        result.problem === "expired" ? "KEY_EXPIRED" : "UNAUTHENTICATED",
        `The access token is not accepted: ${WORDS[result.problem]}.`,
      );
    case "forbidden":
      return new HttpRefusal(
        403,
        "FORBIDDEN",
        `The access token names no ${result.missing} that this gateway knows. Ask its issuer's administrator.`,
      );
    case "unavailable":
      return new HttpRefusal(
        503,
        "OVERLOADED",
        "The token's issuer cannot be asked at the moment. Try again.",
        { headers: { "retry-after": "5" } },
      );
  }
}

const WORDS: Readonly<Record<TokenProblem, string>> = {
  malformed: "it is none that this gateway takes",
  issuer: "its issuer is not trusted here",
  algorithm: "its signature algorithm is not allowed",
  type: "it is not an access token",
  key: "its issuer has no such key",
  signature: "its signature is wrong",
  audience: "it is meant for another server",
  expired: "it has expired",
  not_yet_valid: "it is not valid yet",
  inactive: "its issuer says that it is not active",
  subject: "it names no subject",
  sender_constrained: "it is bound to a key, which is not supported",
};

/** Whether a token is good depends on the server that it is shown to. */
function digestOf(token: string, resource: string): string {
  return sha256Hex(`${resource}\n${token}`);
}
