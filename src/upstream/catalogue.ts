/**
 * @module
 * Keeps what is known of upstreams up to date: on demand, when an upstream says
 * that a list changed, and with every cron run.
 */
import type { Config } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { builtInToolNames } from "../tools/index.ts";
import { parseConfig } from "./config.ts";
import { exposedNames, heldNames } from "./conflicts.ts";
import { type Connect, wire } from "./connect.ts";
import { forgetDirectory } from "./directory.ts";
import { describeClash, findClashes } from "./naming.ts";
import { type Found, type Observation, observe } from "./observe.ts";
import {
  claimsBeside,
  type DefinitionHead,
  definitionHeads,
  readUpstream,
  upstreamNames,
} from "./registry.ts";
import { storeObservation } from "./registry-changes.ts";
import { targetOf } from "./target.ts";

/** A write is decided on a state of the registry; so often it is decided anew when that has moved on. */
export const MAX_ATTEMPTS = 5;
const CONCURRENT_REFRESHES = 4;

/** `absent`: no such upstream. `superseded`: it was changed meanwhile, and what was found is of the old one. */
export type Refreshed = "refreshed" | "failed" | "absent" | "superseded";

/**
 * Asks an upstream for all that it offers and stores the difference. Where it
 * fails, only that is stored: what was known before stays.
 *
 * @throws Error when D1 does not answer, or its credentials cannot be opened
 */
export async function refreshUpstream(
  env: Env,
  config: Config,
  name: string,
  now: number,
  connect: Connect = wire.connect,
): Promise<Refreshed> {
  const db = env.ARCHIVE_DB;
  const row = await readUpstream(db, name);
  if (row === null) return "absent";
  const upstream = parseConfig(row.config);
  const seen = await observe(connect, targetOf(config, upstream, row.auth), upstream);
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const current = await readUpstream(db, name);
    if (current === null) return "absent";
    if (current.revision !== row.revision) return "superseded";
    const stored = await definitionHeads(db, name);
    const claims = seen.ok && hasNews(seen.found, stored) ? await claimsBeside(db, name) : null;
    const observation: Observation =
      seen.ok && claims !== null
        ? { ok: true, found: withoutClashes(seen.found, stored, upstream, claims.others) }
        : seen;
    const written = await storeObservation(db, {
      row: current,
      version: claims?.version ?? null,
      observation,
      stored,
      now,
    });
    if (written === "written") {
      forgetDirectory();
      if (observation.ok) tellChanges(name, observation.found, stored);
      return observation.ok ? "refreshed" : "failed";
    }
  }
  return "superseded";
}

/** Says in the log what agents can no longer call, because it is another than was approved or is gone. */
function tellChanges(upstream: string, found: Found, stored: readonly DefinitionHead[]): void {
  const pins = new Map(found.definitions.map(({ kind, name, pin }) => [`${kind}\n${name}`, pin]));
  const usable = stored.filter(({ status }) => status === "approved");
  const pinNow = (head: DefinitionHead) => pins.get(`${head.kind}\n${head.name}`);
  const gone = usable.filter((head) => pinNow(head) === undefined).length;
  const changed = usable.filter((head) => pinNow(head) !== head.approved_pin).length - gone;
  if (gone + changed > 0) logEvent("warn", "upstream_changed", { upstream, changed, gone });
}

/** Whether there are names that were not weighed against those of others yet. */
function hasNews({ definitions }: Found, stored: readonly DefinitionHead[]): boolean {
  const known = new Set(stored.map(({ kind, name }) => `${kind}\n${name}`));
  return definitions.some(({ kind, name }) => !known.has(`${kind}\n${name}`));
}

/** New tools and prompts whose names are taken are left out; the ones that are stored hold theirs. */
function withoutClashes(
  found: Found,
  stored: readonly DefinitionHead[],
  config: Parameters<typeof exposedNames>[0]["config"],
  others: Parameters<typeof heldNames>[0],
): Found {
  const known = new Set(stored.map(({ kind, name }) => `${kind}\n${name}`));
  const all = exposedNames({ config, hasResources: false, names: namesOf(found.definitions) });
  const held = all.filter(({ kind, name }) => known.has(`${kind}\n${name}`));
  const newcomers = all.filter(({ kind, name }) => !known.has(`${kind}\n${name}`));
  const clashes = findClashes(newcomers, [...heldNames(others, builtInToolNames()), ...held]);
  if (clashes.length === 0) return found;
  const refused = new Set(clashes.map(({ newcomer: { kind, name } }) => `${kind}\n${name}`));
  return {
    ...found,
    definitions: found.definitions.filter(({ kind, name }) => !refused.has(`${kind}\n${name}`)),
    leftOut: [
      ...found.leftOut,
      ...clashes.map((clash) => ({
        kind: clash.newcomer.kind,
        name: clash.newcomer.name,
        reason: `${describeClash(clash)}.`,
      })),
    ],
  };
}

/** The tools and prompts among definitions: what has a name that clients see. */
export function namesOf(
  definitions: readonly { readonly kind: string; readonly name: string }[],
): { kind: "tool" | "prompt"; name: string }[] {
  return definitions.flatMap(({ kind, name }) =>
    kind === "tool" || kind === "prompt" ? [{ kind, name }] : [],
  );
}

/** Refreshes every upstream, a few at a time; one that fails, or throws, holds up none of the others. */
export async function refreshAll(
  env: Env,
  config: Config,
  now: number,
  connect: Connect = wire.connect,
): Promise<void> {
  const waiting = await upstreamNames(env.ARCHIVE_DB);
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      try {
        const outcome = await refreshUpstream(env, config, name, now, connect);
        if (outcome !== "refreshed")
          logEvent("warn", "upstream_refresh", { upstream: name, outcome });
      } catch (error) {
        logEvent("error", "upstream_refresh_failed", { upstream: name, error: String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_REFRESHES }, worker));
}
