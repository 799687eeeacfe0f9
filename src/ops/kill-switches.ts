/**
 * @module
 * The kill switches: stored in D1, and held by every isolate as a copy that is
 * at most `MAX_AGE_MS` old, so that a switch is effective everywhere within 5 s
 * and a call waits for nothing.
 *
 * A busy isolate asks for the version, one row, in the background; an idle one
 * asks before it answers its first call. While D1 does not answer, the last
 * known switches hold, however old: an outage neither lifts a switch nor stops
 * a gateway. An isolate that never knew them lets nobody through.
 */
import * as z from "zod";
import { logEvent } from "../ops/log.ts";
import { killScopeSchema, type SwitchSet } from "../policy/kill-switch.ts";
import { SingleFlight, withPatience } from "../upstream/single-flight.ts";

/** Age from which a copy is renewed while it is still used. */
const FRESH_MS = 2_000;
/** Age past which a copy is not used before D1 was asked; 5 s less what asking may take. */
const MAX_AGE_MS = 4_000;
/** How long D1 may take before the last known switches are used instead, in ms. */
const PATIENCE_MS = 1_000;
/** Pause after D1 did not answer, in ms: a call must not wait for each of many failures. */
const RETRY_MS = 1_000;

let copy: SwitchSet | null = null;
/** When the copy was last known to be the stored one, when D1 was last asked, and when it last failed; Unix ms. */
let confirmedAt = Number.NEGATIVE_INFINITY;
let askedAt = Number.NEGATIVE_INFINITY;
let failedAt = Number.NEGATIVE_INFINITY;
let flight = new SingleFlight<Reading>(PATIENCE_MS);

/** Switches as they were stored at some time after `beganAt`, Unix ms: older than that they are not. */
type Reading = { readonly set: SwitchSet; readonly beganAt: number };

/**
 * The switches, for a call: from the isolate's memory, unless that is too old.
 *
 * @param later lets the renewal go on after the response
 * @throws Error when they cannot be read and never could
 */
export async function switchesOf(
  env: Env,
  later: (work: Promise<unknown>) => void,
): Promise<SwitchSet> {
  const now = Date.now();
  const age = now - confirmedAt;
  if (copy !== null && age < MAX_AGE_MS) {
    if (age >= FRESH_MS && now - askedAt >= RETRY_MS) later(readSwitches(env));
    return copy;
  }
  return readSwitches(env);
}

/** The same for an open stream, which nobody waits for: never older than `FRESH_MS` if D1 answers. */
export async function freshSwitches(env: Env): Promise<SwitchSet> {
  return copy !== null && Date.now() - confirmedAt < FRESH_MS ? copy : readSwitches(env);
}

/**
 * Has this isolate look again at once; whoever engages or lifts a switch calls
 * it. Null when the switches cannot be read: the last known ones are from before
 * the change.
 */
export async function renewSwitches(env: Env): Promise<SwitchSet | null> {
  // A reading that began before the change is nobody's copy any more.
  flight = new SingleFlight(PATIENCE_MS);
  try {
    return await readAgain(env);
  } catch {
    return null;
  }
}

async function readSwitches(env: Env): Promise<SwitchSet> {
  if (copy !== null && Date.now() - failedAt < RETRY_MS) return copy;
  try {
    return await readAgain(env);
  } catch (error) {
    if (copy === null) throw error;
    return copy;
  }
}

async function readAgain(env: Env): Promise<SwitchSet> {
  askedAt = Date.now();
  try {
    const read = await withPatience(
      flight.run(async () => {
        const beganAt = Date.now();
        return { set: await load(env.ARCHIVE_DB), beganAt };
      }),
      PATIENCE_MS,
    );
    if (!read.ok) throw new Error(`D1 took more than ${PATIENCE_MS} ms`);
    const { set, beganAt } = read.value;
    // Two readings may end in the other order.
    if (copy === null || set.version >= copy.version) {
      copy = set;
      confirmedAt = Math.max(confirmedAt, beganAt);
    }
    return copy;
  } catch (error) {
    failedAt = Date.now();
    flight.forget();
    logEvent("error", "kill_switches_unreadable", { error: String(error) });
    throw error;
  }
}

async function load(db: D1Database): Promise<SwitchSet> {
  const row = await db
    .prepare("SELECT version FROM kill_switch_version WHERE id = 1")
    .first<{ version: number }>();
  const version = row?.version ?? 0;
  return copy?.version === version ? copy : readStored(db);
}

const storedRows = z.array(z.object({ id: z.string(), scope: z.string() }));

/** Version and switches of one moment: a batch is a transaction. */
async function readStored(db: D1Database): Promise<SwitchSet> {
  const [versions, rows] = await db.batch<Record<string, unknown>>([
    db.prepare("SELECT version FROM kill_switch_version WHERE id = 1"),
    db.prepare("SELECT id, scope FROM kill_switches WHERE lifted_at IS NULL ORDER BY id"),
  ]);
  const version = z.number().parse(versions?.results[0]?.version ?? 0);
  const switches = storedRows.parse(rows?.results ?? []).map(({ id, scope }) => ({
    id,
    scope: killScopeSchema.parse(JSON.parse(scope)),
  }));
  return { version, switches };
}

/**
 * The version of a change that is made now. It follows the clock, so that it
 * also grows past the versions that were given out before D1 was restored to an
 * earlier state.
 */
export function nextVersion(db: D1Database, now: number): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO kill_switch_version (id, version) VALUES (1, ?1)
       ON CONFLICT (id) DO UPDATE SET version = max(version + 1, excluded.version)`,
    )
    .bind(now);
}
