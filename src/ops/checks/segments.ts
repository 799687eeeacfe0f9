/**
 * @module
 * Holds the archive against the segments in R2, for a sample of sessions that
 * have ended, once a night: every record of either must be in the other, with
 * the same hash.
 */
import * as z from "zod";
import { readArchive } from "../../audit/sinks/d1.ts";
import { metricsStub } from "../../objects.ts";
import type { Check, Finding } from "./finding.ts";

/** The hour (UTC) of the run, when little else happens. */
const HOUR = 3;
const DAY_MS = 86_400_000;
/** Sessions of one night, drawn from the newest that ended. */
const SAMPLE = 10;
const DRAWN_FROM = 500;
/** A session's last segments may be a while on their way. */
const SETTLED_MS = 3_600_000;
/** Records that are compared of one session; longer ones are compared up to there. */
const MAX_RECORDS = 5_000;
/** Days of one session, whose segments lie under the day of their first record. */
const MAX_DAYS = 40;

const ended = z.array(
  z.object({
    session_id: z.string(),
    tenant: z.string(),
    created_at: z.string(),
    ended_at: z.string(),
  }),
);
type Ended = z.infer<typeof ended>[number];

export const checkSegments: Check = async (env, _config, now) => {
  if (new Date(now).getUTCHours() !== HOUR) return null;
  const night = new Date(now).toISOString().slice(0, 10);
  if ((await metricsStub(env).claimAlert(`nightly segments ${night}`, DAY_MS)) === null)
    return null;
  return compareSample(env, now);
};

/** The comparison itself, whatever the hour. */
export async function compareSample(env: Env, now: number): Promise<Finding[]> {
  const { results } = await env.ARCHIVE_DB.prepare(
    `SELECT session_id, tenant, created_at, ended_at FROM (
       SELECT * FROM sessions ORDER BY session_id DESC LIMIT ${DRAWN_FROM}
     ) WHERE ended_at < ? ORDER BY random() LIMIT ${SAMPLE}`,
  )
    .bind(new Date(now - SETTLED_MS).toISOString())
    .all();
  const findings: Finding[] = [];
  for (const session of ended.parse(results)) {
    const difference = await differenceOf(env, session);
    if (difference === null) continue;
    findings.push({
      check: "segments",
      subject: session.session_id,
      severity: "critical",
      message: `The archive and the segments of this session differ at seq ${difference}. Verify it, and keep both as they are.`,
    });
  }
  return findings;
}

/** The first seq at which archive and segments differ, or null. */
async function differenceOf(env: Env, session: Ended): Promise<number | null> {
  const archived = new Map<number, string>();
  for (let after = 0; archived.size < MAX_RECORDS; ) {
    const page = await readArchive(env.ARCHIVE_DB, session.session_id, after, 500);
    for (const { seq, hash_chain } of page) archived.set(seq, hash_chain);
    after = page.at(-1)?.seq ?? after;
    if (page.length < 500) break;
  }
  const stored = await segmentHashes(env, session);
  const last =
    archived.size >= MAX_RECORDS ? Math.max(...archived.keys()) : Number.MAX_SAFE_INTEGER;
  const seqs = [...new Set([...archived.keys(), ...stored.keys()])].sort((a, b) => a - b);
  return seqs.find((seq) => seq <= last && archived.get(seq) !== stored.get(seq)) ?? null;
}

const segmentLine = z.object({ seq: z.number(), hash_chain: z.string() });

async function segmentHashes(env: Env, session: Ended): Promise<Map<number, string>> {
  const hashes = new Map<number, string>();
  for (const day of daysOf(session)) {
    const prefix = `audit/${session.tenant}/${day.replaceAll("-", "/")}/${session.session_id}/`;
    let cursor: string | undefined;
    do {
      const listed = await env.BUCKET.list({ prefix, ...(cursor === undefined ? {} : { cursor }) });
      for (const { key } of listed.objects) {
        const object = await env.BUCKET.get(key);
        for (const line of (await object?.text())?.trimEnd().split("\n") ?? []) {
          const { seq, hash_chain } = segmentLine.parse(JSON.parse(line));
          hashes.set(seq, hash_chain);
        }
        if (hashes.size >= MAX_RECORDS) return hashes;
      }
      cursor = listed.truncated ? listed.cursor : undefined;
    } while (cursor !== undefined);
  }
  return hashes;
}

function daysOf({ created_at, ended_at }: Ended): string[] {
  const days: string[] = [];
  const first = Date.parse(created_at.slice(0, 10));
  const last = Date.parse(ended_at);
  for (let day = first; day <= last && days.length < MAX_DAYS; day += DAY_MS) {
    days.push(new Date(day).toISOString().slice(0, 10));
  }
  return days;
}
