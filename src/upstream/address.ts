/**
 * @module
 * Where an upstream may be: public addresses only, unless the deployment says
 * otherwise, and the same at every redirect.
 *
 * Names are judged as they are written, and then by where they lead (`resolve.ts`).
 * `global_fetch_strictly_public` is not needed: it concerns the zone's own origin.
 */
import ipaddr from "ipaddr.js";
import { type Resolve, remembering, resolveName } from "./resolve.ts";

/** A request that was not made, because of where it would have gone. */
export class AddressRefused extends Error {
  override readonly name = "AddressRefused";
}

const MAX_REDIRECTS = 3;

/** The unicast space that is handed out; what lies outside is special, today or tomorrow. */
const GLOBAL_IPV6: [ipaddr.IPv6, number] = [ipaddr.IPv6.parse("2000::"), 3];

/** Addresses of the public space that answer only inside a cloud: Azure's wire server. */
const METADATA_ADDRESSES = new Set(["168.63.129.16"]);

/** Suffixes that no public name has (RFC 2606, RFC 6761, RFC 6762, RFC 8375, RFC 9476), and what local networks use. */
const LOCAL_SUFFIXES = [
  "localhost",
  "local",
  "internal",
  "svc",
  "home.arpa",
  "localdomain",
  "lan",
  "home",
  "corp",
  "intranet",
  "private",
  "test",
  "invalid",
  "onion",
  "alt",
];

/** Public names that answer with an instance's credentials inside a cloud. */
const METADATA_NAMES = new Set(["metadata.goog", "metadata.tencentyun.com"]);

/**
 * Why nothing may be sent to a URL, in a sentence for an operator; null when it
 * may. With `allowPrivate`, only what is no http(s) URL, or has credentials in
 * it, is refused.
 */
export function checkAddress(url: string | URL, allowPrivate: boolean): string | null {
  const parsed = typeof url === "string" ? (URL.canParse(url) ? new URL(url) : null) : url;
  if (parsed === null) return "It is not a URL.";
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:") {
    return "It must be an https URL.";
  }
  if (parsed.username !== "" || parsed.password !== "") return "It has credentials in it.";
  if (allowPrivate) return null;
  // The parser of URLs has made one spelling of all: decimal, octal, hexadecimal, full-width.
  const problem = checkHost(parsed.hostname.toLowerCase());
  if (problem !== null) return problem;
  return parsed.protocol === "https:" ? null : "It must be https.";
}

function checkHost(host: string): string | null {
  if (host.startsWith("[")) return checkIPv6(host.slice(1, -1));
  if (ipaddr.IPv4.isValidFourPartDecimal(host)) return checkIPv4(host);
  // A root dot makes the same name.
  const name = host.replace(/\.+$/, "");
  if (ipaddr.IPv4.isValid(name)) return checkIPv4(name);
  const labels = name.split(".");
  const isLocal =
    labels.length < 2 ||
    LOCAL_SUFFIXES.some((suffix) => name.endsWith(`.${suffix}`)) ||
    METADATA_NAMES.has(name);
  return isLocal ? `${shown(host)} is a name of a local network.` : null;
}

/** The isolate's own resolver. */
const ownResolver = remembering(resolveName);

/**
 * Why nothing may be sent to a URL whose name leads to a private address, like `checkAddress`,
 * which goes first: an address that is written as such, or may be private, is not looked up.
 */
export async function checkName(
  url: URL,
  allowPrivate: boolean,
  resolve: Resolve = ownResolver,
): Promise<string | null> {
  const name = url.hostname.toLowerCase().replace(/\.+$/, "");
  if (allowPrivate || name.startsWith("[") || ipaddr.IPv4.isValid(name)) return null;
  for (const address of await resolve(name)) {
    const problem = address.includes(":") ? checkIPv6(address) : checkIPv4(address);
    if (problem !== null) return `${shown(name)} leads to ${problem}`;
  }
  return null;
}

function checkIPv4(host: string): string | null {
  const address = ipaddr.IPv4.parse(host);
  const isPublic = address.range() === "unicast" && !METADATA_ADDRESSES.has(address.toString());
  return isPublic ? null : `${shown(host)} is not a public address.`;
}

/** Forms that carry an IPv4 address (mapped, translated, NAT64, 6to4, Teredo) are refused whatever they carry. */
function checkIPv6(host: string): string | null {
  const address = ipaddr.IPv6.isValid(host) ? ipaddr.IPv6.parse(host) : null;
  const isPublic = address?.range() === "unicast" && address.match(GLOBAL_IPV6);
  return isPublic === true ? null : `${shown(host)} is not a public address.`;
}

function shown(host: string): string {
  return host.length > 80 ? `${host.slice(0, 80)}…` : host;
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/**
 * A `fetch` that goes to public addresses alone and follows redirects by hand:
 * at most three, each checked, and never to another origin, where the
 * credentials in the request have no business.
 *
 * @param allowPrivate lets addresses through; redirects stay within one origin all the same
 * @param send what makes a request; the platform's `fetch` unless a test gives another
 * @param resolve what looks names up; the platform's resolver unless a test gives another
 * @throws AddressRefused before anything was sent, or instead of following
 */
export function guardedFetch(
  allowPrivate: boolean,
  send: Fetch = (url, init) => fetch(url, init),
  resolve: Resolve = ownResolver,
): Fetch {
  return async (url, init) => {
    let target = parse(url, undefined);
    let redirects = 0;
    for (;;) {
      const problem =
        checkAddress(target, allowPrivate) ?? (await checkName(target, allowPrivate, resolve));
      if (problem !== null) throw new AddressRefused(problem);
      const response = await send(target.href, { ...init, redirect: "manual" });
      const location = redirectOf(response);
      if (location === null) return response;
      await response.body?.cancel();
      const next = parse(location, target);
      redirects += 1;
      const refusal = refusedRedirect(response.status, init, target, next, redirects);
      if (refusal !== null) throw new AddressRefused(refusal);
      target = next;
    }
  };
}

function refusedRedirect(
  status: number,
  init: RequestInit,
  from: URL,
  to: URL,
  redirects: number,
): string | null {
  if (to.origin !== from.origin) {
    return `It redirects from ${shown(from.origin)} to ${shown(to.origin)}. Register it there.`;
  }
  if (redirects > MAX_REDIRECTS) return `It redirects more than ${MAX_REDIRECTS} times.`;
  const keepsMethod = status === 307 || status === 308;
  const method = (init.method ?? "GET").toUpperCase();
  // 301 to 303 turn a POST into a GET, and a message would be lost.
  if (!keepsMethod && method !== "GET" && method !== "HEAD") {
    return `It answers a ${method} with the redirect ${status}, which would change the method.`;
  }
  if (typeof init.body === "object" && init.body instanceof ReadableStream) {
    return "It redirects a body that can be sent only once.";
  }
  return null;
}

function redirectOf(response: Response): string | null {
  return [301, 302, 303, 307, 308].includes(response.status)
    ? response.headers.get("location")
    : null;
}

function parse(url: string, base: URL | undefined): URL {
  if (!URL.canParse(url, base)) throw new AddressRefused("It is not a URL.");
  return new URL(url, base);
}
