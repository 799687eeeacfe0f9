/**
 * @module
 * The authorization servers that a deployment trusts: `MCP_TOKEN_ISSUERS`, a
 * JSON list. Pure.
 */
import * as z from "zod";

const MAX_ISSUERS = 16;

/** Issuers are compared as text (RFC 8414, section 2); what a URL parser would change is refused. */
const issuerUrl = z
  .string()
  .max(2_048)
  .refine((text) => {
    const url = URL.canParse(text) ? new URL(text) : null;
    return (
      url !== null &&
      /^https?:$/.test(url.protocol) &&
      url.search === "" &&
      url.hash === "" &&
      url.username === "" &&
      url.password === "" &&
      !/[?#|\s]/.test(text)
    );
  }, "must be an https URL without query and fragment");

const endpoint = z
  .string()
  .max(2_048)
  .refine((text) => {
    const url = URL.canParse(text) ? new URL(text) : null;
    return url !== null && /^https?:$/.test(url.protocol) && url.username === "" && url.hash === "";
  }, "must be an https URL");

const claimName = z.string().min(1).max(256);

const issuerSchema = z
  .strictObject({
    issuer: issuerUrl,
    /** Left out: found by discovery (RFC 8414, OpenID Connect Discovery). */
    jwks_uri: endpoint.exactOptional(),
    /** Whom its tokens must be for; left out, the canonical URI of `/mcp`. */
    audience: z.string().min(1).max(2_048).exactOptional(),
    /** The claim that names the role, or a dotted path to it. */
    role_claim: claimName.default("role"),
    /** The claim that names the tenant; left out, a `tenant` claim or, without one, `default`. */
    tenant_claim: claimName.exactOptional(),
    /** Values of `typ` that its JWTs may have; `none` stands for a header without one. */
    token_types: z.array(z.string().min(1).max(64)).min(1).max(8).default(["at+jwt"]),
    /** For tokens that are no JWTs (RFC 7662), with the credentials of this resource server. */
    introspection_endpoint: endpoint.exactOptional(),
    client_id: z.string().min(1).max(4_096).exactOptional(),
    client_secret: z.string().min(1).max(4_096).exactOptional(),
  })
  .refine(
    ({ introspection_endpoint, client_id, client_secret }) =>
      introspection_endpoint === undefined
        ? client_id === undefined && client_secret === undefined
        : client_id !== undefined && client_secret !== undefined,
    "introspection_endpoint, client_id and client_secret belong together",
  );

const issuersSchema = z
  .array(issuerSchema)
  .max(MAX_ISSUERS)
  .refine(
    (list) => new Set(list.map(({ issuer }) => issuer)).size === list.length,
    "must name each issuer once",
  );

export type TokenIssuer = z.infer<typeof issuerSchema>;

export type IssuersParse =
  | { readonly ok: true; readonly issuers: readonly TokenIssuer[] }
  | { readonly ok: false; readonly message: string };

/** Reads the list. The message says where it does not fit, and quotes nothing: there are secrets in it. */
export function parseIssuers(text: string): IssuersParse {
  const value = parseJson(text);
  if (value === undefined) return { ok: false, message: "must be a JSON list" };
  const parsed = issuersSchema.safeParse(value);
  if (parsed.success) return { ok: true, issuers: parsed.data };
  const issue = parsed.error.issues[0];
  const place = issue === undefined ? "" : issue.path.map(String).join(".");
  const keys = issue?.code === "unrecognized_keys" ? "has a field that is not known" : null;
  return { ok: false, message: `${place} ${keys ?? issue?.message ?? "does not fit"}`.trim() };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
