import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { tampering } from "../support/archive-sums.ts";
import { executor, newRoot, recordsOf, verified } from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  flush,
  MINUTE,
  ring,
  ringUntilReleased,
  session,
  storedRecords,
  useStoppedClock,
} from "../support/objects.ts";
import { archiveRows, segmentLines, segments, sessionRow } from "../support/sinks.ts";
import { rebuild, verifiedArchive } from "./keeper.ts";

useStoppedClock();
captureLogs();

/** A live session of which R2 has a first segment and D1 has lost everything. */
async function lostSession() {
  const { client } = await executor(newRoot());
  await client.must("write_file", { path: "src/a.txt", content: "personal" });
  await flush(client.id);
  advance(15 * MINUTE);
  await ring(session(client.id));
  expect(await segmentLines(client.id)).toHaveLength((await storedRecords(client.id)).length);
  await tampering(() =>
    env.ARCHIVE_DB.batch(
      ["audit_log", "sessions"].map((table) =>
        env.ARCHIVE_DB.prepare(`DELETE FROM ${table} WHERE session_id = ?`).bind(client.id),
      ),
    ),
  );
  return client;
}

test("a rebuild has the keys of sessions that live, which no backup has yet", async () => {
  const client = await lostSession();
  await rebuild();
  expect((await sessionRow(client.id))?.wrapped_key).toEqual(expect.any(String));
  const before = await storedRecords(client.id);
  expect((await archiveRows(client.id)).map(({ args }) => args)).toEqual(
    before.map(({ args }) => args),
  );
  await client.must("list_files");
  const lines = await recordsOf(client.id);
  expect(await client.end()).toBe(204);
  await ringUntilReleased(client.id);
  expect((await recordsOf(client.id)).slice(0, -1)).toEqual(lines);
  expect((await verified(client.id)).verdicts.integrity.ok).toBe(true);
  const found = await verifiedArchive();
  expect(found.filter(({ session_id }) => session_id === client.id)).toEqual([]);
});

test("a rebuild leaves out a line that is damaged, and says so", async () => {
  const client = await lostSession();
  const [segment] = await segments(client.id);
  if (segment === undefined) throw new Error("no segment");
  await env.BUCKET.put(segment.key, segment.text.replace("write_file", "write_fila"));
  const problems = await rebuild();
  expect(problems).toEqual([
    expect.objectContaining({
      session_id: client.id,
      message: expect.stringContaining("it is not its hash"),
    }),
  ]);
  expect(await archiveRows(client.id)).toHaveLength((await storedRecords(client.id)).length - 1);
});
