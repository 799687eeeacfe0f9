/**
 * @module
 * An upstream as the wire client reaches it: its address, its credentials, and
 * a `fetch` that goes nowhere else.
 */
import type { Config } from "../config.ts";
import { guardedFetch } from "./address.ts";
import { openAuth, type UpstreamAuth } from "./config.ts";
import { accessToken } from "./oauth.ts";
import { exchangedToken, type OnBehalfOf } from "./token-exchange.ts";
import type { UpstreamConfig, UpstreamEntry, WireTarget } from "./types.ts";

/** Longest body and longest SSE event of an upstream. An isolate has 128 MB for all that it does. */
export const MAX_UPSTREAM_BYTES = 8 * 1024 * 1024;

const FOR_ITSELF: OnBehalfOf = { kind: "gateway" };

/**
 * How an upstream is reached, with its credentials as they are stored: for the
 * gateway itself, unless a caller is named.
 *
 * @throws Error when the credentials were sealed under another `SECRETS_KEY`
 */
export function targetOf(
  config: Config,
  upstream: UpstreamConfig,
  sealedAuth: string,
  behalf: OnBehalfOf = FOR_ITSELF,
): WireTarget {
  const auth = openAuth(config.secretsKey, upstream.name, sealedAuth);
  return openTarget(config, upstream, auth, behalf);
}

/** The same for an upstream of the directory. */
export function targetOfEntry(
  config: Config,
  { config: upstream, auth }: UpstreamEntry,
  behalf: OnBehalfOf = FOR_ITSELF,
): WireTarget {
  return targetOf(config, upstream, auth, behalf);
}

/** The same with credentials that are at hand. */
export function openTarget(
  config: Config,
  upstream: UpstreamConfig,
  auth: UpstreamAuth,
  behalf: OnBehalfOf = FOR_ITSELF,
): WireTarget {
  const send = guardedFetch(config.allowPrivateUpstreams);
  return {
    name: upstream.name,
    url: upstream.url,
    authorize: authorization(upstream, auth, send, behalf),
    fetch: send,
    maxBytes: MAX_UPSTREAM_BYTES,
  };
}

function authorization(
  { name, url }: UpstreamConfig,
  auth: UpstreamAuth,
  send: WireTarget["fetch"],
  behalf: OnBehalfOf,
): WireTarget["authorize"] {
  switch (auth.kind) {
    case "none":
      return async () => ({});
    case "bearer":
      return async () => ({ authorization: `Bearer ${auth.token}` });
    case "header":
      return async () => ({ [auth.name.toLowerCase()]: auth.value });
    case "oauth_client_credentials": {
      const credentials = auth.resource === undefined ? { ...auth, resource: url } : auth;
      return bearing((rejected) => accessToken(name, credentials, send, rejected));
    }
    case "token_exchange": {
      const exchange = auth.resource === undefined ? { ...auth, resource: url } : auth;
      // What an upstream offers is read in the gateway's own name, as the same client; a call never is.
      if (behalf.kind === "gateway") {
        const { audience: _, ...client } = exchange;
        const own = { ...client, kind: "oauth_client_credentials" } as const;
        return bearing((rejected) => accessToken(name, own, send, rejected));
      }
      return bearing((rejected) => exchangedToken(name, exchange, behalf, send, rejected));
    }
  }
}

/** Bearer tokens from a source; only the one that was refused is thrown away, for another request may have renewed it already. */
function bearing(token: (rejected: string | null) => Promise<string>): WireTarget["authorize"] {
  let last: string | null = null;
  return async (again) => {
    last = await token(again ? last : null);
    return { authorization: `Bearer ${last}` };
  };
}
