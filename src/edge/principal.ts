/**
 * @module
 * Who is calling, as every later step sees it.
 */
import * as z from "zod";
import { limitsSchema } from "../policy/limits.ts";
import { roleSchema } from "../policy/roles.ts";
import { scopeSchema } from "../policy/scopes.ts";

/** What the bootstrap credential is called where a principal is needed. */
export const BOOTSTRAP_PRINCIPAL = "admin:bootstrap";

/** Lists that are null, or not there, narrow nothing. */
export const principalSchema = z.object({
  /**
   * `key:<id of the first key of its rotation line>`, `oauth:<issuer>|<subject>`,
   * `cert:<id of the binding>`, or `admin:bootstrap`.
   */
  id: z.string(),
  tenant: z.string(),
  role: roleSchema,
  workspaces: z.array(z.string()).nullable(),
  upstreams: z.array(z.string()).nullable(),
  /** Globs of tool names. */
  tools: z.array(z.string()).exactOptional(),
  scopes: z.array(scopeSchema).exactOptional(),
  limits: limitsSchema.exactOptional(),
});

export type Principal = z.infer<typeof principalSchema>;

/**
 * The gateway itself, for what it does and finds without being asked. Its role
 * is an operator's, whose trade that is; no key or token ever stands for it.
 */
export const SYSTEM_PRINCIPAL: Principal = {
  id: "system:gateway",
  tenant: "default",
  role: "operator",
  workspaces: null,
  upstreams: null,
};

export const tenantName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, "must be 1 to 64 letters, digits, dots, dashes");
