import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { wire } from "../../src/upstream/connect.ts";
import { pinOf } from "../../src/upstream/pins.ts";
import type { WireOutcome } from "../../src/upstream/types.ts";
import { type Answer, admin, currentOperator, exported } from "../support/gateway.ts";
import { captureLogs, useStoppedClock } from "../support/objects.ts";
import { AWAY, type Fake, fakeConnect, fakes, fakeTool, fakeUpstream } from "./fake-upstream.ts";

useStoppedClock();
const logs = captureLogs();

beforeAll(() => {
  vi.spyOn(wire, "connect").mockImplementation(fakeConnect);
});

beforeEach(async () => {
  fakes.clear();
  for (const table of ["upstreams", "upstream_definitions"]) {
    await env.ARCHIVE_DB.prepare(`DELETE FROM ${table}`).run();
  }
});

/** Puts an upstream on the network and answers with the body that registers it. */
function offering(name: string, changes: Partial<Fake> = {}) {
  const url = `https://${name}.acme.com/mcp`;
  const fake = fakeUpstream(changes);
  fakes.set(url, fake);
  return { fake, body: { name, url } };
}

const definitionSchema = z.object({
  kind: z.string(),
  name: z.string(),
  exposed: z.string().nullable(),
  status: z.string(),
  reads: z.boolean(),
  approved: z.boolean(),
  pin: z.string().nullable(),
  approved_pin: z.string().nullable(),
});
const detailSchema = z.looseObject({
  name: z.string(),
  approved: z.boolean(),
  state: z.looseObject({ available: z.boolean(), failure: z.string().nullable() }),
  definitions: z.array(definitionSchema),
  left_out: z.array(z.object({ kind: z.string(), name: z.string(), reason: z.string() })),
});

function detailOf(answer: Answer) {
  if (answer.status >= 300) throw new Error(answer.text);
  return detailSchema.parse(answer.body);
}

async function register(body: Record<string, unknown>, query = "") {
  return admin("POST", `/upstreams${query}`, { body });
}

function refusalOf(answer: Answer): [number, string, string] {
  const { error } = z
    .object({ error: z.object({ code: z.string(), message: z.string() }) })
    .parse(answer.body);
  return [answer.status, error.code, error.message];
}

async function version(): Promise<number> {
  const row = await env.ARCHIVE_DB.prepare("SELECT version FROM directory_version").first<{
    version: number;
  }>();
  return row?.version ?? 0;
}

describe("a registration", () => {
  test("answers 201 with what was found, nothing of it approved", async () => {
    const { body, fake } = offering("acme", {
      era: "2026",
      instructions: "Be kind.",
      tools: [fakeTool("b"), fakeTool("a"), fakeTool("c")],
      prompts: [{ name: "Ask me" }],
      templates: [{ uriTemplate: "acme://{id}", name: "one" }],
      resources: [{ uri: "acme://1", name: "1" }],
      ttlMs: 5_000,
    });
    const answer = await register(body);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      name: "acme",
      prefix: "acme",
      gate: "plan",
      auth: { kind: "none" },
      tenants: ["default"],
      roles: ["windsurf"],
      approved: false,
      state: {
        available: true,
        era: "2026",
        protocol_version: "2026-07-28",
        capabilities: { tools: {} },
        ttl_ms: 5_000,
        resources: 1,
        failure: null,
      },
      left_out: [],
    });
    const { definitions } = detailOf(answer);
    expect(definitions.map(({ kind, name, exposed }) => [kind, name, exposed])).toEqual([
      ["instructions", "instructions", null],
      ["prompt", "Ask me", "acme_Ask me"],
      ["resource_template", "acme://{id}", "acme://{id}"],
      ["tool", "a", "acme_a"],
      ["tool", "b", "acme_b"],
      ["tool", "c", "acme_c"],
    ]);
    expect(definitions[3]).toMatchObject({
      status: "pending",
      approved: false,
      pin: pinOf(fakeTool("a")),
      approved_pin: null,
      reads: false,
    });
    expect(fake.asked).toContain("tools/list 2");
    expect(fake.closed).toBe(1);
    expect((await admin("GET", "/upstreams/acme")).body).toEqual(answer.body);
  });

  test("of what offers nothing is approved by nobody, unless that is asked for", async () => {
    const unseen = offering("unseen", {});
    expect(detailOf(await register(unseen.body)).approved).toBe(false);
    expect(detailOf(await admin("GET", "/upstreams/unseen")).approved).toBe(false);
    await admin("DELETE", "/upstreams/unseen");
    const seen = offering("seen", {});
    expect(detailOf(await register(seen.body, "?approve=all")).approved).toBe(true);
  });

  test("approves all that was found where that is asked for", async () => {
    const { body } = offering("acme", { tools: [fakeTool("a")], instructions: "Be kind." });
    const detail = detailOf(await register(body, "?approve=all"));
    expect(detail.approved).toBe(true);
    expect(detail.definitions.map(({ status }) => status)).toEqual(["approved", "approved"]);
    const operator = (await currentOperator()).principal;
    const row = await env.ARCHIVE_DB.prepare(
      "SELECT approved_by FROM upstream_definitions WHERE kind = 'tool'",
    ).first();
    expect(row).toEqual({ approved_by: operator });
    expect((await register(body, "?approve=some")).status).toBe(400);
  });

  test("is kept of an upstream that cannot be reached, and says so", async () => {
    const { body } = offering("acme", {
      failure: { ...AWAY, detail: `no route\n\u202eto ghp_${"a".repeat(36)}` },
    });
    const answer = await register(body);
    expect(answer.status).toBe(201);
    const { state, definitions, approved } = detailOf(answer);
    expect([state.available, definitions, approved]).toEqual([false, [], false]);
    expect(state.failure).toBe("[REDACTED]");
  });

  test("is a name's only one", async () => {
    const { body } = offering("acme");
    await register(body);
    expect(refusalOf(await register(body)).slice(0, 2)).toEqual([409, "CONFLICT"]);
  });

  test.each([
    [{ url: "http://127.0.0.1:9000/mcp" }, "url"],
    [{ url: "https://169.254.169.254/" }, "url"],
    [
      {
        auth: {
          kind: "oauth_client_credentials",
          token_url: "https://localhost/t",
          client_id: "a",
          client_secret: "b",
        },
      },
      "auth.token_url",
    ],
    [{ bogus: 1 }, "bogus"],
    [{ auth: { kind: "token_exchange" } }, "auth.token_url"],
  ])("is refused with %j", async (changes, names) => {
    const [status, code, message] = refusalOf(
      await register({ name: "acme", url: "https://acme.com/", ...changes }),
    );
    expect([status, code]).toEqual([400, "INVALID_ARGUMENT"]);
    expect(message).toContain(names);
    expect((await admin("GET", "/upstreams/acme")).status).toBe(404);
  });

  test("leaves out what cannot be offered, and says why", async () => {
    const { body } = offering("acme", {
      capabilities: { tools: {} },
      pageSize: 20,
      tools: [
        fakeTool("fine"),
        fakeTool("not fine"),
        fakeTool("twice"),
        fakeTool("twice"),
        { name: "no_schema" },
        fakeTool("bad_header", {
          inputSchema: {
            type: "object",
            properties: { a: { type: "object", "x-mcp-header": "A" } },
          },
        }),
        fakeTool("taken_header", {
          inputSchema: {
            type: "object",
            properties: { a: { type: "string", "x-mcp-header": "ATLAS-session" } },
          },
        }),
        fakeTool("taken_argument", {
          inputSchema: { type: "object", properties: { atlas_session: { type: "string" } } },
        }),
        fakeTool("half", { description: "\ud800" }),
        fakeTool("huge", { description: "x".repeat(300_000) }),
        { title: "nameless" },
      ],
    });
    const { definitions, left_out } = detailOf(await register(body));
    expect(definitions.map(({ name }) => name)).toEqual(["fine", "twice"]);
    expect(left_out.map(({ name }) => name)).toEqual([
      "not fine",
      "twice",
      "no_schema",
      "bad_header",
      "taken_header",
      "taken_argument",
      "half",
      "huge",
      "",
    ]);
    expect(left_out.every(({ reason }) => reason.length > 10)).toBe(true);
  });
});

describe("a clash", () => {
  test("with a built-in tool is refused, and nothing is stored", async () => {
    const { body } = offering("acme", { tools: [fakeTool("read_file"), fakeTool("other")] });
    const before = await version();
    const [status, code, message] = refusalOf(await register({ ...body, prefix: "" }));
    expect([status, code]).toEqual([409, "CONFLICT"]);
    expect(message).toContain("read_file of the upstream acme");
    expect(message).toContain("built-in tool read_file");
    expect((await admin("GET", "/upstreams/acme")).status).toBe(404);
    const rows = await env.ARCHIVE_DB.prepare("SELECT * FROM upstream_definitions").all();
    expect(rows.results).toEqual([]);
    expect(await version()).toBe(before);
  });

  test("with another upstream is refused for the newcomer, naming both", async () => {
    await register(offering("a", { tools: [fakeTool("b_c")], capabilities: { tools: {} } }).body);
    const second = offering("a_b", { tools: [fakeTool("c")], capabilities: { tools: {} } });
    const [status, , message] = refusalOf(await register(second.body));
    expect(status).toBe(409);
    expect(message).toContain("the upstream a_b");
    expect(message).toContain("the upstream a would");
    expect((await register({ ...second.body, prefix: "z" })).status).toBe(201);
    expect((await admin("PATCH", "/upstreams/a_b", { body: { prefix: "a_b" } })).status).toBe(409);
    expect(detailOf(await admin("GET", "/upstreams/a_b")).definitions[0]?.exposed).toBe("z_c");
  });

  test("of a tool that comes later leaves that tool out", async () => {
    const first = offering("a", { tools: [fakeTool("b_c")], capabilities: { tools: {} } });
    await register(first.body);
    const second = offering("a_b", { tools: [fakeTool("d")], capabilities: { tools: {} } });
    await register(second.body);
    second.fake.tools.push(fakeTool("c"));
    const { definitions, left_out } = detailOf(await admin("POST", "/upstreams/a_b/refresh"));
    expect(definitions.map(({ name }) => name)).toEqual(["d"]);
    expect(left_out).toMatchObject([{ kind: "tool", name: "c" }]);
  });

  test("of resources is refused: overlapping prefixes, and two that take all", async () => {
    await register({ ...offering("a").body, resource_prefixes: ["acme://x/"] });
    const b = offering("b").body;
    expect((await register({ ...b, resource_prefixes: ["acme://"] })).status).toBe(409);
    expect((await register(b)).status).toBe(201);
    expect((await register(offering("c").body)).status).toBe(409);
    const without = offering("d", { capabilities: { tools: {} } });
    expect((await register(without.body)).status).toBe(201);
    const taken = { resource_prefixes: ["acme://x/y"] };
    expect((await admin("PATCH", "/upstreams/b", { body: taken })).status).toBe(409);
  });

  test("of two registrations at a time lets one of them in", async () => {
    const bodies = ["one", "two", "three"].map(
      (name) => offering(name, { tools: [fakeTool("same")], capabilities: { tools: {} } }).body,
    );
    const answers = await Promise.all(bodies.map((body) => register({ ...body, prefix: "p" })));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409]);
  });
});

describe("credentials", () => {
  const hush = "hush-hush-hush";
  test("are sealed in the database, used, and never shown or recorded", async () => {
    const { body, fake } = offering("acme", { tools: [fakeTool("a")] });
    const auth = { kind: "header", name: "X-Key", value: hush };
    const made = await register({ ...body, auth });
    expect(made.body).toMatchObject({ auth: { kind: "header", name: "X-Key" } });
    expect(fake.headers).toEqual([{ "x-key": hush }]);
    const changes = { auth: { kind: "bearer", token: hush } };
    const patched = await admin("PATCH", "/upstreams/acme", { body: changes });
    expect(fake.headers[1]).toEqual({ authorization: `Bearer ${hush}` });
    await admin("POST", "/upstreams/acme/refresh");
    expect(fake.headers[2]).toEqual({ authorization: `Bearer ${hush}` });
    const bad = await register({ ...body, auth: { kind: "bearer", token: hush, tokn: hush } });
    const stored = await env.ARCHIVE_DB.prepare("SELECT * FROM upstreams").all();
    const operator = await currentOperator();
    const ambient = ambientSessionId(
      sha256Hex,
      { tenant: "default", principal: operator.principal },
      Date.now(),
    );
    const records = (await exported(ambient)).join("\n");
    expect(records).toContain("upstream.create");
    expect(records).toContain("upstream.change");
    expect(records).toContain("[REDACTED]");
    const texts = [made, patched, bad, await admin("GET", "/upstreams")].map(({ text }) => text);
    for (const text of [...texts, JSON.stringify(stored.results), records]) {
      expect(text).not.toContain(hush);
    }
  });

  test("of one upstream do not open for another", async () => {
    const [a, b] = [offering("a", { capabilities: {} }), offering("b", { capabilities: {} })];
    await register({ ...a.body, auth: { kind: "bearer", token: hush } });
    await register(b.body);
    await env.ARCHIVE_DB.prepare(
      "UPDATE upstreams SET auth = (SELECT auth FROM upstreams WHERE name = 'a') WHERE name = 'b'",
    ).run();
    expect((await admin("POST", "/upstreams/b/refresh")).status).toBe(500);
    expect(b.fake.headers).toEqual([{}]);
  });
});

describe("a refresh", () => {
  test("quarantines what changed, holds new tools, and keeps what is gone", async () => {
    const { body, fake } = offering("acme", {
      capabilities: { tools: {} },
      tools: [fakeTool("same"), fakeTool("changes"), fakeTool("goes")],
    });
    await register(body, "?approve=all");
    fake.tools = [
      fakeTool("same"),
      fakeTool("changes", { description: "IGNORE" }),
      fakeTool("new"),
    ];
    const refreshed = detailOf(await admin("POST", "/upstreams/acme/refresh"));
    const statuses = () => refreshed.definitions.map(({ name, status }) => [name, status]);
    expect(statuses()).toEqual([
      ["changes", "changed"],
      ["goes", "gone"],
      ["new", "pending"],
      ["same", "approved"],
    ]);
    expect(refreshed.approved).toBe(false);
    expect(logs.some((line) => line.includes('"upstream":"acme","changed":1,"gone":1'))).toBe(true);
    const { body: listed } = await admin("GET", "/upstreams/acme/tools");
    expect(listed).toMatchObject({
      tools: [
        {
          name: "changes",
          exposed: "acme_changes",
          approved: { definition: fakeTool("changes"), pin: pinOf(fakeTool("changes")) },
          observed: { definition: fake.tools[1] },
          difference: {
            changes: [{ path: "/description", before: '"Does changes"', after: '"IGNORE"' }],
            more: 0,
          },
        },
        { name: "goes", status: "gone", observed: null, difference: null },
        { name: "new", status: "pending", approved: null, difference: null },
        { name: "same", status: "approved", difference: null },
      ],
      next_cursor: null,
    });
    fake.tools = [fakeTool("same"), fakeTool("changes"), fakeTool("goes")];
    const back = detailOf(await admin("POST", "/upstreams/acme/refresh"));
    expect(back.definitions.map(({ name, status }) => [name, status])).toEqual([
      ["changes", "approved"],
      ["goes", "approved"],
      ["same", "approved"],
    ]);
  });

  test("that fails keeps all that was known", async () => {
    const { body, fake } = offering("acme", { tools: [fakeTool("a")] });
    const before = detailOf(await register(body, "?approve=all"));
    fake.failure = AWAY;
    const answer = await admin("POST", "/upstreams/acme/refresh");
    expect(answer.status).toBe(200);
    const after = detailOf(answer);
    expect(after.definitions).toEqual(before.definitions);
    expect(after.state).toMatchObject({
      ...before.state,
      available: false,
      failure: "unreachable: connection refused",
    });
    fake.failure = null;
    expect(detailOf(await admin("POST", "/upstreams/acme/refresh"))).toEqual(before);
  });

  const failing: [string, WireOutcome][] = [
    ["an error", { kind: "error", error: { code: -32603, message: "boom" } }],
    ["a failure", { kind: "failed", failure: AWAY }],
    ["no list", { kind: "result", result: {}, text: "{}", isIJson: true }],
    [
      "a circle",
      { kind: "result", result: { tools: [], nextCursor: "x" }, text: "", isIJson: true },
    ],
  ];
  test.each(failing)("that gets %s for one list fails whole", async (_what, outcome) => {
    const { body, fake } = offering("acme", { tools: [fakeTool("a")], prompts: [{ name: "p" }] });
    await register(body, "?approve=all");
    fake.outcomes["tools/list"] = outcome;
    fake.prompts = [];
    const { state, definitions } = detailOf(await admin("POST", "/upstreams/acme/refresh"));
    expect(state.available).toBe(false);
    expect(state.failure).toContain("tools");
    expect(fake.asked.filter((asked) => asked.startsWith("tools/list")).length).toBeLessThan(5);
    expect(definitions.map(({ name, status }) => [name, status])).toEqual([
      ["p", "approved"],
      ["a", "approved"],
    ]);
  });

  test("takes a list that is no method for an empty one, and asks only for what is there", async () => {
    const { body, fake } = offering("acme", {
      capabilities: { resources: {} },
      tools: [fakeTool("a")],
      outcomes: {
        "resources/templates/list": { kind: "error", error: { code: -32601, message: "no" } },
      },
    });
    const { state, definitions } = detailOf(await register(body));
    expect([state.available, definitions]).toEqual([true, []]);
    expect(fake.asked).toEqual(["resources/templates/list", "resources/list"]);
  });

  test("counts the version up only when clients see a difference", async () => {
    const { body, fake } = offering("acme", { tools: [fakeTool("a")] });
    await register(body, "?approve=all");
    const before = await version();
    await admin("POST", "/upstreams/acme/refresh");
    expect(await version()).toBe(before);
    fake.failure = AWAY;
    await admin("POST", "/upstreams/acme/refresh");
    await admin("POST", "/upstreams/acme/refresh");
    expect(await version()).toBe(before + 1);
    fake.failure = null;
    await admin("POST", "/upstreams/acme/refresh");
    expect(await version()).toBe(before + 2);
    fake.tools = [fakeTool("a", { title: "A" })];
    await admin("POST", "/upstreams/acme/refresh");
    expect(await version()).toBe(before + 3);
    fake.resources = [{ uri: "a://1" }];
    await admin("POST", "/upstreams/acme/refresh");
    expect(await version()).toBe(before + 4);
  });

  test("that began before a change of the registration writes nothing after it", async () => {
    const { body, fake } = offering("acme", { tools: [fakeTool("old")] });
    await register(body);
    const other = offering("other", { tools: [fakeTool("new")] });
    fake.onConnect = async () => {
      fake.onConnect = async () => {};
      await admin("PATCH", "/upstreams/acme", { body: { url: other.body.url } });
    };
    const answer = await admin("POST", "/upstreams/acme/refresh");
    expect(refusalOf(answer).slice(0, 2)).toEqual([409, "CONFLICT"]);
    const { definitions } = detailOf(await admin("GET", "/upstreams/acme"));
    expect(definitions.map(({ name }) => name)).toEqual(["new"]);
  });

  test("takes hundreds of definitions in several writes", async () => {
    const tools = Array.from({ length: 300 }, (_, at) =>
      fakeTool(`t${at}`, { description: `"${"é".repeat(3_000)}"` }),
    );
    const { body } = offering("acme", { tools, pageSize: 100 });
    const { definitions } = detailOf(await register(body, "?approve=all"));
    expect(definitions).toHaveLength(300);
    expect(new Set(definitions.map(({ status }) => status))).toEqual(new Set(["approved"]));
    const pages = [];
    let cursor = "";
    do {
      const answer = await admin("GET", `/upstreams/acme/tools?limit=120${cursor}`);
      const page = z
        .object({
          tools: z.array(z.looseObject({ name: z.string() })),
          next_cursor: z.string().nullable(),
        })
        .parse(answer.body);
      pages.push(...page.tools.map(({ name }) => name));
      cursor = page.next_cursor === null ? "" : `&cursor=${page.next_cursor}`;
    } while (cursor !== "");
    expect(pages.sort()).toEqual(tools.map(({ name }) => String(name)).sort());
  });

  test.each([
    [
      "items",
      { pageSize: 2_000, tools: Array.from({ length: 1_001 }, (_, at) => fakeTool(`t${at}`)) },
    ],
    ["pages", { pageSize: 1, tools: Array.from({ length: 101 }, (_, at) => fakeTool(`t${at}`)) }],
    [
      "bytes",
      {
        pageSize: 100,
        tools: Array.from({ length: 20 }, (_, at) =>
          fakeTool(`t${at}`, { description: "x".repeat(250_000) }),
        ),
      },
    ],
    ["capabilities", { capabilities: { tools: {}, experimental: { x: "y".repeat(20_000) } } }],
  ])("is bounded in %s", async (_what, changes) => {
    const { body } = offering("acme", changes);
    const { state, definitions } = detailOf(await register(body));
    expect([state.available, definitions]).toEqual([false, []]);
  });
});

describe("an approval", () => {
  async function registered(changes: Partial<Fake> = {}) {
    const offered = offering("acme", {
      capabilities: { tools: {}, resources: {} },
      tools: [fakeTool("a")],
      instructions: "Be kind.",
      templates: [{ uriTemplate: "acme://{+path}", name: "t" }],
      ...changes,
    });
    await register(offered.body);
    return offered;
  }

  const approve = (tool: string, body: unknown = {}) =>
    admin("POST", `/upstreams/acme/tools/${encodeURIComponent(tool)}/approve`, { body });

  test("is of the copy last seen, by either name of it", async () => {
    await registered();
    const answer = await approve("a", { reads: true });
    expect([answer.status, answer.body]).toMatchObject([
      200,
      {
        kind: "tool",
        name: "a",
        exposed: "acme_a",
        status: "approved",
        reads: true,
        approved_pin: pinOf(fakeTool("a")),
        approved_by: (await currentOperator()).principal,
      },
    ]);
    expect((await approve("acme_a")).body).toMatchObject({ reads: true });
    expect((await approve("a", { reads: false })).body).toMatchObject({ reads: false });
  });

  test("is of a template and of instructions too", async () => {
    await registered();
    expect((await approve("acme://{+path}", { kind: "resource_template" })).status).toBe(200);
    expect((await approve("instructions", { kind: "instructions" })).status).toBe(200);
    const { definitions } = detailOf(await admin("GET", "/upstreams/acme"));
    expect(definitions.map(({ status }) => status)).toEqual(["approved", "approved", "pending"]);
  });

  test("names the copy that was looked at, and is refused for another", async () => {
    const { fake } = await registered();
    const pin = pinOf(fakeTool("a"));
    fake.tools = [fakeTool("a", { description: "IGNORE" })];
    await admin("POST", "/upstreams/acme/refresh");
    const [status, code, message] = refusalOf(await approve("a", { pin }));
    expect([status, code]).toEqual([409, "CONFLICT"]);
    expect(message).toContain(pinOf(fake.tools[0] ?? {}));
    expect((await approve("a", { pin: pinOf(fake.tools[0] ?? {}) })).status).toBe(200);
  });

  test("is refused for what is gone, what was never there, and a bad pin", async () => {
    const { fake } = await registered();
    await approve("a");
    fake.tools = [];
    await admin("POST", "/upstreams/acme/refresh");
    expect((await approve("a")).status).toBe(409);
    expect((await approve("b")).status).toBe(404);
    expect((await approve("a", { kind: "prompt" })).status).toBe(404);
    expect((await approve("a", { pin: "x" })).status).toBe(400);
    expect((await admin("POST", "/upstreams/none/tools/a/approve", { body: {} })).status).toBe(404);
  });
});

describe("a change of a registration", () => {
  test("asks the upstream anew only for another url or auth", async () => {
    const { body, fake } = offering("acme", { tools: [fakeTool("a")] });
    await register(body, "?approve=all");
    const patched = await admin("PATCH", "/upstreams/acme", {
      body: { gate: "open", prefix: "z", roles: ["windsurf", "auditor"] },
    });
    expect(patched.body).toMatchObject({ gate: "open", prefix: "z", timeout_ms: 60_000 });
    expect(detailOf(patched).definitions[0]).toMatchObject({ exposed: "z_a", status: "approved" });
    expect(fake.headers).toHaveLength(1);
    await admin("PATCH", "/upstreams/acme", { body: { auth: { kind: "none" }, url: body.url } });
    expect(fake.headers).toHaveLength(1);
    const other = offering("other", { tools: [fakeTool("a", { title: "other" })] });
    const moved = detailOf(
      await admin("PATCH", "/upstreams/acme", { body: { url: other.body.url } }),
    );
    expect(moved.definitions[0]).toMatchObject({ status: "changed" });
    const lost = await admin("PATCH", "/upstreams/acme", { body: { url: "https://x.acme.com/" } });
    expect(lost.body).toMatchObject({ state: { available: false, era: null } });
    expect(detailOf(lost).definitions).toEqual(moved.definitions);
  });

  test("that turns session_param on looks at the tools' arguments anew", async () => {
    const inputSchema = { type: "object", properties: { atlas_session: { type: "string" } } };
    const { body } = offering("acme", { tools: [fakeTool("a", { inputSchema })] });
    const made = detailOf(await register({ ...body, session_param: false }, "?approve=all"));
    expect(made.definitions[0]).toMatchObject({ status: "approved" });
    const patch = { session_param: true };
    const after = detailOf(await admin("PATCH", "/upstreams/acme", { body: patch }));
    expect(after.definitions[0]).toMatchObject({ status: "gone" });
  });

  test("is refused for a field that does not fit, and of an upstream that is not there", async () => {
    await register(offering("acme").body);
    for (const body of [{ name: "b" }, { gate: "shut" }, { url: "https://10.0.0.1/" }]) {
      expect((await admin("PATCH", "/upstreams/acme", { body })).status).toBe(400);
    }
    expect((await admin("PATCH", "/upstreams/none", { body: {} })).status).toBe(404);
    expect((await admin("GET", "/upstreams/none/tools")).status).toBe(404);
    expect((await admin("POST", "/upstreams/none/refresh")).status).toBe(404);
    expect((await admin("DELETE", "/upstreams/none")).status).toBe(404);
  });
});

describe("a removal", () => {
  test("takes all approvals with it", async () => {
    const { body } = offering("acme", { tools: [fakeTool("a")] });
    await register(body, "?approve=all");
    const before = await version();
    const answer = await admin("DELETE", "/upstreams/acme");
    expect([answer.status, answer.text]).toEqual([204, ""]);
    expect(await version()).toBe(before + 1);
    expect((await admin("GET", "/upstreams")).body).toEqual({ upstreams: [], next_cursor: null });
    expect(detailOf(await register(body)).definitions[0]).toMatchObject({ status: "pending" });
  });
});

describe("the list", () => {
  test("pages by name", async () => {
    for (const name of ["c", "a", "b"]) {
      await register(offering(name, { capabilities: {} }).body);
    }
    const schema = z.object({
      upstreams: z.array(z.looseObject({ name: z.string() })),
      next_cursor: z.string().nullable(),
    });
    const first = schema.parse((await admin("GET", "/upstreams?limit=2")).body);
    expect(first.upstreams.map(({ name }) => name)).toEqual(["a", "b"]);
    const rest = await admin("GET", `/upstreams?limit=2&cursor=${first.next_cursor}`);
    expect(schema.parse(rest.body).upstreams.map(({ name }) => name)).toEqual(["c"]);
    expect(schema.parse(rest.body).next_cursor).toBeNull();
  });
});
