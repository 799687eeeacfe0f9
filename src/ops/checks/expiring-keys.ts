/**
 * @module
 * Keys that end within a week and have no successor.
 */
import * as z from "zod";
import { type Check, type Finding, MAX_FINDINGS } from "./finding.ts";

const NOTICE_MS = 7 * 86_400_000;

const rows = z.array(z.object({ id: z.string(), role: z.string(), expires_at: z.string() }));

export const checkExpiringKeys: Check = async (env, _config, now) => {
  const { results } = await env.ARCHIVE_DB.prepare(
    `SELECT id, role, expires_at FROM api_keys AS own
     WHERE revoked_at IS NULL AND expires_at > ?1 AND expires_at < ?2
       AND NOT EXISTS (
         SELECT 1 FROM api_keys AS later
         WHERE later.line = own.line AND later.revoked_at IS NULL
           AND later.expires_at > own.expires_at
       )
     ORDER BY expires_at LIMIT ${MAX_FINDINGS}`,
  )
    .bind(new Date(now).toISOString(), new Date(now + NOTICE_MS).toISOString())
    .all();
  return rows.parse(results).map(
    ({ id, role, expires_at }): Finding => ({
      check: "expiring_key",
      subject: id,
      severity: "warning",
      message: `The key ${id} (${role}) ends at ${expires_at}. Rotate it, and give its owner the new one.`,
    }),
  );
};
