/**
 * @module
 * The protocol fields that a request of 2026-07-28 carries in `_meta` (Overview,
 * per-request protocol fields).
 */
import * as z from "zod";
import type { JsonObject } from "./ijson.ts";

const jsonObject = z.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);

/** The required fields and the client's name; everything else is passed over. */
export const requestMetaSchema = z.object(
  {
    "io.modelcontextprotocol/protocolVersion": z.string(),
    "io.modelcontextprotocol/clientCapabilities": jsonObject,
    "io.modelcontextprotocol/clientInfo": jsonObject.optional(),
  },
  "must be an object",
);
