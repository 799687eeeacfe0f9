/**
 * @module
 * Who is calling with an API key. Answers, good and bad, are cached in the isolate for at most
 * a minute, which is also how long a revoked key may still be accepted
 * elsewhere. While the keys cannot be read, cached answers hold and all else is
 * 503: a 401 would tell a client to throw away a good key.
 */
import * as z from "zod";
import { sha256Hex } from "../audit/hash-node.ts";
import { logEvent } from "../ops/log.ts";
import { type Cidr, parseCidr } from "../policy/cidr.ts";
import { digestsEqual, keyIdOf } from "./api-key.ts";
import { type Principal, principalSchema } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

const CACHE_MS = 60_000;
/** Entries of each cache: good answers are not pushed out by a flood of bad ones. */
const CACHE_ENTRIES = 10_000;

export type Caller = {
  readonly principal: Principal;
  readonly keyId: string;
  /** Where the key may be used from; null sets no bound. */
  readonly allowedIps: readonly Cidr[] | null;
};

type Known = Caller & { readonly expiresAt: number; readonly until: number };
type Unknown = { readonly code: "UNAUTHENTICATED" | "KEY_EXPIRED"; readonly until: number };

/** The isolate's memory, by the digest of the credential: a key itself is never kept. */
const good = new Map<string, Known>();
const bad = new Map<string, Unknown>();

/** The credential of a request; two that differ are none. Throws `HttpRefusal` 401. */
export function credentialOf(headers: Headers): string {
  const authorization = headers.get("authorization");
  const apiKey = headers.get("x-api-key")?.trim() ?? null;
  const bearer = authorization === null ? null : bearerOf(authorization);
  if (authorization !== null && bearer === null) {
    throw unauthenticated("UNAUTHENTICATED", "Authorization must be a Bearer credential.");
  }
  if (bearer !== null && apiKey !== null && bearer !== apiKey) {
    throw unauthenticated("UNAUTHENTICATED", "Two credentials were sent, and they differ.");
  }
  const credential = bearer ?? apiKey;
  if (credential === null || credential === "") {
    throw unauthenticated(
      "UNAUTHENTICATED",
      "Send an API key as Authorization: Bearer … or as X-API-Key.",
    );
  }
  return credential;
}

function bearerOf(authorization: string): string | null {
  return /^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? null;
}

export type Looking = {
  /** How old a known answer may be, in ms. */
  readonly maxAgeMs?: number;
  /** Called before anything is looked up for a credential that was never good here; a throw is the answer. */
  readonly beforeLookup?: () => Promise<void>;
  /** Told when a look-up refuses a credential: not when one is repeated that was refused before. */
  readonly onRefused?: () => void;
};

/** The caller behind an API key. Throws `HttpRefusal`: 401, or 503 while keys cannot be read. */
export async function authenticate(
  credential: string,
  db: D1Database,
  now: number,
  waitUntil: (work: Promise<unknown>) => void,
  { maxAgeMs = CACHE_MS, beforeLookup, onRefused }: Looking = {},
): Promise<Caller> {
  const keyId = keyIdOf(credential);
  if (keyId === null) throw unauthenticated("UNAUTHENTICATED", "This is not a valid API key.");
  const digest = sha256Hex(credential);
  const known = good.get(digest);
  if (known !== undefined && known.until - CACHE_MS + maxAgeMs > now) return notExpired(known, now);
  const refused = bad.get(digest);
  if (refused !== undefined && refused.until > now) throw refusedKey(refused.code);

  if (known === undefined) await beforeLookup?.();
  const row = await readKey(db, keyId);
  if (row === null || row.revoked_at !== null || !digestsEqual(row.digest, digest)) {
    remember(bad, digest, { code: "UNAUTHENTICATED", until: now + CACHE_MS });
    good.delete(digest);
    onRefused?.();
    throw refusedKey("UNAUTHENTICATED");
  }
  const caller: Known = { ...callerOfRow(row), until: now + CACHE_MS };
  remember(good, digest, caller);
  if (caller.expiresAt <= now) onRefused?.();
  const accepted = notExpired(caller, now);
  waitUntil(noteUse(db, keyId, now));
  return accepted;
}

/** Forgets a key in this isolate at once; the others follow within a minute. */
export function forgetKey(keyId: string): void {
  for (const [digest, known] of good) if (known.keyId === keyId) good.delete(digest);
}

/** Whether a credential was good here lately, if perhaps not any more. */
export function wasGood(credential: string): boolean {
  return good.has(sha256Hex(credential));
}

export type KeyRow = {
  id: string;
  digest: string;
  role: string;
  tenant: string;
  line: string;
  workspaces: string | null;
  upstreams: string | null;
  allowed_ips: string | null;
  tools: string | null;
  scopes: string | null;
  limits: string | null;
  expires_at: string;
  revoked_at: string | null;
};

/** The columns of a {@link KeyRow}. */
export const KEY_COLUMNS = `id, digest, role, tenant, line, workspaces, upstreams, allowed_ips, tools,
  scopes, limits, expires_at, revoked_at`;

/** Who a stored key stands for, and until when, Unix ms. */
export function callerOfRow(row: KeyRow): Caller & { readonly expiresAt: number } {
  const tools = nameList(row.tools);
  const scopes = nameList(row.scopes);
  return {
    keyId: row.id,
    principal: principalSchema.parse({
      id: `key:${row.line}`,
      tenant: row.tenant,
      role: row.role,
      workspaces: nameList(row.workspaces),
      upstreams: nameList(row.upstreams),
      ...(tools === null ? {} : { tools }),
      ...(scopes === null ? {} : { scopes }),
      ...(row.limits === null ? {} : { limits: JSON.parse(row.limits) }),
    }),
    // What was stored can be parsed; if it cannot, it lets nobody in.
    allowedIps: nameList(row.allowed_ips)?.flatMap((text) => parseCidr(text) ?? []) ?? null,
    expiresAt: Date.parse(row.expires_at),
  };
}

async function readKey(db: D1Database, id: string): Promise<KeyRow | null> {
  try {
    return await db
      .prepare(`SELECT ${KEY_COLUMNS} FROM api_keys WHERE id = ?`)
      .bind(id)
      .first<KeyRow>();
  } catch (error) {
    throw keysUnreadable(error);
  }
}

/** 503, never 401: that would tell a client to throw away a good credential. */
export function keysUnreadable(error: unknown): HttpRefusal {
  logEvent("error", "keys_unreadable", { error: String(error) });
  return new HttpRefusal(503, "OVERLOADED", "Keys cannot be read at the moment. Try again.", {
    headers: { "retry-after": "5" },
  });
}

/** Once a minute and isolate, after the answer: the time of a key's last use is approximate. */
async function noteUse(db: D1Database, id: string, now: number): Promise<void> {
  try {
    await db
      .prepare("UPDATE api_keys SET last_used_at = ? WHERE id = ?")
      .bind(new Date(now).toISOString(), id)
      .run();
  } catch (error) {
    logEvent("warn", "last_use_not_noted", { key_id: id, error: String(error) });
  }
}

const names = z.array(z.string());

function nameList(json: string | null): string[] | null {
  return json === null ? null : names.parse(JSON.parse(json));
}

function notExpired(caller: Known, now: number): Caller {
  if (caller.expiresAt <= now) throw refusedKey("KEY_EXPIRED");
  return caller;
}

/** Keeps an answer, and forgets the oldest of too many. */
export function remember<T>(cache: Map<string, T>, digest: string, answer: T): void {
  cache.delete(digest);
  if (cache.size >= CACHE_ENTRIES) {
    const oldest = cache.keys().next();
    if (!oldest.done) cache.delete(oldest.value);
  }
  cache.set(digest, answer);
}

function refusedKey(code: Unknown["code"]): HttpRefusal {
  return unauthenticated(
    code,
    code === "KEY_EXPIRED"
      ? "This API key has expired. Ask an operator for a new one."
      : "This is not a valid API key.",
  );
}

export function unauthenticated(code: Unknown["code"], message: string): HttpRefusal {
  return new HttpRefusal(401, code, message, { headers: { "www-authenticate": "Bearer" } });
}
