/**
 * @module
 * The protocol fields that a request of 2026-07-28 carries in `_meta` (Overview,
 * per-request protocol fields).
 */
import * as z from "zod";
import { jsonObjectSchema } from "./json-object.ts";
import { LOG_LEVELS } from "./log-level.ts";

/** The required fields and the client's name; everything else is passed over. */
export const requestMetaSchema = z.object(
  {
    "io.modelcontextprotocol/protocolVersion": z.string(),
    "io.modelcontextprotocol/clientCapabilities": jsonObjectSchema,
    "io.modelcontextprotocol/clientInfo": jsonObjectSchema.optional(),
    "io.modelcontextprotocol/logLevel": z.enum(LOG_LEVELS).optional(),
  },
  "must be an object",
);
