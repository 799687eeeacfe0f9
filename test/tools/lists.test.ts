import { describe, expect, it } from "vitest";
import type { Principal } from "../../src/edge/principal.ts";
import type { JsonObject } from "../../src/mcp/ijson.ts";
import {
  type Era,
  instructionsFor,
  type ListMethod,
  listText,
  serverCapabilities,
} from "../../src/tools/lists.ts";
import { Directory } from "../../src/upstream/directory.ts";
import { definitionOf, entryOf, upstreamConfig } from "../upstream/entries.ts";

const windsurf: Principal = {
  id: "key:1",
  tenant: "default",
  role: "windsurf",
  workspaces: null,
  upstreams: null,
};

function list(
  directory: Directory,
  method: ListMethod = "tools/list",
  era: Era = "2026",
  principal: Principal = windsurf,
  cursor?: string,
): JsonObject {
  const text = listText(directory, principal, method, era, cursor);
  if (!text.ok) throw new Error(text.refusal.message);
  return JSON.parse(text.value);
}

function toolsOf(page: JsonObject): JsonObject[] {
  return JSON.parse(JSON.stringify(page.tools));
}

const namesOf = (page: JsonObject) => toolsOf(page).map(({ name }) => String(name));
const of = (page: JsonObject, prefix: string) =>
  namesOf(page).filter((name) => name.startsWith(prefix));

describe("a list", () => {
  const tools = ["b", "a", "c"].map((name) => definitionOf("up", name));

  it("is sorted by name, built-in tools among the others, in both eras", () => {
    const directory = new Directory(1, [entryOf(upstreamConfig("up"), tools)]);
    for (const era of ["2025", "2026"] as const) {
      const names = namesOf(list(directory, "tools/list", era));
      expect(names).toEqual(names.toSorted());
      expect(names).toContain("begin_session");
      expect(names.filter((name) => name.startsWith("up_"))).toEqual(["up_a", "up_b", "up_c"]);
    }
  });

  it("shows approved copies, those of what changed too, and nothing that is gone", () => {
    const directory = new Directory(1, [
      entryOf(upstreamConfig("up"), [
        definitionOf("up", "a", { status: "changed" }),
        definitionOf("up", "b", { status: "gone" }),
      ]),
    ]);
    expect(of(list(directory), "up_")).toEqual(["up_a"]);
  });

  it("depends on tenant, role and key alone", () => {
    const directory = new Directory(1, [
      entryOf(upstreamConfig("up"), tools),
      entryOf(upstreamConfig("plans", { roles: ["antigravity"] }), [definitionOf("plans", "x")]),
      entryOf(upstreamConfig("there", { tenants: ["there"] }), [definitionOf("there", "x")]),
    ]);
    const upstreams = (principal: Principal) =>
      ["up_", "plans_", "there_"].filter(
        (prefix) => of(list(directory, "tools/list", "2026", principal), prefix).length > 0,
      );
    expect(upstreams(windsurf)).toEqual(["up_"]);
    expect(upstreams({ ...windsurf, role: "antigravity" })).toEqual(["plans_"]);
    expect(upstreams({ ...windsurf, tenant: "there" })).toEqual(["there_"]);
    expect(upstreams({ ...windsurf, upstreams: [] })).toEqual([]);
    expect(upstreams({ ...windsurf, upstreams: ["up"] })).toEqual(["up_"]);
    expect(upstreams({ ...windsurf, id: "key:2", workspaces: ["/a"] })).toEqual(["up_"]);
  });

  it("names upstreams that cannot be asked now, to those alone who may use them", () => {
    const directory = new Directory(1, [
      entryOf(upstreamConfig("up"), tools, { available: false }),
      entryOf(upstreamConfig("plans", { roles: ["antigravity"] }), [], { available: false }),
    ]);
    expect(list(directory)._meta).toMatchObject({ "dev.atlas-gate/unavailable": ["up"] });
    expect(of(list(directory), "up_")).toHaveLength(3);
    const whole = new Directory(2, [entryOf(upstreamConfig("up"), tools)]);
    expect(list(whole, "tools/list", "2025")._meta).toBeUndefined();
  });

  it("lives as long as the least of a minute and what visible upstreams say, for its caller alone", () => {
    const ttl = (...ttls: (number | null)[]) =>
      list(
        new Directory(
          1,
          ttls.map((ttlMs, n) => entryOf(upstreamConfig(`u${n}`), [], { ttlMs })),
        ),
      ).ttlMs;
    expect(ttl()).toBe(60_000);
    expect(ttl(null, 90_000)).toBe(60_000);
    expect(ttl(5_000, null, 7_000)).toBe(5_000);
    expect(ttl(0)).toBe(0);
    const page = list(new Directory(1, []));
    expect(page).toMatchObject({ resultType: "complete", cacheScope: "private" });
    const old = list(new Directory(1, []), "tools/list", "2025");
    expect(Object.keys(old)).toEqual(["tools"]);
  });

  it("comes in pages that hold each item once, and refuses cursors that it did not give", () => {
    const many = Array.from({ length: 1_200 }, (_, n) => definitionOf("up", `t${n}`));
    const directory = new Directory(1, [entryOf(upstreamConfig("up"), many)]);
    const names: string[] = [];
    let cursor: string | undefined;
    do {
      const page = list(directory, "tools/list", "2025", windsurf, cursor);
      names.push(...namesOf(page));
      cursor = typeof page.nextCursor === "string" ? page.nextCursor : undefined;
    } while (cursor !== undefined);
    expect(names.filter((name) => name.startsWith("up_"))).toHaveLength(many.length);
    expect(new Set(names).size).toBe(names.length);
    for (const bad of ["x", "LTE", "MS41", 7, null]) {
      expect(listText(directory, windsurf, "tools/list", "2025", bad).ok).toBe(false);
    }
  });
});

describe("a tool in a list", () => {
  const inputSchema = { type: "object", properties: { a: { type: "string" } }, required: ["a"] };
  const shown = (definition: JsonObject, era: Era, session_param = true) => {
    const config = upstreamConfig("up", { session_param });
    const entry = entryOf(config, [definitionOf("up", "a", { definition })]);
    const found = toolsOf(list(new Directory(1, [entry]), "tools/list", era));
    return found.find(({ name }) => name === "up_a");
  };

  it("is the upstream's own but for its name, tasks, and the handle of the 2026 era", () => {
    const definition = {
      name: "a",
      description: "d",
      inputSchema,
      annotations: { readOnlyHint: true },
      _meta: { "acme/x": 1 },
      execution: { taskSupport: "required" },
      foreign: [1],
    };
    const { execution: _, ...rest } = definition;
    expect(shown(definition, "2025")).toEqual({ ...rest, name: "up_a" });
    expect(shown(definition, "2026", false)).toEqual({ ...rest, name: "up_a" });
    expect(shown(definition, "2026")).toMatchObject({
      name: "up_a",
      inputSchema: {
        properties: {
          a: { type: "string" },
          atlas_session: { type: "string", "x-mcp-header": "Atlas-Session" },
        },
        required: ["a"],
      },
    });
  });

  it("has an output schema that is no object's only in the era that knows such", () => {
    const definition = (type: string) => ({ name: "a", inputSchema, outputSchema: { type } });
    expect(shown(definition("array"), "2025")).not.toHaveProperty("outputSchema");
    expect(shown(definition("object"), "2025")).toHaveProperty("outputSchema");
    expect(shown(definition("array"), "2026")).toHaveProperty("outputSchema");
  });
});

describe("what a caller is told of the gateway", () => {
  it("has the approved instructions of visible upstreams, each under its name", () => {
    const directory = new Directory(1, [
      entryOf(upstreamConfig("up"), [], { instructions: "Be kind." }),
      entryOf(upstreamConfig("plans", { roles: ["antigravity"] }), [], { instructions: "Hidden." }),
    ]);
    const text = instructionsFor(directory, windsurf);
    expect(text).toContain('From the upstream "up":\nBe kind.');
    expect(text).not.toContain("Hidden.");
  });

  it("has the one extension that is relayed, where a visible upstream has it", () => {
    const extensions = { "io.modelcontextprotocol/tasks": { x: 1 }, other: {} };
    const directory = new Directory(1, [
      entryOf(upstreamConfig("up"), [], { capabilities: { extensions } }),
    ]);
    expect(serverCapabilities(directory, windsurf, "2026")).toMatchObject({
      extensions: { "io.modelcontextprotocol/tasks": { x: 1 } },
    });
    expect(JSON.stringify(serverCapabilities(directory, windsurf, "2026"))).not.toContain("other");
    const nobody = { ...windsurf, upstreams: [] };
    expect(serverCapabilities(directory, nobody, "2026")).not.toHaveProperty("extensions");
    expect(serverCapabilities(directory, windsurf, "2025")).not.toHaveProperty("extensions");
  });
});
