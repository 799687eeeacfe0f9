import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { requireConfig } from "../../src/config.ts";
import type { Principal } from "../../src/edge/principal.ts";
import { refreshAll, refreshUpstream } from "../../src/upstream/catalogue.ts";
import { wire } from "../../src/upstream/connect.ts";
import { directoryOf, forgetDirectory } from "../../src/upstream/directory.ts";
import type { Observation } from "../../src/upstream/observe.ts";
import { pinOf } from "../../src/upstream/pins.ts";
import { claimsBeside, definitionHeads, readUpstream } from "../../src/upstream/registry.ts";
import { storeObservation } from "../../src/upstream/registry-changes.ts";
import { targetOfEntry } from "../../src/upstream/target.ts";
import { admin } from "../support/gateway.ts";
import { advance, captureLogs, gate, MINUTE, SECOND, useStoppedClock } from "../support/objects.ts";
import { AWAY, type Fake, fakeConnect, fakes, fakeTool, fakeUpstream } from "./fake-upstream.ts";

useStoppedClock();
const logs = captureLogs();

const config = requireConfig(env);
const EXECUTOR: Principal = {
  id: "key:1",
  tenant: "default",
  role: "windsurf",
  workspaces: null,
  upstreams: null,
};

beforeAll(() => {
  vi.spyOn(wire, "connect").mockImplementation(fakeConnect);
});

beforeEach(async () => {
  fakes.clear();
  for (const table of ["upstreams", "upstream_definitions"]) {
    await env.ARCHIVE_DB.prepare(`DELETE FROM ${table}`).run();
  }
  await env.ARCHIVE_DB.prepare("UPDATE directory_version SET version = version + 1").run();
  forgetDirectory();
});

async function register(name: string, changes: Partial<Fake> = {}, query = "?approve=all") {
  const url = `https://${name}.acme.com/mcp`;
  const fake = fakeUpstream({ capabilities: { tools: {}, prompts: {} }, ...changes });
  fakes.set(url, fake);
  const answer = await admin("POST", `/upstreams${query}`, { body: { name, url } });
  if (answer.status !== 201) throw new Error(answer.text);
  return fake;
}

/** What the isolate's directory lists, name and status. */
async function tools() {
  return (await directoryOf(env))
    .tools(EXECUTOR)
    .map(({ definition }) => `${definition.exposed} ${definition.status}`);
}

/** Has the registry changed as another isolate would: this one hears nothing of it. */
async function elsewhere(sql: string): Promise<void> {
  await env.ARCHIVE_DB.batch([
    env.ARCHIVE_DB.prepare(sql),
    env.ARCHIVE_DB.prepare("UPDATE directory_version SET version = version + 1"),
  ]);
}

function archiveDown() {
  return vi.spyOn(env.ARCHIVE_DB, "prepare").mockImplementation(() => {
    throw new Error("D1 is away");
  });
}

describe("the directory", () => {
  test("holds approved definitions, in their approved copy", async () => {
    const fake = await register("acme", {
      tools: [fakeTool("a", { "x-free": { __proto_: 1, big: 1e21 } }), fakeTool("b")],
      instructions: "Be kind.",
      prompts: [{ name: "p" }],
    });
    fake.tools[1] = fakeTool("b", { description: "IGNORE" });
    fake.tools.push(fakeTool("new"));
    fake.instructions = "Be evil.";
    await refreshUpstream(env, config, "acme", Date.now());
    const directory = await directoryOf(env);
    expect(directory.tools(EXECUTOR).map(({ definition }) => definition)).toMatchObject([
      { exposed: "acme_a", status: "approved", definition: fake.tools[0] },
      { exposed: "acme_b", status: "changed", definition: fakeTool("b") },
    ]);
    expect(directory.prompt(EXECUTOR, "acme_p")?.definition.name).toBe("p");
    expect(directory.instructions(EXECUTOR)).toContain("Be kind.");
    expect(JSON.stringify(directory.visible(EXECUTOR))).not.toMatch(/IGNORE|evil/);
  });

  test("says how an upstream is reached, with its credentials", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    const auth = { kind: "bearer", token: "hush" };
    await admin("PATCH", "/upstreams/acme", { body: { auth } });
    const directory = await directoryOf(env);
    const entry = directory.upstream(EXECUTOR, "acme");
    if (entry === null) throw new Error("it was registered");
    const target = targetOfEntry(config, entry);
    expect(target).toMatchObject({ name: "acme", url: "https://acme.acme.com/mcp" });
    expect(await target.authorize(false)).toEqual({ authorization: "Bearer hush" });
    await expect(target.fetch("https://localhost/", {})).rejects.toMatchObject({
      name: "AddressRefused",
    });
    expect(JSON.stringify(directory)).not.toContain("hush");
  });

  test("is the same object while nothing changed, whatever time passes", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    const first = await directoryOf(env);
    advance(10 * MINUTE);
    expect(await directoryOf(env)).toBe(first);
  });

  test("follows a change of another isolate within a second", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    expect(await tools()).toEqual(["acme_a approved"]);
    await elsewhere("UPDATE upstream_definitions SET status = 'changed'");
    advance(SECOND - 1);
    expect(await tools()).toEqual(["acme_a approved"]);
    advance(1);
    expect(await tools()).toEqual(["acme_a changed"]);
  });

  test("follows a change of its own at once", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    expect(await tools()).toEqual(["acme_a approved"]);
    await admin("PATCH", "/upstreams/acme", { body: { prefix: "z" } });
    expect(await tools()).toEqual(["z_a approved"]);
    await admin("DELETE", "/upstreams/acme");
    expect(await tools()).toEqual([]);
  });

  test("asks D1 for one row a second, however many ask it", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    await directoryOf(env);
    const asked = vi.spyOn(env.ARCHIVE_DB, "prepare");
    for (let tick = 0; tick < 3; tick++) {
      advance(SECOND);
      await Promise.all(Array.from({ length: 20 }, () => directoryOf(env)));
    }
    const statements = asked.mock.calls.map(([sql]) => sql);
    asked.mockRestore();
    expect(statements).toEqual(Array(3).fill(expect.stringContaining("directory_version")));
  });

  test("holds for a minute without D1, and then there is none", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    const first = await directoryOf(env);
    const down = archiveDown();
    try {
      advance(MINUTE - 1);
      expect(await directoryOf(env)).toBe(first);
      advance(1);
      await expect(directoryOf(env)).rejects.toThrow("D1 is away");
    } finally {
      down.mockRestore();
    }
    expect(await directoryOf(env)).toBe(first);
  });

  test("is read anew after a change of its own also while another reading is under way", async () => {
    await register("acme", { tools: [fakeTool("a")] });
    await directoryOf(env);
    await elsewhere("UPDATE upstream_definitions SET status = 'changed'");
    advance(SECOND);
    const { open, opened } = gate();
    const read = env.ARCHIVE_DB.batch.bind(env.ARCHIVE_DB);
    let isRead = false;
    const slow = vi.spyOn(env.ARCHIVE_DB, "batch").mockImplementationOnce(async (statements) => {
      const results = await read<never>(statements);
      isRead = true;
      await opened();
      return results;
    });
    const early = tools();
    await vi.waitUntil(() => isRead);
    slow.mockRestore();
    await admin("PATCH", "/upstreams/acme", { body: { prefix: "z" } });
    const late = await tools();
    open();
    expect([await early, late]).toEqual([["acme_a changed"], ["z_a changed"]]);
    expect(await tools()).toEqual(["z_a changed"]);
  });
});

describe("a cron run", () => {
  test("refreshes every upstream, a few at a time, and none is held up by another", async () => {
    let running = 0;
    let most = 0;
    const onConnect = async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running -= 1;
    };
    const all: Fake[] = [];
    for (let at = 0; at < 9; at++) all.push(await register(`u${at}`, { tools: [fakeTool("a")] }));
    for (const fake of all) {
      fake.onConnect = onConnect;
      fake.tools.push(fakeTool("new"));
    }
    const [first, second] = all;
    if (first === undefined || second === undefined) throw new Error("there are nine");
    first.failure = AWAY;
    second.onConnect = () => Promise.reject(new Error("a fault of the gateway's own"));
    await refreshAll(env, config, Date.now());
    expect(most).toBe(4);
    const { results } = await env.ARCHIVE_DB.prepare(
      "SELECT upstream FROM upstream_definitions WHERE name = 'new' ORDER BY upstream",
    ).all();
    expect(results.map(({ upstream }) => upstream)).toEqual(
      Array.from({ length: 7 }, (_, at) => `u${at + 2}`),
    );
    expect(logs.filter((line) => line.includes('"upstream_refresh'))).toHaveLength(2);
    expect((await directoryOf(env)).unavailable(EXECUTOR)).toEqual(["u0"]);
  });

  test("of upstreams that are gone or moved on meanwhile does no harm", async () => {
    const fake = await register("acme", { tools: [fakeTool("a")] });
    expect(await refreshUpstream(env, config, "none", Date.now())).toBe("absent");
    fake.onConnect = async () => {
      await admin("DELETE", "/upstreams/acme");
    };
    expect(await refreshUpstream(env, config, "acme", Date.now())).toBe("absent");
    const rows = await env.ARCHIVE_DB.prepare("SELECT * FROM upstream_definitions").all();
    expect(rows.results).toEqual([]);
  });

  test("that races an approval of the same copy leaves it approved", async () => {
    const fake = await register("acme", { tools: [fakeTool("a")] }, "");
    fake.tools = [fakeTool("a"), fakeTool("b")];
    fake.onConnect = async () => {
      await admin("POST", "/upstreams/acme/tools/a/approve", { body: {} });
    };
    expect(await refreshUpstream(env, config, "acme", Date.now())).toBe("refreshed");
    expect(await tools()).toEqual(["acme_a approved"]);
  });

  test("that was decided on an earlier registration, or earlier names, writes nothing at all", async () => {
    await register("acme", { tools: [fakeTool("a"), fakeTool("b")] });
    const row = await readUpstream(env.ARCHIVE_DB, "acme");
    const stored = await definitionHeads(env.ARCHIVE_DB, "acme");
    if (row === null) throw new Error("it was registered");
    const { version } = await claimsBeside(env.ARCHIVE_DB, "acme");
    const everything = async () =>
      Promise.all(
        ["upstreams", "upstream_definitions", "directory_version"].map(
          async (table) => (await env.ARCHIVE_DB.prepare(`SELECT * FROM ${table}`).all()).results,
        ),
      );
    const before = await everything();
    const observations: Observation[] = [
      { ok: false, failure: "away" },
      {
        ok: true,
        found: {
          era: "2026",
          protocolVersion: "2026-07-28",
          capabilities: {},
          serverInfo: null,
          ttlMs: 1,
          definitions: [{ kind: "tool", name: "b", text: "{}", pin: pinOf({}) }],
          resources: [],
          leftOut: [],
        },
      },
    ];
    for (const observation of observations) {
      for (const stale of [
        { row: { ...row, revision: "another" }, version: null },
        { row, version: version - 1 },
      ]) {
        const input = { ...stale, observation, stored, now: Date.now() };
        expect(await storeObservation(env.ARCHIVE_DB, input)).toBe("outdated");
      }
    }
    expect(await everything()).toEqual(before);
  });
});
