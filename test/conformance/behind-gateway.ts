/**
 * @module
 * An upstream behind a gateway of its own, at a URL that the suite can use:
 * every name as the upstream has it, and nothing that policy would refuse.
 */
import * as z from "zod";
import { Gateway } from "../e2e/support/gateway.ts";
import { Operator } from "../e2e/support/operator.ts";
import { startCredentialProxy } from "./credential-proxy.ts";
import type { Listening } from "./everything/listen.ts";

/** The suite asks faster than an agent may; limits have tests of their own. */
const UNLIMITED = { RATE_LIMIT_PER_MINUTE: "0", RATE_LIMIT_PRINCIPAL_PER_MINUTE: "0" };

const registration = z.object({ approved: z.boolean(), left_out: z.array(z.unknown()) });

/** Takes the upstream over: closing ends it too. */
export async function startBehindGateway(
  startUpstream: () => Promise<Listening>,
): Promise<Listening> {
  await using started = new AsyncDisposableStack();
  const upstream = started.adopt(await startUpstream(), ({ close }) => close());
  const gateway = started.adopt(
    await Gateway.start({ vars: { ...UNLIMITED, ALLOW_PRIVATE_UPSTREAMS: "true" } }),
    (each) => each.dispose(),
  );
  const operator = new Operator(gateway.url, gateway.keys.operator);
  const registered = await operator.ok("POST", "/upstreams?approve=all", {
    name: "everything",
    url: upstream.url,
    prefix: "",
    gate: "open",
    tenants: ["default"],
    roles: ["windsurf"],
    sampling: true,
    elicitation: true,
  });
  const { approved, left_out } = registration.parse(registered);
  // Anything missing here would fail scenarios one by one, and say nothing of why.
  if (!approved || left_out.length > 0) throw new Error(JSON.stringify(registered));
  const proxy = started.adopt(
    await startCredentialProxy(gateway.url, gateway.keys.windsurf),
    ({ close }) => close(),
  );
  const kept = started.move();
  return { url: proxy.url, close: () => kept.disposeAsync() };
}
