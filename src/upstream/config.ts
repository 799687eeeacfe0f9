/**
 * @module
 * How an upstream is registered: the body of an operator's call, its defaults,
 * and its credentials, which are sealed where they are stored and never shown.
 */
import * as z from "zod";
import { holdsCredential, namesCredential } from "../audit/credentials.ts";
import { REDACTED } from "../audit/redact.ts";
import { openText, sealText } from "../crypto/aead.ts";
import { tenantName } from "../edge/principal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { MCP_ROLES } from "../policy/roles.ts";
import type { UpstreamConfig } from "./types.ts";

/** Time that one request of an upstream may be silent, in ms. */
export const MIN_TIMEOUT_MS = 100;
export const MAX_TIMEOUT_MS = 600_000;
const DEFAULT_TIMEOUT_MS = 60_000;
const MAX_URL_CHARS = 2_048;
/** A header of an upstream's; most servers take 8 KiB for all of them. */
const MAX_SECRET_CHARS = 4_096;
const MAX_PREFIXES = 64;
const MAX_TENANTS = 256;

export const upstreamName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,62}$/,
    "must be 1 to 63 lowercase letters, digits, underscores, dashes",
  );

/** Headers that a request to an upstream has already, or that would change what it means. */
const RESERVED_HEADERS = new Set([
  "accept",
  "accept-encoding",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "date",
  "expect",
  "forwarded",
  "host",
  "http2-settings",
  "keep-alive",
  "last-event-id",
  "origin",
  "te",
  "trailer",
  "traceparent",
  "tracestate",
  "transfer-encoding",
  "upgrade",
  "via",
]);
const RESERVED_PREFIXES = ["mcp-", "sec-", "cf-", "proxy-", "x-forwarded-"];

/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;
/** RFC 9110, section 5.5, without what is obsolete. */
const FIELD_VALUE = /^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/;

const headerName = z
  .string()
  .regex(TOKEN, "must be the name of a header")
  .refine(
    (name) =>
      !RESERVED_HEADERS.has(name.toLowerCase()) &&
      !RESERVED_PREFIXES.some((prefix) => name.toLowerCase().startsWith(prefix)),
    "must be a header that the protocol leaves free",
  );

const secretText = z
  .string()
  .min(1)
  .max(MAX_SECRET_CHARS)
  .regex(FIELD_VALUE, "must be visible ASCII characters");

/** A URL as the parser writes it; where it may lead is checked with the deployment's settings at hand. */
const httpUrl = z
  .string()
  .max(MAX_URL_CHARS)
  .transform((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : null;
    const problem = url === null ? "must be an https URL" : urlProblem(url, text);
    if (url !== null && problem === null) return url.href;
    context.addIssue({ code: "custom", message: problem ?? "must be an https URL" });
    return z.NEVER;
  });

/** A URL is shown and logged, so that it must not hold what belongs into `auth`. */
function urlProblem(url: URL, text: string): string | null {
  if (!/^https?:$/.test(url.protocol)) return "must be an https URL";
  if (text.includes("#")) return "must have no fragment";
  if (url.username !== "" || url.password !== "") return "must have no credentials in it: use auth";
  const holdsOne = [...url.searchParams].some(
    ([key, value]) => namesCredential(key) || holdsCredential(value),
  );
  return holdsOne || holdsCredential(url.pathname)
    ? "must have no credentials in it: use auth"
    : null;
}

/** What both grants at a token endpoint have in common. */
const tokenClient = {
  token_url: httpUrl,
  client_id: z.string().min(1).max(MAX_SECRET_CHARS),
  client_secret: z.string().min(1).max(MAX_SECRET_CHARS),
  /** Space-separated (RFC 6749, section 3.3). */
  scope: z.string().min(1).max(MAX_SECRET_CHARS).exactOptional(),
  /** Of RFC 8707; the upstream's own URL when left out, none when null. */
  resource: z
    .string()
    .max(MAX_URL_CHARS)
    .regex(/^[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+$/, "must be an absolute URI without a fragment")
    .nullable()
    .exactOptional(),
  /** How the client authenticates: by HTTP Basic, or in the body. */
  auth_method: z.enum(["basic", "post"]).default("basic"),
};

const clientCredentials = z.strictObject({
  kind: z.literal("oauth_client_credentials"),
  ...tokenClient,
});

const tokenExchange = z.strictObject({
  kind: z.literal("token_exchange"),
  ...tokenClient,
  /** The upstream's name at the token endpoint (RFC 8693, section 2.1), beside or instead of `resource`. */
  audience: z.string().min(1).max(MAX_SECRET_CHARS).exactOptional(),
});

const auth = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({ kind: z.literal("none") }),
    z.strictObject({
      kind: z.literal("bearer"),
      token: secretText.regex(/^\S+$/, "must have no spaces"),
    }),
    z.strictObject({ kind: z.literal("header"), name: headerName, value: secretText }),
    clientCredentials,
    tokenExchange,
  ],
  {
    error:
      "must be none, bearer, header, oauth_client_credentials or token_exchange, with its fields",
  },
);

/** An upstream's credentials, as registered. */
export type UpstreamAuth = z.output<typeof auth>;
export type TokenExchange = z.output<typeof tokenExchange>;
export type ClientCredentials = z.output<typeof clientCredentials>;

const unique = (list: readonly string[]) => new Set(list).size === list.length;

const fields = {
  url: httpUrl,
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9_-]{0,32}$/, "must be up to 32 letters, digits, underscores, dashes"),
  gate: z.enum(["plan", "read_only", "open"]),
  auth,
  tenants: z.array(tenantName).min(1).max(MAX_TENANTS).refine(unique, "must be there once each"),
  roles: z.array(z.enum(MCP_ROLES)).min(1).refine(unique, "must be there once each"),
  timeout_ms: z.int().min(MIN_TIMEOUT_MS).max(MAX_TIMEOUT_MS),
  session_param: z.boolean(),
  sampling: z.boolean(),
  elicitation: z.boolean(),
  resource_prefixes: z
    .array(
      z
        .string()
        .min(1)
        .max(1_024)
        .regex(/^[^\p{C}\s]+$/u, "must be the beginning of a URI"),
    )
    .max(MAX_PREFIXES)
    .refine(unique, "must be there once each"),
};

/**
 * The body of a registration. `session_param` is on unless it is turned off: with the gate `plan`,
 * also the default, a client of the 2026 era has no other way to name the session of its plan.
 * A name of more than 32 characters needs a prefix of its own.
 */
export const registrationBody = z.strictObject({
  name: upstreamName,
  url: fields.url,
  prefix: fields.prefix.optional(),
  gate: fields.gate.default("plan"),
  auth: fields.auth.default({ kind: "none" }),
  tenants: fields.tenants.default(["default"]),
  roles: fields.roles.default(["windsurf"]),
  timeout_ms: fields.timeout_ms.default(DEFAULT_TIMEOUT_MS),
  session_param: fields.session_param.default(true),
  sampling: fields.sampling.default(false),
  elicitation: fields.elicitation.default(false),
  resource_prefixes: fields.resource_prefixes.default([]),
});

/** The body of a change: any of the same fields but the name; what is left out stays. */
export const changeBody = z.strictObject({
  url: fields.url.exactOptional(),
  prefix: fields.prefix.exactOptional(),
  gate: fields.gate.exactOptional(),
  auth: fields.auth.exactOptional(),
  tenants: fields.tenants.exactOptional(),
  roles: fields.roles.exactOptional(),
  timeout_ms: fields.timeout_ms.exactOptional(),
  session_param: fields.session_param.exactOptional(),
  sampling: fields.sampling.exactOptional(),
  elicitation: fields.elicitation.exactOptional(),
  resource_prefixes: fields.resource_prefixes.exactOptional(),
});

export type Registration = { readonly config: UpstreamConfig; readonly auth: UpstreamAuth };

/** A registration with its defaults; a long name without a prefix of its own is refused. */
export function registrationOf(body: z.output<typeof registrationBody>): Decision<Registration> {
  const { auth: given, prefix, ...rest } = body;
  const config = { ...rest, prefix: prefix ?? body.name };
  if (!fields.prefix.safeParse(config.prefix).success) {
    return refuse(
      "INVALID_ARGUMENT",
      "prefix: must be given where the name is over 32 characters.",
    );
  }
  return allow({ config, auth: given });
}

/** A registration with a change made to it. */
export function changed(before: Registration, body: z.output<typeof changeBody>): Registration {
  const { auth: given, ...rest } = body;
  return {
    config: { ...before.config, ...rest },
    auth: given === undefined ? before.auth : given,
  };
}

const storedConfig = z.object({
  ...fields,
  name: z.string(),
  url: z.string(),
  auth: z.undefined().optional(),
});

/** A stored registration, from its JSON text. */
export function parseConfig(text: string): UpstreamConfig {
  const { auth: _, ...config } = storedConfig.parse(JSON.parse(text));
  return config;
}

const PURPOSE = "upstream-auth";

/** Credentials as they are stored: sealed, with the upstream's name, so that none can be given another's. */
export function sealAuth(secretsKey: Uint8Array, name: string, value: UpstreamAuth): string {
  return sealText(secretsKey, PURPOSE, JSON.stringify(value), name);
}

/** @throws Error when they were sealed under another key or for another upstream */
export function openAuth(secretsKey: Uint8Array, name: string, sealed: string): UpstreamAuth {
  return auth.parse(JSON.parse(openText(secretsKey, PURPOSE, sealed, name)));
}

/** Credentials as answers show them: their kind, and what of them is no secret. */
export function shownAuth(value: UpstreamAuth): JsonObject {
  switch (value.kind) {
    case "none":
    case "bearer":
      return { kind: value.kind };
    case "header":
      return { kind: value.kind, name: value.name };
    case "oauth_client_credentials":
    case "token_exchange": {
      const { client_secret: _, ...shown } = value;
      return shown;
    }
  }
}

/** Members of `auth` that are no secret; all else is taken out of a record, whatever it is. */
const SHOWN_MEMBERS = new Set([
  "kind",
  "name",
  "token_url",
  "client_id",
  "scope",
  "resource",
  "audience",
  "auth_method",
]);

/** A body as sent, for the record: without secrets, whatever `AUDIT_ARGS` says. */
export function withoutSecrets(sent: JsonObject): JsonObject {
  const { auth: given } = sent;
  if (given === undefined) return sent;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return { ...sent, auth: REDACTED };
  }
  const shown = Object.entries(given).map(([key, value]) => [
    key,
    SHOWN_MEMBERS.has(key) ? value : REDACTED,
  ]);
  return { ...sent, auth: Object.fromEntries(shown) };
}
