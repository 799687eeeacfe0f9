/**
 * @module
 * A JSON object of which nothing more is asked, for schemas of what passes through.
 */
import * as z from "zod";
import type { JsonObject } from "./ijson.ts";

export const jsonObjectSchema = z.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);
