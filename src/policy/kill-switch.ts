/**
 * @module
 * Kill switches: what an operator has stopped, and whether that concerns a
 * call. Pure: the same function decides at the edge and in a session's object.
 */
import * as z from "zod";
import type { Refusal } from "./errors.ts";
import { MCP_ROLES } from "./roles.ts";

/** Characters of a tool's or an upstream's name in a scope. */
const MAX_NAME = 256;

const name = z.string().min(1).max(MAX_NAME);

/** What a switch stops: all that has every one of these. An empty scope has everything. */
export const killScopeSchema = z.strictObject({
  tenant: name.exactOptional(),
  role: z.enum(MCP_ROLES).exactOptional(),
  session_id: name.exactOptional(),
  /** As clients call it. */
  tool: name.exactOptional(),
  /** Every method of it: tools, prompts, resources, completion, subscriptions. */
  upstream: name.exactOptional(),
});

export type KillScope = z.infer<typeof killScopeSchema>;

export const killSwitchSchema = z.object({ id: z.string(), scope: killScopeSchema });
export type KillSwitch = z.infer<typeof killSwitchSchema>;

/** The switches that stand, as of a version; versions grow with every switch engaged or lifted. */
export const switchSetSchema = z.object({
  version: z.number(),
  switches: z.array(killSwitchSchema).readonly(),
});
export type SwitchSet = Readonly<z.infer<typeof switchSetSchema>>;

/** Before any switch was ever engaged. */
export const NO_SWITCHES: SwitchSet = { version: 0, switches: [] };

/** What is about to happen; null where it has none of that. */
export type KillSubject = {
  readonly tenant: string;
  readonly role: string;
  readonly session_id: string | null;
  readonly tool: string | null;
  readonly upstream: string | null;
};

const PARTS = ["tenant", "role", "session_id", "tool", "upstream"] as const;

/** The switch that stops a subject; null while none does. */
export function stoppedBy({ switches }: SwitchSet, subject: KillSubject): KillSwitch | null {
  // Most of the time there is nothing to look at.
  if (switches.length === 0) return null;
  return switches.find(({ scope }) => covers(scope, subject)) ?? null;
}

function covers(scope: KillScope, subject: KillSubject): boolean {
  return PARTS.every((part) => scope[part] === undefined || scope[part] === subject[part]);
}

/**
 * The switches that may concern a principal's calls: what a session needs to
 * know of a set. Those of every role, for a principal may have several, and a
 * session takes a set of each version once, whichever role it comes with.
 */
export function concerning(set: SwitchSet, principal: { readonly tenant: string }): SwitchSet {
  if (set.switches.length === 0) return set;
  const switches = set.switches.filter(
    ({ scope }) => scope.tenant === undefined || scope.tenant === principal.tenant,
  );
  return { version: set.version, switches };
}

/** The newer of two sets: whoever knows a version never goes back to an older one. */
export function newerOf(known: SwitchSet, given: SwitchSet): SwitchSet {
  return given.version > known.version ? given : known;
}

/** Whether two sets stop the same; a switch never changes once it is engaged. */
export function sameSwitches(a: SwitchSet, b: SwitchSet): boolean {
  return (
    a.switches.length === b.switches.length &&
    a.switches.every(({ id }, at) => b.switches[at]?.id === id)
  );
}

/** What a caller is told. The operator's reason is not for agents; the id leads to it. */
export function stoppedRefusal({ id }: KillSwitch): Refusal {
  return {
    code: "KILL_SWITCH",
    message: `An operator has stopped this (kill switch ${id}). Nothing was done. Do not try another way; wait until an operator lifts it.`,
  };
}
