/**
 * @module
 * An access token of one of the deployment's issuers: a JWT is verified here,
 * anything else is asked about.
 */
import { audiencesOf } from "./audience.ts";
import type { Send } from "./fetch-json.ts";
import { introspect, introspects } from "./introspection.ts";
import type { TokenIssuer } from "./issuers.ts";
import { keysOf } from "./jwks.ts";
import { claimedIssuer, looksLikeJwt, verifyJwt } from "./jwt.ts";
import type { TokenResult } from "./token-result.ts";

/** Characters of a token: what is longer is refused unread. Requests may have 128 KB of headers in all. */
export const MAX_TOKEN_CHARS = 16 * 1024;

/** Checks a token. `resource` is the canonical URI of this server, which makes its audiences unless an issuer's entry says otherwise. */
export async function checkAccessToken(
  token: string,
  issuers: readonly TokenIssuer[],
  resource: string,
  send: Send,
  now: number,
): Promise<TokenResult> {
  if (token.length > MAX_TOKEN_CHARS) return { kind: "invalid", problem: "malformed" };
  const audiences = (issuer: TokenIssuer): string[] =>
    issuer.audience === undefined ? audiencesOf(resource) : [issuer.audience];
  if (looksLikeJwt(token)) {
    const claimed = claimedIssuer(token);
    const issuer = issuers.find((each) => each.issuer === claimed);
    return issuer === undefined
      ? { kind: "invalid", problem: claimed === null ? "malformed" : "issuer" }
      : verifyJwt(token, issuer, audiences(issuer), keysOf(issuer, send), now);
  }
  let result: TokenResult = { kind: "invalid", problem: "malformed" };
  for (const issuer of issuers.filter(introspects)) {
    const asked = await introspect(token, issuer, audiences(issuer), send, now);
    if (asked.kind === "accepted" || asked.kind === "forbidden") return asked;
    // An issuer that could not be asked might have known it.
    if (result.kind !== "unavailable") result = asked;
  }
  return result;
}
