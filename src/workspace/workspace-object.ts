/**
 * @module
 * The Workspace object, one a (tenant, workspace_root): files, plans, and the
 * journal that names the session and seq behind every change.
 *
 * It decides about a change in the transaction that makes it, so that a
 * revocation either comes before the write and wins, or after it. An answer
 * may be lost on the way back; the session then asks to settle, and a change
 * that was not made by then is refused for ever.
 *
 * Trade-off: content over `INLINE_BYTES` is put to R2 before the transaction
 * and may be left there unused when the transaction then refuses. It is
 * content-addressed, so a later write finds it, and no reader ever does.
 */
import { DurableObject } from "cloudflare:workers";
import { createHash } from "node:crypto";
import { requireConfig } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import {
  type CompiledPlan,
  compilePlan,
  decidePlannedCall,
  decideRead,
  decideUnplannedCall,
  decideUpstreamCall,
} from "../policy/decide.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { effectiveStatus, type PlanStatus } from "../policy/plan.ts";
import { getBlob, putBlob } from "./blobs.ts";
import {
  addVersion,
  currentFile,
  fileHistory,
  listFiles,
  readContent,
  type StoredContent,
} from "./files.ts";
import { checkIntegrity } from "./integrity.ts";
import {
  type ApprovalRule,
  approvalState,
  approvedPins,
  approvePlan,
  countPlans,
  listPlans,
  noSuchPlan,
  type Pins,
  type PlanRow,
  planDetail,
  planRow,
  planSummary,
  revokePlan,
  savePlan,
  storedPlan,
} from "./plans.ts";
import { ADDED_PLAN_COLUMNS, APPROVALS_TABLE, INLINE_BYTES, WORKSPACE_TABLES } from "./schema.ts";
import {
  type Approval,
  type ChangeInput,
  type Effect,
  type FileContent,
  type FileEntry,
  type FileVersion,
  type JournalOutcome,
  journalOutcomeSchema,
  type Origin,
  type PlanDetail,
  type PlanSummary,
  type Settlement,
  type UpstreamCall,
  type WorkspaceIntegrity,
  type WorkspaceName,
  type WriteInput,
} from "./types.ts";

const REGISTER_RETRY_MS = 5_000;
const MAX_COMPILED_PLANS = 64;
const HISTORY_LIMIT = 1000;
/** Plan text behind one list: an answer crosses an object boundary whole, where 32 MiB is the limit. */
const MAX_LISTED_CHARS = 4 * 1024 * 1024;
/** Plans of a workspace, each up to 256 KiB: agents save them, and none is ever deleted. */
const MAX_PLANS = 10_000;

type FileChange = { effect: Effect; bytes: number; approval: Approval };

export class WorkspaceObject extends DurableObject<Env> {
  #exists: boolean;
  #announced = false;
  readonly #compiled = new Map<string, CompiledPlan>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#exists =
      this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'facts'").toArray().length > 0;
    if (this.#exists) {
      addPlanColumns(this.#sql);
      this.#sql.exec(APPROVALS_TABLE);
    }
  }

  get #sql(): SqlStorage {
    return this.ctx.storage.sql;
  }

  // ── reading ─────────────────────────────────────────────────────────────

  /** The current content of a file; a bound plan's `forbidden` holds for reads too. */
  async read(
    tenant: string,
    path: string,
    boundPlan: string | null,
  ): Promise<Decision<FileContent>> {
    const allowed = decideRead(this.#planForReading(boundPlan), path);
    if (!allowed.ok) return allowed;
    const stored = this.#exists ? readContent(this.#sql, path, null) : null;
    if (stored === null) return refuse("NOT_FOUND", `There is no file ${path} in this workspace.`);
    return allow(await this.#content(tenant, stored));
  }

  /** A page of current files, without those that a bound plan forbids. `next` is the path to go on after. */
  list(
    prefix: string,
    after: string,
    limit: number,
    boundPlan: string | null,
  ): { files: FileEntry[]; next: string | null } {
    const plan = this.#planForReading(boundPlan);
    const files: FileEntry[] = [];
    let from = after;
    while (this.#exists) {
      const page = listFiles(this.#sql, prefix, from, limit + 1);
      for (const file of page) {
        if (!decideRead(plan, file.path).ok) continue;
        if (files.length === limit) return { files, next: files.at(-1)?.path ?? null };
        files.push(file);
      }
      const last = page.at(-1);
      if (page.length <= limit || last === undefined) break;
      from = last.path;
    }
    return { files, next: null };
  }

  /** Every version of a file, newest first, for an operator. */
  history(path: string): FileVersion[] {
    return this.#exists ? fileHistory(this.#sql, path, HISTORY_LIMIT) : [];
  }

  /** One version of a file, for an operator: old versions stay readable. */
  async readVersion(tenant: string, path: string, version: number): Promise<Decision<FileContent>> {
    const stored = this.#exists ? readContent(this.#sql, path, version) : null;
    if (stored === null) {
      return refuse("NOT_FOUND", `There is no version ${version} of ${path} in this workspace.`);
    }
    return allow(await this.#content(tenant, stored));
  }

  // ── changing files ──────────────────────────────────────────────────────

  /** Writes a file under a plan. Repeating it, or writing what is there already, changes nothing. */
  async write(input: WriteInput): Promise<Decision<FileChange>> {
    const bytes =
      input.encoding === "base64"
        ? Uint8Array.from(Buffer.from(input.content, "base64"))
        : new TextEncoder().encode(input.content);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const inBucket = bytes.byteLength > INLINE_BYTES;
    if (inBucket) {
      // Decided before anything is stored, and again in the transaction: time passes in between.
      const early = this.#decideChange(input);
      if (!early.ok) return early;
      await putBlob(this.env.BUCKET, input.workspace.tenant, sha256, bytes);
    }
    return this.#change(input, (approval) => {
      const before = currentFile(this.#sql, input.path);
      if (before?.sha256 === sha256) {
        const effect: Effect = {
          path: input.path,
          sha256_before: sha256,
          sha256_after: sha256,
          version: before.version,
        };
        return allow({ effect, bytes: before.bytes, approval });
      }
      const total = this.#currentBytes() - (before?.bytes ?? 0) + bytes.byteLength;
      const { maxWorkspaceBytes } = requireConfig(this.env);
      if (total > maxWorkspaceBytes) {
        return refuse(
          "QUOTA_EXCEEDED",
          `With this file the workspace would hold ${total} bytes; ${maxWorkspaceBytes} are allowed.`,
        );
      }
      // Text is kept as text so that a read needs no decoding; NUL ends a string in SQL functions.
      const asText = input.encoding === "utf-8" && !input.content.includes("\0");
      const effect = addVersion(this.#sql, {
        path: input.path,
        sha256,
        bytes: bytes.byteLength,
        encoding: input.encoding,
        content: inBucket ? null : asText ? input.content : bytes,
        inBucket,
        origin: input.origin,
        plan_hash: input.plan_hash,
        created_at: new Date().toISOString(),
      });
      return allow({ effect, bytes: bytes.byteLength, approval });
    });
  }

  /** Deletes a file under a plan; its versions stay. */
  remove(input: ChangeInput): Decision<FileChange> {
    return this.#change(input, (approval) => {
      if (currentFile(this.#sql, input.path) === null) {
        return refuse("NOT_FOUND", `There is no file ${input.path} in this workspace.`);
      }
      const effect = addVersion(this.#sql, {
        path: input.path,
        sha256: null,
        bytes: 0,
        encoding: "utf-8",
        content: null,
        inBucket: false,
        origin: input.origin,
        plan_hash: input.plan_hash,
        created_at: new Date().toISOString(),
      });
      return allow({ effect, bytes: 0, approval });
    });
  }

  /**
   * Says how the change of an intent ended. One that was not made by now is
   * refused for ever, however late its call still arrives.
   */
  settle(sessionId: string, seq: number): Settlement {
    return this.ctx.storage.transactionSync(() => {
      const outcome = this.#exists ? this.#journalled(sessionId, seq) : null;
      if (outcome !== null) return { done: true, outcome };
      this.#ensureTables();
      this.#sql.exec(
        "INSERT INTO refusals (session_id, seq) VALUES (?, ?) ON CONFLICT DO NOTHING",
        sessionId,
        seq,
      );
      return { done: false };
    });
  }

  /** The journal of one session, by seq, after `afterSeq`. */
  journal(
    sessionId: string,
    afterSeq: number,
    limit: number,
  ): { seq: number; outcome: JournalOutcome }[] {
    if (!this.#exists) return [];
    return this.#sql
      .exec<{ seq: number; outcome: string }>(
        "SELECT seq, outcome FROM journal WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        sessionId,
        afterSeq,
        limit,
      )
      .toArray()
      .map((row) => ({
        seq: row.seq,
        outcome: journalOutcomeSchema.parse(JSON.parse(row.outcome)),
      }));
  }

  // ── plans ───────────────────────────────────────────────────────────────

  /** Saves a plan that passed lint: `text` is its RFC 8785 form, `hash` the SHA-256 of that. */
  savePlan(
    workspace: WorkspaceName,
    origin: Origin,
    plan: { hash: string; text: string; title: string },
  ): Decision<{ plan_hash: string; status: PlanStatus }> {
    const saved = this.ctx.storage.transactionSync<
      Decision<{ plan_hash: string; status: PlanStatus }>
    >(() => {
      this.#ensureFacts(workspace);
      const late = this.#refused(origin);
      if (late !== null) return late;
      if (planRow(this.#sql, plan.hash) === null && countPlans(this.#sql) >= MAX_PLANS) {
        return refuse("QUOTA_EXCEEDED", `This workspace holds ${MAX_PLANS} plans already.`);
      }
      savePlan(this.#sql, plan, origin.principal, new Date().toISOString());
      const row = planRow(this.#sql, plan.hash);
      if (row === null) throw new Error("a plan that was just saved is not there");
      const outcome = { kind: "plan", plan_hash: plan.hash, status: this.#status(row) } as const;
      this.#journalise(origin, outcome);
      return allow({ plan_hash: outcome.plan_hash, status: outcome.status });
    });
    this.#announce();
    return saved;
  }

  /** Whether a session may bind to this plan: it must be there, approved and not expired. */
  bindable(hash: string): Decision<{ approval: Approval }> {
    const row = this.#exists ? planRow(this.#sql, hash) : null;
    if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(hash));
    // Approved comes before not expired, as for a change: a proposed plan is not approved, whatever its end.
    const status = row.status === "proposed" ? "proposed" : this.#status(row);
    if (status === "approved" && row.approved_by !== null && row.approved_at !== null) {
      return allow({ approval: { by: row.approved_by, at: row.approved_at } });
    }
    return status === "expired"
      ? refuse("PLAN_EXPIRED", "This plan or its approval has ended. Have it approved again.")
      : refuse(
          "PLAN_NOT_APPROVED",
          status === "revoked"
            ? "This plan was revoked. Have a new plan saved and approved."
            : "This plan is not approved yet. An operator approves it through the admin API.",
        );
  }

  /** Decides a call of an upstream tool under a plan, as of now: no approval that someone remembers counts. */
  decideUpstream(call: UpstreamCall): Decision<{ approval: Approval }> {
    const row = this.#exists ? planRow(this.#sql, call.planHash) : null;
    if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(call.planHash));
    return decideUpstreamCall({
      plan: this.#compile(row),
      state: approvalState(row),
      now: Date.now(),
      tool: call.tool,
      args: call.args,
      path: null,
      pin: call.pin,
      pins: approvedPins(row),
    });
  }

  /** Decides a call of an upstream that needs no plan: a bound plan's `forbidden` holds for it too. */
  decideUnplanned(call: Omit<UpstreamCall, "pin">): Decision {
    return decideUnplannedCall(this.#planForReading(call.planHash), call.tool, call.args);
  }

  plan(workspaceRoot: string, hash: string): Decision<PlanDetail> {
    const row = this.#exists ? planRow(this.#sql, hash) : null;
    if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(hash));
    return allow(planDetail(this.#sql, row, workspaceRoot, Date.now(), this.#approvalRule()));
  }

  /** A page of plans by hash; `more` when others follow. */
  plans(options: { status: PlanStatus | null; after: string; limit: number }): {
    plans: PlanSummary[];
    more: boolean;
  } {
    if (!this.#exists) return { plans: [], more: false };
    const now = Date.now();
    const plans: PlanSummary[] = [];
    let chars = 0;
    for (const row of listPlans(this.#sql, { ...options, limit: options.limit + 1 }, now)) {
      // A scope is a part of its plan, so this bounds what the answer holds.
      chars += row.plan.length;
      const full = plans.length >= options.limit || chars > MAX_LISTED_CHARS;
      if (full && plans.length > 0) return { plans, more: true };
      plans.push(planSummary(row, now));
    }
    return { plans, more: false };
  }

  /**
   * Puts down an operator's approval, for `PLAN_APPROVAL_DAYS` or until the plan
   * ends, and for its upstream tools as `pins` has them. The plan is approved
   * once `PLAN_APPROVALS_REQUIRED` operators have said so.
   */
  approve(
    workspaceRoot: string,
    hash: string,
    by: string,
    reason: string | null,
    pins: Pins,
  ): Decision<PlanDetail> {
    const rule = this.#approvalRule();
    return this.#movePlan(workspaceRoot, hash, (now) =>
      approvePlan(this.#sql, hash, by, reason, pins, now, rule),
    );
  }

  /** Revokes a plan: the next change under it is refused. */
  revoke(
    workspaceRoot: string,
    hash: string,
    by: string,
    reason: string | null,
  ): Decision<PlanDetail> {
    return this.#movePlan(workspaceRoot, hash, (now) =>
      revokePlan(this.#sql, hash, by, reason, now),
    );
  }

  #movePlan(
    workspaceRoot: string,
    hash: string,
    move: (now: number) => Decision<PlanRow>,
  ): Decision<PlanDetail> {
    if (!this.#exists) return refuse("PLAN_NOT_FOUND", noSuchPlan(hash));
    const now = Date.now();
    const moved = this.ctx.storage.transactionSync(() => move(now));
    return moved.ok
      ? allow(planDetail(this.#sql, moved.value, workspaceRoot, now, this.#approvalRule()))
      : moved;
  }

  #approvalRule(): ApprovalRule {
    const { planApprovalMs, planApprovalsRequired } = requireConfig(this.env);
    return { required: planApprovalsRequired, lifeMs: planApprovalMs };
  }

  // ── checking ────────────────────────────────────────────────────────────

  /** Recomputes every hash of the workspace: contents, journal, plans. */
  async integrity(tenant: string): Promise<WorkspaceIntegrity> {
    if (!this.#exists) {
      return { files: { ok: true, checked: 0 }, plans: { ok: true, checked: 0 }, findings: [] };
    }
    return checkIntegrity(this.#sql, this.env.BUCKET, tenant);
  }

  /** Tells D1 that this workspace exists, for lists across workspaces; kept up until it worked. */
  override async alarm(): Promise<void> {
    if (!this.#exists) return;
    const facts = this.#sql
      .exec<{ tenant: string; root: string; registered: number }>("SELECT * FROM facts")
      .toArray()[0];
    if (facts === undefined || facts.registered === 1) return;
    try {
      await this.env.ARCHIVE_DB.prepare(
        "INSERT INTO workspaces (tenant, root, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
      )
        .bind(facts.tenant, facts.root, new Date().toISOString())
        .run();
      this.#sql.exec("UPDATE facts SET registered = 1");
    } catch (error) {
      logEvent("error", "workspace_register_failed", { error: String(error) });
      await this.ctx.storage.setAlarm(Date.now() + REGISTER_RETRY_MS);
    }
  }

  // ── inside ──────────────────────────────────────────────────────────────

  /** The common course of a change: late calls, repeats, policy, `expected_sha256`, effect, journal. */
  #change(
    input: ChangeInput,
    effect: (approval: Approval) => Decision<FileChange>,
  ): Decision<FileChange> {
    return this.ctx.storage.transactionSync(() => {
      const decided = this.#decideChange(input);
      if (!decided.ok) return decided;
      const known = this.#journalled(input.origin.session_id, input.origin.seq);
      if (known?.kind === "file") {
        return allow({ effect: known.effect, bytes: known.bytes, approval: known.approval });
      }
      const stale = this.#expected(input);
      if (stale !== null) return stale;
      this.#ensureFacts(input.workspace);
      const done = effect(decided.value.approval);
      if (done.ok) this.#journalise(input.origin, { kind: "file", ...done.value });
      return done;
    });
  }

  #decideChange(input: ChangeInput): Decision<{ approval: Approval }> {
    const row = this.#exists ? planRow(this.#sql, input.plan_hash) : null;
    const late = this.#exists ? this.#refused(input.origin) : null;
    if (late !== null) return late;
    if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(input.plan_hash));
    return decidePlannedCall({
      plan: this.#compile(row),
      state: approvalState(row),
      now: Date.now(),
      tool: input.tool,
      args: input.args,
      path: input.path,
    });
  }

  #expected(input: ChangeInput): Decision<never> | null {
    if (input.expected_sha256 === null) return null;
    const now = currentFile(this.#sql, input.path)?.sha256 ?? "";
    if (now === input.expected_sha256) return null;
    return refuse(
      "CONFLICT",
      now === ""
        ? `There is no file ${input.path} any more, or not yet. Read the workspace again.`
        : `The file ${input.path} now has SHA-256 ${now}. Read it again and repeat the change.`,
    );
  }

  #refused(origin: Origin): Decision<never> | null {
    const refused = this.#sql
      .exec(
        "SELECT 1 FROM refusals WHERE session_id = ? AND seq = ?",
        origin.session_id,
        origin.seq,
      )
      .toArray();
    return refused.length === 0
      ? null
      : refuse("CANCELLED", "This call was declared not done before it arrived here.");
  }

  #journalled(sessionId: string, seq: number): JournalOutcome | null {
    const row = this.#sql
      .exec<{ outcome: string }>(
        "SELECT outcome FROM journal WHERE session_id = ? AND seq = ?",
        sessionId,
        seq,
      )
      .toArray()[0];
    return row === undefined ? null : journalOutcomeSchema.parse(JSON.parse(row.outcome));
  }

  #journalise(origin: Origin, outcome: JournalOutcome): void {
    this.#sql.exec(
      "INSERT INTO journal (session_id, seq, outcome) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
      origin.session_id,
      origin.seq,
      JSON.stringify(outcome),
    );
  }

  /** A bound plan that cannot be found here forbids nothing: it was checked when it was bound. */
  #planForReading(hash: string | null): CompiledPlan | null {
    if (hash === null || !this.#exists) return null;
    const known = this.#compiled.get(hash);
    if (known !== undefined) return known;
    const row = planRow(this.#sql, hash);
    return row === null ? null : this.#compile(row);
  }

  #compile(row: PlanRow): CompiledPlan {
    const known = this.#compiled.get(row.hash);
    if (known !== undefined) return known;
    const compiled = compilePlan(storedPlan(row));
    if (this.#compiled.size >= MAX_COMPILED_PLANS) this.#compiled.clear();
    this.#compiled.set(row.hash, compiled);
    return compiled;
  }

  #status(row: PlanRow): PlanStatus {
    return effectiveStatus(approvalState(row), storedPlan(row), Date.now());
  }

  async #content(tenant: string, stored: StoredContent): Promise<FileContent> {
    const content = stored.content ?? (await this.#blob(tenant, stored));
    const text =
      typeof content === "string"
        ? content
        : stored.encoding === "base64"
          ? toBase64(content)
          : new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
    return {
      path: stored.path,
      content: text,
      encoding: stored.encoding,
      sha256: stored.sha256,
      bytes: stored.bytes,
      version: stored.version,
    };
  }

  async #blob(tenant: string, stored: StoredContent): Promise<Uint8Array> {
    const blob = await getBlob(this.env.BUCKET, tenant, stored.sha256);
    if (blob.ok) return blob.bytes;
    throw new Error(`the content of ${stored.path} is ${blob.problem}`);
  }

  #currentBytes(): number {
    return this.#sql.exec<{ current_bytes: number }>("SELECT current_bytes FROM facts").one()
      .current_bytes;
  }

  #ensureTables(): void {
    if (this.#exists) return;
    this.#sql.exec(WORKSPACE_TABLES);
    this.#exists = true;
  }

  #ensureFacts(workspace: WorkspaceName): void {
    this.#ensureTables();
    const known = this.#sql.exec("SELECT 1 FROM facts").toArray().length > 0;
    if (known) return;
    this.#sql.exec(
      "INSERT INTO facts (id, tenant, root, current_bytes, registered) VALUES (1, ?, ?, 0, 0)",
      workspace.tenant,
      workspace.root,
    );
  }

  /** Outside the transaction: the first change of a workspace has it listed in D1. */
  #announce(): void {
    if (this.#announced || !this.#exists) return;
    this.#announced = true;
    const facts = this.#sql
      .exec<{ registered: number }>("SELECT registered FROM facts")
      .toArray()[0];
    if (facts?.registered === 0) void this.ctx.storage.setAlarm(Date.now());
  }
}

/** Brings the plans of an object that was made by an earlier version up to date. */
function addPlanColumns(sql: SqlStorage): void {
  const known = sql
    .exec<{ name: string }>("SELECT name FROM pragma_table_info('plans')")
    .toArray()
    .map(({ name }) => name);
  for (const column of ADDED_PLAN_COLUMNS) {
    if (!known.includes(column)) sql.exec(`ALTER TABLE plans ADD COLUMN ${column} TEXT`);
  }
}

function toBase64(content: ArrayBuffer | Uint8Array): string {
  const bytes = content instanceof Uint8Array ? content : new Uint8Array(content);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
