/**
 * @module
 * The archive and the transparency log: what the log has anchored of a session,
 * and that evidence leaves the archive, with what remains of it.
 */
import { genesis } from "../audit/chain.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import type { Anchor } from "../log/log-object.ts";
import { logStub } from "../objects.ts";
import { raiseAlarm } from "./alarm.ts";

/** What the log last anchored of a session; null where that is nothing. */
export type Anchored = (tenant: string, sessionId: string) => Promise<Anchor | null>;

export type Retirement = {
  readonly reason: "retention" | "erasure";
  readonly tenant: string;
  readonly session_id: string;
  /** The last record, and its hash: the log takes no other than the newest head that it has. */
  readonly seq: number;
  readonly hash_chain: string;
};

/** What this deployment's log last anchored of sessions. */
export function anchoredInLog(env: Env): Anchored {
  return (tenant, sessionId) => logStub(env).anchored(genesis(sha256Hex, tenant, sessionId));
}

/**
 * Logs a retirement. What remains is the chain either way: an erasure leaves every record
 * without its arguments, and after retention every record is in R2.
 *
 * @throws Error when the log does not answer: whoever retires tries again. Also when it
 *   holds another head of the session, after an alarm: what was to be retired was changed
 */
export async function logRetirement(env: Env, retirement: Retirement): Promise<void> {
  const { reason, tenant, session_id, seq, hash_chain } = retirement;
  const session = genesis(sha256Hex, tenant, session_id);
  const submitted = await logStub(env).submit([
    { kind: "retire", reason, remains: "chain", hash_chain, seq, session },
  ]);
  if (!submitted.ok) throw new Error(`the log did not take the retirement: ${submitted.message}`);
  if (submitted.outcomes[0] === "logged") return;
  const message = "the log holds another head of the session than the one to be retired";
  await raiseAlarm(env, { found_by: "log", tenant, session_id, seq, message });
  throw new Error(message);
}
