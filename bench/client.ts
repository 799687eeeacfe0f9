/**
 * @module
 * Sets a gateway up as its users would: an operator mints keys, a planner saves
 * plans, the operator approves them, executors open sessions. Nothing is
 * reached but HTTP.
 */
import * as z from "zod";
import { type Lane, postBytes } from "./load.ts";
import { body2026, headers2026 } from "./wire-2026.ts";

const PROTOCOL_VERSION = "2025-11-25";
const ACCEPT = "application/json, text/event-stream";
/** What stands in each workspace before anything is measured: a source file of 1 KiB. */
export const FILE = {
  path: "src/read.txt",
  content: "A line of some source file.....\n".repeat(32),
};

const receiptSchema = z.object({ seq: z.int(), hash_chain: z.string() });
export type Receipt = z.infer<typeof receiptSchema>;

const answerSchema = z.object({
  result: z
    .object({
      isError: z.literal(true).optional(),
      structuredContent: z.unknown(),
      _meta: z.object({ "dev.atlas-gate/receipt": receiptSchema }),
    })
    .optional(),
});
const keySchema = z.object({ key: z.string() });
const sessionsSchema = z.object({
  sessions: z.array(z.object({ session_id: z.string(), entries: z.int() })),
});
const savedSchema = z.object({ plan_hash: z.string() });

/** An open session of an executor, bound to an approved plan of its workspace. */
export type Session = { readonly id: string; readonly root: string };

export class GatewayClient {
  readonly url: URL;
  readonly #operator: string;
  readonly #planner: string;
  readonly #executor: string;
  readonly #plans = new Map<string, Promise<string>>();

  private constructor(url: URL, keys: { operator: string; planner: string; executor: string }) {
    this.url = url;
    this.#operator = keys.operator;
    this.#planner = keys.planner;
    this.#executor = keys.executor;
  }

  /** Mints the keys that the rest is done with. */
  static async connect(url: URL, adminToken: string): Promise<GatewayClient> {
    const mint = async (by: string, role: string) =>
      keySchema.parse(await postJson(url, "/admin/keys", by, { name: `bench ${role}`, role })).key;
    const operator = await mint(adminToken, "operator");
    return new GatewayClient(url, {
      operator,
      planner: await mint(operator, "antigravity"),
      executor: await mint(operator, "windsurf"),
    });
  }

  /** Opens an executor's session on a workspace, which gets its plan and its file first. */
  async openSession(root: string): Promise<Session> {
    let plan = this.#plans.get(root);
    const isNew = plan === undefined;
    plan ??= this.#approvedPlan(root);
    this.#plans.set(root, plan);
    const id = await this.#open(this.#executor);
    await this.#call(this.#executor, id, "begin_session", {
      workspace_root: root,
      plan_hash: await plan,
    });
    if (isNew) await this.#call(this.#executor, id, "write_file", FILE);
    return { id, root };
  }

  /** Makes a small call and answers with its receipt. */
  async receipt(session: Session): Promise<Receipt> {
    const result = await this.#result(this.#executor, session.id, "list_files", {});
    return result._meta["dev.atlas-gate/receipt"];
  }

  /** A lane that repeats one request. */
  repeat(session: Session, method: string, params?: object): Lane {
    const bytes = this.request(session, method, params);
    return () => bytes;
  }

  /** The bytes of one request on a session. */
  request(session: Session, method: string, params?: object): Buffer {
    return postBytes(
      this.url,
      "/mcp",
      {
        accept: ACCEPT,
        authorization: `Bearer ${this.#executor}`,
        "mcp-protocol-version": PROTOCOL_VERSION,
        "mcp-session-id": session.id,
      },
      JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    );
  }

  /** The bytes of a `tools/call` of the 2026 era without a handle. */
  request2026(method: string, params: { readonly name: string }): Buffer {
    const headers = { ...headers2026(params.name), authorization: `Bearer ${this.#executor}` };
    return postBytes(this.url, "/mcp", headers, body2026(method, params));
  }

  /** Registers an upstream that everybody may call, with all that it offers approved. */
  async registerUpstream(name: string, url: string): Promise<void> {
    await postJson(this.url, "/admin/upstreams?approve=all", this.#operator, {
      name,
      url,
      gate: "open",
      roles: ["windsurf"],
    });
  }

  /** Ends a session; its sinks are flushed then. */
  async endSession({ id }: Session): Promise<void> {
    const headers = { authorization: `Bearer ${this.#executor}`, "mcp-session-id": id };
    const response = await fetch(new URL("/mcp", this.url), { method: "DELETE", headers });
    if (response.status !== 204) throw new Error(`DELETE answered ${response.status}`);
  }

  /** How many records of a session the archive has. */
  async archived({ id }: Session): Promise<number> {
    const headers = { authorization: `Bearer ${this.#operator}` };
    const response = await fetch(new URL("/admin/sessions?limit=200", this.url), { headers });
    const { sessions } = sessionsSchema.parse(await response.json());
    return sessions.find(({ session_id }) => session_id === id)?.entries ?? 0;
  }

  /** Whether both sinks have all of an ended session: only then are its arguments erased. */
  async erased({ id }: Session): Promise<boolean> {
    const response = await fetch(new URL(`/admin/audit/sessions/${id}/erase`, this.url), {
      method: "POST",
      headers: {
        authorization: `Bearer ${this.#operator}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ reason: "benchmark" }),
    });
    await response.body?.cancel();
    return response.ok;
  }

  async #approvedPlan(root: string): Promise<string> {
    const session = await this.#open(this.#planner);
    await this.#call(this.#planner, session, "begin_session", { workspace_root: root });
    const plan = {
      title: "Benchmark",
      objective: "Write files below src over and over.",
      scope: { paths: ["src/**"], tools: ["write_file"] },
      phases: [
        { id: "WRITE", objective: "Write.", paths: ["src/**"], verification: "npm run bench" },
      ],
      rollback: "Remove the folder that the benchmark made.",
    };
    const saved = await this.#call(this.#planner, session, "save_plan", { plan });
    const { plan_hash } = savedSchema.parse(saved);
    await postJson(this.url, `/admin/plans/${plan_hash}/approve`, this.#operator, {
      workspace_root: root,
    });
    return plan_hash;
  }

  async #open(key: string): Promise<string> {
    const response = await post(this.url, "/mcp", key, {
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: {
        protocolVersion: PROTOCOL_VERSION,
        capabilities: {},
        clientInfo: { name: "bench", version: "1" },
      },
    });
    await response.body?.cancel();
    const id = response.headers.get("mcp-session-id");
    if (id === null) throw new Error("initialize opened no session");
    const initialized = { jsonrpc: "2.0", method: "notifications/initialized" };
    await post(this.url, "/mcp", key, initialized, { "mcp-session-id": id });
    return id;
  }

  async #call(key: string, session: string, name: string, args: object): Promise<unknown> {
    return (await this.#result(key, session, name, args)).structuredContent;
  }

  async #result(key: string, session: string, name: string, args: object) {
    const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: args } };
    const headers = { "mcp-session-id": session, "mcp-protocol-version": PROTOCOL_VERSION };
    const answer = await postJson(this.url, "/mcp", key, body, headers);
    const { result } = answerSchema.parse(answer);
    if (result === undefined || result.isError === true) {
      throw new Error(`${name} failed:\n${JSON.stringify(answer)}`);
    }
    return result;
  }
}

async function postJson(
  url: URL,
  path: string,
  key: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  return (await post(url, path, key, body, headers)).json();
}

/** Throws with the body of anything but a success. */
async function post(
  url: URL,
  path: string,
  key: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  const response = await fetch(new URL(path, url), {
    method: "POST",
    headers: {
      accept: ACCEPT,
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      ...headers,
    },
    body: JSON.stringify(body),
  });
  if (response.ok) return response;
  throw new Error(`${path} answered ${response.status}:\n${await response.text()}`);
}
