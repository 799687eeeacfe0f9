/**
 * @module
 * Where the transparency log is told that evidence leaves the archive, so that
 * a `retire` leaf says what remains.
 */

export type Retirement = {
  readonly reason: "retention" | "erasure";
  readonly tenant: string;
  readonly session_id: string;
  /** Records of the session, and the hash of the last: what the segments in R2 still prove. */
  readonly entries: number;
  readonly head: string | null;
};

export type RetireHook = (env: Env, retirement: Retirement) => Promise<void>;

let hook: RetireHook | null = null;

/** Sets what is told; there is one log, so there is one hook. */
export function onRetire(tell: RetireHook): void {
  hook = tell;
}

/** Tells the log, where there is one. What it throws keeps the evidence where it is. */
export async function announceRetirement(env: Env, retirement: Retirement): Promise<void> {
  await hook?.(env, retirement);
}
