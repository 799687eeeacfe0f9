/**
 * @module
 * From the claims of a token that is genuine to what the gateway makes of them:
 * who, in which role, of which tenant, with which scopes. Pure.
 */
import * as z from "zod";
import { tenantName } from "../edge/principal.ts";
import { MCP_ROLES, type McpRole } from "../policy/roles.ts";
import { knownScopes, type Scope } from "../policy/scopes.ts";
import type { TokenIssuer } from "./issuers.ts";

/** A subject is part of a principal, which is part of every record and of what session ids are made of. */
const MAX_SUBJECT_CHARS = 255;

/** Claims as a signature or an introspection vouches for them. */
export type Claims = Readonly<Record<string, unknown>>;

/** Who a token speaks for. */
export type TokenGrant = {
  /** `oauth:<issuer>|<sub>` */
  readonly principal: string;
  readonly tenant: string;
  readonly role: McpRole;
  readonly scopes: readonly Scope[];
};

export type GrantProblem =
  /** The token names nobody that could be a principal. */
  | "subject"
  /** It is bound to a key that this server does not ask for. */
  | "sender_constrained"
  | "role"
  | "tenant";

export type GrantResult =
  | { readonly ok: true; readonly grant: TokenGrant }
  | { readonly ok: false; readonly problem: GrantProblem };

/** Reads a grant from claims; the issuer's entry says which claims to read. */
export function grantOf(issuer: TokenIssuer, claims: Claims): GrantResult {
  // RFC 7800: whoever presents it must prove more than to have it, and nothing here asks for that.
  if (claims.cnf !== undefined) return { ok: false, problem: "sender_constrained" };
  const subject = subjectSchema.safeParse(claims.sub);
  if (!subject.success) return { ok: false, problem: "subject" };
  const role = roleOf(claimAt(claims, issuer.role_claim));
  if (role === null) return { ok: false, problem: "role" };
  const tenant = tenantOf(issuer, claims);
  if (tenant === null) return { ok: false, problem: "tenant" };
  return {
    ok: true,
    grant: {
      principal: `oauth:${issuer.issuer}|${subject.data}`,
      tenant,
      role,
      scopes: scopesOf(claims),
    },
  };
}

/** A line feed would let one principal pass for another where names are joined. */
const subjectSchema = z
  .string()
  .min(1)
  .max(MAX_SUBJECT_CHARS)
  .refine((text) => !/[\p{C}\p{Zl}\p{Zp}]/u.test(text) && text.isWellFormed());

/** A claim by its name, which may be a URL; else by a path whose steps are parted by dots. */
export function claimAt(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let found: unknown = claims;
  for (const step of name.split(".")) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, step))
      return undefined;
    found = Reflect.get(found, step);
  }
  return found;
}

/** The one MCP role that a claim names, alone or among others; two are none, for neither was chosen. */
function roleOf(claim: unknown): McpRole | null {
  const values: unknown[] = Array.isArray(claim) ? claim : [claim];
  const [role, ...others] = MCP_ROLES.filter((known) => values.includes(known));
  return role === undefined || others.length > 0 ? null : role;
}

function tenantOf({ tenant_claim }: TokenIssuer, claims: Claims): string | null {
  const claim = claimAt(claims, tenant_claim ?? "tenant");
  // Who says where the tenant is to be found does not want one made up.
  if (claim === undefined && tenant_claim === undefined) return "default";
  return tenantName.safeParse(claim).data ?? null;
}

/** `scope` is a text (RFC 9068, section 2.2.3), and some servers have `scp`, a text or a list. */
function scopesOf({ scope, scp }: Claims): Scope[] {
  const claim = scope ?? scp;
  if (typeof claim === "string") return knownScopes(claim);
  if (!Array.isArray(claim)) return [];
  return knownScopes(claim.filter((each) => typeof each === "string").join(" "));
}
