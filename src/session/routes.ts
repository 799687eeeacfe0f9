/**
 * @module
 * Where a request goes that is not the gateway's own to answer: which upstream,
 * in which of its names, and what records keep of it.
 */
import { withoutCredential } from "../audit/redact.ts";
import type { Principal } from "../edge/principal.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import type { RpcRequest } from "../mcp/jsonrpc.ts";
import { declaredHeaders, paramHeaders } from "../mcp/param-headers.ts";
import { mayUseTool } from "../policy/tool-list.ts";
import type { Directory } from "../upstream/directory.ts";
import type { Definition } from "../upstream/types.ts";
import { isObject } from "./capabilities.ts";
import type { Route } from "./relay/job.ts";
import { openTaskId } from "./task-id.ts";

/** Methods that an upstream answers, each with its event in the chain. */
export const RELAYED = {
  "tools/call": "tool_call",
  "prompts/get": "prompt_get",
  "resources/read": "resource_read",
  "completion/complete": "completion",
  "tasks/get": "task_get",
  "tasks/update": "task_update",
  "tasks/cancel": "task_cancel",
} as const;

export type RelayedMethod = keyof typeof RELAYED;

/** Whether upstreams answer a method in an era: tasks are an extension of 2026-07-28. */
export function isRelayed(method: string, era: "2025" | "2026"): method is RelayedMethod {
  return Object.hasOwn(RELAYED, method) && (era === "2026" || !method.startsWith("tasks/"));
}

/** The argument that names a session in an upstream's tool, where it asked for one (2026 era). */
export const SESSION_ARGUMENT = "atlas_session";

export type Routing =
  | { readonly ok: true; readonly route: Route }
  /** `missing`: nothing of that name for this caller. `invalid`: parameters that do not fit. */
  | { readonly ok: false; readonly kind: "missing" | "invalid"; readonly message: string };

/** Finds where a relayed request goes. `method` must be that of the request. */
export function routeOf(
  directory: Directory,
  principal: Principal,
  request: RpcRequest,
  method: RelayedMethod,
  secretsKey: Uint8Array,
): Routing {
  // What a retry adds is the relay's business; `task` belongs to a feature of 2025-11-25 that is not relayed.
  const {
    _meta,
    inputResponses: _responses,
    requestState: _state,
    task: _task,
    ...params
  } = request.params ?? {};
  switch (method) {
    case "tools/call":
      return toolRoute(directory, principal, params);
    case "prompts/get":
      return promptRoute(directory, principal, params);
    case "resources/read":
      return resourceRoute(directory, principal, params);
    case "completion/complete":
      return completionRoute(directory, principal, params);
    case "tasks/get":
    case "tasks/update":
    case "tasks/cancel":
      return taskRoute(directory, principal, request.params ?? {}, secretsKey);
  }
}

/** A task goes back to the upstream that it came from, if the caller may still use that, and its tool. */
function taskRoute(
  directory: Directory,
  principal: Principal,
  given: JsonObject,
  secretsKey: Uint8Array,
): Routing {
  const { _meta, ...params } = given;
  const { taskId } = params;
  if (typeof taskId !== "string") return invalid("taskId: must be the id of a task, as a string");
  const owner = { tenant: principal.tenant, principal: principal.id };
  const task = openTaskId(secretsKey, owner, taskId);
  const isVisible = task !== null && (task.tool === null || mayUseTool(principal.tools, task.tool));
  const entry = isVisible ? directory.upstream(principal, task.upstream) : null;
  if (task === null || entry?.era !== "2026") return missing("There is no such task");
  return {
    ok: true,
    route: {
      entry,
      definition:
        task.tool === null ? null : (directory.tool(principal, task.tool)?.definition ?? null),
      kind: "task",
      params: { ...params, taskId: task.id },
      label: task.tool,
      args: { task: task.id },
      paramHeaders: {},
      startedUnder: task.plan,
    },
  };
}

function toolRoute(directory: Directory, principal: Principal, params: JsonObject): Routing {
  const { name, arguments: given = {} } = params;
  if (typeof name !== "string") return invalid("name: must be the name of a tool, as a string");
  const found = directory.tool(principal, name);
  if (found === null || found.definition.status === "gone")
    return missing("There is no tool of this name; tools/list shows those there are");
  if (!isObject(given)) return invalid("arguments: must be an object");
  const { entry, definition } = found;
  const args = entry.config.session_param ? without(given, SESSION_ARGUMENT) : given;
  return {
    ok: true,
    route: {
      entry,
      definition,
      kind: "tool",
      params: {
        ...params,
        name: definition.name,
        ...(params.arguments === undefined ? {} : { arguments: args }),
      },
      label: name,
      args,
      paramHeaders: mirrored(definition, args),
    },
  };
}

/** The headers that mirror arguments for an upstream of the 2026 era, computed anew. */
function mirrored({ definition }: Definition, args: JsonObject): Readonly<Record<string, string>> {
  const schema = definition.inputSchema;
  const declared = isObject(schema) ? declaredHeaders(schema) : null;
  return declared?.ok === true ? paramHeaders(declared.headers, args) : {};
}

function promptRoute(directory: Directory, principal: Principal, params: JsonObject): Routing {
  const { name, arguments: given = {} } = params;
  if (typeof name !== "string") return invalid("name: must be the name of a prompt, as a string");
  const found = directory.prompt(principal, name);
  if (found === null || found.definition.status === "gone")
    return missing("There is no prompt of this name; prompts/list shows those there are");
  const { entry, definition } = found;
  return {
    ok: true,
    route: {
      entry,
      definition,
      kind: "prompt",
      params: { ...params, name: definition.name },
      label: name,
      args: isObject(given) ? given : {},
      paramHeaders: {},
    },
  };
}

function resourceRoute(directory: Directory, principal: Principal, params: JsonObject): Routing {
  const { uri } = params;
  if (typeof uri !== "string") return invalid("uri: must be the URI of a resource, as a string");
  const entry = directory.ownerOf(principal, uri);
  if (entry === null) return missing("There is no such resource");
  return {
    ok: true,
    route: {
      entry,
      definition: null,
      kind: "resource",
      params,
      label: null,
      args: { uri },
      paramHeaders: {},
    },
  };
}

function completionRoute(directory: Directory, principal: Principal, params: JsonObject): Routing {
  const { ref } = params;
  if (!isObject(ref)) return invalid("ref: must name a prompt or a resource template");
  if (ref.type === "ref/prompt" && typeof ref.name === "string") {
    const found = directory.prompt(principal, ref.name);
    if (found === null) return missing("There is no prompt of this name");
    return completion(found.entry, found.definition, {
      ...params,
      ref: { ...ref, name: found.definition.name },
    });
  }
  if (ref.type === "ref/resource" && typeof ref.uri === "string") {
    const { uri } = ref;
    const template = directory
      .templates(principal)
      .find(({ definition }) => definition.name === uri);
    const entry = template?.entry ?? directory.ownerOf(principal, uri);
    if (entry === null) return missing("There is no resource template of this URI");
    return completion(entry, template?.definition ?? null, params);
  }
  return invalid("ref: must name a prompt or a resource template");
}

function completion(
  entry: Route["entry"],
  definition: Definition | null,
  params: JsonObject,
): Routing {
  return {
    ok: true,
    route: {
      entry,
      definition,
      kind: "completion",
      params,
      label: null,
      args: { ref: params.ref ?? null, argument: params.argument ?? null },
      paramHeaders: {},
    },
  };
}

/** What records call the object of a request that goes nowhere: the caller's text, whatever it holds. */
export function attemptedName(params: JsonObject, maxUnits: number): string | null {
  const name: JsonValue | undefined = params.name ?? params.uri;
  return typeof name === "string" ? withoutCredential(name.slice(0, maxUnits)) : null;
}

function without(args: JsonObject, key: string): JsonObject {
  const { [key]: _taken, ...rest } = args;
  return rest;
}

function invalid(message: string): Routing {
  return { ok: false, kind: "invalid", message };
}

function missing(message: string): Routing {
  return { ok: false, kind: "missing", message };
}
