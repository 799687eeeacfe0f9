/**
 * @module
 * Fields that several routes about the archive take.
 */
import * as z from "zod";

const MAX_REASON_CHARACTERS = 1024;

export const sessionIdText = z
  .string()
  .regex(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "must be a session's id");

export const reasonText = z.string().trim().min(1).max(MAX_REASON_CHARACTERS);

export const archiveName = z.enum(["d1", "postgres"]);

/** What does not hold of a session. */
export const problem = z.object({ session_id: z.string(), seq: z.int(), message: z.string() });
