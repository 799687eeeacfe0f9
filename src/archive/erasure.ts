/**
 * @module
 * Erasure of what a person's calls carried: arguments and salts in the archive,
 * and the key that the copies in R2 are sealed under. The chain is not touched,
 * so that the verifier still says true.
 */
import { heldSession } from "../session/evidence.ts";
import { anchoredInLog, logRetirement } from "./anchoring.ts";
import type { Archive, ArchivedSession } from "./archive.ts";
import { isHeld } from "./holds.ts";

export type ErasureOutcome =
  | { readonly kind: "erased"; readonly session: ArchivedSession }
  | { readonly kind: "absent" | "held" | "live" };

/** Erases one session's arguments and key. Repeating is safe. */
export async function eraseSession(
  env: Env,
  archive: Archive,
  sessionId: string,
  now: number,
): Promise<ErasureOutcome> {
  // While its object holds the session, it holds the arguments and the key too.
  if ((await heldSession(env, sessionId)) !== null) return { kind: "live" };
  const session = await archive.session(sessionId);
  if (session === null) return { kind: "absent" };
  const { tenant } = session;
  if (await isHeld(env.ARCHIVE_DB, tenant, sessionId)) return { kind: "held" };
  await archive.erase(sessionId, new Date(now).toISOString());
  // Of the head that the log has: where the archive has another, the check says so, and a person's wish does not wait for it.
  const anchor = await anchoredInLog(env)(tenant, sessionId);
  if (anchor !== null) {
    const { seq, hash_chain } = anchor;
    await logRetirement(env, {
      reason: "erasure",
      tenant,
      session_id: sessionId,
      seq,
      hash_chain,
    });
  }
  return { kind: "erased", session };
}
