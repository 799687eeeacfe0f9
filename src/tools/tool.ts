/**
 * @module
 * What a built-in tool is: its listing, who may call it, how it is recorded,
 * and a parse step that turns arguments into a prepared call.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import type { JsonObject, StoredRecord } from "../audit/record.ts";
import type { Principal } from "../edge/principal.ts";
import { allow, type Decision, type Refusal, refuse } from "../policy/errors.ts";
import type { Role } from "../policy/roles.ts";
import type { AuditSource } from "../session/evidence.ts";
import type { SessionState } from "../session/state.ts";
import type { WorkspaceObject } from "../workspace/workspace-object.ts";

/** What a tool may use of the session it runs in. */
export type ToolContext = {
  readonly state: SessionState;
  readonly caller: Principal;
  readonly env: Env;
  readonly now: number;
  /** Unix ms at which the session ends if nothing more happens. */
  readonly expiresAt: number;
  /** The bound workspace; only where the tool said that it needs one. */
  readonly workspace: () => DurableObjectStub<WorkspaceObject>;
  /** Records of this session, in order, after a seq. */
  readonly records: (afterSeq: number, limit: number) => StoredRecord[];
  readonly head: () => { seq: number; hash_chain: string };
  /** Another session, for an auditor of its tenant. */
  readonly audited: (sessionId: string) => Promise<Decision<AuditSource>>;
  /** The seq of the intent, for a tool that changes something. */
  readonly intentSeq: number | null;
};

export type ToolAnswer =
  | {
      readonly ok: true;
      /** The RFC 8785 text of the structured answer. */
      readonly text: string;
      readonly context?: JsonObject;
      /** What `begin_session` binds the session to. */
      readonly bind?: { workspace_root: string; plan_hash: string | null };
    }
  | { readonly ok: false; readonly refusal: Refusal; readonly details?: JsonObject };

/** A call whose arguments fit: its checks that need no I/O, and what it does. */
export type PreparedCall = {
  readonly needsWorkspace: boolean;
  /** The plan that the call itself names. */
  readonly planHash: string | null;
  /** Path and plan checks, in the order of the contract, before anything is done. */
  readonly check: (context: ToolContext) => Refusal | null;
  readonly run: (context: ToolContext) => Promise<ToolAnswer>;
};

export type ToolListing = {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly inputSchema: JsonObject;
  readonly outputSchema: JsonObject;
  readonly annotations: {
    readonly readOnlyHint: boolean;
    readonly destructiveHint: boolean;
    readonly idempotentHint: boolean;
    readonly openWorldHint: boolean;
  };
};

export type BuiltInTool = {
  readonly name: string;
  readonly roles: readonly Role[];
  /** `call`: one record. `effect`: an intent and its result. `bind`: one `session_bind`. */
  readonly record: "call" | "effect" | "bind";
  readonly contentKeys: readonly string[];
  /** Whether it takes a `session_id` in the 2026 era: all but the one that opens a session. */
  readonly takesHandle: boolean;
  readonly listing: () => ToolListing;
  readonly prepare: (args: JsonObject) => Decision<PreparedCall>;
};

export type ToolDefinition<Input extends z.ZodObject, Output extends z.ZodObject> = {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly roles: readonly Role[];
  readonly record: BuiltInTool["record"];
  readonly input: Input;
  readonly output: Output;
  readonly contentKeys?: readonly string[];
  readonly destructive?: boolean;
  readonly needsWorkspace: boolean | ((args: z.output<Input>) => boolean);
  readonly planHash?: (args: z.output<Input>) => string | null;
  readonly check?: (args: z.output<Input>, context: ToolContext) => Refusal | null;
  readonly run: (args: z.output<Input>, context: ToolContext) => Promise<ToolAnswer>;
};

/** Makes a tool of its definition; schemas are turned into JSON Schema at the first listing. */
export function defineTool<Input extends z.ZodObject, Output extends z.ZodObject>(
  definition: ToolDefinition<Input, Output>,
): BuiltInTool {
  const { needsWorkspace } = definition;
  let listing: ToolListing | null = null;
  return {
    name: definition.name,
    roles: definition.roles,
    record: definition.record,
    contentKeys: definition.contentKeys ?? [],
    takesHandle: definition.record !== "bind",
    listing: () => {
      listing ??= {
        name: definition.name,
        title: definition.title,
        description: definition.description,
        inputSchema: jsonSchema(definition.input, "input"),
        outputSchema: jsonSchema(definition.output, "output"),
        annotations: {
          readOnlyHint: definition.record === "call",
          destructiveHint: definition.destructive ?? false,
          idempotentHint: true,
          openWorldHint: false,
        },
      };
      return listing;
    },
    prepare: (raw) => {
      const args = parseArguments(definition.input, raw);
      if (!args.ok) return args;
      return allow({
        needsWorkspace:
          typeof needsWorkspace === "boolean" ? needsWorkspace : needsWorkspace(args.value),
        planHash: definition.planHash?.(args.value) ?? null,
        check: (context) => definition.check?.(args.value, context) ?? null,
        run: (context) => definition.run(args.value, context),
      });
    },
  };
}

function jsonSchema(schema: z.ZodObject, io: "input" | "output"): JsonObject {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    target: "draft-2020-12",
    // A custom check has no JSON Schema; its `meta` says the type.
    unrepresentable: "any",
  });
  return JSON.parse(JSON.stringify(rest));
}

function parseArguments<Input extends z.ZodObject>(
  schema: Input,
  raw: JsonObject,
): Decision<z.output<Input>> {
  // An own `__proto__` is a field like any other here: unknown.
  if (Object.hasOwn(raw, "__proto__")) {
    return refuse("INVALID_ARGUMENT", "Unknown argument: __proto__.");
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return allow(parsed.data);
  return refuse("INVALID_ARGUMENT", describeIssues(parsed.error));
}

const MAX_ISSUES_SHOWN = 5;

/** Names each field that does not fit and says why, in one line. */
export function describeIssues(error: z.ZodError): string {
  const shown = error.issues.slice(0, MAX_ISSUES_SHOWN).map((issue) => {
    if (issue.code === "unrecognized_keys") return `Unknown field: ${issue.keys.join(", ")}.`;
    const field = issue.path.length === 0 ? "The value" : issue.path.map(String).join(".");
    return `${field}: ${issue.message}.`;
  });
  const more = error.issues.length - shown.length;
  return more > 0 ? `${shown.join(" ")} And ${more} more.` : shown.join(" ");
}

/** An answer whose structured content is canonical JSON, serialised once. */
export function answer(
  structured: unknown,
  extra: { context?: JsonObject; bind?: { workspace_root: string; plan_hash: string | null } } = {},
): ToolAnswer {
  return { ok: true, text: canonicalJson(structured), ...extra };
}

export function refused(refusal: Refusal, details?: JsonObject): ToolAnswer {
  return details === undefined ? { ok: false, refusal } : { ok: false, refusal, details };
}
