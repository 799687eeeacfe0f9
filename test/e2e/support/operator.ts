/**
 * @module
 * The operator's side: the admin API over plain HTTP.
 */
import * as z from "zod";
import { eventually } from "./eventually.ts";
import { type Answer, send } from "./http.ts";

export class Operator {
  readonly #url: string;
  readonly #key: string;

  constructor(url: string, key: string) {
    this.#url = url;
    this.#key = key;
  }

  send(method: string, path: string, body?: unknown): Promise<Answer> {
    return send(`${this.#url}/admin${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined
        ? {}
        : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  }

  get(path: string): Promise<Answer> {
    return this.send("GET", path);
  }

  /** A call that must answer 200 or 201; its body. */
  async ok(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.send(method, path, body);
    if (answer.status !== 200 && answer.status !== 201) {
      throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    }
    return answer.json;
  }

  async mintKey(fields: { role: string; [field: string]: unknown }): Promise<MintedKey> {
    return mintedKey.parse(await this.ok("POST", "/keys", { name: "e2e", ...fields }));
  }

  async approve(planHash: string, workspaceRoot: string, tenant?: string): Promise<unknown> {
    return this.ok("POST", `/plans/${planHash}/approve`, {
      workspace_root: workspaceRoot,
      ...(tenant === undefined ? {} : { tenant }),
    });
  }

  async revoke(planHash: string, workspaceRoot: string): Promise<unknown> {
    return this.ok("POST", `/plans/${planHash}/revoke`, { workspace_root: workspaceRoot });
  }

  /** A session's records as the export gives them, byte by byte. */
  async export(sessionId: string): Promise<string> {
    const answer = await this.get(`/audit/sessions/${sessionId}`);
    if (answer.status !== 200) throw new Error(`export: ${answer.status} ${answer.text}`);
    return answer.text;
  }

  /** Every entry of a query over the archive, newest first. */
  async audit(query: string): Promise<Entry[]> {
    const entries: Entry[] = [];
    let cursor: string | null = null;
    do {
      const suffix: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const page = auditPage.parse(await this.ok("GET", `/audit?limit=200&${query}${suffix}`));
      entries.push(...page.entries);
      cursor = page.next_cursor;
    } while (cursor !== null);
    return entries;
  }

  /** The archive follows within the flush interval. */
  async auditUntil(query: string, enough: (entries: Entry[]) => boolean): Promise<Entry[]> {
    return eventually(`the archive answers ${query}`, async () => {
      const entries = await this.audit(query);
      return enough(entries) ? entries : null;
    });
  }
}

const mintedKey = z.strictObject({
  id: z.string(),
  key: z.string(),
  name: z.string(),
  role: z.string(),
  tenant: z.string(),
  created_at: z.string(),
  expires_at: z.string(),
});

export type MintedKey = z.infer<typeof mintedKey>;

const entrySchema = z.looseObject({
  session_id: z.string(),
  seq: z.int(),
  hash_chain: z.string(),
  event: z.string(),
  tool: z.string().nullable(),
  result: z.string(),
  error_code: z.string().nullable(),
  principal: z.string(),
  context: z.record(z.string(), z.unknown()).nullable(),
  args: z.record(z.string(), z.unknown()).nullable(),
});

export type Entry = z.infer<typeof entrySchema>;

const auditPage = z.strictObject({
  entries: z.array(entrySchema),
  next_cursor: z.string().nullable(),
});
