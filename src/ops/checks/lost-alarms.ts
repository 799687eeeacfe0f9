/**
 * @module
 * Sessions that should have ended and have not: the alarm that would have seen
 * to it is lost. Asking such a session for its status wakes it, and a session
 * that wakes sets its alarm again.
 */
import { openArchive } from "../../archive/open.ts";
import { sessionStub } from "../../objects.ts";
import { ambientCloseMs, mintedAtMs } from "../../session/ids.ts";
import { type Check, type Finding, MAX_FINDINGS } from "./finding.ts";

/** How much later than due an end may be, in ms: it is put off while calls run or a workspace cannot be asked. */
const GRACE_MS = 15 * 60_000;

export const checkLostAlarms: Check = async (env, config, now) => {
  const idle = new Date(now - config.sessionTtlMs - GRACE_MS).toISOString();
  // Whatever the clock says, an ambient session of the day before yesterday is over.
  const rows = await openArchive(env).idle(idle, 5 * MAX_FINDINGS);
  const overdue = rows
    .filter(
      ({ session_id, era }) =>
        era !== "ambient" || ambientCloseMs(mintedAtMs(session_id)) + GRACE_MS < now,
    )
    .slice(0, MAX_FINDINGS);
  return Promise.all(
    overdue.map(async ({ session_id }): Promise<Finding> => {
      const status = await sessionStub(env, session_id).status();
      return {
        check: "lost_alarm",
        subject: session_id,
        severity: status === null ? "critical" : "warning",
        message:
          status === null
            ? "The session never ended, and its object no longer holds it: what was not archived is lost."
            : "The session is past its end and had not closed. It has been woken, and closes now.",
      };
    }),
  );
};
