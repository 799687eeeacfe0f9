/**
 * @module
 * The gateway as an OAuth 2.1 protected resource: its metadata (RFC 9728), and
 * what a refusal tells a client about how to get a token (RFC 6750; MCP,
 * Authorization).
 */
import type { Config } from "../config.ts";
import { SCOPES, type Scope } from "../policy/scopes.ts";
import type { HttpRefusal } from "./refusal.ts";

const METADATA_PATH = "/.well-known/oauth-protected-resource";

/** A client begins with the least, and asks for more when it is told to. */
const FIRST_SCOPE: Scope = "mcp:read";

/** The canonical URI of this server (RFC 8707), which tokens must be for. */
export function canonicalResource(config: Config, request: Request): string {
  return `${baseOf(config, request)}/mcp`;
}

/**
 * The metadata document of a path of this server, or null while no issuer is
 * configured. It names the resource that its own place was made from (RFC 9728,
 * section 3.3): tokens for either are taken.
 */
export function resourceMetadata(
  config: Config,
  request: Request,
  path: "" | "/mcp",
): Response | null {
  if (config.tokenIssuers.length === 0) return null;
  return Response.json(
    {
      resource: `${baseOf(config, request)}${path}`,
      authorization_servers: config.tokenIssuers.map(({ issuer }) => issuer),
      scopes_supported: SCOPES,
      bearer_methods_supported: ["header"],
      resource_name: "Atlas Gate",
    },
    // No CORS of its own: a page that may not call `/mcp` has no use for it, and one that may is let read all.
    { headers: { "cache-control": "public, max-age=300" } },
  );
}

/**
 * The `WWW-Authenticate` of a refusal on `/mcp`: for 401 where metadata is to be
 * found, and whether the token was at fault; null for what challenges nobody.
 */
export function challengeOf(refusal: HttpRefusal, config: Config, request: Request): string | null {
  const isConfigured = config.tokenIssuers.length > 0;
  if (refusal.status === 401) {
    const failed = request.headers.has("authorization") || request.headers.has("x-api-key");
    return challenge([
      ...(failed && isConfigured ? [["error", "invalid_token"] as const] : []),
      ...(isConfigured ? [["scope", FIRST_SCOPE] as const] : []),
      ...metadata(config, request),
    ]);
  }
  const needed = refusal.data.scope;
  if (refusal.status !== 403 || typeof needed !== "string") return null;
  return challenge([
    ["error", "insufficient_scope"],
    ["scope", needed],
    ...metadata(config, request),
  ]);
}

function metadata(config: Config, request: Request): (readonly [string, string])[] {
  if (config.tokenIssuers.length === 0) return [];
  return [["resource_metadata", `${baseOf(config, request)}${METADATA_PATH}/mcp`]];
}

function challenge(params: readonly (readonly [string, string])[]): string {
  const text = params.map(([name, value]) => `${name}="${value}"`).join(", ");
  return text === "" ? "Bearer" : `Bearer ${text}`;
}

/** The guard has let no other Host in than the deployment's, or one of this machine. */
function baseOf({ publicUrl }: Config, request: Request): string {
  return (publicUrl ?? new URL(request.url)).origin;
}
