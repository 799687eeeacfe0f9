/**
 * @module
 * The first step of every request: an id, the configuration, Host, HTTPS,
 * Origin, and the headers that every response carries. Nothing here does I/O.
 */
import { type Config, LOOPBACK } from "../config.ts";
import { HttpRefusal } from "./refusal.ts";

const CREDENTIAL_HEADERS = ["authorization", "x-api-key"] as const;

/** What a cross-origin page of `ALLOWED_ORIGINS` may send and read, besides the headers that mirror arguments. */
const CORS_REQUEST_HEADERS =
  "authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, x-api-key";
const CORS_RESPONSE_HEADERS = "mcp-session-id, retry-after, www-authenticate, x-request-id";
const CORS_MAX_AGE_SECONDS = 600;
/** An argument in a header (2026-07-28, Transports): its name is the tool's to choose, a token of RFC 9110. */
const MIRRORED_ARGUMENT = /^mcp-param-[!#$%&'*+.^_`|~0-9a-z-]+$/;

/**
 * Checks Host, scheme and Origin, against DNS rebinding and cross-site
 * requests. Returns a redirect or a preflight answer where that is the whole
 * response. Throws `HttpRefusal`: 421, 403.
 */
export function guardRequest(request: Request, config: Config): Response | null {
  if (accepted?.url !== request.url || accepted.config !== config) {
    const url = new URL(request.url);
    checkHost(url, config);
    const insecure = checkScheme(request, url);
    if (insecure !== null) return insecure;
    accepted = { url: request.url, config };
  }
  return checkOrigin(request, config);
}

/** The last URL whose host and scheme passed: most requests are for one, and a URL is dear to parse. */
let accepted: { readonly url: string; readonly config: Config } | null = null;

function checkHost(url: URL, { publicUrl }: Config): void {
  const fits = publicUrl === null ? LOOPBACK.test(url.hostname) : url.host === publicUrl.host;
  if (fits) return;
  throw new HttpRefusal(421, "MISDIRECTED", "This gateway does not answer for the requested host.");
}

function checkScheme(request: Request, url: URL): Response | null {
  if (url.protocol === "https:" || LOOPBACK.test(url.hostname)) return null;
  if (CREDENTIAL_HEADERS.some((name) => request.headers.has(name))) {
    throw new HttpRefusal(
      403,
      "FORBIDDEN",
      "This credential was sent without TLS and has leaked. Revoke it, and use https.",
    );
  }
  url.protocol = "https:";
  return new Response(null, { status: 308, headers: { location: url.href } });
}

function checkOrigin(request: Request, config: Config): Response | null {
  const origin = request.headers.get("origin");
  if (origin === null || origin === (config.publicUrl ?? new URL(request.url)).origin) return null;
  if (!config.allowedOrigins.includes(origin)) {
    throw new HttpRefusal(403, "ORIGIN_FORBIDDEN", "This origin may not call the gateway.");
  }
  const preflight =
    request.method === "OPTIONS" && request.headers.has("access-control-request-method");
  if (!preflight) return null;
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": "GET, POST, PATCH, DELETE",
      "access-control-allow-headers": [CORS_REQUEST_HEADERS, ...mirroredArguments(request)].join(
        ", ",
      ),
      "access-control-max-age": String(CORS_MAX_AGE_SECONDS),
    },
  });
}

/** Those of the headers that a page asks for which mirror arguments. */
function mirroredArguments({ headers }: Request): string[] {
  const asked = headers.get("access-control-request-headers")?.toLowerCase().split(",") ?? [];
  return asked.map((name) => name.trim()).filter((name) => MIRRORED_ARGUMENT.test(name));
}

/** Adds what every response carries, in place. CORS headers only for an allowed origin. */
export function finishResponse(
  { headers }: Response,
  request: Request,
  config: Config | null,
  requestId: string,
): void {
  headers.set("x-request-id", requestId);
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
  if (config?.publicUrl?.protocol === "https:") {
    headers.set("strict-transport-security", "max-age=63072000; includeSubDomains");
  }
  if (config === null || config.allowedOrigins.length === 0) return;
  // Also where no origin came: what a cache keeps of that is not for a page that has one.
  headers.append("vary", "origin");
  const origin = request.headers.get("origin");
  if (origin !== null && config.allowedOrigins.includes(origin)) {
    headers.set("access-control-allow-origin", origin);
    headers.set("access-control-expose-headers", CORS_RESPONSE_HEADERS);
  }
}
