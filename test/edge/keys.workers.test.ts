import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { authenticate } from "../../src/edge/authenticate.ts";
import { HttpRefusal } from "../../src/edge/refusal.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import {
  type Answer,
  admin,
  approve,
  Client,
  currentOperator,
  initializeRequest,
  type Key,
  keyOf,
  mintKey,
  newRoot,
  postMcp,
  recordsOf,
  savePlan,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  DAY,
  HOUR,
  MINUTE,
  SECOND,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const CACHE = MINUTE;

/** What the edge says of a credential at a time, by the code of its refusal. */
async function ask(credential: string, at: number): Promise<string> {
  const pending: Promise<unknown>[] = [];
  try {
    const caller = await authenticate(credential, env.ARCHIVE_DB, at, (work) => {
      pending.push(work);
    });
    return caller.principal.id;
  } catch (error) {
    if (error instanceof HttpRefusal) return `${error.status} ${error.code}`;
    throw error;
  } finally {
    await Promise.all(pending);
  }
}

async function opens(key: string): Promise<Answer> {
  return postMcp(key, null, initializeRequest());
}

function codeOf({ status, body }: Answer): [number, unknown] {
  const code = JSON.stringify(body).match(/"code":"([A-Z_]+)"/)?.[1] ?? null;
  return [status, code];
}

/** Changes a key as another isolate would: this one hears nothing of it. */
async function change(key: Key, column: "revoked_at" | "expires_at", at: number): Promise<void> {
  await env.ARCHIVE_DB.prepare(`UPDATE api_keys SET ${column} = ? WHERE id = ?`)
    .bind(new Date(at).toISOString(), key.id)
    .run();
}

function archiveDown() {
  return vi.spyOn(env.ARCHIVE_DB, "prepare").mockImplementation(() => {
    throw new Error("D1 is away");
  });
}

describe("an API key", () => {
  test("is shown once and stored as a digest only", async () => {
    const key = await mintKey("windsurf");
    expect(key.key).toMatch(/^ag_[0-9a-z]{16}_[0-9A-Za-z]{43}$/);
    const secret = key.key.slice(-43);
    const row = await env.ARCHIVE_DB.prepare("SELECT * FROM api_keys WHERE id = ?")
      .bind(key.id)
      .first();
    expect(row).toMatchObject({ id: key.id, line: key.id, role: "windsurf", revoked_at: null });
    expect(JSON.stringify(row)).not.toContain(secret);
    const listed = await admin("GET", "/keys?limit=200");
    expect(listed.text).toContain(key.id);
    expect(listed.text).not.toContain(secret);
    expect(listed.text).not.toContain("digest");
  });

  test("is accepted as a bearer and as X-API-Key, and as both if they are the same", async () => {
    const { key } = await mintKey("windsurf");
    expect((await opens(key)).status).toBe(200);
    const both = await postMcp(key, null, initializeRequest(), { "x-api-key": key });
    expect(both.status).toBe(200);
    const other = await mintKey("windsurf");
    const differ = await postMcp(key, null, initializeRequest(), { "x-api-key": other.key });
    expect(codeOf(differ)).toEqual([401, "UNAUTHENTICATED"]);
  });

  test("notes its last use, once a minute and isolate", async () => {
    const key = await mintKey("windsurf");
    const used = async () => {
      const row = await env.ARCHIVE_DB.prepare("SELECT last_used_at FROM api_keys WHERE id = ?")
        .bind(key.id)
        .first<{ last_used_at: string | null }>();
      return row?.last_used_at ?? null;
    };
    expect(await used()).toBeNull();
    const now = Date.now();
    await ask(key.key, now);
    await ask(key.key, now + CACHE - 1);
    expect(await used()).toBe(new Date(now).toISOString());
    await ask(key.key, now + CACHE);
    expect(await used()).toBe(new Date(now + CACHE).toISOString());
  });
});

describe("good and bad answers are cached", () => {
  test("a good one for at most a minute: one read of the keys", async () => {
    const key = await mintKey("windsurf");
    const now = Date.now();
    using prepare = vi.spyOn(env.ARCHIVE_DB, "prepare");
    expect(await ask(key.key, now)).toBe(key.principal);
    const once = prepare.mock.calls.length;
    expect(await ask(key.key, now + CACHE - 1)).toBe(key.principal);
    expect(prepare).toHaveBeenCalledTimes(once);
    expect(await ask(key.key, now + CACHE)).toBe(key.principal);
    expect(prepare.mock.calls.length).toBeGreaterThan(once);
  });

  test("a key revoked elsewhere is refused within a minute, however often it is used", async () => {
    const key = await mintKey("windsurf");
    const now = Date.now();
    expect(await ask(key.key, now)).toBe(key.principal);
    await change(key, "revoked_at", now);
    for (let at = now; at < now + CACHE; at += 10 * SECOND) {
      expect(await ask(key.key, at)).toBe(key.principal);
    }
    expect(await ask(key.key, now + CACHE)).toBe("401 UNAUTHENTICATED");
  });

  test("a bad one too, for each credential by itself", async () => {
    const key = await mintKey("windsurf");
    const wrong = key.key.replace(/.$/, (last) => (last === "a" ? "b" : "a"));
    const now = Date.now();
    using prepare = vi.spyOn(env.ARCHIVE_DB, "prepare");
    expect(await ask(wrong, now)).toBe("401 UNAUTHENTICATED");
    expect(prepare).toHaveBeenCalledTimes(1);
    expect(await ask(wrong, now + CACHE - 1)).toBe("401 UNAUTHENTICATED");
    expect(prepare).toHaveBeenCalledTimes(1);
    // The right secret of the same key is not hit by that.
    expect(await ask(key.key, now)).toBe(key.principal);
    expect(await ask(wrong, now + CACHE)).toBe("401 UNAUTHENTICATED");
    const reads = prepare.mock.calls.length;
    // What has not the form of a key is refused without a question.
    expect(await ask("ag_short_x", now)).toBe("401 UNAUTHENTICATED");
    expect(prepare).toHaveBeenCalledTimes(reads);
  });

  test("a key that expires while its good answer is cached has expired all the same", async () => {
    const key = await mintKey("windsurf", { expires_in_days: 1 });
    const end = Date.parse(key.expires_at);
    expect(await ask(key.key, end - 1)).toBe(key.principal);
    expect(await ask(key.key, end)).toBe("401 KEY_EXPIRED");
  });
});

describe("while the keys cannot be read", () => {
  test("a cached key works on, and is cached no longer than before", async () => {
    const key = await mintKey("windsurf");
    const now = Date.now();
    expect(await ask(key.key, now)).toBe(key.principal);
    using _down = archiveDown();
    expect(await ask(key.key, now + CACHE - 1)).toBe(key.principal);
    expect(await ask(key.key, now + CACHE)).toBe("503 OVERLOADED");
  });

  test("an unknown answer is 503 with a time to come back, never 401, and is not kept", async () => {
    const key = await mintKey("windsurf");
    const known = await mintKey("windsurf");
    expect((await opens(known.key)).status).toBe(200);
    {
      using _down = archiveDown();
      const refused = await opens(key.key);
      expect(codeOf(refused)).toEqual([503, "OVERLOADED"]);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(refused.text).not.toContain("away");
      const onAdmin = await admin("GET", "/keys", { as: key.key });
      expect(codeOf(onAdmin)).toEqual([503, "OVERLOADED"]);
      // A session needs no archive, and a cached key no reading.
      const client = await Client.open(known);
      await client.must("read_audit_log");
    }
    expect((await opens(key.key)).status).toBe(200);
  });
});

describe("a key ends", () => {
  test("when it is revoked: at once here, and its session with it", async () => {
    const key = await mintKey("windsurf");
    const client = await Client.open(key);
    expect((await admin("DELETE", `/keys/${key.id}`)).status).toBe(204);
    expect(codeOf(await opens(key.key))).toEqual([401, "UNAUTHENTICATED"]);
    expect(codeOf(await client.rpc("ping"))).toEqual([401, "UNAUTHENTICATED"]);
    // Again is the same, and changes nothing.
    expect((await admin("DELETE", `/keys/${key.id}`)).status).toBe(204);
    expect((await admin("DELETE", "/keys/no-such-key")).status).toBe(404);
    const listed = await admin("GET", "/keys?limit=200");
    expect(listed.body).toMatchObject({
      keys: expect.arrayContaining([
        expect.objectContaining({ id: key.id, revoked_at: new Date().toISOString() }),
      ]),
    });
  });

  test("when its time is up, 30 days by default", async () => {
    const key = await mintKey("windsurf");
    expect(Date.parse(key.expires_at)).toBe(Date.now() + 30 * DAY);
    const short = await mintKey("windsurf", { expires_in_days: 1 });
    advance(DAY - 1);
    expect((await opens(short.key)).status).toBe(200);
    advance(1);
    const expired = await opens(short.key);
    expect(codeOf(expired)).toEqual([401, "KEY_EXPIRED"]);
    expect(expired.headers.get("www-authenticate")).toBe("Bearer");
    expect((await opens(key.key)).status).toBe(200);
    advance(29 * DAY);
    expect(codeOf(await opens(key.key))).toEqual([401, "KEY_EXPIRED"]);
  });

  test("a revoked key is not said to be expired, nor a wrong secret of an expired one", async () => {
    const key = await mintKey("windsurf", { expires_in_days: 1 });
    const wrong = key.key.replace(/.$/, (last) => (last === "a" ? "b" : "a"));
    advance(2 * DAY);
    expect(codeOf(await opens(wrong))).toEqual([401, "UNAUTHENTICATED"]);
    await change(key, "revoked_at", Date.now());
    expect(codeOf(await opens(key.key))).toEqual([401, "UNAUTHENTICATED"]);
  });
});

describe("rotation", () => {
  async function rotate(key: Key, body: unknown): Promise<Key> {
    return keyOf(await admin("POST", `/keys/${key.id}/rotate`, { body }));
  }

  test("keeps role, tenant, narrowing and the principal; both keys work during the overlap", async () => {
    const key = await mintKey("windsurf", { tenant: "acme", workspaces: ["/srv/**"] });
    const client = await Client.open(key);
    const next = await rotate(key, { overlap_hours: 2 });
    expect(next).toMatchObject({ role: "windsurf", tenant: "acme" });
    expect(next.id).not.toBe(key.id);
    const sameSession = new Client(next, client.id);
    await client.must("read_audit_log");
    await sameSession.must("read_audit_log");
    const narrowed = await sameSession.call("begin_session", { workspace_root: "/home/x" });
    expect(narrowed.code).toBe("FORBIDDEN");
    const records = await recordsOf(client.id);
    expect(new Set(records.map(({ principal }) => principal))).toEqual(new Set([key.principal]));

    const third = await rotate(next, {});
    await new Client(third, client.id).must("read_audit_log");
    expect((await recordsOf(client.id)).at(-1)?.principal).toBe(key.principal);
  });

  test("ends the old key with the overlap, and no later than it would have ended", async () => {
    const key = await mintKey("windsurf");
    const next = await rotate(key, { overlap_hours: 2 });
    advance(2 * HOUR - 1);
    expect((await opens(key.key)).status).toBe(200);
    advance(1);
    expect(codeOf(await opens(key.key))).toEqual([401, "KEY_EXPIRED"]);
    expect((await opens(next.key)).status).toBe(200);
    expect(Date.parse(next.expires_at)).toBe(Date.now() - 2 * HOUR + 30 * DAY);

    const short = await mintKey("windsurf", { expires_in_days: 1 });
    await rotate(short, { overlap_hours: 720 });
    advance(DAY);
    expect(codeOf(await opens(short.key))).toEqual([401, "KEY_EXPIRED"]);
  });

  test("without overlap ends the old key at once, though it is cached", async () => {
    const key = await mintKey("windsurf");
    expect((await opens(key.key)).status).toBe(200);
    const next = await rotate(key, { overlap_hours: 0 });
    expect(codeOf(await opens(key.key))).toEqual([401, "KEY_EXPIRED"]);
    expect((await opens(next.key)).status).toBe(200);
    const again = await admin("POST", `/keys/${key.id}/rotate`, { body: {} });
    expect(codeOf(again)).toEqual([409, "CONFLICT"]);
  });

  test("of a key that is revoked on the way makes no successor, and is recorded as refused", async () => {
    const key = await mintKey("windsurf");
    const batch = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementationOnce(async (statements) => {
      await change(key, "revoked_at", Date.now());
      return batch(statements);
    });
    const refused = await admin("POST", `/keys/${key.id}/rotate`, { body: {} });
    expect(codeOf(refused)).toEqual([409, "CONFLICT"]);
    const rows = await env.ARCHIVE_DB.prepare("SELECT id, expires_at FROM api_keys WHERE line = ?")
      .bind(key.id)
      .all();
    expect(rows.results).toEqual([{ id: key.id, expires_at: key.expires_at }]);
    const { id, tenant } = await currentOperator();
    const owner = { tenant, principal: `key:${id}` };
    const record = (await recordsOf(ambientSessionId(sha256Hex, owner, Date.now()))).at(-1);
    expect(record).toMatchObject({
      event: "admin",
      result: "error",
      error_code: "CONFLICT",
      context: { action: "key.rotate", key: { rotated_from: key.id } },
    });
  });
});

describe("a key narrowed to workspaces", () => {
  test("binds to those only, and the refusal is recorded", async () => {
    const key = await mintKey("windsurf", { workspaces: ["/srv/team-*/**", "/opt/one"] });
    const client = await Client.open(key);
    for (const root of ["/srv/team-a/app", "/opt/one"]) {
      await client.must("begin_session", { workspace_root: root });
    }
    for (const root of ["/srv/other/app", "/opt/one/below", "/opt/two", "/srv/team-a/../other"]) {
      const refused = await client.call("begin_session", { workspace_root: root });
      expect([root, refused.code]).toEqual([
        root,
        root.includes("..") ? "PATH_ESCAPE" : "FORBIDDEN",
      ]);
      expect((await recordsOf(client.id)).at(-1)).toMatchObject({
        event: "tool_call",
        tool: "begin_session",
        error_code: refused.code,
        workspace_root: "/opt/one",
      });
    }
  });

  test("of another tenant finds none of the first one's files or plans under the same root", async () => {
    const root = newRoot();
    const planHash = await savePlan(root);
    await approve(root, planHash);
    const other = await Client.open(await mintKey("windsurf", { tenant: "another" }));
    const bound = await other.call("begin_session", { workspace_root: root, plan_hash: planHash });
    expect(bound.code).toBe("PLAN_NOT_FOUND");
    await other.must("begin_session", { workspace_root: root });
    expect((await other.must("list_plans")).value.plans).toEqual([]);
  });
});

describe("the admin API of keys", () => {
  test("ADMIN_TOKEN only mints, lists and revokes operator keys", async () => {
    const as = env.ADMIN_TOKEN;
    const agent = await mintKey("windsurf");
    const mint = await admin("POST", "/keys", { as, body: { name: "x", role: "windsurf" } });
    expect(codeOf(mint)).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await admin("DELETE", `/keys/${agent.id}`, { as }))).toEqual([403, "FORBIDDEN"]);
    const rotate = await admin("POST", `/keys/${agent.id}/rotate`, { as, body: {} });
    expect(codeOf(rotate)).toEqual([403, "FORBIDDEN"]);
    expect(codeOf(await admin("GET", "/sessions", { as }))).toEqual([403, "FORBIDDEN"]);
    expect((await admin("GET", "/keys?limit=200", { as })).text).not.toContain(agent.id);
    const operator = await mintKey("operator");
    expect((await admin("DELETE", `/keys/${operator.id}`, { as })).status).toBe(204);
    expect(codeOf(await admin("GET", "/keys", { as: operator.key }))).toEqual([
      401,
      "UNAUTHENTICATED",
    ]);
    expect((await opens(agent.key)).status).toBe(200);
  });

  test.for([
    [{ role: "windsurf" }, "name"],
    [{ name: "", role: "windsurf" }, "name"],
    [{ name: "x".repeat(129), role: "windsurf" }, "name"],
    [{ name: "x", role: "root" }, "role"],
    [{ name: "x", role: "windsurf", expires_in_days: 0 }, "expires_in_days"],
    [{ name: "x", role: "windsurf", expires_in_days: 366 }, "expires_in_days"],
    [{ name: "x", role: "windsurf", expires_in_days: 1.5 }, "expires_in_days"],
    [{ name: "x", role: "windsurf", tenant: "a\nb" }, "tenant"],
    [{ name: "x", role: "windsurf", tenant: "" }, "tenant"],
    [{ name: "x", role: "windsurf", admin: true }, "admin"],
    [{ name: "x", role: "windsurf", workspaces: ["!/srv/**"] }, "workspaces"],
  ] as const)("refuses %j, naming the field, and mints nothing", async ([body, field]) => {
    const count = "SELECT count(*) AS n FROM api_keys";
    await currentOperator();
    const before = await env.ARCHIVE_DB.prepare(count).first("n");
    const refused = await admin("POST", "/keys", { body });
    expect(codeOf(refused)).toEqual([400, "INVALID_ARGUMENT"]);
    expect(refused.text).toContain(field);
    expect(await env.ARCHIVE_DB.prepare(count).first("n")).toBe(before);
  });

  test("bounds the overlap of a rotation", async () => {
    const key = await mintKey("windsurf");
    for (const overlap_hours of [-1, 721, 0.5, "1"]) {
      const refused = await admin("POST", `/keys/${key.id}/rotate`, { body: { overlap_hours } });
      expect(codeOf(refused)).toEqual([400, "INVALID_ARGUMENT"]);
    }
    expect((await opens(key.key)).status).toBe(200);
  });

  test("records every change before and after, with what changed and never the key", async () => {
    const operator = await mintKey("operator");
    const as = operator.key;
    const minted = keyOf(
      await admin("POST", "/keys", { as, body: { name: "recorded", role: "windsurf" } }),
    );
    const next = keyOf(await admin("POST", `/keys/${minted.id}/rotate`, { as, body: {} }));
    await admin("DELETE", `/keys/${next.id}`, { as });
    const owner = { tenant: "default", principal: operator.principal };
    const records = await recordsOf(ambientSessionId(sha256Hex, owner, Date.now()));
    expect(
      records.slice(1).map(({ event, result, context }) => [event, result, context?.action]),
    ).toEqual(
      ["key.create", "key.rotate", "key.revoke"].flatMap((action) => [
        ["admin", "pending", action],
        ["admin", "ok", action],
      ]),
    );
    expect(records[1]).toMatchObject({
      args: '{"name":"recorded","role":"windsurf"}',
      context: { key: { id: minted.id, role: "windsurf", name: "recorded" } },
    });
    expect(records[3]).toMatchObject({
      context: {
        key: { id: next.id, rotated_from: minted.id, old_expires_at: expect.any(String) },
      },
    });
    const everything = JSON.stringify(records) + logs.join("\n");
    for (const { key } of [operator, minted, next]) {
      expect(everything).not.toContain(key.slice(-43));
    }
    expect(everything).not.toContain(env.ADMIN_TOKEN);
  });

  test("pages through keys without losing or repeating one", async () => {
    const made = [];
    for (let n = 0; n < 5; n++) made.push((await mintKey("auditor")).id);
    const seen: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const page: Answer = await admin(
        "GET",
        `/keys?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`,
      );
      expect(page.status).toBe(200);
      seen.push(...Array.from(page.text.matchAll(/"id":"([0-9a-z]{16})"/g), ([, id]) => id ?? ""));
      cursor = /"next_cursor":"([^"]+)"/.exec(page.text)?.[1] ?? null;
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen).toEqual(expect.arrayContaining(made));
    expect((await admin("GET", "/keys?cursor=nonsense!")).status).toBe(400);
    expect((await admin("GET", "/keys?limit=201")).status).toBe(400);
    expect((await admin("GET", "/keys?colour=red")).status).toBe(400);
  });
});
