/**
 * @module
 * Client certificates: whom each stands for. The platform verifies them; an
 * operator says here what a verified one means.
 */
import { and, desc, eq, isNull, sql } from "drizzle-orm";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import * as z from "zod";
import { withoutCredential } from "../audit/redact.ts";
import { apiKeys, clientCertificates } from "../db/d1.ts";
import { fingerprintMatch, forgetCertificates, subjectMatch } from "../edge/client-certificate.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { MCP_ROLES } from "../policy/roles.ts";
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

/** A distinguished name; certificates have shorter ones. */
const MAX_SUBJECT_CHARS = 1_024;
const MAX_PRINCIPAL_CHARS = 2_560;

const certificate = z.object({
  id: z.string(),
  name: z.string(),
  fingerprint_sha256: z.string().nullable(),
  subject: z.string().nullable(),
  principal: z.string(),
  role: z.string().nullable().describe("Null for one that has the rights of a line of keys."),
  tenant: z.string().nullable(),
  created_at: z.string(),
  created_by: z.string(),
  last_used_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
});

type Row = typeof clientCertificates.$inferSelect;

const body = z
  .strictObject({
    name: z
      .string()
      .min(1, "must have 1 to 128 characters")
      .max(128, "must have 1 to 128 characters"),
    fingerprint_sha256: z
      .string()
      .transform((text) => text.replaceAll(":", "").toLowerCase())
      .pipe(z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hex digits, with or without colons"))
      .optional(),
    subject: z
      .string()
      .min(1)
      .max(MAX_SUBJECT_CHARS)
      .optional()
      .describe("Distinguished name (RFC 2253), as the platform writes it."),
    key_id: z
      .string()
      .optional()
      .describe("A key: the certificate has the rights of its line, and ends with it."),
    principal: z
      .string()
      .max(MAX_PRINCIPAL_CHARS)
      .regex(/^oauth:\S+\|[^\p{C}]+$/u, "must be oauth:<issuer>|<subject>")
      .optional(),
    role: z.enum(MCP_ROLES).optional(),
    tenant: tenantName.optional(),
  })
  .refine((given) => (given.fingerprint_sha256 === undefined) !== (given.subject === undefined), {
    path: ["fingerprint_sha256"],
    error: "must be given, or else subject",
  })
  .refine((given) => (given.key_id === undefined) !== (given.role === undefined), {
    path: ["key_id"],
    error: "must be given, or else role",
  })
  .refine(
    ({ key_id, principal, tenant }) =>
      key_id === undefined || (principal === undefined && tenant === undefined),
    { path: ["key_id"], error: "says principal and tenant already" },
  );

export const bindCertificate = defineRoute({
  method: "post",
  path: "/client-certificates",
  summary: "Bind a client certificate to a key's line, or to a principal with a role",
  body,
  status: 201,
  answer: certificate,
  run: async (call) => {
    const { body, operator, now } = call;
    const db = drizzle(call.env.ARCHIVE_DB);
    const id = crypto.randomUUID();
    const match =
      body.fingerprint_sha256 === undefined
        ? subjectMatch(body.subject ?? "")
        : fingerprintMatch(body.fingerprint_sha256);
    await refuseSecond(db, match);
    const line = body.key_id === undefined ? null : await lineOf(db, body.key_id);
    const row: Row = {
      id,
      name: body.name,
      match,
      line,
      principal: line === null ? (body.principal ?? `cert:${id}`) : null,
      role: body.role ?? null,
      tenant: line === null ? (body.tenant ?? "default") : null,
      created_at: new Date(now).toISOString(),
      created_by: operator.id,
      last_used_at: null,
      revoked_at: null,
    };
    await recordCertificate(call, "client_certificate.bind", row, async () => {
      await db.insert(clientCertificates).values(row);
      forgetCertificates();
    });
    return shown(row);
  },
});

export const listCertificates = defineRoute({
  method: "get",
  path: "/client-certificates",
  summary: "List client certificates, newest first",
  query: z.strictObject(pageQuery),
  answer: z.object({ client_certificates: z.array(certificate), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [, created, id] = placeOf(query.cursor, PLACE) ?? [];
    const rows = await drizzle(env.ARCHIVE_DB)
      .select()
      .from(clientCertificates)
      .where(
        created === undefined || id === undefined
          ? undefined
          : sql`(${clientCertificates.created_at}, ${clientCertificates.id}) < (${created}, ${id})`,
      )
      .orderBy(desc(clientCertificates.created_at), desc(clientCertificates.id))
      .limit(query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      client_certificates: page.map(shown),
      next_cursor: last === undefined ? null : encodeCursor(`${last.created_at} ${last.id}`),
    };
  },
});

/** Creation time and id of the last one of a page. */
const PLACE = /^([0-9TZ:.-]{24}) ([0-9a-f-]{36})$/;

export const unbindCertificate = defineRoute({
  method: "delete",
  path: "/client-certificates/:id",
  summary: "Unbind a client certificate: refused everywhere within 60 s",
  params: z.strictObject({ id: z.string() }),
  status: 204,
  run: async (call) => {
    const db = drizzle(call.env.ARCHIVE_DB);
    const row = (
      await db
        .select()
        .from(clientCertificates)
        .where(eq(clientCertificates.id, call.params.id))
        .limit(1)
    )[0];
    if (row === undefined) {
      throw new HttpRefusal(404, "NOT_FOUND", "There is no client certificate with this id.");
    }
    if (row.revoked_at !== null) return null;
    await recordCertificate(call, "client_certificate.unbind", row, async () => {
      await db
        .update(clientCertificates)
        .set({ revoked_at: new Date(call.now).toISOString() })
        .where(eq(clientCertificates.id, row.id));
      forgetCertificates();
    });
    return null;
  },
});

/** A certificate that stood for two would stand for neither. */
async function refuseSecond(db: DrizzleD1Database, match: string): Promise<void> {
  const bound = await db
    .select({ id: clientCertificates.id })
    .from(clientCertificates)
    .where(and(eq(clientCertificates.match, match), isNull(clientCertificates.revoked_at)))
    .limit(1);
  const [other] = bound;
  if (other === undefined) return;
  throw new HttpRefusal(
    409,
    "CONFLICT",
    `This certificate is bound already, by ${other.id}. Unbind that first.`,
  );
}

async function lineOf(db: DrizzleD1Database, keyId: string): Promise<string> {
  const rows = await db
    .select({ line: apiKeys.line, role: apiKeys.role })
    .from(apiKeys)
    .where(and(eq(apiKeys.id, keyId), isNull(apiKeys.revoked_at)))
    .limit(1);
  const [key] = rows;
  if (key === undefined) throw new HttpRefusal(404, "NOT_FOUND", "There is no key with this id.");
  if (key.role !== "operator") return key.line;
  throw new HttpRefusal(
    400,
    "INVALID_ARGUMENT",
    "key_id: must be a key with an MCP role; certificates are for /mcp.",
  );
}

async function recordCertificate(
  call: Pick<AdminCall<unknown, unknown, unknown>, "env" | "operator" | "requestId" | "sent">,
  action: string,
  row: Row,
  change: () => Promise<void>,
): Promise<void> {
  const { id, name, match, line, principal, role, tenant } = row;
  const certificate: JsonObject = {
    id,
    name: withoutCredential(name),
    match,
    principal: line === null ? principal : `key:${line}`,
    role,
    tenant,
  };
  const context = { action, certificate };
  await recordChange(
    call.env,
    call.operator,
    { event: "admin", request_id: call.requestId, args: call.sent, context },
    change,
    () => ({ result: "ok", context }),
  );
}

function shown(row: Row) {
  const { match, line, principal, ...rest } = row;
  const [kind, ...value] = match.split(":");
  const text = value.join(":");
  return {
    ...rest,
    fingerprint_sha256: kind === "sha256" ? text : null,
    subject: kind === "subject" ? text : null,
    principal: line === null ? (principal ?? "") : `key:${line}`,
  };
}
