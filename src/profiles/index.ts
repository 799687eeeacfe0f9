/**
 * @module
 * The export profiles by name.
 */
import { agentAuditTrail } from "./agent-audit-trail.ts";
import { ocsf } from "./ocsf.ts";
import { otel } from "./otel.ts";
import type { Profile } from "./profile.ts";

export const PROFILES: Readonly<Record<string, Profile>> = {
  ocsf,
  "agent-audit-trail": agentAuditTrail,
  otel,
};
