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
import { authenticate, type Caller, credentialOf, wasGood } from "./authenticate.ts";
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
    const again = await identify(asking, Date.now(), STREAM_CACHE_MS);
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
  maxAgeMs?: number,
): Promise<Caller> {
  const { request, env, waitUntil } = asking;
  const address = clientAddress(request.headers);
  if (isHeldOff(address, now) && !wasGood(credential)) throw heldOff();
  const caller = await failuresCounted(asking, address, now, () =>
    authenticate(credential, env.ARCHIVE_DB, now, waitUntil, {
      ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
      beforeLookup: () => admitUnknown(env, address, now),
    }),
  );
  requireAddress(caller.allowedIps, request.headers);
  return caller;
}

async function identify(asking: Asking, now: number, maxAgeMs?: number): Promise<Admitted> {
  const { request, env, config, waitUntil } = asking;
  const { headers } = request;
  requireAddress(config.allowedIps, headers);
  const certificate = certificateOf(request);
  if (certificate === null) {
    if (config.requireClientCert)
      throw certificateRequired("This gateway takes no connection without a client certificate.");
    return withCredential(asking, credentialOf(headers), now, maxAgeMs);
  }
  const bound = await boundTo(certificate, env.ARCHIVE_DB, now, waitUntil, maxAgeMs);
  if (bound === null && config.requireClientCert) {
    throw certificateRequired("This client certificate is bound to nobody. Ask an operator.");
  }
  if (bound !== null) requireAddress(bound.allowedIps, headers);
  if (bound !== null && !headers.has("authorization") && !headers.has("x-api-key")) {
    return { principal: bound.principal, accessToken: null };
  }
  const admitted = await withCredential(asking, credentialOf(headers), now, maxAgeMs);
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
  maxAgeMs?: number,
): Promise<Admitted> {
  const { request, env, config } = asking;
  const mayBeToken = config.tokenIssuers.length > 0 && request.headers.has("authorization");
  // A key that was cut short is a key still, and no issuer's business.
  if (!mayBeToken || credential.startsWith(KEY_PREFIX)) {
    const { principal } = await admitKey(asking, credential, now, maxAgeMs);
    return { principal, accessToken: null };
  }
  const address = clientAddress(request.headers);
  const resource = canonicalResource(config, request);
  if (isHeldOff(address, now) && !wasGoodToken(credential, resource)) throw heldOff();
  const principal = await failuresCounted(asking, address, now, () =>
    authenticateToken(credential, resource, config, now, {
      ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
      beforeLookup: () => admitUnknown(env, address, now),
    }),
  );
  return { principal, accessToken: credential };
}

/** Counts a credential that is not accepted, beside the answer. */
async function failuresCounted<T>(
  { env, waitUntil }: Asking,
  address: string,
  now: number,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HttpRefusal && error.status === 401) {
      waitUntil(noteFailure(env, address, now));
    }
    throw error;
  }
}

function isSame({ principal: a }: Bound, { principal: b }: Admitted): boolean {
  return a.id === b.id && a.tenant === b.tenant && a.role === b.role;
}

function certificateRequired(message: string): HttpRefusal {
  return new HttpRefusal(403, "CLIENT_CERT_REQUIRED", message);
}
