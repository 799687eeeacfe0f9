import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/mcp/ijson.ts";
import { attemptedName, type RelayedMethod, routeOf } from "../../src/session/routes.ts";
import { sealTaskId } from "../../src/session/task-id.ts";
import { Directory } from "../../src/upstream/directory.ts";
import { definitionOf, entryOf, upstreamConfig } from "../upstream/entries.ts";

const PRINCIPAL = {
  id: "key:1",
  tenant: "default",
  role: "windsurf",
  workspaces: null,
  upstreams: null,
} as const;

const mirrored = {
  name: "query",
  inputSchema: {
    type: "object",
    properties: { region: { type: "string", "x-mcp-header": "Region" } },
  },
};

const github = entryOf(
  upstreamConfig("github", { resource_prefixes: ["github://"] }),
  [
    definitionOf("github", "query", { definition: mirrored }),
    definitionOf("github", "gone", { status: "gone" }),
    definitionOf("github", "changed", { status: "changed" }),
    definitionOf("github", "ask", { kind: "prompt" }),
    definitionOf("github", "old", { kind: "prompt", status: "gone" }),
    definitionOf("github", "github://{repo}", {
      kind: "resource_template",
      exposed: "github://{repo}",
    }),
  ],
  { capabilities: { resources: {} } },
);
const bare = entryOf(upstreamConfig("bare", { prefix: "", session_param: false }), [
  definitionOf("bare", "plain", { exposed: "plain" }),
]);
const secret = entryOf(upstreamConfig("secret", { roles: ["antigravity"] }), [
  definitionOf("secret", "tool"),
]);
const directory = new Directory(1, [bare, github, secret]);

const SECRETS_KEY = new Uint8Array(32);

function route(method: RelayedMethod, params: JsonObject, narrowing: { tools?: string[] } = {}) {
  return routeOf(
    directory,
    { ...PRINCIPAL, ...narrowing },
    { jsonrpc: "2.0", id: 1, method, params },
    method,
    SECRETS_KEY,
  );
}

function found(method: RelayedMethod, params: JsonObject) {
  const routing = route(method, params);
  if (!routing.ok) throw new Error(routing.message);
  return routing.route;
}

describe("a tool's call", () => {
  it("goes to its upstream in the upstream's own name, and is recorded in the client's", () => {
    const { entry, params, label, args, kind } = found("tools/call", {
      name: "github_query",
      arguments: { n: 1 },
      foreign: "kept",
      _meta: { x: 1 },
    });
    expect(entry.config.name).toBe("github");
    expect(params).toEqual({ name: "query", arguments: { n: 1 }, foreign: "kept" });
    expect([label, kind]).toEqual(["github_query", "tool"]);
    expect(args).toEqual({ n: 1 });
  });

  it("has its headers computed from its arguments, and the gateway's handle taken off", () => {
    const { params, args, paramHeaders } = found("tools/call", {
      name: "github_query",
      arguments: { region: "ü", atlas_session: "handle" },
    });
    expect(params.arguments).toEqual({ region: "ü" });
    expect(args).toEqual({ region: "ü" });
    expect(paramHeaders).toEqual({ "Mcp-Param-Region": "=?base64?w7w=?=" });
    const own = found("tools/call", { name: "plain", arguments: { atlas_session: "its own" } });
    expect(own.params.arguments).toEqual({ atlas_session: "its own" });
  });

  it("leaves arguments out where the client did, and takes off what belongs to this hop alone", () => {
    const { params } = found("tools/call", {
      name: "plain",
      task: { ttl: 1 },
      requestState: "s",
      inputResponses: {},
    });
    expect(params).toEqual({ name: "plain" });
  });

  it.each([
    ["github_none", "missing"],
    ["query", "missing"],
    ["secret_tool", "missing"],
    ["github_gone", "missing"],
    ["github_ask", "missing"],
    ["__proto__", "missing"],
    [7, "invalid"],
    [null, "invalid"],
  ])("of %j is %s", (name, kind) => {
    expect(route("tools/call", { name })).toMatchObject({ ok: false, kind });
  });

  it("of a tool that changed finds it, for its refusal to say so", () => {
    expect(found("tools/call", { name: "github_changed" }).definition?.status).toBe("changed");
  });

  it.each([[[]], ["text"], [1], [null]])("with the arguments %j is refused", (args) => {
    const routing = route("tools/call", { name: "plain", arguments: args });
    expect(routing).toMatchObject({ ok: false, kind: "invalid" });
  });
});

describe("other requests", () => {
  it("go to the upstream that has the prompt, the resource or the template", () => {
    const prompt = found("prompts/get", { name: "github_ask", arguments: { a: "b" } });
    expect(prompt).toMatchObject({ params: { name: "ask" }, label: "github_ask", kind: "prompt" });
    const resource = found("resources/read", { uri: "github://acme" });
    expect(resource).toMatchObject({ params: { uri: "github://acme" }, kind: "resource" });
    const argument = { name: "x", value: "y" };
    const ofPrompt = found("completion/complete", {
      ref: { type: "ref/prompt", name: "github_ask" },
      argument,
    });
    expect(ofPrompt.params).toEqual({ ref: { type: "ref/prompt", name: "ask" }, argument });
    const ofTemplate = found("completion/complete", {
      ref: { type: "ref/resource", uri: "github://{repo}" },
      argument,
    });
    expect(ofTemplate).toMatchObject({ kind: "completion", entry: { config: { name: "github" } } });
  });

  it.each([
    ["prompts/get", { name: "none" }, "missing"],
    ["prompts/get", { name: "github_old" }, "missing"],
    ["prompts/get", {}, "invalid"],
    ["resources/read", { uri: "other://x" }, "missing"],
    ["resources/read", { uri: 1 }, "invalid"],
    ["completion/complete", { ref: "github_ask" }, "invalid"],
    ["completion/complete", { ref: { type: "ref/prompt", name: "none" } }, "missing"],
    ["completion/complete", { ref: { type: "ref/other" } }, "invalid"],
    ["completion/complete", { ref: { type: "ref/resource", uri: "other://{x}" } }, "missing"],
  ] as const)("%s of %j is %s", (method, params, kind) => {
    expect(route(method, params)).toMatchObject({ ok: false, kind });
  });
});

describe("a task", () => {
  const owner = { tenant: PRINCIPAL.tenant, principal: PRINCIPAL.id };
  const taskOf = (tool: string) =>
    sealTaskId(SECRETS_KEY, owner, { upstream: "github", id: "t", tool, plan: null });
  const METHODS = ["tasks/get", "tasks/update", "tasks/cancel"] as const;

  it.each(METHODS)("is asked about where it came from, by its name there: %s", (method) => {
    const { entry, kind, label, params } = found(method, { taskId: taskOf("github_query") });
    expect([entry.config.name, kind, label, params]).toEqual([
      "github",
      "task",
      "github_query",
      { taskId: "t" },
    ]);
  });

  it.each(METHODS)("of a tool that the key may not use is not there: %s", (method) => {
    const taskId = taskOf("github_query");
    expect(route(method, { taskId }, { tools: ["github_other"] })).toMatchObject({
      ok: false,
      kind: "missing",
    });
    expect(route(method, { taskId }, { tools: ["github_*"] })).toMatchObject({ ok: true });
  });

  it("of a tool that was taken away since goes on for whoever may use that name", () => {
    const params = { taskId: taskOf("github_since_removed") };
    expect(route("tasks/cancel", params, { tools: ["github_since_*"] })).toMatchObject({
      ok: true,
      route: { definition: null },
    });
  });
});

describe("the name that a record keeps of a request that goes nowhere", () => {
  it("is the caller's text, bounded, and without a credential in it", () => {
    expect(attemptedName({ name: "a".repeat(300) }, 256)).toHaveLength(256);
    expect(attemptedName({ uri: "x://y" }, 256)).toBe("x://y");
    expect(attemptedName({ name: 1 }, 256)).toBeNull();
    const token = `ghp_${"a1B2".repeat(9)}`;
    expect(attemptedName({ name: token }, 256)).not.toContain(token);
  });
});
