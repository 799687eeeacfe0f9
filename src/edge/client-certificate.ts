/**
 * @module
 * Who is calling with a client certificate: what the platform verified in the
 * TLS handshake, bound to a principal by an operator. Cached as keys are.
 */
import * as z from "zod";
import { logEvent } from "../ops/log.ts";
import {
  type Caller,
  callerOfRow,
  KEY_COLUMNS,
  type KeyRow,
  keysUnreadable,
  remember,
} from "./authenticate.ts";
import { principalSchema } from "./principal.ts";

const CACHE_MS = 60_000;

/** A certificate that the platform verified: it comes of a trusted authority, and is not revoked. */
export type Certificate = {
  /** SHA-256, hex. */
  readonly fingerprint: string;
  /** RFC 2253. */
  readonly subject: string;
};

/** Of `request.cf`, which no client can write on Cloudflare's network. */
const tlsSchema = z.object({
  certPresented: z.literal("1"),
  certVerified: z.literal("SUCCESS"),
  certRevoked: z.literal("0"),
  certFingerprintSHA256: z
    .string()
    .transform((text) => text.replaceAll(":", "").toLowerCase())
    .pipe(z.string().regex(/^[0-9a-f]{64}$/)),
  certSubjectDNRFC2253: z.string(),
});

/** The verified certificate of a request's connection, or null: none, or one that is not to be relied on. */
export function certificateOf(request: Request): Certificate | null {
  const tls: unknown = request.cf?.tlsClientAuth;
  if (tls === undefined) return null;
  const parsed = tlsSchema.safeParse(tls);
  if (!parsed.success) return null;
  return {
    fingerprint: parsed.data.certFingerprintSHA256,
    subject: parsed.data.certSubjectDNRFC2253,
  };
}

/** How a binding names what it fits. */
export function fingerprintMatch(fingerprint: string): string {
  return `sha256:${fingerprint}`;
}

export function subjectMatch(subject: string): string {
  return `subject:${subject}`;
}

export type Bound = Pick<Caller, "principal" | "allowedIps">;

type Known = { readonly bound: Bound | null; readonly expiresAt: number; readonly seenAt: number };

const known = new Map<string, Known>();

/** Forgets all bindings in this isolate; the others follow within a minute. */
export function forgetCertificates(): void {
  known.clear();
}

/**
 * Whom a certificate stands for, or null when it is bound to nobody. A binding
 * of its fingerprint goes before one of its subject. Throws `HttpRefusal` 503
 * while bindings cannot be read.
 */
export async function boundTo(
  certificate: Certificate,
  db: D1Database,
  now: number,
  waitUntil: (work: Promise<unknown>) => void,
  maxAgeMs = CACHE_MS,
): Promise<Bound | null> {
  const key = `${certificate.fingerprint}\n${certificate.subject}`;
  const cached = known.get(key);
  if (cached !== undefined && now - cached.seenAt < Math.min(maxAgeMs, CACHE_MS)) {
    return cached.expiresAt > now ? cached.bound : null;
  }
  const found = await readBinding(certificate, db, now);
  remember(known, key, {
    bound: found?.bound ?? null,
    expiresAt: found?.expiresAt ?? Number.POSITIVE_INFINITY,
    seenAt: now,
  });
  if (found !== null) waitUntil(noteUse(db, found.id, now));
  return found?.bound ?? null;
}

type BindingRow = {
  id: string;
  line: string | null;
  principal: string | null;
  role: string | null;
  tenant: string | null;
};

async function readBinding(
  { fingerprint, subject }: Certificate,
  db: D1Database,
  now: number,
): Promise<{ id: string; bound: Bound; expiresAt: number } | null> {
  try {
    const row = await db
      .prepare(
        `SELECT id, line, principal, role, tenant FROM client_certificates
         WHERE match IN (?, ?) AND revoked_at IS NULL ORDER BY match LIMIT 1`,
      )
      .bind(fingerprintMatch(fingerprint), subjectMatch(subject))
      .first<BindingRow>();
    if (row === null) return null;
    const { id, line, principal, role, tenant } = row;
    if (line === null) {
      const own = principalSchema.parse({
        id: principal,
        role,
        tenant,
        workspaces: null,
        upstreams: null,
      });
      const bound = { principal: own, allowedIps: null };
      return { id, bound, expiresAt: Number.POSITIVE_INFINITY };
    }
    // With the rights of the newest key, and with none once every key of the line has ended.
    const key = await db
      .prepare(
        `SELECT ${KEY_COLUMNS} FROM api_keys
         WHERE line = ? AND revoked_at IS NULL AND expires_at > ?
         ORDER BY created_at DESC, id DESC LIMIT 1`,
      )
      .bind(line, new Date(now).toISOString())
      .first<KeyRow>();
    if (key === null) return null;
    const { principal: own, allowedIps, expiresAt } = callerOfRow(key);
    return { id, bound: { principal: own, allowedIps }, expiresAt };
  } catch (error) {
    throw keysUnreadable(error);
  }
}

/** Once a minute and isolate, after the answer. */
async function noteUse(db: D1Database, id: string, now: number): Promise<void> {
  try {
    await db
      .prepare("UPDATE client_certificates SET last_used_at = ? WHERE id = ?")
      .bind(new Date(now).toISOString(), id)
      .run();
  } catch (error) {
    logEvent("warn", "last_use_not_noted", { certificate_id: id, error: String(error) });
  }
}
