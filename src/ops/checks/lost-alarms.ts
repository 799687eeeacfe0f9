/**
 * @module
 * Sessions that should have ended and have not: the alarm that would have seen
 * to it is lost. Asking such a session for its status wakes it, and a session
 * that wakes sets its alarm again.
 */
import { openArchive } from "../../archive/open.ts";
import { sessionStub } from "../../objects.ts";
import { AMBIENT_LIFE_MS, firstIdAt } from "../../session/ids.ts";
import { logEvent } from "../log.ts";
import { type Check, type Finding, MAX_FINDINGS } from "./finding.ts";

/** How much later than due an end may be, in ms: it is put off while calls run or a workspace cannot be asked. */
const GRACE_MS = 15 * 60_000;

export const checkLostAlarms: Check = async (env, config, now) => {
  const rows = await openArchive(env).idle({
    before: new Date(now - config.sessionTtlMs - GRACE_MS).toISOString(),
    // It ends with its day, however long nobody was seen on it.
    ambientBefore: firstIdAt(now - AMBIENT_LIFE_MS - GRACE_MS),
    limit: MAX_FINDINGS,
  });
  return Promise.all(
    rows.map(async ({ session_id }): Promise<Finding> => {
      const found = { check: "lost_alarm", subject: session_id } as const;
      try {
        const status = await sessionStub(env, session_id).status();
        return status === null
          ? { ...found, severity: "critical", message: LOST }
          : { ...found, severity: "warning", message: WOKEN };
      } catch (error) {
        // One object that is broken must not hide the others.
        logEvent("error", "session_not_woken", { session_id, error: String(error) });
        return { ...found, severity: "critical", message: SILENT };
      }
    }),
  );
};

const WOKEN = "The session is past its end and had not closed. It has been woken, and closes now.";
const LOST =
  "The session never ended, and its object no longer holds it: what was not archived is lost.";
const SILENT =
  "The session is past its end and had not closed, and its object does not answer: its log lines say why.";
