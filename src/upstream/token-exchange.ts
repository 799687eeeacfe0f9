/**
 * @module
 * Tokens with which an upstream sees the user and not the gateway (RFC 8693):
 * the caller's own token is exchanged for one that is meant for the upstream.
 * The caller's token goes to the token endpoint that the operator registered,
 * and nowhere else.
 */
import { sha256Hex } from "../audit/hash-node.ts";
import type { TokenExchange } from "./config.ts";
import { authenticatedForm, TokenRefused, type TokenRequest, tokenOf } from "./oauth.ts";
import type { WireTarget } from "./types.ts";

/**
 * For whom an upstream is asked: for itself, when the gateway looks what there
 * is, or for a caller, by the access token that its request came with.
 */
export type OnBehalfOf =
  | { readonly kind: "gateway" }
  | {
      readonly kind: "caller";
      readonly principal: string;
      /** That token, asked before each use; null for a caller that came with something else. */
      readonly token: () => string | null;
    };

/**
 * A token for the upstream in the caller's name, kept until shortly before its
 * end, for this caller and this token of theirs: what a narrower token was
 * exchanged for is never used with a wider one, nor the other way round.
 *
 * @throws TokenRefused when the caller has no token, or the server gives none for it
 */
export async function exchangedToken(
  upstream: string,
  exchange: TokenExchange,
  caller: Extract<OnBehalfOf, { kind: "caller" }>,
  send: WireTarget["fetch"],
  rejected: string | null,
): Promise<string> {
  const subject = caller.token();
  if (subject === null) throw new TokenRefused("The caller came without an access token.");
  const key = sha256Hex(JSON.stringify([upstream, exchange, caller.principal, sha256Hex(subject)]));
  return tokenOf(key, exchangeRequest(exchange, subject), send, rejected);
}

const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

/** What may come of it: a JWT that is to be used as a bearer token is an access token in all but name (section 3). */
const ISSUES = [ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"];

/** The request of RFC 8693, section 2.1. */
export function exchangeRequest(exchange: TokenExchange, subject: string): TokenRequest {
  const { scope, resource, audience } = exchange;
  const form = new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: subject,
    subject_token_type: ACCESS_TOKEN,
    requested_token_type: ACCESS_TOKEN,
  });
  if (scope !== undefined) form.set("scope", scope);
  if (audience !== undefined) form.set("audience", audience);
  if (typeof resource === "string") form.set("resource", resource);
  return { url: exchange.token_url, ...authenticatedForm(exchange, form), issues: ISSUES };
}
