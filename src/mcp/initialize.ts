/**
 * @module
 * The handshake of the 2025 era: what a client says in `initialize`, and what
 * the gateway answers.
 */
import * as z from "zod";
import type { JsonObject } from "./ijson.ts";
import { SERVER_INFO } from "./server-info.ts";
import type { Version2025 } from "./versions.ts";

/** `InitializeRequestParams` of every 2025 revision; members of later ones pass through. */
export const initializeParamsSchema = z.looseObject({
  protocolVersion: z.string(),
  capabilities: z.looseObject({}),
  clientInfo: z.looseObject({
    name: z.string(),
    version: z.string(),
    title: z.string().optional(),
  }),
});
export type InitializeParams = z.infer<typeof initializeParamsSchema>;

/**
 * The `InitializeResult` of the gateway. `title` came with 2025-06-18; the
 * schema of 2025-03-26 lets members through that it does not know, so one shape
 * serves all.
 */
export function initializeResult(answer: {
  version: Version2025;
  capabilities: JsonObject;
  instructions?: string;
}): JsonObject {
  const { version, capabilities, instructions } = answer;
  return {
    protocolVersion: version,
    capabilities,
    serverInfo: { ...SERVER_INFO },
    ...(instructions === undefined ? {} : { instructions }),
  };
}
