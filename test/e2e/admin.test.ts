import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { ambientId, principalOf } from "./support/ambient.ts";
import { exportLines, problemsOf, readLine } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { type Answer, at, send, textAt } from "./support/http.ts";
import { initializeMessage, postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan, savedPlan } from "./support/plans.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const NO_HASH = "0".repeat(64);

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

function expectRefusal(answer: Answer, status: number, code: string, names = ""): void {
  expect([answer.status, at(answer.json, "error.code")]).toEqual([status, code]);
  expect(answer.json).toEqual({
    error: { code, message: expect.any(String), request_id: answer.headers["x-request-id"] },
  });
  expect(textAt(answer.json, "error.message")).toContain(names);
}

function idOf(key: string): string {
  return key.split("_")[1] ?? "";
}

async function initialize(key: string): Promise<Answer> {
  return postMcp(gateway.url, initializeMessage(), { key });
}

/** Every item of a list, page by page, and how many pages that took. */
async function walk(path: string, list: string, limit: number) {
  const items: unknown[] = [];
  let cursor: unknown = null;
  let pages = 0;
  do {
    const query = `limit=${limit}${typeof cursor === "string" ? `&cursor=${cursor}` : ""}`;
    const page = await operator.ok("GET", `${path}${path.includes("?") ? "&" : "?"}${query}`);
    const found = at(page, list);
    if (!Array.isArray(found)) throw new Error(`no ${list}`);
    expect(found.length).toBeLessThanOrEqual(limit);
    items.push(...found);
    cursor = at(page, "next_cursor");
    pages += 1;
  } while (cursor !== null);
  return { items, pages };
}

async function recordsOf(sessionId: string) {
  return exportLines(await operator.export(sessionId)).map(readLine);
}

describe("POST /admin/keys", () => {
  it("mints a key that is shown this once", async () => {
    const before = Date.now();
    const answer = await operator.send("POST", "/keys", { name: "a name", role: "windsurf" });
    expect(answer.status).toBe(201);
    const { json } = answer;
    expect(json).toEqual({
      id: expect.stringMatching(/^[0-9a-z]+$/),
      key: expect.stringMatching(/^ag_[0-9a-z]+_[0-9A-Za-z]{32,}$/),
      name: "a name",
      role: "windsurf",
      tenant: "default",
      created_at: expect.any(String),
      expires_at: expect.any(String),
    });
    const key = textAt(json, "key");
    expect(idOf(key)).toBe(textAt(json, "id"));
    const created = Date.parse(textAt(json, "created_at"));
    expect(Date.parse(textAt(json, "expires_at")) - created).toBe(30 * DAY_MS);
    expect(created).toBeGreaterThanOrEqual(before - 1000);
    const { text } = await operator.get("/keys?limit=200");
    expect(text).toContain(idOf(key));
    expect(text).not.toContain(key.split("_")[2]);
    expect((await initialize(key)).status).toBe(200);
  });

  it.each([
    { fields: { name: undefined }, names: "name" },
    { fields: { name: "" }, names: "name" },
    { fields: { name: "x".repeat(129) }, names: "name" },
    { fields: { name: 4 }, names: "name" },
    { fields: { role: undefined }, names: "role" },
    { fields: { role: "admin" }, names: "role" },
    { fields: { role: ["windsurf"] }, names: "role" },
    { fields: { expires_in_days: 0 }, names: "expires_in_days" },
    { fields: { expires_in_days: 366 }, names: "expires_in_days" },
    { fields: { expires_in_days: -1 }, names: "expires_in_days" },
    { fields: { expires_in_days: 1.5 }, names: "expires_in_days" },
    { fields: { expires_in_days: "3" }, names: "expires_in_days" },
    { fields: { expires_in_days: null }, names: "expires_in_days" },
    { fields: { tenant: "" }, names: "tenant" },
    { fields: { tenant: "a b" }, names: "tenant" },
    { fields: { tenant: "../a" }, names: "tenant" },
    { fields: { workspaces: "/srv" }, names: "workspaces" },
    { fields: { workspaces: [] }, names: "workspaces" },
    { fields: { workspaces: [4] }, names: "workspaces" },
    { fields: { workspaces: ["srv/relative"] }, names: "workspaces" },
    { fields: { workspaces: ["/srv/{a,b}"] }, names: "workspaces" },
    { fields: { upstreams: [""] }, names: "upstreams" },
    { fields: { bogus: 1 }, names: "bogus" },
    { fields: { key: "ag_mine" }, names: "key" },
    { fields: { constructor: 1 }, names: "constructor" },
  ] as { fields: object; names: string }[])(
    "refuses $fields, naming $names",
    async ({ fields, names }) => {
      const before = (await walk("/keys", "keys", 200)).items.length;
      const body = { name: "n", role: "windsurf", ...fields };
      expectRefusal(await operator.send("POST", "/keys", body), 400, "INVALID_ARGUMENT", names);
      expect((await walk("/keys", "keys", 200)).items).toHaveLength(before);
    },
  );

  it("refuses a field called __proto__, naming it", async () => {
    const body = '{"name":"n","role":"windsurf","__proto__":{"role":"operator"}}';
    const answer = await operator.send("POST", "/keys", body);
    expectRefusal(answer, 400, "INVALID_ARGUMENT", "__proto__");
  });

  it("refuses a tenant that could be taken for another between line feeds", async () => {
    for (const tenant of ["a\n", "a\nb", "\na", "a\u2028b"]) {
      const body = { name: "n", role: "windsurf", tenant };
      expectRefusal(await operator.send("POST", "/keys", body), 400, "INVALID_ARGUMENT", "tenant");
    }
  });

  it("takes the ends of every range", async () => {
    for (const fields of [
      { name: "x" },
      { name: "x".repeat(128) },
      { expires_in_days: 1 },
      { expires_in_days: 365 },
      { tenant: "a" },
      { tenant: "Tenant-1.x_y" },
      { workspaces: ["/srv/app", "/srv/*/x", "/**"] },
      { upstreams: ["github"] },
    ]) {
      const answer = await operator.send("POST", "/keys", {
        name: "n",
        role: "auditor",
        ...fields,
      });
      expect([fields, answer.status]).toEqual([fields, 201]);
    }
  });

  it.each([
    { what: "a list", body: "[]", status: 400, code: "INVALID_ARGUMENT" },
    { what: "a text", body: '"x"', status: 400, code: "INVALID_ARGUMENT" },
    { what: "null", body: "null", status: 400, code: "INVALID_ARGUMENT" },
    { what: "no JSON", body: "{", status: 400, code: "INVALID_ARGUMENT" },
    { what: "a key twice", body: '{"name":"a","name":"b"}', status: 400, code: "INVALID_ARGUMENT" },
    { what: "10 MB", body: `"${"x".repeat(10_000_000)}"`, status: 413, code: "PAYLOAD_TOO_LARGE" },
  ])("refuses $what for a body", async ({ body, status, code }) => {
    expectRefusal(await operator.send("POST", "/keys", body), status, code);
  });

  it("refuses a body that is not declared as JSON", async () => {
    const answer = await send(`${gateway.url}/admin/keys`, {
      method: "POST",
      headers: { authorization: `Bearer ${gateway.keys.operator}`, "content-type": "text/plain" },
      body: '{"name":"n","role":"windsurf"}',
    });
    expectRefusal(answer, 415, "INVALID_ARGUMENT");
  });
});

describe("ADMIN_TOKEN", () => {
  it("creates, lists and revokes operator keys", async () => {
    const bootstrap = new Operator(gateway.url, gateway.adminToken);
    const minted = await bootstrap.mintKey({ role: "operator" });
    expect((await new Operator(gateway.url, minted.key).get("/keys")).status).toBe(200);
    const listed = at(await bootstrap.ok("GET", "/keys?limit=200"), "keys");
    const roles = Array.isArray(listed) ? listed.map((key) => textAt(key, "role")) : [];
    expect(new Set(roles)).toEqual(new Set(["operator"]));
    expect((await bootstrap.send("DELETE", `/keys/${minted.id}`)).status).toBe(204);
    await eventually("the revoked operator is refused", async () =>
      (await new Operator(gateway.url, minted.key).get("/keys")).status === 401 ? true : null,
    );
  });

  it("is recorded under its own name", async () => {
    const bootstrap = new Operator(gateway.url, gateway.adminToken);
    const { id } = await bootstrap.mintKey({ role: "operator", name: "by the token" });
    const records = await recordsOf(ambientId("default", "admin:bootstrap"));
    expect(records.at(-1)).toMatchObject({
      event: "admin",
      principal: "admin:bootstrap",
      result: "ok",
      context: { action: "key.create", key: { id, role: "operator" } },
    });
  });

  it("does nothing else", async () => {
    const bootstrap = new Operator(gateway.url, gateway.adminToken);
    const { id } = await operator.mintKey({ role: "windsurf" });
    const own = idOf(gateway.keys.operator);
    const root = { workspace_root: "/srv/x" };
    for (const [method, path, body] of [
      ["POST", "/keys", { name: "n", role: "windsurf" }],
      ["POST", "/keys", { name: "n", role: "auditor" }],
      ["DELETE", `/keys/${id}`, undefined],
      ["POST", `/keys/${own}/rotate`, {}],
      ["GET", "/sessions", undefined],
      ["DELETE", "/sessions/x", undefined],
      ["GET", "/audit", undefined],
      ["GET", "/audit/sessions/x", undefined],
      ["GET", "/audit/sessions/x/verify", undefined],
      ["GET", "/plans", undefined],
      ["GET", `/plans/${NO_HASH}?workspace_root=/srv/x`, undefined],
      ["POST", `/plans/${NO_HASH}/approve`, root],
      ["POST", `/plans/${NO_HASH}/revoke`, root],
      ["GET", "/files/versions?workspace_root=/srv/x&path=a", undefined],
    ] as const) {
      const answer = await bootstrap.send(method, path, body);
      expect([method, path, answer.status]).toEqual([method, path, 403]);
      expectRefusal(answer, 403, "FORBIDDEN");
    }
  });

  it("is refused with one character changed", async () => {
    const changed = `${gateway.adminToken.startsWith("A") ? "B" : "A"}${gateway.adminToken.slice(1)}`;
    expectRefusal(await new Operator(gateway.url, changed).get("/keys"), 401, "UNAUTHENTICATED");
  });
});

describe("the life of a key", () => {
  it("goes on over a rotation: the session stays usable with both keys", async () => {
    const old = await operator.mintKey({
      role: "windsurf",
      tenant: "rotating",
      workspaces: ["/srv/rotating"],
    });
    const session = await RawSession.open(gateway.url, old.key);
    await session.ok("begin_session", { workspace_root: "/srv/rotating" });
    const before = Date.now();
    const answer = await operator.send("POST", `/keys/${old.id}/rotate`, { overlap_hours: 1 });
    expect(answer.status).toBe(201);
    expect(answer.json).toMatchObject({ name: old.name, role: "windsurf", tenant: "rotating" });
    const next = textAt(answer.json, "key");
    const third = textAt(await operator.ok("POST", `/keys/${idOf(next)}/rotate`), "key");
    for (const key of [old.key, next, third]) {
      const ping = await postMcp(
        gateway.url,
        { jsonrpc: "2.0", id: 1, method: "ping" },
        { key, session: session.id },
      );
      expect(ping.status).toBe(200);
    }
    const narrowed = await RawSession.open(gateway.url, third);
    const outside = await narrowed.call("begin_session", { workspace_root: "/srv/other" });
    expect(outside.code).toBe("FORBIDDEN");
    expect((await recordsOf(narrowed.id))[0]?.principal).toBe(`key:${old.id}`);

    const { items } = await walk("/keys", "keys", 200);
    const listed = items.find((key) => at(key, "id") === old.id);
    const end = Date.parse(textAt(listed, "expires_at"));
    expect(end).toBeGreaterThanOrEqual(before + HOUR_MS);
    expect(end).toBeLessThanOrEqual(Date.now() + HOUR_MS);
  });

  it("ends at once with a rotation without overlap", async () => {
    const old = await operator.mintKey({ role: "windsurf" });
    expect((await initialize(old.key)).status).toBe(200);
    const next = textAt(
      await operator.ok("POST", `/keys/${old.id}/rotate`, { overlap_hours: 0 }),
      "key",
    );
    expect((await initialize(next)).status).toBe(200);
    await eventually("the old key has ended", async () => {
      const answer = await initialize(old.key);
      return answer.status === 401 && at(answer.json, "error.data.code") === "KEY_EXPIRED"
        ? true
        : null;
    });
  });

  it("is never made longer by a rotation", async () => {
    const old = await operator.mintKey({ role: "windsurf", expires_in_days: 1 });
    await operator.ok("POST", `/keys/${old.id}/rotate`, { overlap_hours: 720 });
    const { items } = await walk("/keys", "keys", 200);
    const listed = items.find((key) => at(key, "id") === old.id);
    expect(at(listed, "expires_at")).toBe(old.expires_at);
  });

  it.each([
    { overlap_hours: -1 },
    { overlap_hours: 721 },
    { overlap_hours: 0.5 },
    { overlap_hours: "1" },
  ])("is not rotated with %j", async (body) => {
    const { id } = await operator.mintKey({ role: "windsurf" });
    const answer = await operator.send("POST", `/keys/${id}/rotate`, body);
    expectRefusal(answer, 400, "INVALID_ARGUMENT", "overlap_hours");
  });

  it("ends with its revocation, and its sessions take no more calls from it", async () => {
    const minted = await operator.mintKey({ role: "windsurf" });
    const session = await RawSession.open(gateway.url, minted.key);
    const answer = await operator.send("DELETE", `/keys/${minted.id}`);
    expect([answer.status, answer.text]).toEqual([204, ""]);
    const refused = await eventually("the revoked key is refused", async () => {
      const ping = await session.request("ping");
      return ping.status === 401 ? ping : null;
    });
    expect(at(refused.json, "error.data.code")).toBe("UNAUTHENTICATED");
    const { items } = await walk("/keys", "keys", 200);
    const listed = items.find((key) => at(key, "id") === minted.id);
    expect(textAt(listed, "revoked_at")).toMatch(/Z$/);
    expect((await operator.send("DELETE", `/keys/${minted.id}`)).status).toBe(204);
    const rotated = await operator.send("POST", `/keys/${minted.id}/rotate`);
    expectRefusal(rotated, 409, "CONFLICT");
  });

  it("that was never there is 404", async () => {
    expectRefusal(await operator.send("DELETE", "/keys/none"), 404, "NOT_FOUND");
    expectRefusal(await operator.send("POST", "/keys/none/rotate"), 404, "NOT_FOUND");
  });
});

describe("lists", () => {
  it("of keys are walked exactly once, newest first, whatever the page", async () => {
    await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        operator.mintKey({ role: "auditor", name: `walk ${n}` }),
      ),
    );
    const whole = (await walk("/keys", "keys", 200)).items.map((key) => textAt(key, "id"));
    expect(new Set(whole).size).toBe(whole.length);
    for (const limit of [1, 2, 7]) {
      const { items, pages } = await walk("/keys", "keys", limit);
      expect(items.map((key) => textAt(key, "id"))).toEqual(whole);
      expect(pages).toBe(Math.ceil(whole.length / limit));
    }
    const times = (await walk("/keys", "keys", 5)).items.map((key) => textAt(key, "created_at"));
    expect(times).toEqual(times.toSorted().reverse());
  });

  it("of sessions are walked exactly once, and show what a session is", async () => {
    const tenant = "walked";
    const { key, id } = await operator.mintKey({ role: "windsurf", tenant });
    const opened = [];
    for (let n = 0; n < 5; n++) opened.push(await RawSession.open(gateway.url, key));
    await opened[0]?.ok("begin_session", { workspace_root: "/srv/walked" });
    await opened[1]?.end();
    const path = `/sessions?tenant=${tenant}`;
    const whole = await eventually("the sessions are in the index as they are", async () => {
      const { items } = await walk(path, "sessions", 200);
      const entries = items.map((session) => Number(at(session, "entries")));
      return entries.reduce((a, b) => a + b, 0) === 7 ? items : null;
    });
    expect(whole.map((session) => textAt(session, "session_id"))).toEqual(
      opened.map((session) => session.id).reverse(),
    );
    expect(whole[4]).toEqual({
      session_id: opened[0]?.id,
      tenant,
      principal: `key:${id}`,
      role: "windsurf",
      era: "2025",
      workspace_root: "/srv/walked",
      plan_hash: null,
      created_at: expect.stringMatching(/Z$/),
      last_seen_at: expect.stringMatching(/Z$/),
      entries: 2,
      head: expect.stringMatching(/^[0-9a-f]{64}$/),
      ended_at: null,
    });
    for (const limit of [1, 2]) {
      const { items } = await walk(path, "sessions", limit);
      expect(items.map((session) => at(session, "session_id"))).toEqual(
        whole.map((session) => at(session, "session_id")),
      );
    }
    const ended = (await walk(`${path}&active=false`, "sessions", 1)).items;
    expect(ended).toMatchObject([{ session_id: opened[1]?.id, ended_at: expect.any(String) }]);
    expect((await walk(`${path}&active=true`, "sessions", 3)).items).toHaveLength(4);
  });

  it("of audit entries are walked exactly once, newest first, and narrowed by each parameter", async () => {
    const root = "/srv/audited";
    const hash = await approvedPlan(gateway, root);
    const since = new Date().toISOString();
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    await session.ok("begin_session", { workspace_root: root, plan_hash: hash });
    await session.ok("write_file", { path: "src/a", content: "x" });
    await session.call("write_file", { path: "docs/a", content: "x" });
    await session.ok("read_file", { path: "src/a" });
    await session.end();
    const lines = exportLines(await operator.export(session.id));
    const query = `session_id=${session.id}`;
    const whole = await operator.auditUntil(query, (found) => found.length === lines.length);
    expect(whole.map((entry) => entry.seq)).toEqual(lines.map((_, n) => lines.length - n));
    expect(whole.toReversed()).toEqual(lines.map(readLine));
    for (const limit of [1, 3]) {
      const { items } = await walk(`/audit?${query}`, "entries", limit);
      expect(items).toEqual(whole);
    }
    const count = async (more: string) => (await operator.audit(`${query}&${more}`)).length;
    expect(await count("tool=write_file")).toBe(4);
    expect(await count("tool=read_file&result=ok")).toBe(1);
    expect(await count("result=pending")).toBe(2);
    expect(await count("error_code=PLAN_SCOPE_VIOLATION")).toBe(1);
    expect(await count(`plan_hash=${hash}`)).toBe(lines.length - 2);
    expect(await count("role=windsurf")).toBe(lines.length);
    expect(await count("role=auditor")).toBe(0);
    expect(await count(`since=${since}`)).toBe(lines.length);
    expect(await count(`until=${since}`)).toBe(0);
    const other = encodeURIComponent(since.replace("Z", "+00:00"));
    expect(await count(`since=${other}`)).toBe(lines.length);
  });

  it("of plans are walked exactly once, over all workspaces and in one", async () => {
    const roots = ["/srv/list-a", "/srv/list-b", "/srv/list-c"];
    const saved: string[] = [];
    for (const [n, root] of roots.entries()) {
      for (const title of ["one", "two"].slice(0, n + 1)) {
        saved.push(`${root} ${await savedPlan(gateway, root, { title })}`);
      }
    }
    const named = (items: unknown[]) =>
      items.map((plan) => `${textAt(plan, "workspace_root")} ${textAt(plan, "plan_hash")}`);
    const whole = await eventually("every workspace is listed", async () => {
      const names = named((await walk("/plans", "plans", 200)).items);
      return saved.every((name) => names.includes(name)) ? names : null;
    });
    expect(new Set(whole).size).toBe(whole.length);
    for (const limit of [1, 2]) {
      expect(named((await walk("/plans", "plans", limit)).items)).toEqual(whole);
    }
    const one = `/plans?workspace_root=${roots[1]}`;
    expect(named((await walk(one, "plans", 1)).items).sort()).toEqual(
      saved.filter((name) => name.startsWith(`${roots[1]} `)).sort(),
    );
    expect((await walk(`${one}&status=approved`, "plans", 1)).items).toEqual([]);
    expect((await walk(`${one}&status=proposed`, "plans", 1)).items).toHaveLength(2);
  });

  it.each(["/keys", "/sessions", "/audit", "/plans"])(
    "%s refuses what is no page",
    async (path) => {
      for (const query of ["limit=0", "limit=201", "limit=-1", "limit=1.5", "limit=x", "limit="]) {
        expectRefusal(await operator.get(`${path}?${query}`), 400, "INVALID_ARGUMENT", "limit");
      }
      expect((await operator.get(`${path}?limit=200`)).status).toBe(200);
      // Well-formed base64url that this list never gave out, among them.
      for (const cursor of ["!", "=", "eA", "eCB5", "W10", "AAAA", "a".repeat(5000)]) {
        const answer = await operator.get(`${path}?cursor=${encodeURIComponent(cursor)}`);
        expect([cursor.slice(0, 8), answer.status]).toEqual([cursor.slice(0, 8), 400]);
        expectRefusal(answer, 400, "INVALID_ARGUMENT", "cursor");
      }
      expectRefusal(await operator.get(`${path}?bogus=1`), 400, "INVALID_ARGUMENT", "bogus");
      expectRefusal(
        await operator.get(`${path}?limit=1&limit=2`),
        400,
        "INVALID_ARGUMENT",
        "limit",
      );
    },
  );

  it.each([
    ["/audit", "result=good", "result"],
    ["/audit", "since=yesterday", "since"],
    ["/audit", "until=2026-01-01", "until"],
    ["/audit", "plan_hash=x", "plan_hash"],
    ["/sessions", "active=yes", "active"],
    ["/sessions", "tenant=a%20b", "tenant"],
    ["/plans", "status=done", "status"],
    ["/plans", "workspace_root=srv", "workspace_root"],
  ])("%s refuses %s", async (path, query, names) => {
    expectRefusal(await operator.get(`${path}?${query}`), 400, "INVALID_ARGUMENT", names);
  });
});

describe("sessions under an operator", () => {
  it("end when the operator ends them", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const answer = await operator.send("DELETE", `/sessions/${session.id}`);
    expect([answer.status, answer.text]).toEqual([204, ""]);
    expect((await session.request("ping")).status).toBe(404);
    const records = await recordsOf(session.id);
    expect(records.map((record) => record.event)).toEqual(["session_open", "session_close"]);
  });

  it("are 404 where there is none", async () => {
    for (const path of ["/sessions/none", "/sessions/00000000-0000-8000-8000-000000000000"]) {
      expectRefusal(await operator.send("DELETE", path), 404, "SESSION_NOT_FOUND");
    }
  });

  it("are not ended when they are ambient", async () => {
    const ambient = ambientId("default", principalOf(gateway.keys.operator));
    await operator.mintKey({ role: "auditor" });
    expectRefusal(await operator.send("DELETE", `/sessions/${ambient}`), 409, "CONFLICT");
    await operator.mintKey({ role: "auditor" });
  });
});

describe("evidence", () => {
  it("is exported as NDJSON and verified", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const { receipt } = await session.call("read_audit_log");
    const answer = await operator.get(`/audit/sessions/${session.id}`);
    expect(answer.headers["content-type"]).toBe("application/x-ndjson");
    expect(problemsOf(answer.text, { tenant: "default", id: session.id })).toEqual([]);
    // How much of it the log covers already depends on when its flush came.
    const report = await operator.ok("GET", `/audit/sessions/${session.id}/verify`);
    expect(report).toMatchObject({
      session_id: session.id,
      records: 2,
      head: receipt.hash_chain,
      open_intents: [],
      verdicts: { integrity: { ok: true, findings: [] } },
    });
    const { verdicts } = z.object({ verdicts: z.record(z.string(), z.unknown()) }).parse(report);
    expect(Object.keys(verdicts).sort().join()).toBe(
      "anchored,completeness,independence,integrity,time",
    );
    expect(JSON.stringify(verdicts)).not.toContain('"ok":false');
  });

  it.each(["none", "00000000-0000-8000-8000-000000000000"])("of %s is 404", async (id) => {
    expectRefusal(await operator.get(`/audit/sessions/${id}`), 404, "SESSION_NOT_FOUND");
    expectRefusal(await operator.get(`/audit/sessions/${id}/verify`), 404, "SESSION_NOT_FOUND");
  });
});

describe("plans under an operator", () => {
  it("are shown whole, with who decided what", async () => {
    const root = "/srv/decided";
    const hash = await savedPlan(gateway, root);
    const path = `/plans/${hash}?workspace_root=${root}`;
    const proposed = await operator.ok("GET", path);
    expect(proposed).toMatchObject({
      plan_hash: hash,
      workspace_root: root,
      tenant: "default",
      status: "proposed",
      approved_by: null,
      approved_at: null,
      saved_by: principalOf(gateway.keys.antigravity),
      plan: { title: expect.any(String), scope: { paths: ["src/**"] } },
    });
    const body = { workspace_root: root, reason: "reviewed on Monday" };
    const approved = await operator.ok("POST", `/plans/${hash}/approve`, body);
    expect(approved).toMatchObject({ status: "approved", reason: body.reason });
    const life =
      Date.parse(textAt(approved, "expires_at")) - Date.parse(textAt(approved, "approved_at"));
    expect(life).toBe(7 * DAY_MS);
    expect(await operator.ok("GET", path)).toEqual(approved);
    expect(await operator.ok("POST", `/plans/${hash}/approve`, body)).toEqual(approved);
    const revoked = await operator.ok("POST", `/plans/${hash}/revoke`, { workspace_root: root });
    expect(revoked).toMatchObject({ status: "revoked", approved_by: expect.any(String) });
    expect(await operator.ok("POST", `/plans/${hash}/revoke`, { workspace_root: root })).toEqual(
      revoked,
    );
  });

  it("may be revoked before they were approved", async () => {
    const root = "/srv/rejected";
    const hash = await savedPlan(gateway, root);
    expect(await operator.revoke(hash, root)).toMatchObject({
      status: "revoked",
      approved_by: null,
    });
    const answer = await operator.send("POST", `/plans/${hash}/approve`, { workspace_root: root });
    expectRefusal(answer, 409, "CONFLICT");
  });

  it.each([
    { body: {}, names: "workspace_root" },
    { body: { workspace_root: "srv" }, names: "workspace_root" },
    { body: { workspace_root: "/srv/../x" }, names: "workspace_root" },
    { body: { workspace_root: "/srv/x", reason: "" }, names: "reason" },
    { body: { workspace_root: "/srv/x", reason: 4 }, names: "reason" },
    { body: { workspace_root: "/srv/x", reason: "x".repeat(2_000) }, names: "reason" },
    { body: { workspace_root: "/srv/x", tenant: "a b" }, names: "tenant" },
    { body: { workspace_root: "/srv/x", approved_by: "me" }, names: "approved_by" },
  ])("are not decided with a bad field: $names, $body", async ({ body, names }) => {
    for (const decision of ["approve", "revoke"]) {
      const answer = await operator.send("POST", `/plans/${NO_HASH}/${decision}`, body);
      expectRefusal(answer, 400, "INVALID_ARGUMENT", names);
    }
  });

  it("that are not there are 404, and asking for them makes no workspace", async () => {
    const root = "/srv/never-used";
    const body = { workspace_root: root };
    for (const decision of ["approve", "revoke"]) {
      const answer = await operator.send("POST", `/plans/${NO_HASH}/${decision}`, body);
      expectRefusal(answer, 404, "PLAN_NOT_FOUND");
    }
    const shown = await operator.get(`/plans/${NO_HASH}?workspace_root=${root}`);
    expectRefusal(shown, 404, "PLAN_NOT_FOUND");
    const versions = await operator.ok("GET", `/files/versions?workspace_root=${root}&path=a`);
    expect(versions).toEqual({ versions: [] });
  });
});

describe("the record of what an operator changed", () => {
  it("has a pending entry and its result for each change, refused ones included", async () => {
    const { key, id } = await operator.mintKey({ role: "operator", name: "recorded" });
    const recorded = new Operator(gateway.url, key);
    const minted = await recorded.mintKey({ role: "windsurf", name: "made by it" });
    const rotated = await recorded.ok("POST", `/keys/${minted.id}/rotate`, { overlap_hours: 2 });
    await recorded.send("DELETE", `/keys/${minted.id}`);
    const root = "/srv/recorded";
    const hash = await savedPlan(gateway, root);
    await recorded.approve(hash, root);
    await recorded.revoke(hash, root);
    await recorded.send("POST", `/plans/${hash}/approve`, { workspace_root: root });
    await recorded.send("POST", `/plans/${NO_HASH}/approve`, { workspace_root: root });
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    await recorded.send("DELETE", `/sessions/${session.id}`);

    const ambient = ambientId("default", `key:${id}`);
    const text = await operator.export(ambient);
    expect(problemsOf(text, { tenant: "default", id: ambient })).toEqual([]);
    for (const secret of [key, minted.key, textAt(rotated, "key")]) {
      expect(text).not.toContain(secret.split("_")[2]);
    }
    const [open, ...changes] = exportLines(text).map(readLine);
    expect(open).toMatchObject({ event: "session_open", context: { era: "ambient" } });
    expect(changes.every((record) => record.event === "admin")).toBe(true);
    const pairs = changes
      .filter((record) => record.result === "pending")
      .map((pending) => {
        const results = changes.filter((record) => record.intent_seq === pending.seq);
        expect(results).toHaveLength(1);
        const [result] = results;
        expect(result?.request_id).toBe(pending.request_id);
        return [at(pending.context, "action"), result?.result, result?.error_code];
      });
    expect(pairs).toEqual([
      ["key.create", "ok", null],
      ["key.rotate", "ok", null],
      ["key.revoke", "ok", null],
      ["plan.approve", "ok", null],
      ["plan.revoke", "ok", null],
      ["plan.approve", "error", "CONFLICT"],
      ["plan.approve", "error", "PLAN_NOT_FOUND"],
      ["session.end", "ok", null],
    ]);
    expect(changes).toHaveLength(2 * pairs.length);
    expect(changes[0]).toMatchObject({
      principal: `key:${id}`,
      role: "operator",
      args: { name: "made by it", role: "windsurf" },
      context: {
        action: "key.create",
        key: { id: minted.id, name: "made by it", role: "windsurf" },
      },
    });
    const archived = await operator.auditUntil(
      `session_id=${ambient}`,
      (found) => found.length === changes.length + 1,
    );
    expect(archived.toReversed()).toEqual(exportLines(text).map(readLine));
  });
});

describe("GET /admin/openapi.json", () => {
  it("describes every route in OpenAPI 3.1", async () => {
    const document = await operator.ok("GET", "/openapi.json");
    expect(document).toMatchObject({
      openapi: expect.stringMatching(/^3\.1\.\d+$/),
      info: { title: expect.any(String), version: expect.any(String) },
    });
    const paths = at(document, "paths");
    for (const route of [
      "post /admin/keys",
      "get /admin/keys",
      "post /admin/keys/{id}/rotate",
      "delete /admin/keys/{id}",
      "get /admin/sessions",
      "delete /admin/sessions/{id}",
      "get /admin/audit",
      "get /admin/audit/sessions/{id}",
      "get /admin/audit/sessions/{id}/verify",
      "get /admin/plans",
      "get /admin/plans/{hash}",
      "post /admin/plans/{hash}/approve",
      "post /admin/plans/{hash}/revoke",
      "get /admin/files/versions",
      "get /admin/files/content",
      "get /admin/upstreams",
      "post /admin/upstreams",
      "get /admin/upstreams/{name}",
      "patch /admin/upstreams/{name}",
      "delete /admin/upstreams/{name}",
      "post /admin/upstreams/{name}/refresh",
      "get /admin/upstreams/{name}/tools",
      "post /admin/upstreams/{name}/tools/{tool}/approve",
    ]) {
      const [method = "", path = ""] = route.split(" ");
      const item: unknown = Reflect.get(Object(paths), path);
      const operation = at(item, method);
      expect([route, typeof operation]).toEqual([route, "object"]);
      const declared = at(operation, "parameters");
      const inPath = Array.isArray(declared)
        ? declared.filter((parameter) => at(parameter, "in") === "path")
        : [];
      const named = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect(inPath.map((parameter) => at(parameter, "name"))).toEqual(named);
      expect(inPath.every((parameter) => at(parameter, "required") === true)).toBe(true);
      expect(Object.keys(Object(at(operation, "responses"))).length).toBeGreaterThan(1);
      expect(at(operation, "requestBody") !== undefined).toBe(/^(?:post|patch)$/.test(method));
    }
  });

  it("describes nothing that does not answer", async () => {
    const paths = Object(at(await operator.ok("GET", "/openapi.json"), "paths"));
    for (const [path, item] of Object.entries(paths)) {
      for (const method of Object.keys(Object(item))) {
        const concrete = path.replace("/admin", "").replaceAll(/\{\w+\}/g, "none");
        const answer = await operator.send(method.toUpperCase(), concrete);
        expect([method, path, at(answer.json, "error.message")]).not.toEqual([
          method,
          path,
          "There is nothing here.",
        ]);
      }
    }
  });

  it("is the operator's", async () => {
    expectRefusal(await send(`${gateway.url}/admin/openapi.json`, {}), 401, "UNAUTHENTICATED");
  });
});
