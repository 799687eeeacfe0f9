/**
 * @module
 * The gateway as its clients and its operator see it, for tests that run inside
 * workerd: keys through the admin API, calls through `/mcp`, evidence through
 * the export.
 */
import { env, exports } from "cloudflare:workers";
import * as z from "zod";
import type { AuditRecord, StoredRecord } from "../../src/audit/record.ts";
import { parseExportLine } from "../../src/audit/record.ts";
import { type Report, verifyLines } from "../../src/audit/verify.ts";
import type { Principal } from "../../src/edge/principal.ts";
import type { Role } from "../../src/policy/roles.ts";

export const BASE = "http://localhost";
const DAY_MS = 86_400_000;

// ── the operator's side ───────────────────────────────────────────────────

export type Answer = { status: number; headers: Headers; text: string; body: unknown };

/** One call of the admin API, as an operator unless another credential is given. */
export async function admin(
  method: string,
  path: string,
  options: { as?: string; body?: unknown; headers?: Readonly<Record<string, string>> } = {},
): Promise<Answer> {
  const headers = new Headers({
    ...options.headers,
    authorization: `Bearer ${options.as ?? (await operatorKey())}`,
  });
  if (options.body !== undefined) headers.set("content-type", "application/json");
  const response = await exports.default.fetch(`${BASE}/admin${path}`, {
    method,
    headers,
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
  });
  return readAnswer(response);
}

async function readAnswer(response: Response): Promise<Answer> {
  // Not text(), which warns of a body that does not call itself text.
  const text = new TextDecoder().decode(await response.arrayBuffer());
  const isJson = response.headers.get("content-type")?.startsWith("application/json") === true;
  const body: unknown = isJson ? JSON.parse(text) : null;
  return { status: response.status, headers: response.headers, text, body };
}

const mintedSchema = z.object({
  id: z.string(),
  key: z.string(),
  role: z.string(),
  tenant: z.string(),
  expires_at: z.string(),
});

export type Key = z.infer<typeof mintedSchema> & { readonly principal: string };

export type KeyOptions = {
  tenant?: string;
  expires_in_days?: number;
  workspaces?: string[];
  upstreams?: string[];
  allowed_ips?: string[];
  tools?: string[];
  scopes?: string[];
  limits?: Record<string, number>;
};

/** Reads a minted key from the answer that shows it this once. */
export function keyOf(answer: Answer): Key {
  if (answer.status !== 201) throw new Error(`No key was minted: ${answer.text}`);
  const minted = mintedSchema.parse(answer.body);
  return { ...minted, principal: `key:${minted.id}` };
}

export async function mintKey(role: Role, options: KeyOptions = {}): Promise<Key> {
  const as = role === "operator" ? env.ADMIN_TOKEN : await operatorKey();
  return keyOf(await admin("POST", "/keys", { as, body: { name: `a ${role}`, role, ...options } }));
}

let operator: { key: Key; until: number } | null = null;

/** The operator of this test file; a test that moves the clock past the key's life gets a new one. */
export async function currentOperator(): Promise<Key> {
  if (operator === null || operator.until <= Date.now()) {
    operator = { key: await mintKey("operator"), until: Date.now() + 20 * DAY_MS };
  }
  return operator.key;
}

async function operatorKey(): Promise<string> {
  return (await currentOperator()).key;
}

export async function approve(root: string, planHash: string, tenant = "default") {
  const body = { workspace_root: root, tenant };
  return admin("POST", `/plans/${planHash}/approve`, { body });
}

export async function revoke(root: string, planHash: string, tenant = "default") {
  const body = { workspace_root: root, tenant };
  return admin("POST", `/plans/${planHash}/revoke`, { body });
}

// ── the client's side ─────────────────────────────────────────────────────

/** One POST to `/mcp`, exactly as given. */
export async function postMcp(
  key: string,
  sessionId: string | null,
  payload: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await exports.default.fetch(`${BASE}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...(sessionId === null ? {} : { "mcp-session-id": sessionId }),
      ...headers,
    },
    body: typeof payload === "string" ? payload : JSON.stringify(payload),
  });
  return readAnswer(response);
}

export function initializeRequest(protocolVersion = "2025-11-25") {
  return {
    jsonrpc: "2.0",
    id: "init",
    method: "initialize",
    params: {
      protocolVersion,
      capabilities: {},
      clientInfo: { name: "a test", version: "1.2.3" },
    },
  };
}

const receiptSchema = z.object({
  session_id: z.string(),
  seq: z.int(),
  hash_chain: z.string(),
});
export type Receipt = z.infer<typeof receiptSchema>;

const toolResultSchema = z.object({
  isError: z.literal(true).optional(),
  content: z.array(z.object({ type: z.literal("text"), text: z.string() })),
  structuredContent: z.record(z.string(), z.unknown()).optional(),
  _meta: z.object({
    "dev.atlas-gate/receipt": receiptSchema,
    "dev.atlas-gate/error": z.object({ code: z.string(), message: z.string() }).optional(),
  }),
});

const errorDataSchema = z.object({ code: z.string(), receipt: receiptSchema.optional() });

const answerSchema = z.object({
  result: toolResultSchema.optional(),
  error: z
    .object({ code: z.int(), message: z.string(), data: errorDataSchema.optional() })
    .optional(),
});

/** What came of a `tools/call`, whichever way it was refused. */
export type Called = {
  readonly status: number;
  readonly headers: Headers;
  /** The refusal's code, or null for a call that went well. */
  readonly code: string | null;
  /** The JSON-RPC error's code, where it was a protocol error. */
  readonly rpcCode: number | null;
  readonly message: string;
  readonly value: Record<string, unknown>;
  readonly receipt: Receipt | null;
  readonly text: string;
};

function readCalled({ status, headers, text, body }: Answer): Called {
  const { result, error } = answerSchema.parse(body);
  const refusal = result?._meta["dev.atlas-gate/error"];
  return {
    status,
    headers,
    code: refusal?.code ?? error?.data?.code ?? (error === undefined ? null : String(error.code)),
    rpcCode: error?.code ?? null,
    message: refusal?.message ?? error?.message ?? "",
    value: result?.structuredContent ?? {},
    receipt: result?._meta["dev.atlas-gate/receipt"] ?? error?.data?.receipt ?? null,
    text,
  };
}

/** One open session of the 2025 era. */
export class Client {
  readonly key: Key;
  readonly id: string;
  #requests = 0;

  constructor(key: Key, id: string) {
    this.key = key;
    this.id = id;
  }

  static async open(key: Key): Promise<Client> {
    const answer = await postMcp(key.key, null, initializeRequest());
    const id = answer.headers.get("mcp-session-id");
    if (answer.status !== 200 || id === null) throw new Error(`No session: ${answer.text}`);
    return new Client(key, id);
  }

  rpc(method: string, params?: Record<string, unknown>): Promise<Answer> {
    // An id each: two requests that are under way may not have the same one.
    this.#requests += 1;
    return postMcp(this.key.key, this.id, { jsonrpc: "2.0", id: this.#requests, method, params });
  }

  async call(name: string, args: Record<string, unknown> = {}): Promise<Called> {
    return readCalled(await this.rpc("tools/call", { name, arguments: args }));
  }

  /** A call that must go well. */
  async must(name: string, args: Record<string, unknown> = {}): Promise<Called> {
    const called = await this.call(name, args);
    if (called.code !== null || called.status !== 200) {
      throw new Error(`${name} was refused: ${called.text}`);
    }
    return called;
  }

  /** Ends the session; answers with the HTTP status. */
  async end(): Promise<number> {
    const response = await exports.default.fetch(`${BASE}/mcp`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${this.key.key}`, "mcp-session-id": this.id },
    });
    await response.body?.cancel();
    return response.status;
  }
}

// ── plans ─────────────────────────────────────────────────────────────────

export type PlanChanges = {
  title?: string;
  scope?: { paths: string[]; tools: (string | { name: string; when: string })[] };
  forbidden?: { paths?: string[]; tools?: string[] };
  expires_at?: string;
};

/** A plan that passes lint; what it allows is `src/**` and both changing tools, unless said otherwise. */
export function planOf(changes: PlanChanges = {}) {
  const scope = changes.scope ?? { paths: ["src/**"], tools: ["write_file", "delete_file"] };
  return {
    title: "Rework the greeting",
    objective: "Change the greeting in the source files of the service",
    phases: [
      {
        id: "PHASE_1",
        objective: "Edit the source files that hold the greeting",
        paths: scope.paths,
        verification: "npm test",
      },
    ],
    rollback: "Restore the versions of the files from before the change",
    ...changes,
    scope,
  };
}

/** Saves a plan as a planner of the tenant and answers with its hash. */
export async function savePlan(root: string, plan = planOf(), tenant = "default"): Promise<string> {
  const planner = await Client.open(await mintKey("antigravity", { tenant }));
  await planner.must("begin_session", { workspace_root: root });
  const saved = await planner.must("save_plan", { plan });
  return z.string().parse(saved.value.plan_hash);
}

export async function approvedPlan(
  root: string,
  plan = planOf(),
  tenant = "default",
): Promise<string> {
  const planHash = await savePlan(root, plan, tenant);
  const approved = await approve(root, planHash, tenant);
  if (approved.status !== 200) throw new Error(`Not approved: ${approved.text}`);
  return planHash;
}

/** An executor bound to the workspace, and to an approved plan of it. */
export async function executor(
  root: string,
  options: { plan?: ReturnType<typeof planOf>; tenant?: string } = {},
): Promise<{ client: Client; planHash: string }> {
  const tenant = options.tenant ?? "default";
  const planHash = await approvedPlan(root, options.plan, tenant);
  const client = await Client.open(await mintKey("windsurf", { tenant }));
  await client.must("begin_session", { workspace_root: root, plan_hash: planHash });
  return { client, planHash };
}

let roots = 0;

/** A workspace root that no other test of the file uses. */
export function newRoot(): string {
  roots += 1;
  return `/srv/workspace-${roots}`;
}

// ── evidence ──────────────────────────────────────────────────────────────

/** A session's export, line by line, as the operator gets it. */
export async function exported(sessionId: string): Promise<string[]> {
  const answer = await admin("GET", `/audit/sessions/${sessionId}`);
  if (answer.status !== 200) throw new Error(`No export: ${answer.text}`);
  return answer.text === "" ? [] : answer.text.trimEnd().split("\n");
}

export type ExportedRecord = AuditRecord & Pick<StoredRecord, "hash_chain" | "args" | "salt">;

export function parseExport(lines: readonly string[]): ExportedRecord[] {
  return lines.map((line) => {
    const parsed = parseExportLine(line);
    if (!parsed.ok) throw new Error(`Not a record: ${parsed.message}: ${line}`);
    const { hash_chain, args, salt } = parsed.stored;
    return { ...parsed.record, hash_chain, args, salt };
  });
}

export async function recordsOf(sessionId: string): Promise<ExportedRecord[]> {
  return parseExport(await exported(sessionId));
}

/** The portable verifier's report on a session's export. */
export async function verified(sessionId: string, tenant = "default"): Promise<Report> {
  return verifyLines(await exported(sessionId), { session_id: sessionId, tenant });
}

export function principalOf(key: Key, role: Role): Principal {
  return { id: key.principal, tenant: key.tenant, role, workspaces: null, upstreams: null };
}
