/**
 * @module
 * A session's evidence for outsiders: its bundle, and the verifier's report on
 * it, made by the same code that an outsider runs.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { genesis } from "../audit/chain.ts";
import { sha256Bytes, sha256Hex } from "../audit/hash-node.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { checkpointOf } from "../log/checkpoint.ts";
import { LogUnreadable } from "../log/reader.ts";
import { ownLogKeys, ownLogReader, sessionLog } from "../log/session-log.ts";
import { parseHashLines } from "../log/tlog-proof.ts";
import {
  type AuditSource,
  allRecords,
  exportedLine,
  openSource,
  PAGE_RECORDS,
} from "../session/evidence.ts";
import { BUNDLE_FORMAT, type BundleLog, type BundleLogText } from "../verify/bundle.ts";
import { createSessionVerifier, type Trust } from "../verify/verify-bundle.ts";
import { defineRoute, tenantName } from "./route.ts";

/** Entries that a request walks for completeness; a longer log is for `atlas-gate verify --log`. */
const MAX_WALKED_ENTRIES = 16_384;

const sessionParams = z.strictObject({ id: z.string() });
const tenant = tenantName
  .default("default")
  .describe("Whose session it was, should nothing of it be left but its leaves in the log.");

export const bundleSession = defineRoute({
  method: "get",
  path: "/audit/sessions/:id/bundle",
  summary: "All that an outsider needs to verify a session offline",
  params: sessionParams,
  query: z.strictObject({
    tenant,
    leaves: z.enum(["all"]).optional().describe("Every leaf, not only the first and the newest."),
  }),
  answer: z.object({
    format: z.literal(BUNDLE_FORMAT),
    tenant: z.string(),
    session_id: z.string(),
    records: z.array(z.record(z.string(), z.unknown())),
    log: z.record(z.string(), z.unknown()).nullable(),
  }),
  run: async ({ env, params, query }) => {
    const { session, log, source } = await open(
      env,
      params.id,
      query.tenant,
      query.leaves === "all",
    );
    return new Response(bundleText(session, log, source), {
      headers: { "content-type": "application/json" },
    });
  },
});

const verdict = z.object({
  ok: z.boolean().nullable(),
  findings: z.array(z.object({ seq: z.int(), code: z.string(), message: z.string() })),
});

export const verifySession = defineRoute({
  method: "get",
  path: "/audit/sessions/:id/verify",
  summary: "Recompute a session's chain, hold it against the log, and say what does not hold",
  params: sessionParams,
  query: z.strictObject({ tenant }),
  answer: z.object({
    session_id: z.string(),
    records: z.int(),
    head: z.string().nullable(),
    unanchored: z.int(),
    open_intents: z.array(z.int()),
    verdicts: z.object({
      integrity: verdict,
      anchored: verdict,
      completeness: verdict,
      independence: verdict,
      time: verdict,
    }),
  }),
  run: async ({ env, config, params, query }) => {
    const { session, log, source } = await open(env, params.id, query.tenant, false);
    const verifier = createSessionVerifier(session, sha256Bytes);
    if (source !== null) {
      for await (const stored of allRecords(source)) verifier.push(exportedLine(stored));
    }
    const trust: Trust = {
      vkeys: await ownLogKeys(env),
      ...(config.witnesses.length === 0 ? {} : { policy: config.witnessPolicy }),
      ...((await isWalkable(env)) ? { log: ownLogReader(env) } : {}),
    };
    return Response.json(await verifier.finish(log === null ? null : decodeProofs(log), trust));
  },
});

type Opened = {
  readonly session: { readonly tenant: string; readonly session_id: string };
  readonly log: BundleLogText | null;
  /** Null when nothing is left of the session but its leaves. */
  readonly source: AuditSource | null;
};

/**
 * The session and what the log holds of it. The log is read first: records are
 * only ever added, so that they cannot be behind the leaves. A session of
 * which only leaves are left was retired, or somebody deleted it: it is no 404.
 */
async function open(env: Env, id: string, tenant: string, all: boolean): Promise<Opened> {
  const source = await openSource(env, id);
  const session = { tenant: source?.session.tenant ?? tenant, session_id: id };
  const name = nameOf(session);
  const log = name === null ? null : await sessionLog(env, name, all);
  if (source === null && log === null) {
    throw new HttpRefusal(404, "SESSION_NOT_FOUND", "There is no session with this id.");
  }
  return { session, log, source };
}

function nameOf({ tenant, session_id }: Opened["session"]): string | null {
  try {
    return genesis(sha256Hex, tenant, session_id);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

/** The bundle in RFC 8785 form, page by page: a long session is never in memory whole. */
function bundleText(
  { tenant, session_id }: Opened["session"],
  log: BundleLogText | null,
  source: AuditSource | null,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const head = `{"format":"${BUNDLE_FORMAT}","log":${canonicalJson(log)},"records":[`;
  const end = `],"session_id":${JSON.stringify(session_id)},"tenant":${JSON.stringify(tenant)}}`;
  let after = 0;
  return new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(head)),
    async pull(controller) {
      const page = source === null ? [] : await source.page(after, PAGE_RECORDS);
      const comma = after > 0 && page.length > 0 ? "," : "";
      controller.enqueue(encoder.encode(comma + page.map(exportedLine).join(",")));
      after = page.at(-1)?.seq ?? after;
      if (page.length === PAGE_RECORDS) return;
      controller.enqueue(encoder.encode(end));
      controller.close();
    },
  });
}

function decodeProofs(log: BundleLogText): BundleLog {
  const leaves = log.leaves.map((leaf) => ({ ...leaf, proof: parseHashLines(leaf.proof) ?? [] }));
  return { ...log, leaves };
}

async function isWalkable(env: Env): Promise<boolean> {
  const { checkpoint } = ownLogReader(env);
  try {
    const size = checkpointOf(await checkpoint())?.size;
    return size !== undefined && size <= MAX_WALKED_ENTRIES;
  } catch (error) {
    if (error instanceof LogUnreadable) return false;
    throw error;
  }
}
