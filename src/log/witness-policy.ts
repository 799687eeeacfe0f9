/**
 * @module
 * Trust policies (C2SP tlog-policy): which logs, which witnesses, and which of
 * those must have cosigned a checkpoint before it counts.
 */

import { encodeBase64 } from "./bytes.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { cosignatureTime, cosignatureVerifier } from "./cosignature.ts";
import { COSIGNATURE, ED25519, parseVkey, type VerifierKey } from "./note.ts";

/** Lines of a policy: far above the 32 logs, witnesses and groups that are to be supported. */
const MAX_LINES = 1000;

export type PolicyWitness = {
  readonly name: string;
  readonly key: VerifierKey;
  readonly url: string | null;
};
export type PolicyGroup = { readonly threshold: number; readonly members: readonly string[] };

export type WitnessPolicy = {
  /** Empty: the log is known from elsewhere. */
  readonly logs: readonly { readonly key: VerifierKey; readonly url: string | null }[];
  readonly witnesses: readonly PolicyWitness[];
  readonly groups: ReadonlyMap<string, PolicyGroup>;
  /** The name of a witness or a group, or null for `none`. */
  readonly quorum: string | null;
};

export type ParsedPolicy =
  | { readonly ok: true; readonly policy: WitnessPolicy }
  | { readonly ok: false; readonly line: number; readonly message: string };

/** Reads a policy. What is wrong is said with its line, counted from 1; 0 is the file as a whole. */
export function parsePolicy(text: string): ParsedPolicy {
  const reader = new PolicyReader();
  const lines = text.split("\n");
  if (lines.length > MAX_LINES) return { ok: false, line: 0, message: "too many lines" };
  for (const [i, line] of lines.entries()) {
    const message = reader.line(line);
    if (message !== null) return { ok: false, line: i + 1, message };
  }
  return reader.end();
}

/** Whether the cosignatures of the witnesses so named are enough. */
export function isQuorum(policy: WitnessPolicy, cosigned: ReadonlySet<string>): boolean {
  return policy.quorum === null || hasWitnessed(policy, policy.quorum, cosigned);
}

function hasWitnessed(policy: WitnessPolicy, name: string, cosigned: ReadonlySet<string>): boolean {
  const group = policy.groups.get(name);
  if (group === undefined) return cosigned.has(name);
  const witnessed = group.members.filter((member) => hasWitnessed(policy, member, cosigned));
  return witnessed.length >= group.threshold;
}

export type PolicyVerdict =
  | {
      readonly ok: true;
      readonly checkpoint: Checkpoint;
      readonly cosigned: readonly { readonly name: string; readonly time: number }[];
    }
  | {
      readonly ok: false;
      readonly reason:
        | "malformed"
        | "no_known_signature"
        | "bad_signature"
        | "other_origin"
        | "no_quorum";
    };

/** Judges a signed checkpoint. `logKeys` are the log's keys when the policy names none. */
export async function judgeCheckpoint(
  policy: WitnessPolicy,
  note: string,
  logKeys: readonly VerifierKey[] = [],
): Promise<PolicyVerdict> {
  const logs = policy.logs.length > 0 ? policy.logs.map(({ key }) => key) : logKeys;
  const opened = await openCheckpoint(
    note,
    logs,
    policy.witnesses.map(({ key }) => cosignatureVerifier(key)),
  );
  if (!opened.ok) return opened;
  const cosigned = opened.known.flatMap(({ key, signature }) => {
    const witness = policy.witnesses.find((candidate) => candidate.key === key);
    const time = cosignatureTime(signature);
    return witness === undefined || time === null ? [] : [{ name: witness.name, time }];
  });
  return isQuorum(policy, new Set(cosigned.map(({ name }) => name)))
    ? { ok: true, checkpoint: opened.checkpoint, cosigned }
    : { ok: false, reason: "no_quorum" };
}

/** Reads a policy line by line: a line can only name what stands above it. */
class PolicyReader {
  readonly #logs: { key: VerifierKey; url: string | null }[] = [];
  readonly #witnesses: PolicyWitness[] = [];
  readonly #groups = new Map<string, PolicyGroup>();
  readonly #members = new Set<string>();
  #quorum: string | null | undefined;

  /** What is wrong with the line, or null. */
  line(line: string): string | null {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the characters that the format forbids.
    if (/[\u0000-\u0008\u000a-\u001f\u007f]/.test(line)) return "a control character";
    const [keyword, ...items] = line.split(/[ \t]+/).filter((item) => item !== "");
    if (keyword === undefined || keyword.startsWith("#")) return null;
    if (keyword === "log") return this.#log(items);
    if (keyword === "witness") return this.#witness(items);
    if (keyword === "group") return this.#group(items);
    if (keyword === "quorum") return this.#setQuorum(items);
    return "an unknown keyword";
  }

  end(): ParsedPolicy {
    if (this.#quorum === undefined) return { ok: false, line: 0, message: "no quorum line" };
    const policy = {
      logs: this.#logs,
      witnesses: this.#witnesses,
      groups: this.#groups,
      quorum: this.#quorum,
    };
    return { ok: true, policy };
  }

  #log([vkey = "", url, ...rest]: string[]): string | null {
    const key = parseVkey(vkey);
    if (key?.type !== ED25519 || rest.length > 0) return "not a log: log <vkey> [<url>]";
    if (isListed(key, this.#logs)) return "a log's key for the second time";
    this.#logs.push({ key, url: url ?? null });
    return null;
  }

  #witness([name = "", vkey = "", url, ...rest]: string[]): string | null {
    const key = parseVkey(vkey);
    if (key?.type !== COSIGNATURE || rest.length > 0) {
      return "not a witness: witness <name> <vkey> [<url>]";
    }
    if (this.#isTaken(name)) return "a name for the second time";
    if (isListed(key, this.#witnesses)) return "a witness's key for the second time";
    this.#witnesses.push({ name, key, url: url ?? null });
    return null;
  }

  #group([name = "", k = "", ...members]: string[]): string | null {
    if (members.length === 0) return "not a group: group <name> all|any|<k> <name>...";
    if (this.#isTaken(name)) return "a name for the second time";
    for (const member of members) {
      if (!this.#isDefined(member)) return "a member that is not defined above";
      if (this.#members.has(member)) return "a member for the second time";
      this.#members.add(member);
    }
    const threshold = k === "any" ? 1 : k === "all" ? members.length : wholeNumber(k);
    if (threshold < 1 || threshold > members.length) return "a threshold that no members can reach";
    this.#groups.set(name, { threshold, members });
    return null;
  }

  #setQuorum([name = "", ...rest]: string[]): string | null {
    if (this.#quorum !== undefined) return "a second quorum line";
    if (rest.length > 0) return "not a quorum: quorum <name>";
    if (name !== "none" && !this.#isDefined(name)) return "a quorum that is not defined above";
    this.#quorum = name === "none" ? null : name;
    return null;
  }

  #isDefined(name: string): boolean {
    return this.#groups.has(name) || this.#witnesses.some((witness) => witness.name === name);
  }

  #isTaken(name: string): boolean {
    return name === "none" || this.#isDefined(name);
  }
}

function isListed(key: VerifierKey, list: readonly { readonly key: VerifierKey }[]): boolean {
  const text = encodeBase64(key.publicKey);
  return list.some((other) => encodeBase64(other.key.publicKey) === text);
}

function wholeNumber(text: string): number {
  return /^[1-9]\d{0,5}$/.test(text) ? Number(text) : 0;
}
