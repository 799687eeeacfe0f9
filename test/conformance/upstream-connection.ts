/**
 * @module
 * The gateway's own upstream client as the client scenarios drive it: the probe
 * finds the era, and the wire of that era does the rest.
 */
import type { JsonObject } from "../../src/mcp/ijson.ts";
import { declaredHeaders, paramHeaders } from "../../src/mcp/param-headers.ts";
import { SERVER_INFO } from "../../src/mcp/server-info.ts";
import { type Probed, probeEra } from "../../src/upstream/probe.ts";
import type { WireHooks, WireOutcome, WireTarget } from "../../src/upstream/types.ts";
import * as wire2025 from "../../src/upstream/wire-2025.ts";
import * as wire2026 from "../../src/upstream/wire-2026.ts";

/** The suite gives a whole scenario 30 s. */
const HOOKS = { timeoutMs: 10_000 } satisfies WireHooks;
const MAX_BYTES = 4 * 1024 * 1024;

const CLIENT_INFO: JsonObject = { ...SERVER_INFO };
const CAPABILITIES: JsonObject = { elicitation: {}, sampling: {}, roots: {} };

export type Connection = {
  request(method: string, params?: JsonObject): Promise<JsonObject>;
  /** Of a tool as it was listed, for its schema says what is mirrored in headers. */
  call(tool: JsonObject, args: JsonObject, more?: JsonObject): Promise<JsonObject>;
  close(): Promise<void>;
};

/** Throws when no era was found, or another than the suite runs. */
export async function connect(url: string, era: "2025" | "2026"): Promise<Connection> {
  const target: WireTarget = {
    name: "conformance",
    url,
    authorize: async () => ({}),
    fetch: (to, init) => fetch(to, init),
    maxBytes: MAX_BYTES,
  };
  const probed = await probeEra(target, {
    clientInfo: CLIENT_INFO,
    capabilities2025: CAPABILITIES,
    capabilities2026: CAPABILITIES,
    timeoutMs: HOOKS.timeoutMs,
  });
  if (probed.era !== era) throw new Error(`Not of ${era}: ${JSON.stringify(probed)}`);
  return probed.era === "2025" ? connection2025(target, probed) : connection2026(target);
}

function connection2025(target: WireTarget, { session }: Probed & { era: "2025" }): Connection {
  const request = async (method: string, params?: JsonObject) =>
    resultOf(method, await wire2025.request(target, session, method, params, HOOKS));
  return {
    request,
    call: (tool, args, more) =>
      request("tools/call", { name: nameOf(tool), arguments: args, ...more }),
    close: () => wire2025.close(target, session),
  };
}

function connection2026(target: WireTarget): Connection {
  const ask = async (
    method: string,
    params: JsonObject | undefined,
    headers: Readonly<Record<string, string>> = {},
  ) => {
    const options = {
      clientInfo: CLIENT_INFO,
      clientCapabilities: CAPABILITIES,
      paramHeaders: headers,
    };
    return resultOf(method, await wire2026.request(target, method, params, options, HOOKS));
  };
  return {
    request: (method, params) => ask(method, params),
    call: (tool, args, more) => {
      const declared = declaredHeaders(schemaOf(tool));
      if (!declared.ok) throw new Error(declared.message);
      const params = { name: nameOf(tool), arguments: args, ...more };
      return ask("tools/call", params, paramHeaders(declared.headers, args));
    },
    close: async () => {},
  };
}

function resultOf(method: string, outcome: WireOutcome): JsonObject {
  if (outcome.kind === "result") return outcome.result;
  throw new Error(`${method}: ${JSON.stringify(outcome)}`);
}

function nameOf({ name }: JsonObject): string {
  if (typeof name === "string") return name;
  throw new Error("A tool was listed without a name.");
}

/** Whether the gateway would offer this tool at all. */
export function isOffered(tool: JsonObject): boolean {
  return declaredHeaders(schemaOf(tool)).ok;
}

export function schemaOf({ inputSchema }: JsonObject): JsonObject {
  return objectOf(inputSchema);
}

export function objectOf(value: JsonObject[string] | undefined): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new Error(`Not an object: ${JSON.stringify(value)}`);
}

/** The objects of a list result. */
export function listOf(result: JsonObject, member: string): JsonObject[] {
  const list = result[member];
  if (!Array.isArray(list)) throw new Error(`Not a list: ${JSON.stringify(result)}`);
  return list.map(objectOf);
}
