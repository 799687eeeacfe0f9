/**
 * @module
 * The tools by which a session looks at its own evidence, and an auditor at
 * that of every session of its tenant.
 */
import * as z from "zod";
import type { StoredRecord } from "../audit/record.ts";
import { createVerifier } from "../audit/verify.ts";
import { workspaceStub } from "../objects.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { exportedLine, PAGE_RECORDS, parseStoredRecord } from "../session/evidence.ts";
import { ChainEffects } from "./chain-effects.ts";
import { replay } from "./replay.ts";
import { answer, defineTool, refused, type ToolContext } from "./tool.ts";

/** Few by default: an entry is about a kilobyte, and an agent reads every one. */
const DEFAULT_ENTRIES = 10;
const MAX_ENTRIES = 200;

const auditSessionId = z
  .string()
  .optional()
  .describe("Another session of the tenant; auditors only. Your own session when left out.");

const READERS = ["antigravity", "windsurf", "auditor"] as const;

/** The session that a call is about: its own, or for an auditor the one it names. */
async function subject(
  context: ToolContext,
  auditedId: string | undefined,
): Promise<
  Decision<{
    session_id: string;
    tenant: string;
    workspace_root: string | null;
    entries: number;
    head: string | null;
    page: (afterSeq: number, limit: number) => Promise<StoredRecord[]>;
  }>
> {
  const { state, caller } = context;
  if (auditedId === undefined || auditedId === state.session_id) {
    const { seq, hash_chain } = context.head();
    const page = async (after: number, limit: number) => context.records(after, limit);
    return allow({ ...state, entries: seq, head: hash_chain, page });
  }
  if (caller.role !== "auditor") {
    return refuse(
      "ROLE_FORBIDDEN",
      "Only an auditor may name another session. Leave audit_session_id out.",
    );
  }
  const source = await context.audited(auditedId);
  if (!source.ok) return source;
  return allow({ ...source.value.session, page: source.value.page });
}

export const readAuditLog = defineTool({
  name: "read_audit_log",
  title: "Read the audit log",
  description: `Reads records of this session's chain in order, ${DEFAULT_ENTRIES} at a time unless limit says otherwise.`,
  roles: READERS,
  record: "call",
  input: z.strictObject({
    after_seq: z.int().min(0).optional().describe("Only records after this seq."),
    limit: z.int().min(1).max(MAX_ENTRIES).optional(),
    audit_session_id: auditSessionId,
  }),
  output: z.object({
    entries: z.array(z.record(z.string(), z.unknown())),
    head: z.object({ seq: z.int(), hash_chain: z.string() }),
    next_after_seq: z.int().nullable(),
  }),
  needsWorkspace: false,
  run: async (args, context) => {
    const audited = await subject(context, args.audit_session_id);
    if (!audited.ok) return refused(audited.refusal);
    const limit = args.limit ?? DEFAULT_ENTRIES;
    const records = await audited.value.page(args.after_seq ?? 0, limit + 1);
    const shown = records.slice(0, limit);
    const { entries: seq, head } = audited.value;
    const next = records.length > limit ? (shown.at(-1)?.seq ?? null) : null;
    // The lines are canonical already: putting them together is the canonical form of the whole.
    const entries = shown.map(exportedLine).join(",");
    return {
      ok: true,
      text: `{"entries":[${entries}],"head":{"hash_chain":"${head ?? ""}","seq":${seq}},"next_after_seq":${next}}`,
    };
  },
});

const findings = z.array(z.object({ part: z.string(), code: z.string(), message: z.string() }));

export const verifyWorkspaceIntegrity = defineTool({
  name: "verify_workspace_integrity",
  title: "Verify integrity",
  description:
    "Recomputes the session's chain, the hashes of the workspace's files and plans, and checks that each effect in the chain is in the workspace's journal and the other way round.",
  roles: READERS,
  record: "call",
  input: z.strictObject({ audit_session_id: auditSessionId }),
  output: z.object({
    ok: z.boolean(),
    chain: z.object({ ok: z.boolean(), records: z.int(), head: z.string() }),
    files: z.object({ ok: z.boolean(), checked: z.int() }),
    plans: z.object({ ok: z.boolean(), checked: z.int() }),
    findings,
  }),
  needsWorkspace: (args) => args.audit_session_id === undefined,
  run: async (args, context) => {
    const audited = await subject(context, args.audit_session_id);
    if (!audited.ok) return refused(audited.refusal);
    const { session_id, tenant, workspace_root, page } = audited.value;
    const found: z.output<typeof findings> = [];
    const verifier = createVerifier({ tenant, session_id });
    const effects = new ChainEffects();
    for (let after = 0; ; ) {
      const records = await page(after, PAGE_RECORDS);
      for (const stored of records) {
        verifier.push(exportedLine(stored));
        effects.note(stored.seq, parseStoredRecord(stored));
      }
      after = records.at(-1)?.seq ?? after;
      if (records.length < PAGE_RECORDS) break;
    }
    const report = verifier.finish();
    const { integrity } = report.verdicts;
    for (const { seq, code, message } of integrity.findings) {
      found.push({ part: "chain", code, message: `Record ${seq}: ${message}` });
    }
    const roots = effects.roots();
    if (workspace_root !== null) roots.add(workspace_root);
    let journalOk = true;
    let files = { ok: true, checked: 0 };
    let plans = { ok: true, checked: 0 };
    for (const root of roots) {
      const workspace = workspaceStub(context.env, tenant, root);
      const integrity = await workspace.integrity(tenant);
      files = {
        ok: files.ok && integrity.files.ok,
        checked: files.checked + integrity.files.checked,
      };
      plans = {
        ok: plans.ok && integrity.plans.ok,
        checked: plans.checked + integrity.plans.checked,
      };
      for (const finding of integrity.findings) found.push({ part: "workspace", ...finding });
      const journal = await readJournal(workspace, session_id);
      for (const message of effects.differences(root, journal)) {
        journalOk = false;
        found.push({ part: "journal", code: "EFFECT_MISMATCH", message });
      }
    }
    const chainOk = integrity.ok === true && journalOk;
    return answer({
      ok: chainOk && files.ok && plans.ok,
      chain: { ok: chainOk, records: report.records, head: report.head },
      files,
      plans,
      findings: found,
    });
  },
});

async function readJournal(
  workspace: ReturnType<typeof workspaceStub>,
  sessionId: string,
): Promise<Map<number, string | null>> {
  const journal = new Map<number, string | null>();
  for (let after = 0; ; ) {
    const page = await workspace.journal(sessionId, after, PAGE_RECORDS);
    for (const { seq, outcome } of page) {
      if (outcome.kind === "file") journal.set(seq, outcome.effect.sha256_after);
    }
    after = page.at(-1)?.seq ?? after;
    if (page.length < PAGE_RECORDS) return journal;
  }
}

export const replayExecution = defineTool({
  name: "replay_execution",
  title: "Replay an execution",
  description:
    "Lists what a session did under a plan, in order, and what did not fit the plan: refusals, failures, and effects outside its scope.",
  roles: READERS,
  record: "call",
  input: z
    .strictObject({
      plan_hash: z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits"),
      tool: z.string().optional(),
      seq_start: z.int().min(1).optional(),
      seq_end: z.int().min(1).optional(),
      audit_session_id: auditSessionId,
    })
    .refine(
      ({ seq_start, seq_end }) =>
        seq_start === undefined || seq_end === undefined || seq_start <= seq_end,
      "seq_start must not be after seq_end",
    ),
  output: z.object({
    plan_hash: z.string(),
    plan: z.object({ title: z.string(), status: z.string() }).nullable(),
    actions: z.array(z.record(z.string(), z.unknown())),
    deviations: z.array(z.object({ seq: z.int(), code: z.string(), message: z.string() })),
    next_seq_start: z.int().nullable(),
  }),
  needsWorkspace: (args) => args.audit_session_id === undefined,
  run: async (args, context) => {
    const audited = await subject(context, args.audit_session_id);
    if (!audited.ok) return refused(audited.refusal);
    return replay(context, audited.value, args);
  },
});
