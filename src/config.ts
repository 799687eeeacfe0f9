/**
 * @module
 * The variables and secrets of a deployment, read once an isolate. A bad value
 * is one clear error that names the variable: readiness shows it and every
 * route that needs the configuration answers 503 until it is mended.
 */
import * as z from "zod";
import { connectionStringOf } from "./archive/bindings.ts";
import { hmacSha256 } from "./audit/hash-node.ts";
import { isKeyName } from "./log/note.ts";
import {
  MAX_WITNESSES,
  parseWitnesses,
  type WitnessConfig,
  witnessConfig,
} from "./log/witness-config.ts";
import { parseIssuers, type TokenIssuer } from "./oauth/issuers.ts";
import { type Webhook, webhooksSchema } from "./ops/alerts/webhooks.ts";
import { type Cidr, parseCidr } from "./policy/cidr.ts";
import { MAX_RATE_PER_MINUTE, MAX_SESSIONS } from "./policy/limits.ts";
import type { Rate } from "./policy/token-bucket.ts";

const SECRET_BYTES = 32;

/** Host names that never leave the machine. */
export const LOOPBACK = /^(?:localhost|127\.0\.0\.1|\[::1\])$/;

/** Room for the least that an operator sends, so that a gateway can still be set up. */
const LEAST_BODY_BYTES = 256;
/** A call crosses an object boundary whole, where 32 MiB is the limit; its answer holds it twice. */
const MOST_BODY_BYTES = 8 * 1024 * 1024;

const wholeNumber = (least: number, most: number) =>
  z
    .string()
    .regex(/^\d{1,16}$/, "must be a whole number")
    .transform(Number)
    .refine((value) => value >= least && value <= most, `must be from ${least} to ${most}`);

const secret = z
  .string("is missing: it must be a secret of 32 bytes in base64")
  .transform((text, context) => {
    const bytes = /^[A-Za-z0-9+/]{43}=$/.test(text)
      ? Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
      : null;
    if (bytes?.length !== SECRET_BYTES) {
      context.addIssue({ code: "custom", message: "must be 32 bytes in base64" });
      return z.NEVER;
    }
    return bytes;
  });

const publicUrl = z.string().transform((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (
    url === null ||
    !/^https?:$/.test(url.protocol) ||
    url.pathname !== "/" ||
    url.search !== "" ||
    url.hash !== "" ||
    url.username !== "" ||
    url.password !== ""
  ) {
    context.addIssue({ code: "custom", message: "must be a URL such as https://gate.example.com" });
    return z.NEVER;
  }
  if (url.protocol === "http:" && !LOOPBACK.test(url.hostname)) {
    context.addIssue({ code: "custom", message: "must be https, except on this machine" });
    return z.NEVER;
  }
  return url;
});

/** What is wrong with a list, by place: readiness shows it to anybody, so it quotes nothing. */
function badEntry(at: number, wanted: string): string {
  return `is a list whose entry ${at + 1} is not ${wanted}`;
}

const origins = z.string().transform((text, context) => {
  const list: string[] = [];
  for (const [at, part] of text.split(",").entries()) {
    const origin = part.trim();
    if (origin === "") continue;
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      context.addIssue({ code: "custom", message: badEntry(at, "an origin") });
      return z.NEVER;
    }
    list.push(origin);
  }
  return list;
});

const logOrigin = z
  .string()
  .max(256, "must have at most 256 characters")
  .refine(isKeyName, "must be a name such as gate.example.com/log, without spaces and plus signs");

const witnesses = z.string().transform((text, context) => {
  const parsed = parseWitnesses(text);
  if (parsed.ok) return parsed.witnesses;
  context.addIssue({ code: "custom", message: parsed.message });
  return z.NEVER;
});

const addressBlocks = z.string().transform((text, context) => {
  const list: Cidr[] = [];
  for (const [at, each] of text.split(",").entries()) {
    const part = each.trim();
    const cidr = part === "" ? null : parseCidr(part);
    if (cidr !== null) list.push(cidr);
    else if (part !== "") {
      context.addIssue({ code: "custom", message: badEntry(at, "an address or a CIDR block") });
      return z.NEVER;
    }
  }
  return list.length === 0 ? null : list;
});

const tokenIssuers = z.string().transform((text, context) => {
  const parsed = parseIssuers(text);
  if (parsed.ok) return parsed.issuers;
  context.addIssue({ code: "custom", message: parsed.message });
  return z.NEVER;
});

const alertWebhooks = z.string().transform((text, context) => {
  const parsed = webhooksSchema.safeParse(jsonOrNull(text));
  if (parsed.success) return parsed.data;
  // Without what is in it: the URLs are credentials.
  context.addIssue({
    code: "custom",
    message:
      'must be a JSON list of {"kind": "slack" or "json", "url"} and {"kind": "pagerduty", "routing_key"}',
  });
  return z.NEVER;
});

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const trueOrFalse = z
  .enum(["true", "false"], 'must be "true" or "false"')
  .prefault("false")
  .transform((value) => value === "true");

const DAY_MS = 86_400_000;

const schema = z.object({
  PUBLIC_URL: publicUrl.optional(),
  SESSION_TTL_SECONDS: wholeNumber(1, 30 * 86_400).prefault("3600"),
  MAX_WORKSPACE_BYTES: wholeNumber(1, Number.MAX_SAFE_INTEGER).prefault("1073741824"),
  MAX_BODY_BYTES: wholeNumber(LEAST_BODY_BYTES, MOST_BODY_BYTES).prefault("4194304"),
  PLAN_APPROVAL_DAYS: wholeNumber(1, 3650).prefault("7"),
  PLAN_APPROVALS_REQUIRED: wholeNumber(1, 2).prefault("1"),
  FLUSH_INTERVAL_SECONDS: wholeNumber(1, 3600).prefault("5"),
  ARCHIVE: z.enum(["d1", "postgres"], 'must be "d1" or "postgres"').prefault("d1"),
  RETENTION_DAYS: wholeNumber(0, 36_500).prefault("90"),
  AUDIT_ARGS: z
    .enum(["redacted", "digest", "full"], 'must be "redacted", "digest" or "full"')
    .prefault("redacted"),
  JURISDICTION: z.enum(["eu", "us", "fedramp"], 'must be "eu", "us" or "fedramp"').optional(),
  ALLOWED_ORIGINS: origins.prefault(""),
  ALERT_WEBHOOKS: alertWebhooks.prefault("[]"),
  KEY_LIFETIME_DAYS: wholeNumber(1, 365).prefault("30"),
  ALLOW_PRIVATE_UPSTREAMS: trueOrFalse,
  MAX_SESSIONS_PER_PRINCIPAL: wholeNumber(1, MAX_SESSIONS).prefault("1000"),
  RATE_LIMIT_PER_MINUTE: wholeNumber(0, MAX_RATE_PER_MINUTE).prefault("600"),
  RATE_LIMIT_BURST: wholeNumber(0, MAX_RATE_PER_MINUTE).prefault("20"),
  RATE_LIMIT_PRINCIPAL_PER_MINUTE: wholeNumber(0, MAX_RATE_PER_MINUTE).prefault("6000"),
  ALLOWED_IPS: addressBlocks.prefault(""),
  MCP_TOKEN_ISSUERS: tokenIssuers.prefault("[]"),
  REQUIRE_CLIENT_CERT: trueOrFalse,
  ADMIN_TOKEN: z
    .string("is missing: it must be a secret of at least 32 characters")
    .min(32, "must have at least 32 characters"),
  METRICS_TOKEN: z.string().min(16, "must have at least 16 characters").optional(),
  LOG_SIGNING_KEY: secret,
  LOG_SIGNING_KEY_NEXT: secret.optional(),
  LOG_ORIGIN: logOrigin.optional(),
  WITNESSES: witnesses.prefault("[]"),
  WITNESS_QUORUM: wholeNumber(1, MAX_WITNESSES).optional(),
  SECRETS_KEY: secret,
});

/** What the rest of the gateway reads: durations in milliseconds, sizes in bytes. */
export type Config = WitnessConfig & {
  readonly publicUrl: URL | null;
  readonly sessionTtlMs: number;
  readonly maxWorkspaceBytes: number;
  readonly maxBodyBytes: number;
  readonly planApprovalMs: number;
  /** How many operators a plan needs: 2 is the two-person rule. */
  readonly planApprovalsRequired: number;
  readonly flushIntervalMs: number;
  readonly archive: "d1" | "postgres";
  /** How long an ended session stays in the archive once R2 holds it; null for ever. */
  readonly retentionMs: number | null;
  readonly auditArgs: "redacted" | "digest" | "full";
  readonly jurisdiction: "eu" | "us" | "fedramp" | null;
  readonly allowedOrigins: readonly string[];
  readonly keyLifetimeDays: number;
  readonly alertWebhooks: readonly Webhook[];
  /** Whether upstreams may be on loopback, private or link-local addresses, and on plain http. */
  readonly allowPrivateUpstreams: boolean;
  readonly logOrigin: string;
  /** Seeds of the log's signing keys: the current one, and the next one during a rotation. */
  readonly logSeeds: readonly [Uint8Array, ...Uint8Array[]];
  readonly maxSessionsPerPrincipal: number;
  /** Of one session; null sets no limit. */
  readonly sessionRate: Rate | null;
  /** Requests of one principal a minute; null sets no limit. */
  readonly principalPerMinute: number | null;
  /** Who may reach what is not public; null lets all in. */
  readonly allowedIps: readonly Cidr[] | null;
  readonly tokenIssuers: readonly TokenIssuer[];
  readonly requireClientCert: boolean;
  readonly adminToken: string;
  /** Reads `/metrics`; null leaves that to operators. */
  readonly metricsToken: string | null;
  readonly secretsKey: Uint8Array;
  /** The key under which session ids are minted, derived from `secretsKey`. */
  readonly sessionIdKey: Uint8Array;
};

export type ConfigResult = { ok: true; config: Config } | { ok: false; message: string };

/**
 * Reads a configuration from bindings; anything that is not a variable or a
 * secret named in `docs/configuration.md` is passed over.
 */
export function parseConfig(env: object): ConfigResult {
  // An empty variable is one that is not set: wrangler has no other way to unset one.
  const values: Record<string, unknown> = Object.fromEntries(
    Object.entries(env).filter(([, value]) => typeof value === "string" && value !== ""),
  );
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return { ok: false, message: `${issue?.path.join(".")} ${issue?.message}` };
  }
  const value = parsed.data;
  if (value.ARCHIVE === "postgres" && connectionStringOf(env, "HYPERDRIVE") === null) {
    return { ok: false, message: "ARCHIVE is postgres, but there is no binding HYPERDRIVE" };
  }
  const witnessing = witnessConfig(value.WITNESSES, value.WITNESS_QUORUM);
  if (!witnessing.ok) return { ok: false, message: witnessing.message };
  return {
    ok: true,
    config: {
      ...witnessing.config,
      logOrigin: value.LOG_ORIGIN ?? `${value.PUBLIC_URL?.host ?? "localhost"}/log`,
      logSeeds:
        value.LOG_SIGNING_KEY_NEXT === undefined
          ? [value.LOG_SIGNING_KEY]
          : [value.LOG_SIGNING_KEY, value.LOG_SIGNING_KEY_NEXT],
      publicUrl: value.PUBLIC_URL ?? null,
      sessionTtlMs: value.SESSION_TTL_SECONDS * 1000,
      maxWorkspaceBytes: value.MAX_WORKSPACE_BYTES,
      maxBodyBytes: value.MAX_BODY_BYTES,
      planApprovalsRequired: value.PLAN_APPROVALS_REQUIRED,
      planApprovalMs: value.PLAN_APPROVAL_DAYS * DAY_MS,
      flushIntervalMs: value.FLUSH_INTERVAL_SECONDS * 1000,
      archive: value.ARCHIVE,
      retentionMs: value.RETENTION_DAYS === 0 ? null : value.RETENTION_DAYS * DAY_MS,
      auditArgs: value.AUDIT_ARGS,
      jurisdiction: value.JURISDICTION ?? null,
      allowedOrigins: value.ALLOWED_ORIGINS,
      alertWebhooks: value.ALERT_WEBHOOKS,
      keyLifetimeDays: value.KEY_LIFETIME_DAYS,
      allowPrivateUpstreams: value.ALLOW_PRIVATE_UPSTREAMS,
      metricsToken: value.METRICS_TOKEN ?? null,
      maxSessionsPerPrincipal: value.MAX_SESSIONS_PER_PRINCIPAL,
      sessionRate:
        value.RATE_LIMIT_PER_MINUTE === 0 || value.RATE_LIMIT_BURST === 0
          ? null
          : { perMinute: value.RATE_LIMIT_PER_MINUTE, burst: value.RATE_LIMIT_BURST },
      principalPerMinute: value.RATE_LIMIT_PRINCIPAL_PER_MINUTE || null,
      allowedIps: value.ALLOWED_IPS,
      tokenIssuers: value.MCP_TOKEN_ISSUERS,
      requireClientCert: value.REQUIRE_CLIENT_CERT,
      adminToken: value.ADMIN_TOKEN,
      secretsKey: value.SECRETS_KEY,
      sessionIdKey: hmacSha256(value.SECRETS_KEY, "atlas-gate/session-id/v1"),
    },
  };
}

const loaded = new WeakMap<object, ConfigResult>();

/** The configuration of this isolate's bindings, parsed once. */
export function loadConfig(env: object): ConfigResult {
  const known = loaded.get(env);
  if (known !== undefined) return known;
  const result = parseConfig(env);
  loaded.set(env, result);
  return result;
}

/** The same for objects, which are only ever reached once the edge has accepted the configuration. */
export function requireConfig(env: object): Config {
  const result = loadConfig(env);
  if (!result.ok) throw new Error(result.message);
  return result.config;
}
