/**
 * @module
 * One session's records in the archive, held against their own chain, the
 * session's row, its segments in R2 with what is sealed in them, and what the log
 * has anchored. Whatever any of them holds is a problem that is named, never an
 * error: one damaged session must not keep the others from being compared.
 */
import * as z from "zod";
import { exportLine, parseCanonical, type StoredRecord } from "../audit/record.ts";
import { createVerifier, type Verifier } from "../audit/verify.ts";
import type { Config } from "../config.ts";
import type { Anchor } from "../log/log-object.ts";
import { type Anchored, anchoredInLog } from "./anchoring.ts";
import type { Archive, ArchivedSession } from "./archive.ts";
import { readSegment, type SegmentLine, sealKeyOf, segmentsOf } from "./segment-reader.ts";

const PAGE_RECORDS = 500;

/** What a session is read from. */
export type Copies = {
  readonly archive: Archive;
  readonly bucket: R2Bucket;
  readonly secretsKey: Uint8Array;
  readonly anchored: Anchored;
};

/** The copies of a deployment, with one of its archives. */
export function copiesOf(env: Env, config: Config, archive: Archive): Copies {
  const { secretsKey } = config;
  return { archive, bucket: env.BUCKET, secretsKey, anchored: anchoredInLog(env) };
}

export type ComparisonProblem = { readonly seq: number; readonly message: string };

export type Comparison = {
  readonly records: number;
  /** Everything that does not hold, worst first; none for a good session. */
  readonly problems: readonly ComparisonProblem[];
  /** Whether the segments hold every record of the session. */
  readonly inSegments: boolean;
  /** Whether the log's newest head is the session's; null where the log never had the session. */
  readonly inLog: boolean | null;
  /** Whether the log does not know of the erasure that the row speaks of. */
  readonly erasedUnsaid: boolean;
};

/** An end reaches R2 and the log within minutes, an erasure the log: what has not after this long is stuck, or was made up. In ms. */
const LATE_MS = 86_400_000;

/** What a session still lacks long after it ended or was erased, though nothing contradicts it; null when it lacks nothing. */
export function missingFrom(
  { ended_at, erased_at }: ArchivedSession,
  { inSegments, inLog, erasedUnsaid }: Comparison,
  now: number,
): ComparisonProblem | null {
  // A time that has not come yet was not written by the gateway.
  const isLate = (time: string | null) =>
    time !== null && !(now >= Date.parse(time) && now - Date.parse(time) <= LATE_MS);
  const say = (message: string) => ({ seq: 0, message });
  if (isLate(ended_at) && !inSegments) {
    return say("R2 does not hold every record of this ended session");
  }
  if (isLate(ended_at) && inLog === false) {
    return say("the log's newest head of this ended session is not its last record");
  }
  return isLate(erased_at) && erasedUnsaid
    ? say("it was erased, and the log knows nothing of that")
    : null;
}

/**
 * Compares what there is of a session as of `row`; records that came later are left out.
 * A session that was retired is compared as R2 holds it, for nothing else does.
 *
 * @throws Error when the archive, R2 or the log does not answer
 */
export async function compareSession(copies: Copies, row: ArchivedSession): Promise<Comparison> {
  const found = await compare(copies, row);
  if (found.problems.length === 0) return found;
  // What was erased or retired while it was being compared looks like what was tampered with.
  const now = await copies.archive.session(row.session_id);
  if (now === null) return found;
  const { erased_at, retired_at } = now;
  if (erased_at === row.erased_at && retired_at === row.retired_at) return found;
  return compare(copies, { ...row, erased_at, retired_at });
}

async function compare(copies: Copies, row: ArchivedSession): Promise<Comparison> {
  // The log first: what it has, the archive had.
  const anchor = await copies.anchored(row.tenant, row.session_id);
  const comparing = new Comparing(copies, row);
  await comparing.readArchive();
  await comparing.readSegments();
  comparing.checkHead();
  if (anchor !== null) await comparing.checkAnchor(anchor);
  return comparing.outcome(anchor);
}

class Comparing {
  readonly #copies: Copies;
  readonly #row: ArchivedSession;
  readonly #isRetired: boolean;
  readonly #sealKey: Uint8Array | null;
  readonly #problems: ComparisonProblem[] = [];
  readonly #verifier: Verifier;
  /** By seq. */
  readonly #hashes = new Map<number, string>();
  /** Seqs of records without the arguments that they should have. */
  readonly #bare = new Set<number>();
  /** The last record that a segment has. */
  #covered = 0;

  constructor(copies: Copies, row: ArchivedSession) {
    const { session_id, tenant, erased_at, retired_at, entries } = row;
    this.#copies = copies;
    this.#row = row;
    this.#isRetired = retired_at !== null;
    this.#verifier = createVerifier({ session_id, tenant });
    this.#sealKey = erased_at === null ? sealKeyOf(copies.secretsKey, row) : null;
    if (erased_at === null && this.#sealKey === null && entries > 0) {
      this.#add(0, "the key of its arguments is not there, though it was not erased");
    }
  }

  #add(seq: number, message: string): void {
    this.#problems.push({ seq, message });
  }

  async readArchive(): Promise<void> {
    const { archive } = this.#copies;
    for await (const record of recordsUpTo(archive, this.#row)) {
      if (this.#isRetired) {
        this.#add(record.seq, "it is still in the archive, though the session was retired");
        return;
      }
      this.#hashes.set(record.seq, record.hash_chain);
      this.#verifier.push(exportedLine(record));
      if (this.#row.erased_at === null && lacksArgs(record)) this.#bare.add(record.seq);
    }
  }

  async readSegments(): Promise<void> {
    const { bucket } = this.#copies;
    for (const name of await segmentsOf(bucket, this.#row)) {
      if (name.first !== this.#covered + 1) this.#add(name.first, "segments leave a gap");
      for (const line of await readSegment(bucket, name, this.#sealKey)) {
        this.#covered = line.stored.seq;
        this.#takeLine(line);
      }
    }
    for (const seq of this.#bare) {
      this.#add(seq, "its arguments are not there, though it was not erased");
    }
  }

  #takeLine(line: SegmentLine): void {
    const { seq, hash_chain } = line.stored;
    if (line.problem !== null) this.#add(seq, `its line in R2: ${line.problem}`);
    if (seq > this.#row.entries) {
      // A live session may have a segment of what the archive got after `row` was read.
      if (this.#row.ended_at !== null) this.#add(seq, "R2 holds a record after the session's last");
    } else if (this.#isRetired) {
      this.#hashes.set(seq, hash_chain);
      this.#verifier.push(exportedLine(line.stored));
    } else {
      if (this.#hashes.get(seq) !== hash_chain) {
        this.#add(seq, "its segment in R2 holds another record");
      }
      if (this.#sealKey !== null) this.#checkSealed(line);
    }
  }

  /** Arguments in the archive and those sealed in R2 are both bound by the record's hash of them: either has them, or neither. */
  #checkSealed({ problem, stored }: SegmentLine): void {
    if (problem !== null || !lacksArgs(stored) || this.#bare.delete(stored.seq)) return;
    this.#add(stored.seq, "its line in R2: no arguments are sealed in it");
  }

  checkHead(): void {
    const { entries, head } = this.#row;
    const records = this.#hashes.size;
    if (records > 0) {
      const { findings } = this.#verifier.finish().verdicts.integrity;
      this.#problems.unshift(
        ...findings.map(({ seq, code, message }) => ({ seq, message: `${code}: ${message}` })),
      );
    }
    if (records !== entries) {
      this.#add(0, `${records} of ${entries} records are there`);
    } else if (entries > 0 && this.#hashes.get(entries) !== head) {
      this.#add(entries, "the last record is not the session's head");
    }
  }

  async checkAnchor(anchor: Anchor): Promise<void> {
    const { archive } = this.#copies;
    const { session_id } = this.#row;
    // A live session may have been anchored after `row` was read.
    const hash = this.#hashes.get(anchor.seq) ?? (await hashAt(archive, session_id, anchor.seq));
    if (hash !== anchor.hash_chain) {
      this.#add(anchor.seq, "the log anchored another record here, or one that is not there");
    }
    if (this.#isRetired && !anchor.retired) {
      this.#add(0, "it left the archive, and the log knows nothing of that");
    }
  }

  outcome(anchor: Anchor | null): Comparison {
    const { entries, head, erased_at } = this.#row;
    return {
      records: this.#hashes.size,
      problems: this.#problems,
      inSegments: this.#covered >= entries,
      inLog: anchor === null ? null : anchor.seq === entries && anchor.hash_chain === head,
      erasedUnsaid: erased_at !== null && anchor?.erased === false,
    };
  }
}

const boundArgs = z.object({ args_stored_hash: z.string() });

/** Whether a record has none of the arguments that its hash speaks of. */
function lacksArgs({ args, line }: StoredRecord): boolean {
  if (args !== null) return false;
  const parsed = parseCanonical(line);
  return parsed.ok && boundArgs.safeParse(parsed.value).success;
}

async function hashAt(archive: Archive, sessionId: string, seq: number): Promise<string | null> {
  const [record] = await archive.page(sessionId, seq - 1, 1);
  return record?.seq === seq ? record.hash_chain : null;
}

async function* recordsUpTo(archive: Archive, row: ArchivedSession): AsyncGenerator<StoredRecord> {
  let after = 0;
  while (after < row.entries) {
    const page = await archive.page(row.session_id, after, PAGE_RECORDS);
    for (const record of page) if (record.seq <= row.entries) yield record;
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.seq;
  }
}

/** What is no record any more is shown to the verifier as it is. */
function exportedLine(record: StoredRecord): string {
  try {
    return exportLine(record);
  } catch {
    return record.line;
  }
}
