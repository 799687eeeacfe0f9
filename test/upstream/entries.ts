/**
 * @module
 * Upstreams as the directory has them, for tests of what is looked up there.
 */
import type { JsonObject } from "../../src/mcp/ijson.ts";
import type { Definition, UpstreamConfig, UpstreamEntry } from "../../src/upstream/types.ts";

export function upstreamConfig(
  name: string,
  changes: Partial<UpstreamConfig> = {},
): UpstreamConfig {
  return {
    name,
    url: `https://${name}.example/mcp`,
    prefix: name,
    gate: "open",
    tenants: ["default"],
    roles: ["windsurf"],
    timeout_ms: 1_000,
    session_param: true,
    sampling: false,
    elicitation: false,
    resource_prefixes: [],
    ...changes,
  };
}

export function definitionOf(
  upstream: string,
  name: string,
  changes: Partial<Definition> = {},
): Definition {
  const definition: JsonObject = { name, inputSchema: { type: "object" } };
  const pin = "0".repeat(64);
  const exposed = `${upstream}_${name}`;
  const known = { kind: "tool", status: "approved", reads: false } as const;
  return { ...known, upstream, name, exposed, definition, pin, ...changes };
}

export function entryOf(
  config: UpstreamConfig,
  definitions: readonly Definition[],
  changes: Partial<UpstreamEntry> = {},
): UpstreamEntry {
  return {
    config,
    auth: "",
    era: "2026",
    protocolVersion: "2026-07-28",
    capabilities: {},
    instructions: null,
    available: true,
    ttlMs: null,
    resources: [],
    definitions,
    ...changes,
  };
}
