/**
 * @module
 * What came of looking at an access token.
 */
import type { TokenGrant } from "./claims.ts";

/** Why a token is not accepted: all of it is `invalid_token` (RFC 6750) to the client. */
export type TokenProblem =
  | "malformed"
  | "issuer"
  | "algorithm"
  | "type"
  | "key"
  | "signature"
  | "audience"
  | "expired"
  | "not_yet_valid"
  | "inactive"
  | "subject"
  | "sender_constrained";

export type TokenResult =
  | { readonly kind: "accepted"; readonly grant: TokenGrant; readonly expiresAt: number }
  | { readonly kind: "invalid"; readonly problem: TokenProblem }
  /** Genuine, and of no use here: it names no role, or no tenant. */
  | { readonly kind: "forbidden"; readonly missing: "role" | "tenant" }
  /** The issuer cannot be asked now, and without it nothing can be said. */
  | { readonly kind: "unavailable" };

/** How far clocks may be apart, in seconds: a token is taken that much after its end and before its beginning. */
export const CLOCK_SKEW_SECONDS = 30;
