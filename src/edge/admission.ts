/**
 * @module
 * Who gets in: the one order in which address, certificate, credential and
 * limits are looked at. A key that is cached and narrowed by nothing passes
 * without waiting for anything.
 */
import type { Config } from "../config.ts";
import { clientAddress, requireAddress } from "./address.ts";
import { admitUnknown, heldOff, isHeldOff, noteFailure } from "./address-limit.ts";
import { KEY_PREFIX } from "./api-key.ts";
import { authenticate, type Caller, credentialOf, type Looking, wasGood } from "./authenticate.ts";
import { type Bound, boundTo, certificateOf } from "./client-certificate.ts";
import type { Principal } from "./principal.ts";
import { admitPrincipal } from "./principal-limit.ts";
import { canonicalResource } from "./protected-resource.ts";
import { HttpRefusal } from "./refusal.ts";
import { authenticateToken, wasGoodToken } from "./token-caller.ts";

/** A request at the door. */
export type Asking = {
  readonly request: Request;
  readonly env: Env;
  readonly config: Config;
  readonly waitUntil: (work: Promise<unknown>) => void;
};

/** One that was let in. */
export type Admitted = {
  readonly principal: Principal;
  /** The access token that it came with, if it did. */
  readonly accessToken: string | null;
};

/** How old what is known of a credential may be when an open stream asks again, in ms. */
const STREAM_CACHE_MS = 20_000;

/** Lets a request to `/mcp` in. Throws `HttpRefusal`: 401, 403, 429, 503. */
export async function admit(asking: Asking): Promise<Admitted> {
  const now = Date.now();
  const admitted = await identify(asking, now);
  admitPrincipal(admitted.principal, { ...asking, now });
  return admitted;
}

/**
 * Whether a request that was let in still would be, as the same principal with
 * the same rights. True while that cannot be looked up: an outage of the archive
 * ends no stream.
 */
export async function stillAdmitted(asking: Asking, principal: Principal): Promise<boolean> {
  try {
    const again = await identify(asking, Date.now(), true);
    return JSON.stringify(again.principal) === JSON.stringify(principal);
  } catch (error) {
    return !(error instanceof HttpRefusal && (error.status === 401 || error.status === 403));
  }
}

/** The caller behind an API key, from where it may be used. For every route that takes keys. */
export async function admitKey(
  asking: Asking,
  credential: string,
  now: number,
  isAgain = false,
): Promise<Caller> {
  const { request, env, waitUntil } = asking;
  const looking = lookingFor(asking, now, isAgain, () => wasGood(credential));
  const caller = await authenticate(credential, env.ARCHIVE_DB, now, waitUntil, looking);
  requireAddress(caller.allowedIps, request.headers);
  return caller;
}

async function identify(asking: Asking, now: number, isAgain = false): Promise<Admitted> {
  const { request, env, config, waitUntil } = asking;
  const { headers } = request;
  requireAddress(config.allowedIps, headers);
  const certificate = certificateOf(request);
  if (certificate === null) {
    if (config.requireClientCert)
      throw certificateRequired("This gateway takes no connection without a client certificate.");
    return withCredential(asking, credentialOf(headers), now, isAgain);
  }
  const maxAgeMs = isAgain ? STREAM_CACHE_MS : undefined;
  const bound = await boundTo(certificate, env.ARCHIVE_DB, now, waitUntil, maxAgeMs);
  if (bound === null && config.requireClientCert) {
    throw certificateRequired("This client certificate is bound to nobody. Ask an operator.");
  }
  if (bound !== null) requireAddress(bound.allowedIps, headers);
  if (bound !== null && !headers.has("authorization") && !headers.has("x-api-key")) {
    return { principal: bound.principal, accessToken: null };
  }
  const admitted = await withCredential(asking, credentialOf(headers), now, isAgain);
  if (bound !== null && !isSame(bound, admitted)) {
    throw new HttpRefusal(
      403,
      "FORBIDDEN",
      "The client certificate and the credential belong to two different principals.",
    );
  }
  return admitted;
}

async function withCredential(
  asking: Asking,
  credential: string,
  now: number,
  isAgain: boolean,
): Promise<Admitted> {
  const { request, config } = asking;
  const mayBeToken = config.tokenIssuers.length > 0 && request.headers.has("authorization");
  // A key that was cut short is a key still, and no issuer's business.
  if (!mayBeToken || credential.startsWith(KEY_PREFIX)) {
    const { principal } = await admitKey(asking, credential, now, isAgain);
    return { principal, accessToken: null };
  }
  const resource = canonicalResource(config, request);
  const looking = lookingFor(asking, now, isAgain, () => wasGoodToken(credential, resource));
  const principal = await authenticateToken(credential, resource, config, now, looking);
  return { principal, accessToken: credential };
}

/**
 * How a credential is looked up. A newcomer's address is counted, and held off
 * after too many failures; that of an open stream is not, for what others do
 * there must not keep a revocation from being noticed. Throws `HttpRefusal` 429.
 */
function lookingFor(
  { request, env, waitUntil }: Asking,
  now: number,
  isAgain: boolean,
  wasGoodHere: () => boolean,
): Looking {
  if (isAgain) return { maxAgeMs: STREAM_CACHE_MS };
  const address = clientAddress(request.headers);
  if (isHeldOff(address, now) && !wasGoodHere()) throw heldOff();
  return {
    beforeLookup: () => admitUnknown(env, address, now),
    onRefused: () => waitUntil(noteFailure(env, address, now)),
  };
}

function isSame({ principal: a }: Bound, { principal: b }: Admitted): boolean {
  return a.id === b.id && a.tenant === b.tenant && a.role === b.role;
}

function certificateRequired(message: string): HttpRefusal {
  return new HttpRefusal(403, "CLIENT_CERT_REQUIRED", message);
}
