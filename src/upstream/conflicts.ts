/**
 * @module
 * What keeps an upstream from standing beside the others: names that clients
 * could not tell apart, and resources that two would claim. Pure.
 */
import {
  describeClash,
  type ExposedName,
  exposedName,
  findClashes,
  overlappingPrefixes,
} from "./naming.ts";
import type { UpstreamConfig } from "./types.ts";

/** What an upstream claims for itself. */
export type Claim = {
  readonly config: UpstreamConfig;
  /** Whether it says that it has resources. */
  readonly hasResources: boolean;
  readonly names: readonly { readonly kind: "tool" | "prompt"; readonly name: string }[];
};

/** Names told in one message; an operator mends the prefix, not one name after the other. */
const MAX_TOLD = 5;

/** The first reason why a newcomer is refused, naming both sides; null when it fits. */
export function conflictOf(
  newcomer: Claim,
  others: readonly Claim[],
  builtInTools: readonly string[],
): string | null {
  return (
    nameConflict(newcomer, others, builtInTools) ??
    others.map((other) => resourceConflict(newcomer, other)).find((found) => found !== null) ??
    null
  );
}

/** The names that clients see of an upstream's tools and prompts. */
export function exposedNames({ config, names }: Claim): ExposedName[] {
  return names.map(({ kind, name }) => ({
    kind,
    upstream: config.name,
    name,
    exposed: exposedName(config.prefix, name),
  }));
}

/** The names that are taken: of built-in tools, and of other upstreams. */
export function heldNames(
  others: readonly Claim[],
  builtInTools: readonly string[],
): ExposedName[] {
  const builtIn = builtInTools.map((name) => ({
    kind: "tool" as const,
    upstream: null,
    name,
    exposed: name,
  }));
  return [...builtIn, ...others.flatMap(exposedNames)];
}

function nameConflict(
  newcomer: Claim,
  others: readonly Claim[],
  builtInTools: readonly string[],
): string | null {
  const clashes = findClashes(exposedNames(newcomer), heldNames(others, builtInTools));
  if (clashes.length === 0) return null;
  const told = clashes.slice(0, MAX_TOLD).map((clash) => `${describeClash(clash)}.`);
  const more = clashes.length - told.length;
  const rest = more > 0 ? ` And ${more} more.` : "";
  return `${told.join(" ")}${rest} Give the upstream another prefix.`;
}

function resourceConflict(newcomer: Claim, other: Claim): string | null {
  const [ours, theirs] = [newcomer.config.resource_prefixes, other.config.resource_prefixes];
  const overlap = overlappingPrefixes(ours, theirs);
  if (overlap !== null) {
    const [our, their] = overlap;
    return `The resource prefix ${our} of the upstream ${newcomer.config.name} overlaps with ${their} of the upstream ${other.config.name}.`;
  }
  const bothTakeAll =
    ours.length === 0 && theirs.length === 0 && newcomer.hasResources && other.hasResources;
  return bothTakeAll
    ? `The upstreams ${newcomer.config.name} and ${other.config.name} both have resources, and neither says which URIs are its own. Give one of them resource_prefixes.`
    : null;
}
