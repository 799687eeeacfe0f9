/**
 * @module
 * Independent: somebody other than the log's keeper has seen the same history.
 * Either witnesses that the verifier trusts have cosigned the checkpoint, or
 * the verifier kept an older one itself, and it is a prefix of this one.
 */
import type { Finding, Verdict } from "../audit/report.ts";
import { equalBytes } from "../log/bytes.ts";
import { type Checkpoint, openCheckpoint } from "../log/checkpoint.ts";
import { consistencyProof, verifyConsistency } from "../log/merkle.ts";
import { LogUnreadable, readNodes } from "../log/reader.ts";
import { judgeCheckpoint } from "../log/witness-policy.ts";
import {
  at0,
  type Evidence,
  NOT_ANCHORED,
  refusedCheckpoint,
  unsaid,
  VKEY_NEEDED,
} from "./evidence.ts";

/** Both questions where both are asked; one that cannot be answered leaves the whole open. */
export async function verifyIndependence(evidence: Evidence): Promise<Verdict> {
  const { log, opened, trust } = evidence;
  if (trust.policy === undefined && trust.since === undefined) {
    return unsaid({
      code: "NO_OUTSIDER",
      message: "Neither a policy nor an old checkpoint was given",
    });
  }
  if (log === null) return unsaid(NOT_ANCHORED);
  if (opened === null) return unsaid(VKEY_NEEDED);
  if (!opened.ok) return { ok: false, findings: [refusedCheckpoint("The checkpoint", opened)] };
  const parts = [
    await byWitnesses(evidence, log.checkpoint),
    await bySince(evidence, opened.checkpoint),
  ].filter((part) => part !== null);
  const findings = parts.flatMap((part) => part.findings);
  if (parts.some(({ ok }) => ok === false)) return { ok: false, findings };
  return { ok: parts.every(({ ok }) => ok === true) ? true : null, findings };
}

async function byWitnesses({ trust, keys }: Evidence, note: string): Promise<Verdict | null> {
  const { policy } = trust;
  if (policy === undefined) return null;
  if (policy.quorum === null) {
    return unsaid({ code: "POLICY_WITHOUT_QUORUM", message: "The policy asks for no witness" });
  }
  const judged = await judgeCheckpoint(policy, note, keys);
  if (judged.ok) return { ok: true, findings: [] };
  const finding =
    judged.reason === "no_quorum"
      ? at0("NO_QUORUM", "The cosignatures do not satisfy the policy")
      : refusedCheckpoint("The checkpoint", judged);
  return { ok: false, findings: [finding] };
}

async function bySince(evidence: Evidence, current: Checkpoint): Promise<Verdict | null> {
  const { since } = evidence.trust;
  if (since === undefined) return null;
  const opened = await openCheckpoint(since, evidence.keys);
  // It is not what is verified: nothing can be said with it, for or against.
  if (!opened.ok) return unsaid(refusedCheckpoint("The old checkpoint", opened));
  const old = opened.checkpoint;
  if (old.origin !== current.origin) {
    return {
      ok: false,
      findings: [at0("CHECKPOINT_OTHER_ORIGIN", "The log has another name now")],
    };
  }
  if (old.size === current.size) {
    return equalBytes(old.root, current.root)
      ? { ok: true, findings: [] }
      : { ok: false, findings: [forked(old.size)] };
  }
  return provePrefix(evidence, old, current);
}

/** The kept checkpoint may be newer than the bundle's: then that one must be the prefix. */
async function provePrefix(
  { hash, trust, keys }: Evidence,
  old: Checkpoint,
  current: Checkpoint,
): Promise<Verdict> {
  const { log: reader } = trust;
  if (reader === undefined) {
    const message = `The log is needed to compare its ${current.size} entries with ${old.size} before`;
    return unsaid({ code: "LOG_NEEDED", message });
  }
  const [first, second] = old.size < current.size ? [old, current] : [current, old];
  try {
    const shown = await openCheckpoint(await reader.checkpoint(), keys);
    if (!shown.ok) {
      return { ok: false, findings: [refusedCheckpoint("The log's checkpoint", shown)] };
    }
    if (shown.checkpoint.size < old.size) {
      const message = `The log shows ${shown.checkpoint.size} entries, it had signed ${old.size}`;
      return { ok: false, findings: [at0("LOG_ROLLED_BACK", message)] };
    }
    const nodes = await readNodes(hash, reader, first.size, second.size);
    const proof = consistencyProof(hash, nodes, first.size, second.size);
    return verifyConsistency(hash, first.size, second.size, proof, first.root, second.root)
      ? { ok: true, findings: [] }
      : { ok: false, findings: [forked(old.size)] };
  } catch (error) {
    if (!(error instanceof LogUnreadable)) throw error;
    return unsaid({ code: "LOG_UNREADABLE", message: error.message });
  }
}

function forked(size: number): Finding {
  return at0("FORK", `The log's first ${size} entries are not those of the checkpoint kept`);
}
