/**
 * @module
 * What a client said that it can do, and what of it an upstream may ask for.
 */
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import type { UpstreamConfig } from "../upstream/types.ts";
import type { Question } from "./exchange.ts";

/** The one extension that the gateway relays. */
export const TASKS_EXTENSION = "io.modelcontextprotocol/tasks";

/** Longest kept capabilities of a client, in characters: those that the gateway can relay are a few words. */
const MAX_CHARS = 4096;

/**
 * The capabilities of a client that the gateway can relay; anything else is left
 * out. What an era has no way to say is not promised to an upstream: the 2026 era
 * never tells that roots changed, the 2025 era cannot ask for tasks.
 */
export function relayable(capabilities: JsonObject, era: "2025" | "2026"): JsonObject {
  const kept: JsonObject = {};
  for (const name of ["sampling", "elicitation"]) {
    const value = capabilities[name];
    if (isObject(value)) kept[name] = value;
  }
  const { roots, extensions } = capabilities;
  if (isObject(roots)) kept.roots = era === "2025" ? roots : without(roots, "listChanged");
  const tasks = isObject(extensions) ? extensions[TASKS_EXTENSION] : undefined;
  if (era === "2026" && isObject(tasks)) kept.extensions = { [TASKS_EXTENSION]: tasks };
  return JSON.stringify(kept).length <= MAX_CHARS ? kept : {};
}

/** Whether a client said that it tells when its roots change. */
export function tellsOfRoots({ roots }: JsonObject): boolean {
  return isObject(roots) && roots.listChanged === true;
}

function without(object: JsonObject, key: string): JsonObject {
  const { [key]: _taken, ...rest } = object;
  return rest;
}

export function declaresTasks({ extensions }: JsonObject): boolean {
  return isObject(extensions) && isObject(extensions[TASKS_EXTENSION]);
}

/** What of a client's capabilities is declared to one upstream. */
export function declaredTo(config: UpstreamConfig, capabilities: JsonObject): JsonObject {
  const { sampling, elicitation, ...rest } = capabilities;
  return {
    ...rest,
    ...(config.sampling && sampling !== undefined ? { sampling } : {}),
    ...(config.elicitation && elicitation !== undefined ? { elicitation } : {}),
  };
}

/** Whether capabilities that were declared cover a question of the upstream's. */
export function covers(declared: JsonObject, { method, params }: Question): boolean {
  switch (method) {
    case "sampling/createMessage": {
      const { sampling } = declared;
      if (!isObject(sampling)) return false;
      const usesTools = params?.tools !== undefined || params?.toolChoice !== undefined;
      return !usesTools || sampling.tools !== undefined;
    }
    case "elicitation/create": {
      const { elicitation } = declared;
      if (!isObject(elicitation)) return false;
      // An empty object is the form mode (2025-11-25, Elicitation, Capabilities).
      return params?.mode === "url"
        ? elicitation.url !== undefined
        : elicitation.form !== undefined || elicitation.url === undefined;
    }
    case "roots/list":
      return isObject(declared.roots);
    default:
      return false;
  }
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
