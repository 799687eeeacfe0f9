import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { endingKeys, remindOfEndingKeys } from "../../src/ops/key-expiry.ts";
import {
  type Answer,
  admin,
  Client,
  initializeRequest,
  type Key,
  mintKey,
  postMcp,
  recordsOf,
} from "../support/gateway.ts";
import { captureLogs, DAY, HOUR, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const listed = z.object({ result: z.object({ tools: z.array(z.object({ name: z.string() })) }) });

async function toolNames(client: Client): Promise<string[]> {
  const { result } = listed.parse((await client.rpc("tools/list")).body);
  return result.tools.map(({ name }) => name);
}

describe("a key narrowed to scopes", () => {
  test("may do what they cover, and is told which one is missing", async () => {
    const client = await Client.open(await mintKey("windsurf", { scopes: ["mcp:read"] }));
    await client.must("begin_session", { workspace_root: "/srv/scoped" });
    await client.must("list_files");
    const refused = await client.rpc("tools/call", {
      name: "write_file",
      arguments: { path: "a", content: "b" },
    });
    expect(refused.status).toBe(403);
    expect(refused.headers.get("www-authenticate")).toBe(
      'Bearer error="insufficient_scope", scope="mcp:read mcp:write"',
    );
    expect(refused.body).toMatchObject({
      error: { code: -31403, data: { code: "FORBIDDEN" } },
    });
  });

  test.each([
    ["save_plan", "mcp:plan"],
    ["delete_file", "mcp:write"],
    ["read_audit_log", "mcp:audit"],
    ["replay_execution", "mcp:audit"],
    ["a_tool_of_an_upstream", "mcp:write"],
  ])("needs for %s the scope %s", async (name, scope) => {
    const client = await Client.open(await mintKey("antigravity", { scopes: ["mcp:read"] }));
    const refused = await client.rpc("tools/call", { name, arguments: {} });
    expect([refused.status, refused.headers.get("www-authenticate")?.includes(scope)]).toEqual([
      403,
      true,
    ]);
  });

  test("may come in, look around and leave with any of them", async () => {
    const client = await Client.open(await mintKey("windsurf", { scopes: ["mcp:audit"] }));
    expect((await client.rpc("ping")).status).toBe(200);
    expect((await client.rpc("tools/list")).status).toBe(200);
    expect((await client.call("read_file", { path: "a" })).status).toBe(403);
    expect(await client.end()).toBe(204);
  });

  test("is held to them in every request of a batch", async () => {
    const key = await mintKey("windsurf", { scopes: ["mcp:read"] });
    const opened = await postMcp(key.key, null, initializeRequest("2025-03-26"));
    const batch = [
      { jsonrpc: "2.0", id: 1, method: "ping" },
      { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "write_file" } },
    ];
    const answer = await postMcp(key.key, opened.headers.get("mcp-session-id"), batch);
    expect(answer.status).toBe(403);
  });
});

describe("a key narrowed to tools", () => {
  test("sees and calls those alone; another one is not there, and that is recorded", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { tools: ["begin_session", "*_files", "read_*"] }),
    );
    expect(await toolNames(client)).toEqual([
      "begin_session",
      "list_files",
      "read_audit_log",
      "read_file",
      "read_plan",
    ]);
    await client.must("begin_session", { workspace_root: "/srv/narrow" });
    const refused = await client.call("write_file", { path: "a", content: "b" });
    expect([refused.code, refused.rpcCode]).toEqual(["TOOL_NOT_FOUND", -32602]);
    const last = (await recordsOf(client.id)).at(-1);
    expect(last).toMatchObject({ tool: "write_file", error_code: "TOOL_NOT_FOUND" });
  });

  test("does not change what others see", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    expect(await toolNames(client)).toContain("write_file");
  });
});

describe("a key narrowed to addresses", () => {
  const at = (key: Key, headers: Record<string, string>): Promise<Answer> =>
    postMcp(key.key, null, initializeRequest(), headers);

  test("is refused from elsewhere, whatever else a request says of its way", async () => {
    const key = await mintKey("windsurf", { allowed_ips: ["192.0.2.0/24", "2001:db8::/32"] });
    for (const address of ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8:1::1"]) {
      expect((await at(key, { "cf-connecting-ip": address })).status).toBe(200);
    }
    const hostile = [
      { "cf-connecting-ip": "198.51.100.1" },
      { "cf-connecting-ip": "198.51.100.1", "x-forwarded-for": "192.0.2.9" },
      { "cf-connecting-ip": "198.51.100.1", "x-real-ip": "192.0.2.9", forwarded: "for=192.0.2.9" },
      { "cf-connecting-ip": "192.0.2.9, 198.51.100.1" },
      {},
    ];
    for (const headers of hostile) {
      const answer = await at(key, { ...headers });
      expect(answer.status).toBe(403);
      expect(answer.body).toMatchObject({ error: { data: { code: "ADDRESS_FORBIDDEN" } } });
    }
  });

  test("without the platform in front is used from this machine", async () => {
    const key = await mintKey("windsurf", { allowed_ips: ["127.0.0.0/8"] });
    expect((await at(key, {})).status).toBe(200);
  });

  test("holds for the admin API too", async () => {
    const operator = await mintKey("operator", { allowed_ips: ["192.0.2.1"] });
    expect((await admin("GET", "/keys", { as: operator.key })).status).toBe(403);
  });

  test.each([["192.0.2.1/24"], ["localhost"], [""]])("is not minted with %j", async (block) => {
    const body = { name: "x", role: "windsurf", allowed_ips: [block] };
    const answer = await admin("POST", "/keys", { body });
    expect([answer.status, answer.text.includes("allowed_ips")]).toEqual([400, true]);
  });

  test("shows its narrowing, and how long it has, in the list", async () => {
    const narrowing = {
      allowed_ips: ["192.0.2.1"],
      tools: ["read_*"],
      scopes: ["mcp:read"],
      limits: { burst: 1 },
    };
    const key = await mintKey("windsurf", { ...narrowing, expires_in_days: 2 });
    const answer = await admin("GET", "/keys?limit=200");
    const { keys } = z
      .object({ keys: z.array(z.looseObject({ id: z.string() })) })
      .parse(answer.body);
    expect(keys.find(({ id }) => id === key.id)).toMatchObject({
      ...narrowing,
      expires_in: (2 * DAY) / 1000,
    });
  });
});

describe("the end of a key", () => {
  test("is announced in the log once, a week before, unless it has a successor", async () => {
    const soon = await mintKey("windsurf", { expires_in_days: 5 });
    const later = await mintKey("windsurf", { expires_in_days: 8 });
    const rotated = await mintKey("windsurf", { expires_in_days: 3 });
    await admin("POST", `/keys/${rotated.id}/rotate`, { body: {} });
    const gone = await mintKey("windsurf", { expires_in_days: 4 });
    await admin("DELETE", `/keys/${gone.id}`);

    const now = Date.now();
    const ending = await endingKeys(env.ARCHIVE_DB, now);
    expect(ending).toContainEqual(
      expect.objectContaining({ id: soon.id, expires_in: (5 * DAY) / 1000 }),
    );
    const ids = ending.map(({ id }) => id);
    for (const { id } of [later, rotated, gone]) expect(ids).not.toContain(id);

    await remindOfEndingKeys(env.ARCHIVE_DB, now);
    await remindOfEndingKeys(env.ARCHIVE_DB, now + HOUR);
    const said = logs.filter((line) => line.includes("key_ends_soon") && line.includes(soon.id));
    expect(said).toHaveLength(1);
    expect(said[0]).not.toContain(soon.key);
    await remindOfEndingKeys(env.ARCHIVE_DB, now + 2 * DAY);
    expect(logs.some((line) => line.includes("key_ends_soon") && line.includes(later.id))).toBe(
      true,
    );
  });
});
