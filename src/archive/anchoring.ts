/**
 * @module
 * The archive and the transparency log: what the log has anchored of a session,
 * and that evidence leaves the archive, with what remains of it.
 */
import { genesis } from "../audit/chain.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { logStub } from "../objects.ts";

export type Retirement = {
  readonly reason: "retention" | "erasure";
  readonly tenant: string;
  readonly session_id: string;
  /** Records of the session, and the hash of the last. */
  readonly entries: number;
  readonly head: string | null;
};

/** What the log last anchored of a session's chain. */
export async function anchoredInLog(
  env: Env,
  tenant: string,
  sessionId: string,
): Promise<{ readonly seq: number; readonly hash_chain: string } | null> {
  return logStub(env).anchored(genesis(sha256Hex, tenant, sessionId));
}

/**
 * Logs a retirement. After retention no row is left; after erasure the chain
 * is, without its arguments.
 *
 * @throws Error when the log does not take it: whoever retires tries again
 */
export async function logRetirement(env: Env, retirement: Retirement): Promise<void> {
  const { reason, tenant, session_id, entries, head } = retirement;
  if (head === null || entries === 0) return;
  const submitted = await logStub(env).submit([
    {
      kind: "retire",
      reason,
      remains: reason === "retention" ? "nothing" : "chain",
      hash_chain: head,
      seq: entries,
      session: genesis(sha256Hex, tenant, session_id),
    },
  ]);
  if (!submitted.ok) throw new Error(`the log did not take the retirement: ${submitted.message}`);
}
