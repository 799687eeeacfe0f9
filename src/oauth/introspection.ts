/**
 * @module
 * Access tokens that are no JWTs: their issuer is asked about each (RFC 7662).
 */
import * as z from "zod";
import { logEvent } from "../ops/log.ts";
import { basicCredentials } from "../upstream/client-authentication.ts";
import { isFor } from "./audience.ts";
import { grantOf } from "./claims.ts";
import { fetchJson, type Send } from "./fetch-json.ts";
import type { TokenIssuer } from "./issuers.ts";
import { problemOf } from "./jwt.ts";
import { CLOCK_SKEW_SECONDS, type TokenResult } from "./token-result.ts";

const answerSchema = z.looseObject({
  active: z.boolean(),
  iss: z.string().optional(),
  aud: z.union([z.string(), z.array(z.string())]).optional(),
  exp: z.number().optional(),
  nbf: z.number().optional(),
  token_type: z.string().optional(),
});

/** How long a token is taken whose end the server does not say, in ms; it is asked again before that. */
const UNSAID_LIFE_MS = 60_000;

export type IntrospectingIssuer = TokenIssuer & {
  readonly introspection_endpoint: string;
  readonly client_id: string;
  readonly client_secret: string;
};

export function introspects(issuer: TokenIssuer): issuer is IntrospectingIssuer {
  return (
    issuer.introspection_endpoint !== undefined &&
    issuer.client_id !== undefined &&
    issuer.client_secret !== undefined
  );
}

/**
 * Asks an issuer about a token. `aud` must be there and hold an audience: RFC
 * 7662 leaves it out if it likes, but a token that may be anybody's is not ours.
 */
export async function introspect(
  token: string,
  issuer: IntrospectingIssuer,
  audiences: readonly string[],
  send: Send,
  now: number,
): Promise<TokenResult> {
  const fetched = await fetchJson(send, issuer.introspection_endpoint, {
    method: "POST",
    headers: {
      authorization: basicCredentials(issuer.client_id, issuer.client_secret),
      "content-type": "application/x-www-form-urlencoded",
    },
    body: new URLSearchParams({ token, token_type_hint: "access_token" }).toString(),
  });
  const answer = fetched.ok ? answerSchema.safeParse(fetched.value).data : undefined;
  if (answer === undefined) {
    logEvent("error", "introspection_failed", {
      issuer: issuer.issuer,
      error: fetched.ok ? "its answer is no introspection response" : fetched.detail,
    });
    return { kind: "unavailable" };
  }
  const { active, iss, aud, exp, nbf, token_type } = answer;
  if (!active) return { kind: "invalid", problem: "inactive" };
  if (iss !== undefined && iss !== issuer.issuer) return { kind: "invalid", problem: "issuer" };
  if (token_type !== undefined && !/^(?:bearer|access_token)$/i.test(token_type)) {
    return { kind: "invalid", problem: "sender_constrained" };
  }
  if (!isFor(aud, audiences)) return { kind: "invalid", problem: "audience" };
  const seconds = now / 1000;
  if (exp !== undefined && exp + CLOCK_SKEW_SECONDS <= seconds) {
    return { kind: "invalid", problem: "expired" };
  }
  if (nbf !== undefined && nbf - CLOCK_SKEW_SECONDS > seconds) {
    return { kind: "invalid", problem: "not_yet_valid" };
  }
  const granted = grantOf(issuer, answer);
  if (!granted.ok) return problemOf(granted.problem);
  const expiresAt = exp === undefined ? now + UNSAID_LIFE_MS : exp * 1000;
  return { kind: "accepted", grant: granted.grant, expiresAt };
}
