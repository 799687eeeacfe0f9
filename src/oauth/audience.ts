/**
 * @module
 * Whom a token is for. Pure.
 */

const SCHEME_AND_HOST = /^[a-z][a-z0-9+.-]*:\/\/[^/?#@]*(?=[/?#]|$)/i;

/**
 * Whether an `aud` holds an audience. In URIs the case of scheme and host means
 * nothing (RFC 3986, section 6.2.2.1; MCP, Authorization, Canonical Server URI);
 * everything else is compared as text.
 */
export function isFor(aud: unknown, audience: string): boolean {
  const wanted = canonical(audience);
  const named: unknown[] = Array.isArray(aud) ? aud : [aud];
  return named.some((each) => typeof each === "string" && canonical(each) === wanted);
}

function canonical(text: string): string {
  return text.replace(SCHEME_AND_HOST, (start) => start.toLowerCase());
}
