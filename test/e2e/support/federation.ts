/**
 * @module
 * A gateway that may use upstreams on this machine, and the registration of one.
 */
import { Gateway, type GatewayOptions } from "./gateway.ts";
import type { Operator } from "./operator.ts";
import type { Upstream } from "./upstream.ts";

const UNLIMITED = { RATE_LIMIT_PER_MINUTE: "0", RATE_LIMIT_PRINCIPAL_PER_MINUTE: "0" };

export function federatingGateway(options: GatewayOptions = {}): Promise<Gateway> {
  return Gateway.start({
    ...options,
    vars: { ...UNLIMITED, ALLOW_PRIVATE_UPSTREAMS: "true", ...options.vars },
  });
}

/** Registers an upstream behind an open gate, all that it offers approved, unless `fields` say otherwise. */
export function register(
  operator: Operator,
  upstream: Pick<Upstream, "url">,
  fields: { readonly name: string; readonly [field: string]: unknown },
  approve: "all" | "nothing" = "all",
): Promise<unknown> {
  return operator.ok("POST", `/upstreams${approve === "all" ? "?approve=all" : ""}`, {
    url: upstream.url,
    gate: "open",
    sampling: true,
    elicitation: true,
    ...fields,
  });
}
