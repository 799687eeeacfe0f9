import { describe, expect, it } from "vitest";
import type { Principal } from "../../src/edge/principal.ts";
import { Directory } from "../../src/upstream/directory.ts";
import type { Definition, UpstreamConfig, UpstreamEntry } from "../../src/upstream/types.ts";

function definition(upstream: string, name: string, changes: Partial<Definition> = {}): Definition {
  const kind = changes.kind ?? "tool";
  return {
    kind,
    upstream,
    name,
    exposed: kind === "resource_template" ? name : `${upstream}_${name}`,
    definition: { name },
    pin: `pin of ${upstream} ${name}`,
    status: "approved",
    reads: false,
    ...changes,
  };
}

function entry(
  name: string,
  changes: Partial<Omit<UpstreamEntry, "config">> & { config?: Partial<UpstreamConfig> } = {},
): UpstreamEntry {
  const { config, ...rest } = changes;
  return {
    config: {
      name,
      url: `https://${name}.acme.com/`,
      prefix: name,
      gate: "open",
      tenants: ["default"],
      roles: ["windsurf"],
      timeout_ms: 1000,
      session_param: true,
      sampling: false,
      elicitation: false,
      resource_prefixes: [],
      ...config,
    },
    auth: "",
    era: "2025",
    protocolVersion: "2025-11-25",
    capabilities: {},
    instructions: null,
    available: true,
    ttlMs: null,
    resources: [],
    definitions: [],
    ...rest,
  };
}

const EXECUTOR: Principal = {
  id: "key:1",
  tenant: "default",
  role: "windsurf",
  workspaces: null,
  upstreams: null,
};

const names = (entries: readonly UpstreamEntry[]) => entries.map(({ config }) => config.name);

describe("who sees an upstream", () => {
  const directory = new Directory(1, [
    entry("a", { definitions: [definition("a", "t")], instructions: "A!", available: false }),
    entry("b", { config: { roles: ["auditor"] }, definitions: [definition("b", "t")] }),
    entry("c", { config: { tenants: ["other"] }, definitions: [definition("c", "t")] }),
    entry("d", { config: { tenants: ["other", "default"], roles: ["auditor", "windsurf"] } }),
  ]);

  it("is the tenant and the role that it is registered for, and the key if that is narrowed", () => {
    expect(names(directory.visible(EXECUTOR))).toEqual(["a", "d"]);
    expect(names(directory.visible({ ...EXECUTOR, role: "auditor" }))).toEqual(["b", "d"]);
    expect(names(directory.visible({ ...EXECUTOR, tenant: "other" }))).toEqual(["c", "d"]);
    expect(names(directory.visible({ ...EXECUTOR, upstreams: ["d", "b"] }))).toEqual(["d"]);
    expect(directory.visible({ ...EXECUTOR, upstreams: [] })).toEqual([]);
  });

  it("is nobody else, by whatever way it is looked for", () => {
    expect(directory.tool(EXECUTOR, "a_t")?.entry.config.name).toBe("a");
    expect(directory.upstream(EXECUTOR, "a")?.config.name).toBe("a");
    for (const hidden of ["b", "c"]) {
      expect(directory.tool(EXECUTOR, `${hidden}_t`)).toBeNull();
      expect(directory.upstream(EXECUTOR, hidden)).toBeNull();
    }
    expect(directory.instructions({ ...EXECUTOR, upstreams: ["d"] })).toBeNull();
    expect(directory.unavailable({ ...EXECUTOR, upstreams: ["d"] })).toEqual([]);
  });

  it("hears of instructions under the upstream's name, and of what is missing", () => {
    expect(directory.instructions(EXECUTOR)).toBe('From the upstream "a":\nA!');
    expect(directory.unavailable(EXECUTOR)).toEqual(["a"]);
  });
});

describe("lists", () => {
  const directory = new Directory(1, [
    entry("a", {
      definitions: [
        definition("a", "z"),
        definition("a", "gone", { status: "gone" }),
        definition("a", "changed", { status: "changed" }),
        definition("a", "z", { kind: "prompt" }),
        definition("a", "s://{x}", { kind: "resource_template" }),
      ],
      resources: [{ uri: "s://2" }, { uri: "s://1", from: "a" }],
    }),
    entry("b", {
      config: { prefix: "", resource_prefixes: ["s://1"] },
      definitions: [definition("b", "0", { exposed: "Z" }), definition("b", "1", { exposed: "b" })],
      resources: [{ uri: "s://1", from: "b" }],
    }),
  ]);

  it("are sorted by exposed name, with what changed and without what is gone", () => {
    const exposed = directory.tools(EXECUTOR).map(({ definition: each }) => each.exposed);
    expect(exposed).toEqual(["Z", "a_changed", "a_z", "b"]);
    expect(directory.prompts(EXECUTOR).map(({ definition: each }) => each.exposed)).toEqual([
      "a_z",
    ]);
    expect(directory.templates(EXECUTOR)).toHaveLength(1);
  });

  it("keep a tool and a prompt of one name apart, and what is gone to be refused", () => {
    expect(directory.tool(EXECUTOR, "a_z")?.definition.kind).toBe("tool");
    expect(directory.prompt(EXECUTOR, "a_z")?.definition.kind).toBe("prompt");
    expect(directory.tool(EXECUTOR, "a_gone")?.definition.status).toBe("gone");
    expect(directory.prompt(EXECUTOR, "a_gone")).toBeNull();
    expect(directory.tool(EXECUTOR, "__proto__")).toBeNull();
  });

  it("name each resource once, its owner's, by URI", () => {
    expect(directory.resources(EXECUTOR).map(({ resource }) => resource)).toEqual([
      { uri: "s://1", from: "b" },
      { uri: "s://2" },
    ]);
  });

  it("of pins have what a plan of the tenant can name, tools before prompts", () => {
    expect(directory.pins("default")).toEqual({
      Z: "pin of b 0",
      a_changed: "pin of a changed",
      a_gone: "pin of a gone",
      a_z: "pin of a z",
      b: "pin of b 1",
    });
    expect(directory.pins("other")).toEqual({});
  });
});

describe("the owner of a resource", () => {
  const resources = { capabilities: { resources: {} } };
  const owner = (entries: UpstreamEntry[], uri: string, principal = EXECUTOR) =>
    new Directory(1, entries).ownerOf(principal, uri)?.config.name ?? null;

  it("has the longest prefix of its URI", () => {
    const entries = [
      entry("a", { ...resources, config: { resource_prefixes: ["s://", "t://"] } }),
      entry("b", { ...resources, config: { resource_prefixes: ["s://x/"] } }),
      entry("c", { ...resources, resources: [{ uri: "s://x/1" }] }),
    ];
    expect(owner(entries, "s://x/1")).toBe("b");
    expect(owner(entries, "s://y")).toBe("a");
    expect(owner(entries, "u://y")).toBe("c");
    expect(owner(entries, "s://x/1", { ...EXECUTOR, upstreams: ["a"] })).toBe("a");
  });

  it("else lists it, else has a template for it, else is the only one with resources", () => {
    const entries = [
      entry("a", resources),
      entry("b", { ...resources, resources: [{ uri: "s://1" }] }),
      entry("c", {
        ...resources,
        definitions: [definition("c", "s://{x}", { kind: "resource_template" })],
      }),
    ];
    expect(owner(entries, "s://1")).toBe("b");
    expect(owner(entries, "s://2")).toBe("c");
    expect(owner(entries, "t://2")).toBeNull();
    expect(owner([entry("a", resources), entry("d")], "t://2")).toBe("a");
    expect(owner([entry("d")], "t://2")).toBeNull();
  });
});
