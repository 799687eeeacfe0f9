/**
 * @module
 * The names under which clients see what upstreams offer, and the clashes
 * between them. Pure.
 */
import { sha256Hex } from "../audit/hash-node.ts";

/** Characters of an exposed name: what the strictest clients in use accept. */
export const MAX_EXPOSED_NAME = 64;
/** Of a full name that is too long, before `_` and the first digits of its hash. */
const KEPT_CHARS = 55;
const HASH_CHARS = 8;

/** MCP 2025-11-25, Tools, "Tool Names". */
const TOOL_NAME = /^[A-Za-z0-9_.-]{1,128}$/;

/** Prompts have free names; control characters and half surrogate pairs are no names at all. */
const UNREADABLE = /\p{C}/u;

/**
 * The name that clients see: `<prefix>_<name>`, or the upstream's own where the
 * prefix is empty. One over 64 characters becomes its first 55, `_`, and 8 hex
 * digits of the SHA-256 of the full name.
 */
export function exposedName(prefix: string, name: string): string {
  const full = prefix === "" ? name : `${prefix}_${name}`;
  // By code points, so that no surrogate pair is cut.
  const chars = full.length > MAX_EXPOSED_NAME ? Array.from(full) : null;
  if (chars === null || chars.length <= MAX_EXPOSED_NAME) return full;
  return `${chars.slice(0, KEPT_CHARS).join("")}_${sha256Hex(full).slice(0, HASH_CHARS)}`;
}

/** Why clients cannot be shown a tool or prompt under its exposed name; null when they can. */
export function nameProblem(kind: "tool" | "prompt", exposed: string): string | null {
  if (kind === "tool") {
    return TOOL_NAME.test(exposed)
      ? null
      : "Its name has characters other than letters, digits, '_', '-' and '.'.";
  }
  return exposed === "" || UNREADABLE.test(exposed)
    ? "Its name is empty or has control characters."
    : null;
}

/** A tool or prompt under its exposed name; `upstream` is null for a built-in one. */
export type ExposedName = {
  readonly kind: "tool" | "prompt";
  readonly upstream: string | null;
  /** The upstream's own name of it. */
  readonly name: string;
  readonly exposed: string;
};

export type NameClash = { readonly newcomer: ExposedName; readonly holder: ExposedName };

/**
 * The newcomers whose exposed name is held already, by one of `held` or by an
 * earlier newcomer. Tools and prompts have names of their own; a newcomer is no
 * clash with itself.
 */
export function findClashes(
  newcomers: readonly ExposedName[],
  held: readonly ExposedName[],
): NameClash[] {
  const holders = new Map(held.map((holder) => [keyOf(holder), holder]));
  const clashes: NameClash[] = [];
  for (const newcomer of newcomers) {
    const holder = holders.get(keyOf(newcomer));
    if (holder === undefined) holders.set(keyOf(newcomer), newcomer);
    else if (holder.upstream !== newcomer.upstream || holder.name !== newcomer.name) {
      clashes.push({ newcomer, holder });
    }
  }
  return clashes;
}

/** One sentence that names both. */
export function describeClash({ newcomer, holder }: NameClash): string {
  return `${capitalized(described(newcomer))} and ${described(holder)} would both be called ${newcomer.exposed}`;
}

/** A pair of prefixes, one of which begins with the other; null where there is none. */
export function overlappingPrefixes(
  ours: readonly string[],
  theirs: readonly string[],
): readonly [string, string] | null {
  for (const our of ours) {
    for (const their of theirs) {
      if (our.startsWith(their) || their.startsWith(our)) return [our, their];
    }
  }
  return null;
}

function keyOf({ kind, exposed }: ExposedName): string {
  return `${kind}\n${exposed}`;
}

function described({ kind, upstream, name }: ExposedName): string {
  return upstream === null
    ? `the built-in ${kind} ${name}`
    : `the ${kind} ${name} of the upstream ${upstream}`;
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
