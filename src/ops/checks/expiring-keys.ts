/**
 * @module
 * Keys that end within a week and have no successor.
 */
import { endingKeys } from "../key-expiry.ts";
import { type Check, type Finding, MAX_FINDINGS } from "./finding.ts";

export const checkExpiringKeys: Check = async (env, _config, now) => {
  const ending = await endingKeys(env.ARCHIVE_DB, now);
  return ending.slice(0, MAX_FINDINGS).map(
    ({ id, role, expires_at }): Finding => ({
      check: "expiring_key",
      subject: id,
      severity: "warning",
      message: `The key ${id} (${role}) ends at ${expires_at}. Rotate it, and give its owner the new one.`,
    }),
  );
};
