/**
 * @module
 * Access tokens that are JWTs (RFC 9068), verified here with the issuer's
 * public keys.
 */
import { decodeJwt, errors, type JWTVerifyOptions, type JWTVerifyResult, jwtVerify } from "jose";
import { isFor } from "./audience.ts";
import { grantOf } from "./claims.ts";
import type { TokenIssuer } from "./issuers.ts";
import type { IssuerKeys, KeySet } from "./jwks.ts";
import { CLOCK_SKEW_SECONDS, type TokenProblem, type TokenResult } from "./token-result.ts";

/** Asymmetric ones alone: with HS256 whoever knows a public key could sign with it (RFC 8725, section 2.1). */
export const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** Keys that are tried for a token that does not say which one it is signed with. */
const MAX_CANDIDATES = 8;

const JWT_FORM = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;

/** Whether a token looks like a JWT, which is never a reason to believe it. */
export function looksLikeJwt(token: string): boolean {
  return JWT_FORM.test(token);
}

/** The issuer that a JWT says it is of, unverified: it only says whose keys to try. */
export function claimedIssuer(token: string): string | null {
  try {
    return decodeJwt(token).iss ?? null;
  } catch (error) {
    if (error instanceof errors.JWTInvalid || error instanceof TypeError) return null;
    throw error;
  }
}

/** Verifies a JWT of one issuer: signature, type, audience, time, and who it is for. */
export async function verifyJwt(
  token: string,
  issuer: TokenIssuer,
  audiences: readonly string[],
  keys: IssuerKeys,
  now: number,
): Promise<TokenResult> {
  const verified = await verifiedWith(token, issuer, keys, now);
  if ("kind" in verified) return verified;
  const { payload, protectedHeader } = verified;
  if (!isFor(payload.aud, audiences)) return invalid("audience");
  if (!issuer.token_types.some((type) => type === typeOf(protectedHeader.typ))) {
    return invalid("type");
  }
  if (payload.iat !== undefined && payload.iat * 1000 > now + CLOCK_SKEW_SECONDS * 1000) {
    return invalid("not_yet_valid");
  }
  const granted = grantOf(issuer, payload);
  if (!granted.ok) return problemOf(granted.problem);
  return { kind: "accepted", grant: granted.grant, expiresAt: (payload.exp ?? 0) * 1000 };
}

/** A problem of a grant as a result. */
export function problemOf(
  problem: "subject" | "sender_constrained" | "role" | "tenant",
): TokenResult {
  return problem === "role" || problem === "tenant"
    ? { kind: "forbidden", missing: problem }
    : invalid(problem);
}

async function verifiedWith(
  token: string,
  issuer: TokenIssuer,
  source: IssuerKeys,
  now: number,
): Promise<JWTVerifyResult | TokenResult> {
  let found = await source.current(now);
  // With the keys at hand, and once more with newer ones.
  for (const isLast of [false, true]) {
    if (!found.ok) return { kind: "unavailable" };
    const keys: KeySet = found.keys;
    try {
      return await verifiedByOneOf(token, keys, {
        algorithms: ALGORITHMS,
        issuer: issuer.issuer,
        requiredClaims: ["exp", "sub"],
        clockTolerance: CLOCK_SKEW_SECONDS,
        currentDate: new Date(now),
      });
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) return invalid(problemIn(error));
      const newer = isLast ? null : await source.newerThan(keys, now);
      if (newer === null) break;
      found = newer;
    }
  }
  return invalid("key");
}

/**
 * Verifies with the key that a token names, or with each that may be meant: a
 * key id is not required (RFC 7515, section 4.1.4), and during a rotation an
 * issuer has two keys of a kind.
 */
async function verifiedByOneOf(
  token: string,
  { find }: KeySet,
  options: JWTVerifyOptions,
): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(token, find, options);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    for await (const key of error) {
      try {
        return await jwtVerify(token, key, options);
      } catch (failed) {
        tried += 1;
        const isOther = failed instanceof errors.JWSSignatureVerificationFailed;
        if (!isOther || tried === MAX_CANDIDATES) throw failed;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** Every failure of jose's, and whatever else a hostile token makes it throw. */
function problemIn(error: unknown): TokenProblem {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case "iss":
        return "issuer";
      case "nbf":
        return "not_yet_valid";
      case "sub":
        return "subject";
      default:
        return "malformed";
    }
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return "algorithm";
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  return "malformed";
}

/** RFC 7515, section 4.1.9: `application/` may be left out, and case means nothing. */
function typeOf(typ: string | undefined): string {
  return typ === undefined ? "none" : typ.toLowerCase().replace(/^application\//, "");
}

function invalid(problem: TokenProblem): TokenResult {
  return { kind: "invalid", problem };
}
