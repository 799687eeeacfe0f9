/**
 * @module
 * The gateway itself as a principal: what its scheduled checks find is recorded
 * on the ambient session of this one.
 */
import type { Principal } from "../edge/principal.ts";

/** Its role is an operator's, whose trade the checks are; no key or token ever stands for it. */
export const SYSTEM_PRINCIPAL: Principal = {
  id: "system:checks",
  tenant: "default",
  role: "operator",
  workspaces: null,
  upstreams: null,
};
