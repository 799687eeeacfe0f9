/**
 * @module
 * The gateway without its guard, to measure what the guard costs: whoever was let in once with
 * an `Authorization` header is who they were, and nothing is looked at, limited or counted.
 */
import { createApp } from "../src/app.ts";
import { type Admitted, admit } from "../src/edge/admission.ts";
import type { SwitchSet } from "../src/policy/kill-switch.ts";

export {
  HubObject,
  ListenerObject,
  LogObject,
  MetricsObject,
  SessionObject,
  WitnessObject,
  WorkspaceObject,
} from "../src/index.ts";

const known = new Map<string, Admitted>();
const nothingStopped: SwitchSet = { version: 0, switches: [] };

const app = createApp({
  guard: () => null,
  admit: async (asking) => {
    const authorization = asking.request.headers.get("authorization") ?? "";
    const admitted = known.get(authorization) ?? (await admit(asking));
    known.set(authorization, admitted);
    return admitted;
  },
  stillAdmitted: async () => true,
  switches: async () => nothingStopped,
  freshSwitches: async () => nothingStopped,
  observe: () => undefined,
});

export default { fetch: app.fetch } satisfies ExportedHandler<Env>;
