/**
 * @module
 * A plan: its shape, its identity, and where it stands. Lint (lint.ts) says what more a plan has to
 * satisfy; a plan that was saved has passed it.
 */
import { createHash } from "node:crypto";
import canonicalize from "canonicalize";
import * as z from "zod";
import { MAX_CONDITION_BYTES } from "./condition.ts";
import { MAX_PATTERNS } from "./glob.ts";

/** Bytes of UTF-8 of a whole plan in its RFC 8785 form. */
export const MAX_PLAN_BYTES = 256 * 1024;
/** Characters of a title, which stands in lists. */
export const MAX_TITLE_LENGTH = 200;
/** Characters of an objective, a verification or a rollback: a page or two. */
export const MAX_TEXT_LENGTH = 8 * 1024;
export const MAX_PHASES = 100;
/** Characters of a phase's id. */
export const MAX_PHASE_ID_LENGTH = 64;
/** Entries of a list of tools; one tool may have several, each with its own condition. */
export const MAX_TOOLS = 256;
/** Characters of a tool's name, as in MCP. */
export const MAX_TOOL_NAME_LENGTH = 128;

/** Built-in tools that change a file, and so mean nothing without a path. */
export const FILE_CHANGING_TOOLS: ReadonlySet<string> = new Set(["write_file", "delete_file"]);

/** No wildcard: a plan names exactly the tools that it means. */
const TOOL_NAME = /^[^\s*?\p{C}]+$/u;

const title = z.string().max(MAX_TITLE_LENGTH);
const text = z.string().max(MAX_TEXT_LENGTH);
const patterns = z.array(z.string()).max(MAX_PATTERNS);

const toolName = z
  .string()
  .max(MAX_TOOL_NAME_LENGTH)
  .regex(TOOL_NAME, "must be the exact name of a tool, without spaces or wildcards");

const conditionalTool = z.strictObject({
  name: toolName,
  /** CEL over `args`. In scope it must hold, under `forbidden` it must be false. */
  when: z.string().max(MAX_CONDITION_BYTES).exactOptional(),
});

const tools = z.array(z.union([toolName, conditionalTool])).max(MAX_TOOLS);

export const planSchema = z.strictObject({
  title,
  objective: text,
  scope: z.strictObject({ paths: patterns, tools }),
  forbidden: z
    .strictObject({ paths: patterns.exactOptional(), tools: tools.exactOptional() })
    .exactOptional(),
  phases: z
    .array(
      z.strictObject({
        id: z.string().max(MAX_PHASE_ID_LENGTH),
        objective: text,
        paths: patterns,
        verification: text,
      }),
    )
    .max(MAX_PHASES),
  rollback: text,
  /** RFC 3339, with a zone. */
  expires_at: z.string().exactOptional(),
});

export type Plan = z.infer<typeof planSchema>;
export type PlanTool = Plan["scope"]["tools"][number];

/** @throws ZodError for what is not shaped like a plan: stored plans are, for lint let them in */
export function parsePlan(value: unknown): Plan {
  return planSchema.parse(value);
}

/**
 * The plan's identity: lowercase hex SHA-256 of its RFC 8785 form. It covers the plan as given,
 * unknown members too, and not what a schema made of it.
 * @throws Error for what has no RFC 8785 form (lone surrogates, cycles, `undefined`)
 */
export function planHash(plan: unknown): string {
  const canonical = canonicalize(plan);
  if (canonical === undefined) throw new Error("Not JSON: there is nothing to hash");
  return createHash("sha256").update(canonical, "utf8").digest("hex");
}

export const PLAN_STATES = ["proposed", "approved", "revoked", "expired"] as const;
export type PlanStatus = (typeof PLAN_STATES)[number];

/** What is stored of an approval; expiry is not stored, it follows from the clock. */
export type ApprovalState = {
  status: "proposed" | "approved" | "revoked";
  approved_by: string | null;
  /** RFC 3339. */
  approved_at: string | null;
  /** RFC 3339; null where the approval lasts as long as the plan. */
  approval_expires_at: string | null;
};

/** Where a plan stands at a time: "revoked" is final, everything else ends with the clock. */
export function effectiveStatus(state: ApprovalState, plan: Plan, nowMs: number): PlanStatus {
  if (state.status === "revoked") return "revoked";
  return expiredAt(state, plan, nowMs) === null ? state.status : "expired";
}

/** The time that has passed, of those that end the plan or its approval; null while none has. */
export function expiredAt(state: ApprovalState, plan: Plan, nowMs: number): string | null {
  for (const end of [plan.expires_at, state.approval_expires_at]) {
    if (typeof end !== "string") continue;
    const endMs = parseTimestamp(end);
    // A time that cannot be read has passed: an approval without an end is never made by accident.
    if (endMs === null || endMs <= nowMs) return end;
  }
  return null;
}

const RFC_3339 =
  /^(\d{4})-(\d{2})-(\d{2})T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/i;

/** Unix milliseconds of an RFC 3339 time with its zone; null for anything else, 30 February too. */
export function parseTimestamp(value: string): number | null {
  const match = RFC_3339.exec(value);
  if (match === null) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  const daysInMonth = new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate();
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth) return null;
  const ms = Date.parse(value.toUpperCase());
  return Number.isNaN(ms) ? null : ms;
}
