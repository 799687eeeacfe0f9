/**
 * @module
 * Whether the transparency log signs, and has signed what is archived: while it
 * does not, nobody outside can hold the archive against anything newer.
 */
import { openArchive } from "../../archive/open.ts";
import { logStub } from "../../objects.ts";
import type { Check, Finding } from "./finding.ts";

/** How much later than a record its head may be signed, in ms: sessions flush within seconds, and again after a failure. */
const LATE_MS = 15 * 60_000;

export const checkLog: Check = async (env, _config, now) => {
  const { open, refused, published_at } = await logStub(env).status();
  if (!open) {
    return [
      found(
        refused === null
          ? "The transparency log signs nothing: a store of it does not answer. See whether D1 and R2 do."
          : `The transparency log signs nothing: it refuses (${refused}). Do not force it; see how its stores came to differ.`,
      ),
    ];
  }
  // A log that nothing is archived for may be as old as it likes.
  const [record] = await openArchive(env).entries({
    until: new Date(now - LATE_MS).toISOString(),
    after: null,
    limit: 1,
  });
  if (record === undefined || (published_at ?? "") >= record.timestamp) return [];
  return [
    found(
      `The newest checkpoint of the transparency log is of ${published_at ?? "no time at all"}, and a record of ${record.timestamp} is archived: sessions do not hand in their heads, or the log drops them.`,
    ),
  ];
};

function found(message: string): Finding {
  return { check: "log", subject: "log", severity: "critical", message };
}
