/**
 * @module
 * Whom a token is for. Pure.
 */

const SCHEME_AND_HOST = /^[a-z][a-z0-9+.-]*:\/\/[^/?#@]*(?=[/?#]|$)/i;

/**
 * Whether an `aud` holds one of some audiences. In URIs the case of scheme and
 * host means nothing (RFC 3986, section 6.2.2.1; MCP, Authorization, Canonical
 * Server URI); everything else is compared as text.
 */
export function isFor(aud: unknown, audiences: readonly string[]): boolean {
  const wanted = audiences.map(canonical);
  const named: unknown[] = Array.isArray(aud) ? aud : [aud];
  return named.some((each) => typeof each === "string" && wanted.includes(canonical(each)));
}

/**
 * The audiences of this server: the endpoint's URI, and its origin, with or
 * without the slash. Both are resources of their own metadata (RFC 9728, section
 * 3.3), and nothing else is served there.
 */
export function audiencesOf(resource: string): string[] {
  const { origin } = new URL(resource);
  return [resource, origin, `${origin}/`];
}

function canonical(text: string): string {
  return text.replace(SCHEME_AND_HOST, (start) => start.toLowerCase());
}
