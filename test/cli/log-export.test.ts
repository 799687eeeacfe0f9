import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { leafOf, sessionLines, TestLog } from "../verify/gateway.ts";
import { atlasGate, Folder, type Ran, writeLog } from "./command.ts";
import { ACCESS_KEY, S3Server, SECRET_KEY } from "./s3-server.ts";

const SEGMENT = "audit/default/2026/11/22/0199a3c2-7b1f-8abc/0000000001-0000000003.ndjson";
const DAYS = 400;
const DAY_MS = 86_400_000;

/** A copy of a bucket: two segments, a log of two tiles, its checkpoint and a copy of that. */
async function bucketFolder(folder: Folder): Promise<string[]> {
  const log = await TestLog.create();
  await log.commit(
    Array.from({ length: 300 }, (_, i) => leafOf(`s${i}`, sessionLines(`s${i}`, 1), "open", 1)),
  );
  await writeLog(folder, log, "log/");
  await folder.write("log/checkpoints/00000000000000000300", log.checkpoint);
  await folder.write(SEGMENT, "one\n");
  await folder.write(SEGMENT.replace("0001-", "0004-"), "two\n");
  return [
    SEGMENT,
    SEGMENT.replace("0001-", "0004-"),
    "log/checkpoints/00000000000000000300",
    "log/tile/0/000",
    "log/tile/0/001.p/44",
    "log/tile/1/000.p/1",
    "log/tile/entries/000",
    "log/tile/entries/001.p/44",
  ];
}

function run(server: S3Server, from: string, ...more: string[]): Promise<Ran> {
  const common = ["--to", "s3://worm/copy", "--endpoint", server.endpoint];
  return atlasGate("log", "export", from, ...common, "--retain-days", String(DAYS), ...more);
}

process.env.AWS_ACCESS_KEY_ID = ACCESS_KEY;
process.env.AWS_SECRET_ACCESS_KEY = SECRET_KEY;
process.env.SOURCE_AWS_ACCESS_KEY_ID = ACCESS_KEY;
process.env.SOURCE_AWS_SECRET_ACCESS_KEY = SECRET_KEY;

describe("atlas-gate log export", () => {
  it("copies what is written once, under a lock in compliance mode, and reads it back", async () => {
    await using folder = await Folder.create();
    await using server = await S3Server.start();
    const keys = await bucketFolder(folder);
    const before = Date.now();
    const ran = await run(server, folder.path, "--json");
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    expect(JSON.parse(ran.stdout)).toMatchObject({ uploaded: keys.length, present: 0 });
    expect([...server.objects.keys()].sort()).toEqual(keys.map((key) => `copy/${key}`));
    for (const [key, { bytes, mode, until }] of server.objects) {
      expect(bytes).toEqual(await readFile(join(folder.path, key.replace("copy/", ""))));
      expect(mode).toBe("COMPLIANCE");
      expect(Date.parse(until ?? "")).toBeGreaterThanOrEqual(before + DAYS * DAY_MS);
      const read = server.requests.lastIndexOf(`GET ${key}`);
      expect(read).toBeGreaterThan(server.requests.indexOf(`PUT ${key}`));
    }
    expect(server.objects.has("copy/log/checkpoint")).toBe(false);
  });

  it("goes on after it was stopped, and puts nothing twice", async () => {
    await using folder = await Folder.create();
    await using server = await S3Server.start();
    const keys = await bucketFolder(folder);
    server.failAfter = 3;
    expect((await run(server, folder.path)).code).toBe(2);
    expect(server.objects.size).toBe(3);
    server.failAfter = Number.POSITIVE_INFINITY;
    const ran = await run(server, folder.path, "--json");
    expect([ran.code, JSON.parse(ran.stdout)]).toMatchObject([
      0,
      { uploaded: keys.length - 3, present: 3 },
    ]);
    const puts = server.requests.filter((request) => request.startsWith("PUT"));
    expect(new Set(puts).size).toBe(puts.length);
  });

  it("copies from a bucket, page by page, in governance mode", async () => {
    await using folder = await Folder.create();
    await using source = await S3Server.start();
    await using server = await S3Server.start();
    const keys = await bucketFolder(folder);
    for (const key of [...keys, "log/checkpoint"]) {
      const bytes = await readFile(join(folder.path, key));
      source.objects.set(key, { bytes, mode: null, until: null });
    }
    const options = ["--source-endpoint", source.endpoint, "--mode", "governance"];
    const ran = await run(server, "s3://bucket", ...options);
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    expect([...server.objects.keys()].sort()).toEqual(keys.map((key) => `copy/${key}`));
    expect([...server.objects.values()].every(({ mode }) => mode === "GOVERNANCE")).toBe(true);
  });

  it("refuses other bytes under a name, an object without a lock, and a bucket without locks", async () => {
    await using folder = await Folder.create();
    await using server = await S3Server.start();
    await bucketFolder(folder);
    const key = `copy/${SEGMENT}`;
    const until = new Date(Date.now() + DAY_MS).toISOString();
    server.objects.set(key, { bytes: Buffer.from("other\n"), mode: "COMPLIANCE", until });
    const other = await run(server, folder.path);
    expect([other.code, other.stderr]).toEqual([2, `${key} is there already, with other bytes\n`]);
    server.objects.set(key, { bytes: Buffer.from("one\n"), mode: null, until: null });
    expect((await run(server, folder.path)).stderr).toContain("is not locked");
    server.objects.clear();
    server.objectLock = false;
    const without = await run(server, folder.path);
    expect([without.code, without.stderr]).toEqual([2, `PUT ${key}: 400 InvalidRequest\n`]);
  });

  it("says what is missing or wrong, and never copies half by mistake", async () => {
    await using folder = await Folder.create();
    await using server = await S3Server.start();
    expect((await run(server, folder.path)).stderr).toContain("nothing to copy");
    await bucketFolder(folder);
    expect((await run(server, folder.path, "--mode", "none")).code).toBe(2);
    for (const days of ["0", "1.5", "x", "40000"]) {
      expect((await run(server, folder.path, "--retain-days", days)).stderr).toContain(
        "whole number",
      );
    }
    process.env.AWS_SECRET_ACCESS_KEY = "another";
    const unsigned = await run(server, folder.path);
    process.env.AWS_SECRET_ACCESS_KEY = SECRET_KEY;
    expect(unsigned.stderr).toContain("SignatureDoesNotMatch");
    expect(server.objects.size).toBe(0);
  });
});

describe("atlas-gate log lock", () => {
  it("prints the lock rules of the prefixes that are written once, and no other", async () => {
    const { code, stdout } = await atlasGate("log", "lock", "evidence", "--retain-days", "400");
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n")).toEqual([
      "wrangler r2 bucket lock add evidence atlas-gate-audit audit/ --retention-days 400",
      "wrangler r2 bucket lock add evidence atlas-gate-log-tile log/tile/ --retention-days 400",
      "wrangler r2 bucket lock add evidence atlas-gate-log-checkpoints log/checkpoints/ --retention-days 400",
    ]);
    expect((await atlasGate("log", "lock", "evidence")).stdout).toContain("--retention-indefinite");
    expect((await atlasGate("log", "lock")).code).toBe(2);
  });
});
