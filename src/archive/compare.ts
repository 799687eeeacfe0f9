/**
 * @module
 * One session's records in the archive, held against their own chain, the
 * session's row and its segments in R2.
 */
import { exportLine, type StoredRecord } from "../audit/record.ts";
import { createVerifier } from "../audit/verify.ts";
import type { Archive, ArchivedSession } from "./archive.ts";
import { readSegment, segmentsOf } from "./segment-reader.ts";

const PAGE_RECORDS = 500;

export type Comparison = {
  readonly records: number;
  /** Everything that does not hold, worst first; none for a good session. */
  readonly problems: readonly { seq: number; message: string }[];
  /** Whether the segments hold every record of the session. */
  readonly inSegments: boolean;
};

/** Compares what the archive holds of a session as of `row`; records that came later are left out. */
export async function compareSession(
  archive: Archive,
  bucket: R2Bucket,
  row: ArchivedSession,
): Promise<Comparison> {
  const problems: { seq: number; message: string }[] = [];
  const hashes = new Map<number, string>();
  const verifier = createVerifier({ session_id: row.session_id, tenant: row.tenant });
  for await (const record of recordsUpTo(archive, row)) {
    hashes.set(record.seq, record.hash_chain);
    verifier.push(exportedLine(record));
  }
  if (hashes.size > 0) {
    const { findings } = verifier.finish().verdicts.integrity;
    problems.push(
      ...findings.map(({ seq, code, message }) => ({ seq, message: `${code}: ${message}` })),
    );
  }
  if (hashes.size !== row.entries) {
    problems.push({ seq: 0, message: `${hashes.size} of ${row.entries} records are there` });
  } else if (row.entries > 0 && hashes.get(row.entries) !== row.head) {
    problems.push({ seq: row.entries, message: "the last record is not the session's head" });
  }
  let covered = 0;
  for (const { key, first } of await segmentsOf(bucket, row)) {
    if (first !== covered + 1) problems.push({ seq: first, message: "segments leave a gap" });
    for (const { seq, hash_chain } of await readSegment(bucket, key, null)) {
      covered = seq;
      // A live session may have a segment of what the archive got after `row` was read.
      if (seq <= row.entries && hashes.get(seq) !== hash_chain) {
        problems.push({ seq, message: "its segment in R2 holds another record" });
      }
    }
  }
  return { records: hashes.size, problems, inSegments: covered >= row.entries };
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
