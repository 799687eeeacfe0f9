/**
 * @module
 * API keys: minting, listing, rotating, revoking. A key is shown once, when it
 * is minted. `ADMIN_TOKEN` only reaches operator keys.
 */
import { and, desc, eq, sql } from "drizzle-orm";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import * as z from "zod";
import { withoutCredential } from "../audit/redact.ts";
import { apiKeys } from "../db/d1.ts";
import { mintKey } from "../edge/api-key.ts";
import { forgetKey } from "../edge/authenticate.ts";
import { forgetCertificates } from "../edge/client-certificate.ts";
import { BOOTSTRAP_PRINCIPAL } from "../edge/principal.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonValue } from "../mcp/ijson.ts";
import { secondsUntil } from "../ops/key-expiry.ts";
import { parseCidr } from "../policy/cidr.ts";
import { parseGlob } from "../policy/glob-syntax.ts";
import { limitsSchema } from "../policy/limits.ts";
import { ROLES } from "../policy/roles.ts";
import { scopeSchema } from "../policy/scopes.ts";
import { isToolGlob } from "../policy/tool-list.ts";
import { recordChange } from "../session/ambient.ts";
import { encodeCursor } from "../tools/cursor.ts";
import {
  type AdminCall,
  defineRoute,
  nextCursor,
  pageQuery,
  placeOf,
  tenantName,
} from "./route.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const name = z
  .string()
  .min(1, "must have 1 to 128 characters")
  .max(128, "must have 1 to 128 characters");
const rootGlob = z.string().refine((glob) => glob.startsWith("/") && parseGlob(glob, "root").ok, {
  error: "must be a glob of workspace roots, such as /srv/**",
});
const MAX_NARROWING = 256;
const addressBlock = z.string().refine((text) => parseCidr(text) !== null, {
  error: "must be an IP address or a CIDR block, such as 192.0.2.0/24",
});
const toolGlob = z.string().refine(isToolGlob, {
  error: "must be a glob of tool names, such as github_*",
});
const unique = (list: readonly string[]): boolean => new Set(list).size === list.length;
/** What narrows a key; left out, nothing does. */
const narrowing = {
  workspaces: z
    .array(rootGlob)
    .min(1)
    .max(MAX_NARROWING)
    .nullish()
    .describe("Globs of workspace roots; left out, all."),
  upstreams: z.array(name).min(1).max(MAX_NARROWING).nullish(),
  allowed_ips: z
    .array(addressBlock)
    .min(1)
    .max(MAX_NARROWING)
    .nullish()
    .describe("Where the key may be used from: addresses and CIDR blocks."),
  tools: z
    .array(toolGlob)
    .min(1)
    .max(MAX_NARROWING)
    .nullish()
    .describe("Globs of the names of tools; left out, all that the role may call."),
  scopes: z
    .array(scopeSchema)
    .min(1)
    .refine(unique, "must be there once each")
    .nullish()
    .describe("What of its role the key may use; left out, all of it."),
  limits: limitsSchema.nullish().describe("Limits of this key in place of the deployment's."),
};

const keyFields = {
  id: z.string(),
  name: z.string(),
  role: z.string(),
  tenant: z.string(),
  created_at: z.string(),
  expires_at: z.string(),
};
const minted = z.object({ ...keyFields, key: z.string() });

export const createKey = defineRoute({
  method: "post",
  path: "/keys",
  summary: "Mint an API key; it is shown this once",
  bootstrap: true,
  body: z.strictObject({
    name,
    role: z.enum(ROLES),
    tenant: tenantName.default("default"),
    expires_in_days: z.int().min(1).max(365).optional(),
    ...narrowing,
  }),
  status: 201,
  answer: minted,
  run: async (call) => {
    const { body, config, now } = call;
    onlyOperatorKeys(call.operator.id, body.role);
    const { id, key, digest } = mintKey();
    const days = body.expires_in_days ?? config.keyLifetimeDays;
    const row = {
      id,
      digest,
      name: body.name,
      role: body.role,
      tenant: body.tenant,
      line: id,
      workspaces: jsonText(body.workspaces),
      upstreams: jsonText(body.upstreams),
      allowed_ips: jsonText(body.allowed_ips),
      tools: jsonText(body.tools),
      scopes: jsonText(body.scopes),
      limits: jsonText(body.limits),
      minted_by: call.operator.id,
      created_at: new Date(now).toISOString(),
      expires_at: new Date(now + days * DAY_MS).toISOString(),
    };
    await recordKeyChange(call, "key.create", row, async () => {
      await drizzle(call.env.ARCHIVE_DB).insert(apiKeys).values(row);
      return true;
    });
    return { ...shown(row), key };
  },
});

export const listKeys = defineRoute({
  method: "get",
  path: "/keys",
  summary: "List API keys, newest first",
  bootstrap: true,
  query: z.strictObject(pageQuery),
  answer: z.object({
    keys: z.array(
      z.object({
        ...keyFields,
        last_used_at: z.string().nullable(),
        revoked_at: z.string().nullable(),
        expires_in: z.int().describe("Seconds until it ends; 0 once it has."),
        workspaces: z.array(z.string()).nullable(),
        upstreams: z.array(z.string()).nullable(),
        allowed_ips: z.array(z.string()).nullable(),
        tools: z.array(z.string()).nullable(),
        scopes: z.array(z.string()).nullable(),
        limits: limitsSchema.nullable(),
      }),
    ),
    next_cursor: nextCursor,
  }),
  run: async ({ env, query, operator, now }) => {
    const [, created, id] = placeOf(query.cursor, PLACE) ?? [];
    const rows = await drizzle(env.ARCHIVE_DB)
      .select()
      .from(apiKeys)
      .where(
        and(
          operator.id === BOOTSTRAP_PRINCIPAL ? eq(apiKeys.role, "operator") : undefined,
          created === undefined || id === undefined ? undefined : olderThan(created, id),
        ),
      )
      .orderBy(desc(apiKeys.created_at), desc(apiKeys.id))
      .limit(query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      keys: page.map((row) => ({
        ...shown(row),
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
        expires_in: secondsUntil(row.expires_at, now),
        workspaces: listOf(row.workspaces),
        upstreams: listOf(row.upstreams),
        allowed_ips: listOf(row.allowed_ips),
        tools: listOf(row.tools),
        scopes: listOf(row.scopes),
        limits: row.limits === null ? null : limitsSchema.parse(JSON.parse(row.limits)),
      })),
      next_cursor: last === undefined ? null : encodeCursor(`${last.created_at} ${last.id}`),
    };
  },
});

/** Creation time and id of the last key of a page. */
const PLACE = /^([0-9TZ:.-]{24}) ([0-9a-z]{16})$/;

const keyParams = z.strictObject({ id: z.string() });

export const rotateKey = defineRoute({
  method: "post",
  path: "/keys/:id/rotate",
  summary: "Mint a successor; the old key ends with the overlap",
  params: keyParams,
  body: z.strictObject({ overlap_hours: z.int().min(0).max(720).default(24) }),
  status: 201,
  answer: minted,
  run: async (call) => {
    const { params, body, config, now } = call;
    const { ARCHIVE_DB: db } = call.env;
    const old = await findKey(drizzle(db), params.id);
    if (old.revoked_at !== null || Date.parse(old.expires_at) <= now) throw keyHasEnded();
    const { id, key, digest } = mintKey();
    const row = {
      id,
      digest,
      name: old.name,
      role: old.role,
      tenant: old.tenant,
      line: old.line,
      workspaces: old.workspaces,
      upstreams: old.upstreams,
      minted_by: call.operator.id,
      allowed_ips: old.allowed_ips,
      tools: old.tools,
      scopes: old.scopes,
      limits: old.limits,
      created_at: new Date(now).toISOString(),
      expires_at: new Date(now + config.keyLifetimeDays * DAY_MS).toISOString(),
    };
    const overlapEnd = Math.min(now + body.overlap_hours * HOUR_MS, Date.parse(old.expires_at));
    const oldEnd = new Date(overlapEnd).toISOString();
    const columns = Object.keys(row);
    const rotated = await recordKeyChange(
      call,
      "key.rotate",
      { ...row, rotated_from: old.id, old_expires_at: oldEnd },
      async () => {
        // It may have been revoked since it was read, and a successor would undo that.
        const [inserted] = await db.batch([
          db
            .prepare(
              `INSERT INTO api_keys (${columns.join(", ")}) SELECT ${columns.map(() => "?").join(", ")}
               WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = ? AND revoked_at IS NULL)`,
            )
            .bind(...Object.values(row), old.id),
          db
            .prepare("UPDATE api_keys SET expires_at = ? WHERE id = ? AND revoked_at IS NULL")
            .bind(oldEnd, old.id),
        ]);
        forgetKey(old.id);
        forgetCertificates();
        return inserted?.meta.changes === 1;
      },
    );
    if (!rotated) throw keyHasEnded();
    return { ...shown(row), key };
  },
});

export const revokeKey = defineRoute({
  method: "delete",
  path: "/keys/:id",
  summary: "Revoke a key: refused everywhere within 60 s",
  bootstrap: true,
  params: keyParams,
  status: 204,
  run: async (call) => {
    const db = drizzle(call.env.ARCHIVE_DB);
    const row = await findKey(db, call.params.id);
    onlyOperatorKeys(call.operator.id, row.role);
    if (row.revoked_at !== null) return null;
    await recordKeyChange(call, "key.revoke", row, async () => {
      await db
        .update(apiKeys)
        .set({ revoked_at: new Date(call.now).toISOString() })
        .where(eq(apiKeys.id, row.id));
      forgetKey(row.id);
      // One may stand for the line of this key.
      forgetCertificates();
      return true;
    });
    return null;
  },
});

type KeyFacts = {
  id: string;
  name: string;
  role: string;
  tenant: string;
  created_at: string;
  expires_at: string;
  rotated_from?: string;
  old_expires_at?: string;
};

/** Records a change and makes it; answers whether it was made. */
async function recordKeyChange(
  call: Pick<AdminCall<unknown, unknown, unknown>, "env" | "operator" | "requestId" | "sent">,
  action: string,
  facts: KeyFacts,
  change: () => Promise<boolean>,
): Promise<boolean> {
  const { id, name, role, tenant, expires_at, rotated_from, old_expires_at } = facts;
  const key = {
    id,
    name: withoutCredential(name),
    role,
    tenant,
    expires_at,
    ...(rotated_from === undefined ? {} : { rotated_from }),
    ...(old_expires_at === undefined ? {} : { old_expires_at }),
  };
  const context = { action, key };
  return recordChange(
    call.env,
    call.operator,
    { event: "admin", request_id: call.requestId, args: call.sent, context },
    change,
    (done) =>
      done ? { result: "ok", context } : { result: "error", error_code: "CONFLICT", context },
  );
}

async function findKey(db: DrizzleD1Database, id: string) {
  const row = (await db.select().from(apiKeys).where(eq(apiKeys.id, id)).limit(1))[0];
  if (row === undefined) throw new HttpRefusal(404, "NOT_FOUND", "There is no key with this id.");
  return row;
}

function keyHasEnded(): HttpRefusal {
  return new HttpRefusal(409, "CONFLICT", "This key has ended. Create a new one instead.");
}

function onlyOperatorKeys(caller: string, role: string): void {
  if (caller !== BOOTSTRAP_PRINCIPAL || role === "operator") return;
  throw new HttpRefusal(
    403,
    "FORBIDDEN",
    "ADMIN_TOKEN only manages operator keys. Use an operator's key for all else.",
  );
}

function olderThan(created: string, id: string) {
  // Keys made within the same millisecond are told apart by their id.
  return sql`(${apiKeys.created_at}, ${apiKeys.id}) < (${created}, ${id})`;
}

function shown(row: KeyFacts) {
  const { id, name, role, tenant, created_at, expires_at } = row;
  return { id, name, role, tenant, created_at, expires_at };
}

function jsonText(value: JsonValue | undefined): string | null {
  return value == null ? null : JSON.stringify(value);
}

const strings = z.array(z.string());

function listOf(text: string | null): string[] | null {
  return text === null ? null : strings.parse(JSON.parse(text));
}
