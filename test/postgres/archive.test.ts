import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PostgresArchive } from "../../src/archive/postgres.ts";
import { POSTGRES_SCHEMA, schemaProblem } from "../../src/archive/postgres-schema.ts";
import { migratePostgres, migrationNames } from "../../src/cli/postgres/migrate.ts";
import { sampleSession } from "../archive/sample-session.ts";
import { describeArchive } from "../archive/suite.ts";
import { query, startServer, type TestServer } from "./support/server.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startServer();
});
afterAll(() => postgres.dispose());

describeArchive("PostgreSQL", () => new PostgresArchive(postgres.gatewayUrl));

describe("the schema", () => {
  test("is the newest migration, and migrating again does nothing", async () => {
    expect((await migrationNames()).at(-1)).toBe(POSTGRES_SCHEMA);
    expect(await migratePostgres(postgres.url)).toEqual([]);
  });

  test("says what to do when it is older, newer or not there", () => {
    expect(schemaProblem(null)).toContain("npm run migrate:postgres");
    expect(schemaProblem("0000_initial")).toContain("npm run migrate:postgres");
    expect(schemaProblem("9999_later")).toContain("newer");
    expect(schemaProblem(POSTGRES_SCHEMA)).toBeNull();
  });

  test("publishes both tables of records and the sessions", async () => {
    const rows = await query(
      postgres.url,
      "SELECT tablename FROM pg_publication_tables WHERE pubname = 'audit_log_pub' ORDER BY 1",
    );
    expect(rows).toEqual([
      { tablename: "audit_log" },
      { tablename: "audit_log_archive" },
      { tablename: "sessions" },
    ]);
  });
});

describe("nobody changes a record", () => {
  const changes = [
    "UPDATE audit_log SET line = '' WHERE session_id = $1",
    "UPDATE audit_log SET hash_chain = 'x' WHERE session_id = $1",
    "UPDATE audit_log SET args = '{}' WHERE session_id = $1",
    "UPDATE audit_log SET args = NULL, salt = NULL WHERE session_id = $1",
    "DELETE FROM audit_log WHERE session_id = $1",
  ];

  async function stored(): Promise<string> {
    const { row, records } = sampleSession([{ args: { a: 1 } }]);
    await new PostgresArchive(postgres.gatewayUrl).write(row, records, []);
    return row.session_id;
  }

  test.for(changes)("not the gateway: %s", async (change) => {
    const id = await stored();
    await expect(query(postgres.gatewayUrl, change, [id])).rejects.toThrow("permission denied");
  });

  test.for(changes)("not the owner of the tables: %s", async (change) => {
    const id = await stored();
    await expect(query(postgres.url, change, [id])).rejects.toThrow("only atlas_maintenance");
  });

  test("and nobody truncates", async () => {
    for (const table of ["audit_log", "audit_log_archive"]) {
      await expect(query(postgres.url, `TRUNCATE ${table}`)).rejects.toThrow("not truncated");
    }
  });

  test("atlas_maintenance erases arguments and removes, and nothing else", async () => {
    const id = await stored();
    const as = (statement: string) =>
      query(postgres.url, `SET ROLE atlas_maintenance; ${statement.replaceAll("$1", `'${id}'`)}`);
    const [line = "", hash = "", args = "", erase = "", remove = ""] = changes;
    await expect(as(line)).rejects.toThrow("permission denied");
    await expect(as(hash)).rejects.toThrow("permission denied");
    await expect(as(args)).rejects.toThrow("only to null");
    await as(erase);
    await as(remove);
    // As retention does, so that the session says where its records are.
    await as("UPDATE sessions SET retired_at = now() WHERE session_id = $1");
    expect(
      await query(postgres.url, "SELECT seq FROM audit_log WHERE session_id = $1", [id]),
    ).toEqual([]);
  });

  test.for([
    "UPDATE sessions SET wrapped_key = NULL WHERE session_id = $1",
    "UPDATE sessions SET wrapped_key = 'another' WHERE session_id = $1",
  ])("neither the gateway nor the owner destroys a key: %s", async (change) => {
    const id = await stored();
    for (const url of [postgres.gatewayUrl, postgres.url]) {
      await expect(query(url, change, [id])).rejects.toThrow("only atlas_maintenance");
    }
  });

  test("nobody changes a key, or brings back one that was erased", async () => {
    const id = await stored();
    const change = `SET ROLE atlas_maintenance;
      UPDATE sessions SET wrapped_key = 'another' WHERE session_id = '${id}'`;
    await expect(query(postgres.url, change)).rejects.toThrow("nobody changes it");
    await new PostgresArchive(postgres.gatewayUrl).erase(id, "2026-05-05T00:00:00.000Z");
    const back = "UPDATE sessions SET wrapped_key = 'back' WHERE session_id = $1";
    await expect(query(postgres.gatewayUrl, back, [id])).rejects.toThrow("nobody changes it");
    await expect(query(postgres.url, change)).rejects.toThrow("nobody changes it");
  });
});

describe("what jsonb cannot hold", () => {
  test("is U+FFFD for searching, and exact in what is read back", async () => {
    const { row, records } = sampleSession([
      {
        tool: "a\u0000b",
        args: { "k\u0000": "\u0000" },
        context: { c: "\u0000" },
        notes: "\u0000",
      },
    ]);
    const archive = new PostgresArchive(postgres.gatewayUrl);
    await archive.write(row, records, []);
    const rows = await query(
      postgres.url,
      "SELECT tool, args, context, notes FROM audit_log WHERE session_id = $1",
      [row.session_id],
    );
    expect(rows).toEqual([
      {
        tool: "a\ufffdb",
        args: { "k\ufffd": "\ufffd" },
        context: { c: "\ufffd" },
        notes: "\ufffd",
      },
    ]);
    expect(await archive.page(row.session_id, 0, 1)).toEqual(records);
    const found = await archive.entries({
      session_id: row.session_id,
      tool: "a\u0000b",
      after: null,
      limit: 5,
    });
    expect(found).toHaveLength(1);
  });
});
