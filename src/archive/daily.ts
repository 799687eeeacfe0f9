/**
 * @module
 * The daily work on the archive, in slices that fit a cron run: retention, the
 * check of what is stored, and the backup of the day before. Each goes on where
 * it stopped; one that fails is tried again by the next run.
 */
import * as z from "zod";
import type { Config } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { raiseAlarm } from "./alarm.ts";
import { type Archive, type ArchivedSession, BEFORE_ALL_SESSIONS } from "./archive.ts";
import { BACKUP_START, backupStateSchema, backupStep } from "./backup.ts";
import { compareSession, copiesOf, missingFrom } from "./compare.ts";
import { openArchive } from "./open.ts";
import { retireSession } from "./retention.ts";

export const DAILY_TASKS = ["retention", "check", "backup"] as const;
export type DailyTask = (typeof DAILY_TASKS)[number];

const DAY_MS = 86_400_000;
/** The platform's, for one database. */
const D1_LIMIT_BYTES = 10 * 1024 ** 3;
const D1_WARNING = 0.8;
/** Of one cron run for each task: a scheduled event may take minutes, and shares its isolate. */
const SLICE_MS = 20_000;
const SESSIONS_A_STEP = 10;

type Work = {
  readonly env: Env;
  readonly config: Config;
  readonly archive: Archive;
  /** The UTC day on which the work began. */
  readonly day: string;
  readonly now: number;
};

/** One step from a state, which is JSON text; null when the day's work is done. */
type Step = (work: Work, state: string | null) => Promise<string | null>;

const STEPS: Readonly<Record<DailyTask, Step>> = { retention, check, backup };

/** Does what is left of the day's work, within its slice of time. Never throws. */
export async function runDaily(env: Env, config: Config, now: number): Promise<void> {
  await warnOfSize(env.ARCHIVE_DB);
  for (const task of DAILY_TASKS) {
    try {
      await runTask(env, config, task, now);
    } catch (error) {
      logEvent("error", "daily_work_failed", { task, error: String(error) });
    }
  }
}

/** A database that is full takes no more records; PostgreSQL, or a shorter retention, takes months to plan. */
async function warnOfSize(db: D1Database): Promise<void> {
  try {
    const { meta } = await db.prepare("SELECT 1").run();
    if (meta.size_after < D1_LIMIT_BYTES * D1_WARNING) return;
    logEvent("warn", "d1_nearly_full", { bytes: meta.size_after, limit_bytes: D1_LIMIT_BYTES });
  } catch (error) {
    logEvent("error", "d1_unreadable", { error: String(error) });
  }
}

/** The same for one task; `again` begins anew though the day's work is done. */
export async function runTask(
  env: Env,
  config: Config,
  task: DailyTask,
  now: number,
  again = false,
): Promise<{ done: boolean }> {
  const today = new Date(now).toISOString().slice(0, 10);
  const known = await readProgress(env.ARCHIVE_DB, task);
  const isDone = known?.state === DONE;
  if (known?.day === today && isDone && !again) return { done: true };
  // What an earlier day has begun is ended first: a check that takes two days must not start over.
  const goesOn = known !== null && !isDone;
  const work: Work = {
    env,
    config,
    archive: openArchive(env),
    day: goesOn ? known.day : today,
    now,
  };
  let state = goesOn ? known.state : null;
  const started = Date.now();
  do {
    state = await STEPS[task](work, state);
    await saveProgress(env.ARCHIVE_DB, task, work.day, state ?? DONE);
  } while (state !== null && Date.now() - started < SLICE_MS);
  return { done: state === null };
}

const DONE = "";

async function retention(work: Work, state: string | null) {
  const { env, config, archive, now } = work;
  if (config.retentionMs === null) return null;
  const rows = await archive.walk({
    after: state ?? BEFORE_ALL_SESSIONS,
    endedBefore: new Date(now - config.retentionMs).toISOString(),
    limit: SESSIONS_A_STEP,
  });
  return eachSession("retention", rows, async (row) => {
    const outcome = await retireSession(env, config, archive, row, now);
    logEvent("info", "retention", { session_id: row.session_id, outcome });
  });
}

async function check({ env, config, archive, now }: Work, state: string | null) {
  const rows = await archive.walk({ after: state ?? BEFORE_ALL_SESSIONS, limit: SESSIONS_A_STEP });
  const copies = copiesOf(env, config, archive);
  return eachSession("check", rows, async (row) => {
    const { tenant, session_id } = row;
    const compared = await compareSession(copies, row);
    const problem = compared.problems[0] ?? missingFrom(row, compared, now);
    if (problem === null) return;
    await raiseAlarm(env, { found_by: "check", tenant, session_id, ...problem });
  });
}

/**
 * One step's sessions; answers where to go on. What fails for one session is said and
 * keeps the others from nothing. Where it fails for all of them a store does
 * not answer, and the next run begins here again.
 */
async function eachSession(
  task: DailyTask,
  rows: readonly ArchivedSession[],
  work: (row: ArchivedSession) => Promise<void>,
): Promise<string | null> {
  let done = 0;
  for (const row of rows) {
    try {
      await work(row);
      done += 1;
    } catch (error) {
      const { session_id } = row;
      logEvent("error", "daily_session_failed", { task, session_id, error: String(error) });
    }
  }
  if (done === 0 && rows.length > 0)
    throw new Error(`none of ${rows.length} sessions could be read`);
  return rows.at(-1)?.session_id ?? null;
}

/** Backs up the day before the one it began on: that one is complete. */
async function backup({ env, config, archive, day, now }: Work, state: string | null) {
  const yesterday = new Date(Date.parse(day) - DAY_MS).toISOString().slice(0, 10);
  const from = state === null ? BACKUP_START : backupStateSchema.parse(JSON.parse(state));
  const context = { archive, bucket: env.BUCKET, secretsKey: config.secretsKey };
  const next = await backupStep(context, yesterday, from, now);
  return next === null ? null : JSON.stringify(next);
}

const progressSchema = z.object({ day: z.string(), state: z.string() });

async function readProgress(db: D1Database, task: DailyTask) {
  const row = await db
    .prepare("SELECT day, state FROM maintenance WHERE task = ?")
    .bind(task)
    .first();
  return row === null ? null : progressSchema.parse(row);
}

async function saveProgress(
  db: D1Database,
  task: DailyTask,
  day: string,
  state: string,
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO maintenance (task, day, state) VALUES (?, ?, ?)
       ON CONFLICT (task) DO UPDATE SET day = excluded.day, state = excluded.state`,
    )
    .bind(task, day, state)
    .run();
}
