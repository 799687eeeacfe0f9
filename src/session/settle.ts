/**
 * @module
 * Closes intents that an earlier life of the object left open: it was evicted
 * or aborted between intent and result. A Workspace says what was written, or
 * refuses it for ever; where nobody can say, the outcome is unknown.
 */
import * as z from "zod";
import { workspaceStub } from "../objects.ts";
import type { Settlement } from "../workspace/types.ts";
import type { Entry, IntentNote, Ledger, OpenIntent, Receipt } from "./ledger.ts";
import type { SessionState } from "./state.ts";

const intentNoteSchema = z.object({
  event: z.string(),
  result_event: z.string(),
  tool: z.string().nullable(),
  workspace_root: z.string().nullable(),
  plan_hash: z.string().nullable(),
  request_id: z.string(),
  upstream: z.string().nullable().default(null),
  role: z.string().nullable().default(null),
});

export function parseIntentNote(json: string): OpenIntent {
  return intentNoteSchema.parse(JSON.parse(json));
}

/**
 * Whether a lost life of the object means a lost call: it does for a tool, which
 * ran in the object. An admin change is made by the Worker, which still reports.
 */
export function isLost(note: IntentNote): boolean {
  return note.event !== "admin";
}

/** Settles one open intent and appends its result; answers with that record. Throws when the Workspace cannot be asked. */
export async function settleIntent(
  env: Env,
  ledger: Ledger,
  state: SessionState,
  seq: number,
  note: OpenIntent,
): Promise<Receipt> {
  const settlement = await askWorkspace(env, state, seq, note);
  return ledger.result(note.role ?? state.role, seq, settledEntry(note, settlement));
}

/** Asks the Workspace of an intent how it ended; null when no Workspace was concerned. */
export async function askWorkspace(
  env: Env,
  state: SessionState,
  seq: number,
  note: IntentNote,
): Promise<Settlement | null> {
  if (note.workspace_root === null || note.event !== "tool_intent" || note.upstream !== null) {
    return null;
  }
  const workspace = workspaceStub(env, state.tenant, note.workspace_root);
  return workspace.settle(state.session_id, seq);
}

function settledEntry(note: IntentNote, settlement: Settlement | null): Entry {
  const common = {
    event: note.result_event,
    tool: note.tool,
    workspace_root: note.workspace_root,
    plan_hash: note.plan_hash,
    request_id: note.request_id,
  };
  if (settlement === null) {
    return {
      ...common,
      result: "error",
      error_code: "OUTCOME_UNKNOWN",
      notes: "the session was lost before the answer was recorded",
    };
  }
  if (!settlement.done) {
    return {
      ...common,
      result: "error",
      error_code: "CANCELLED",
      notes: "settled after the session was lost: not done, and refused for ever",
    };
  }
  const { outcome } = settlement;
  return {
    ...common,
    result: "ok",
    notes: "settled after the session was lost: it was done",
    context:
      outcome.kind === "file"
        ? { effect: outcome.effect, approval: outcome.approval }
        : { plan: { plan_hash: outcome.plan_hash, status: outcome.status } },
  };
}
