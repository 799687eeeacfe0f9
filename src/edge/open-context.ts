/**
 * @module
 * The context of a session's first record: what an auditor asks first.
 */
import { withoutCredential } from "../audit/redact.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { VERSION } from "../version.ts";

/** Longest client name and version kept in a record: both come from outside. */
const MAX_CLIENT_TEXT = 128;

/** Era, revision, client, gateway version and colo. `client` is an `Implementation`, or nothing. */
export function openContext(
  request: Request,
  era: "2025" | "2026",
  protocolVersion: string,
  client: Readonly<Record<string, unknown>> | null,
): JsonObject {
  const colo = request.cf?.colo;
  return {
    era,
    protocol_version: protocolVersion,
    client: client === null ? null : { name: textOf(client.name), version: textOf(client.version) },
    gateway: { version: VERSION },
    colo: typeof colo === "string" ? colo : null,
  };
}

function textOf(value: unknown): JsonValue {
  return typeof value === "string" ? withoutCredential(value.slice(0, MAX_CLIENT_TEXT)) : null;
}
