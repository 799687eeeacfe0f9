/**
 * @module
 * An upstream as the wire client reaches it: its address, its credentials, and
 * a `fetch` that goes nowhere else.
 */
import type { Config } from "../config.ts";
import { guardedFetch } from "./address.ts";
import { openAuth, type UpstreamAuth } from "./config.ts";
import { accessToken } from "./oauth.ts";
import type { UpstreamConfig, UpstreamEntry, WireTarget } from "./types.ts";

/** Longest body and longest SSE event of an upstream. An isolate has 128 MB for all that it does. */
export const MAX_UPSTREAM_BYTES = 8 * 1024 * 1024;

/**
 * How an upstream is reached, with its credentials as they are stored.
 *
 * @throws Error when the credentials were sealed under another `SECRETS_KEY`
 */
export function targetOf(config: Config, upstream: UpstreamConfig, sealedAuth: string): WireTarget {
  return openTarget(config, upstream, openAuth(config.secretsKey, upstream.name, sealedAuth));
}

/** The same for an upstream of the directory. */
export function targetOfEntry(
  config: Config,
  { config: upstream, auth }: UpstreamEntry,
): WireTarget {
  return targetOf(config, upstream, auth);
}

/** The same with credentials that are at hand. */
export function openTarget(
  config: Config,
  upstream: UpstreamConfig,
  auth: UpstreamAuth,
): WireTarget {
  const send = guardedFetch(config.allowPrivateUpstreams);
  return {
    name: upstream.name,
    url: upstream.url,
    authorize: authorization(upstream, auth, send),
    fetch: send,
    maxBytes: MAX_UPSTREAM_BYTES,
  };
}

function authorization(
  { name, url }: UpstreamConfig,
  auth: UpstreamAuth,
  send: WireTarget["fetch"],
): WireTarget["authorize"] {
  switch (auth.kind) {
    case "none":
      return async () => ({});
    case "bearer":
      return async () => ({ authorization: `Bearer ${auth.token}` });
    case "header":
      return async () => ({ [auth.name.toLowerCase()]: auth.value });
    case "oauth_client_credentials": {
      let last: string | null = null;
      const credentials = auth.resource === undefined ? { ...auth, resource: url } : auth;
      return async (again) => {
        // Only the token that was refused is thrown away: another request may have renewed it already.
        last = await accessToken(name, credentials, send, again ? last : null);
        return { authorization: `Bearer ${last}` };
      };
    }
  }
}
