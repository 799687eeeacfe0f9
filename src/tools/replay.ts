/**
 * @module
 * What a session did under a plan, read back from its chain and held against
 * the plan once more.
 */
import type { AuditRecord, StoredRecord } from "../audit/record.ts";
import { workspaceStub } from "../objects.ts";
import { compilePlan, describeEffectOutside } from "../policy/decide.ts";
import { parsePlan } from "../policy/plan.ts";
import { PAGE_RECORDS, parseStoredRecord } from "../session/evidence.ts";
import { effectSchema } from "../workspace/types.ts";
import { answer, refused, type ToolAnswer, type ToolContext } from "./tool.ts";

/** Actions of one answer; `next_seq_start` goes on from there. */
const MAX_ACTIONS = 500;

export type ReplaySubject = {
  readonly session_id: string;
  readonly tenant: string;
  readonly workspace_root: string | null;
  readonly page: (afterSeq: number, limit: number) => Promise<StoredRecord[]>;
};

export type ReplayQuery = {
  readonly plan_hash: string;
  readonly tool?: string | undefined;
  readonly seq_start?: number | undefined;
  readonly seq_end?: number | undefined;
};

type Action = {
  seq: number;
  result_seq: number | null;
  timestamp: string;
  event: string;
  tool: string | null;
  result: string;
  error_code: string | null;
  effect: AuditRecord["context"];
};

export async function replay(
  context: ToolContext,
  subject: ReplaySubject,
  query: ReplayQuery,
): Promise<ToolAnswer> {
  const root = subject.workspace_root;
  const found =
    root === null
      ? null
      : await workspaceStub(context.env, subject.tenant, root).plan(root, query.plan_hash);
  const detail = found?.ok === true ? found.value : null;
  const compiled = detail === null ? null : compilePlan(parsePlan(JSON.parse(detail.plan)));

  const actions = new Map<number, Action>();
  const deviations: { seq: number; code: string; message: string }[] = [];
  let next: number | null = null;
  let sawPlan = false;
  scan: for (let after = (query.seq_start ?? 1) - 1; ; ) {
    const records = await subject.page(after, PAGE_RECORDS);
    for (const stored of records) {
      if (query.seq_end !== undefined && stored.seq > query.seq_end) break scan;
      const record = parseStoredRecord(stored);
      if (record === null) {
        deviations.push({ seq: stored.seq, code: "MALFORMED", message: "This is no record." });
        continue;
      }
      if (record.plan_hash !== query.plan_hash) continue;
      sawPlan = true;
      if (query.tool !== undefined && record.tool !== query.tool) continue;
      if (record.event === "tool_result" && record.intent_seq !== null) {
        const action = actions.get(record.intent_seq);
        if (action !== undefined) {
          action.result_seq = record.seq;
          action.result = record.result;
          action.error_code = record.error_code;
          action.effect = effectOf(record);
          continue;
        }
      }
      if (actions.size >= MAX_ACTIONS) {
        next = record.seq;
        break scan;
      }
      actions.set(record.seq, {
        seq: record.seq,
        result_seq: null,
        timestamp: record.timestamp,
        event: record.event,
        tool: record.tool,
        result: record.result,
        error_code: record.error_code,
        effect: effectOf(record),
      });
    }
    after = records.at(-1)?.seq ?? after;
    if (records.length < PAGE_RECORDS) break;
  }
  if (detail === null && !sawPlan) {
    return refused({
      code: "PLAN_NOT_FOUND",
      message: `This session did nothing under the plan ${query.plan_hash}, and its workspace does not know it.`,
    });
  }
  for (const action of actions.values()) {
    const deviation = deviationOf(action);
    if (deviation !== null) deviations.push({ seq: action.seq, ...deviation });
    const effect = effectSchema.safeParse(action.effect);
    if (compiled === null || !effect.success || action.tool === null) continue;
    const outside = describeEffectOutside(compiled, action.tool, effect.data.path);
    if (outside !== null) {
      deviations.push({ seq: action.seq, code: "EFFECT_OUTSIDE_PLAN", message: outside });
    }
  }
  return answer({
    plan_hash: query.plan_hash,
    plan: detail === null ? null : { title: detail.title, status: detail.status },
    actions: [...actions.values()],
    deviations,
    next_seq_start: next,
  });
}

function effectOf(record: AuditRecord): AuditRecord["context"] {
  const effect = effectSchema.safeParse(record.context?.effect);
  return effect.success ? { ...effect.data } : null;
}

function deviationOf(action: Action): { code: string; message: string } | null {
  const what = action.tool ?? action.event;
  if (action.event === "tool_intent" && action.result_seq === null) {
    return { code: "NO_RESULT", message: `${what} has no result in this range.` };
  }
  if (action.result !== "error") return null;
  const code = action.error_code ?? "INTERNAL_ERROR";
  return { code, message: `${what} was refused or failed: ${code}.` };
}
