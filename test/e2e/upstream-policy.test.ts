import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FORM, officialClient } from "./support/clients.ts";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan, savedPlan } from "./support/plans.ts";
import { codeOf, lastMessage, pick, Raw2026, type Reply, sessionOf } from "./support/raw-2026.ts";
import { soundRecords, story } from "./support/records.ts";
import { type Question, said, Upstream } from "./support/upstream.ts";

const NAME = {
  method: "elicitation/create",
  params: { message: "Who are you?", requestedSchema: { type: "object", properties: {} } },
} satisfies Question;
const ALL = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };

let gateway: Gateway;
let operator: Operator;
const upstreams: Upstream[] = [];

/** An upstream that counts what its tools really did. */
async function stand(era: "2025" | "2026", name: string, fields: object = {}, approve?: "nothing") {
  const upstream = await Upstream.start(era);
  upstreams.push(upstream);
  const done: string[] = [];
  upstream
    .tool("look", ({ args }) => said(JSON.stringify(args)), { annotations: { readOnlyHint: true } })
    .tool("change", ({ args }) => {
      done.push(JSON.stringify(args));
      return said("changed");
    })
    .tool("ask", async ({ ask, args }) => {
      const { who } = await ask({ who: NAME });
      done.push(JSON.stringify({ ...args, who: who ?? null }));
      return said(JSON.stringify(who));
    })
    .tool("ask_two", async ({ ask }) => {
      const { a, b } = await ask({ a: NAME, b: { method: "roots/list" } });
      return said(JSON.stringify({ a: a ?? null, b: b ?? null }));
    });
  await register(operator, upstream, { name, ...fields }, approve ?? "all");
  return { upstream, done };
}

async function newKey(fields: object = {}): Promise<string> {
  return (await operator.mintKey({ role: "windsurf", ...fields })).key;
}

async function raw(capabilities: object = ALL, fields: object = {}): Promise<Raw2026> {
  return new Raw2026(gateway.url, await newKey(fields), capabilities);
}

const stateOf = ({ body }: Reply) => pick(body, "result", "requestState");
const questionsOf = ({ body }: Reply) =>
  Object.keys(Object(pick(body, "result", "inputRequests"))).sort();

/** Answers every question of a reply with the same form. */
function answersTo(reply: Reply): Record<string, unknown> {
  return Object.fromEntries(questionsOf(reply).map((key) => [key, FORM]));
}

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await Promise.all(upstreams.map((upstream) => upstream.close()));
  await gateway?.dispose();
});

describe.each(["2025", "2026"] as const)("the state of a call of a %s upstream", (era) => {
  const name = `state${era}`;
  let done: string[];
  let upstream: Upstream;

  beforeAll(async () => {
    ({ done, upstream } = await stand(era, name));
  });

  async function asked(client: Raw2026, args: Record<string, unknown> = { n: 1 }): Promise<Reply> {
    const reply = await client.call(`${name}_ask`, args);
    expect([reply.status, pick(reply.body, "result", "resultType")]).toEqual([
      200,
      "input_required",
    ]);
    return reply;
  }

  function retry(client: Raw2026, first: Reply, changes: Record<string, unknown> = {}) {
    const { arguments: args = { n: 1 }, name: tool = `${name}_ask`, ...more } = changes;
    return client.call(String(tool), Object(args), {
      requestState: stateOf(first),
      inputResponses: answersTo(first),
      ...more,
    });
  }

  async function expectRefused(reply: Reply, why: RegExp): Promise<void> {
    expect([reply.status, pick(reply.body, "error", "code")]).toEqual([400, -32602]);
    expect(pick(reply.body, "error", "message")).toMatch(why);
    const records = await soundRecords(operator, sessionOf(reply));
    expect(records.at(-1)).toMatchObject({
      event: "tool_call",
      result: "error",
      error_code: "INVALID_ARGUMENT",
    });
  }

  it("is spent by the retry that it was given for, and by no second one", async () => {
    const client = await raw();
    const first = await asked(client);
    expect(JSON.stringify(pick(first.body, "result", "inputRequests"))).toContain(
      `"dev.atlas-gate/upstream":"${name}"`,
    );
    expect(JSON.stringify(first.body)).not.toContain("upstream state");
    const before = done.length;
    const reply = await retry(client, first);
    expect(codeOf(reply)).toBeNull();
    await expectRefused(await retry(client, first), /used before/);
    expect(done.length).toBe(before + 1);
  });

  it("is nothing when it was tampered with, or is of another making", async () => {
    const client = await raw();
    const first = await asked(client);
    const state = String(stateOf(first));
    const before = done.length;
    for (const bad of [`${state.slice(0, -2)}AA`, `A${state}`, "upstream state", "", 7]) {
      await expectRefused(await retry(client, first, { requestState: bad }), /not one/);
    }
    expect(done.length).toBe(before);
    expect(codeOf(await retry(client, first))).toBeNull();
  });

  it("is nobody else's", async () => {
    const client = await raw();
    const first = await asked(client);
    const before = done.length;
    await expectRefused(await retry(await raw(), first), /someone else/);
    expect(done.length).toBe(before);
    expect(codeOf(await retry(client, first))).toBeNull();
  });

  it("is of no other session, tool or arguments", async () => {
    const client = await raw();
    const first = await asked(client);
    const before = done.length;
    await expectRefused(await retry(client, first, { name: `${name}_ask_two` }), /not the same/);
    await expectRefused(await retry(client, first, { arguments: { n: 2 } }), /not the same/);
    await expectRefused(await retry(client, first, { arguments: {} }), /not the same/);
    const session = await client.begin("/srv/states");
    const elsewhere = await retry(client, first, { arguments: { n: 1, atlas_session: session } });
    await expectRefused(elsewhere, /another session/);
    expect(done.length).toBe(before);
  });

  it("has the questions that were not answered asked again", async () => {
    const client = await raw();
    const first = await client.call(`${name}_ask_two`);
    const [one, two] = questionsOf(first);
    expect(questionsOf(first)).toHaveLength(2);
    const isForm = (key = "") =>
      pick(first.body, "result", "inputRequests", key, "method") === NAME.method;
    const [form, roots] = isForm(one) ? [one, two] : [two, one];
    const second = await client.call(
      `${name}_ask_two`,
      {},
      { requestState: stateOf(first), inputResponses: { [String(form)]: FORM } },
    );
    expect(pick(second.body, "result", "resultType")).toBe("input_required");
    expect(questionsOf(second)).toContain(roots);
    const answers = Object.fromEntries(
      questionsOf(second).map((key) => [key, key === roots ? { roots: [] } : FORM]),
    );
    const third = await client.call(
      `${name}_ask_two`,
      {},
      { requestState: stateOf(second), inputResponses: answers },
    );
    expect(pick(third.body, "result", "content", "0", "text")).toBe(
      JSON.stringify({ a: FORM, b: { roots: [] } }),
    );
  });

  it("is decided anew: a plan that was revoked meanwhile ends the call before the upstream goes on", async () => {
    await operator.ok("PATCH", `/upstreams/${name}`, { gate: "plan" });
    const root = `/srv/revoked-${era}`;
    const hash = await approvedPlan(gateway, root, { tools: [`${name}_ask`] });
    const client = await raw();
    const session = await client.begin(root, hash);
    const args = { n: 1, atlas_session: session };
    const first = await asked(client, args);
    const before = done.length;
    await operator.revoke(hash, root);
    upstream.seen.splice(0);
    const reply = await retry(client, first, { arguments: args });
    expect(codeOf(reply)).toBe("PLAN_NOT_APPROVED");
    const records = await soundRecords(operator, session);
    expect(story(records)).toEqual([
      "tool_intent pending",
      "tool_result input_required",
      "client_request(elicitation/create) input_required",
      "client_request(null) ok",
      "tool_intent pending",
      "tool_result error PLAN_NOT_APPROVED",
    ]);
    const recorded = records.find(({ event, tool }) => event === "client_request" && tool === null);
    expect(recorded).toMatchObject({
      result_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      context: { upstream: name, answers: { [String(questionsOf(first)[0])]: "accept" } },
    });
    await operator.ok("PATCH", `/upstreams/${name}`, { gate: "open" });
    // Whatever the upstream was told, it would have been told by now.
    await client.call(`${name}_look`);
    expect(done.length).toBe(before);
    const answers = upstream.seen.filter(({ message }) => message.result !== undefined);
    expect(answers).toEqual([]);
  });
});

describe("a call that waits for a client that never comes back", () => {
  it("is given up with its session, and the upstream hears of it", async () => {
    const { upstream, done } = await stand("2025", "left");
    const client = await raw();
    const session = await client.begin("/srv/left");
    const first = await client.call("left_ask", { atlas_session: session });
    expect(pick(first.body, "result", "resultType")).toBe("input_required");
    const ended = await operator.send("DELETE", `/sessions/${session}`);
    expect(ended.status).toBe(204);
    await eventually("the upstream is told", () =>
      upstream.asked("notifications/cancelled").length > 0 ? true : null,
    );
    const late = await client.call(
      "left_ask",
      { atlas_session: session },
      { requestState: stateOf(first), inputResponses: answersTo(first) },
    );
    expect(codeOf(late)).toBe("SESSION_NOT_FOUND");
    expect(done).toEqual([]);
  });
});

describe.each(["2025", "2026"] as const)("what a %s upstream may ask", (era) => {
  it.each([
    ["the client did not declare", {}, { elicitation: true }],
    ["the operator does not allow", ALL, { elicitation: false }],
  ])("is not asked where %s it, and that is recorded", async (_why, capabilities, fields) => {
    const name = `may${era}${fields.elicitation ? "c" : "o"}`;
    const { upstream } = await stand(era, name, fields);
    for (const reply of [
      await (await raw(capabilities)).call(`${name}_ask`),
      await oldCall(capabilities, `${name}_ask`),
    ]) {
      expect(pick(reply.body, "result", "resultType")).not.toBe("input_required");
      const records = await soundRecords(operator, sessionOf(reply));
      expect(story(records)).toContain("client_request(elicitation/create) error FORBIDDEN");
    }
    for (const { message, method } of upstream.seen) {
      const declared =
        method === "initialize"
          ? pick(message, "params", "capabilities")
          : pick(message, "params", "_meta", "io.modelcontextprotocol/clientCapabilities");
      if (method === "tools/call" || fields.elicitation === false) {
        expect(pick(declared, "elicitation")).toBeUndefined();
      }
    }
  });

  /** The same by a client of the 2025 era. */
  async function oldCall(capabilities: object, tool: string): Promise<Reply> {
    const session = await RawSession.open(gateway.url, await newKey(), "2025-11-25", capabilities);
    const { status, text } = await session.request("tools/call", { name: tool });
    const message = lastMessage(text);
    return { status, text: message, body: JSON.parse(message) };
  }
});

describe("gates", () => {
  it("lets only what an operator marked as reading through a gate that only reads", async () => {
    const { done } = await stand("2025", "reader", { gate: "read_only" });
    const agent = await RawSession.open(gateway.url, await newKey());
    const call = async (tool: string) =>
      pick((await agent.request("tools/call", { name: tool, arguments: {} })).json, "result");
    const code = (result: unknown) => pick(result, "_meta", "dev.atlas-gate/error", "code");
    // What a tool says of itself is no operator's mark.
    expect(code(await call("reader_look"))).toBe("FORBIDDEN");
    await operator.ok("POST", "/upstreams/reader/tools/look/approve", { reads: true });
    await eventually("the mark counts", async () =>
      code(await call("reader_look")) === undefined ? true : null,
    );
    expect(code(await call("reader_change"))).toBe("FORBIDDEN");
    expect(done).toEqual([]);
    await agent.end();
    const records = await soundRecords(operator, agent.id);
    expect(story(records).at(-1)).toBe("tool_call error FORBIDDEN");
  });

  it("asks for a workspace, a plan, its approval, and a call within it, in this order", async () => {
    const { done } = await stand("2025", "planned", { gate: "plan" });
    const root = "/srv/planned";
    const condition = { name: "planned_change", when: "args.repo == 'acme/api'" };
    const hash = await savedPlan(gateway, root, { tools: [condition] });
    const agent = await RawSession.open(gateway.url, await newKey());
    const code = async (tool: string, args: object) => {
      const { json } = await agent.request("tools/call", { name: tool, arguments: args });
      return pick(json, "result", "_meta", "dev.atlas-gate/error", "code") ?? null;
    };
    const inside = { repo: "acme/api" };
    expect(await code("planned_change", inside)).toBe("SESSION_REQUIRED");
    await agent.ok("begin_session", { workspace_root: root });
    expect(await code("planned_change", inside)).toBe("PLAN_REQUIRED");
    await agent.ok("begin_session", { workspace_root: root, plan_hash: hash }).catch(() => null);
    expect(await code("planned_change", inside)).toBe("PLAN_REQUIRED");
    await operator.approve(hash, root);
    await agent.ok("begin_session", { workspace_root: root, plan_hash: hash });
    expect(await code("planned_change", { repo: "acme/other" })).toBe("PLAN_SCOPE_VIOLATION");
    expect(await code("planned_change", {})).toBe("PLAN_SCOPE_VIOLATION");
    expect(await code("planned_look", {})).toBe("PLAN_SCOPE_VIOLATION");
    expect(done).toEqual([]);
    expect(await code("planned_change", inside)).toBeNull();
    await operator.revoke(hash, root);
    expect(await code("planned_change", inside)).toBe("PLAN_NOT_APPROVED");
    expect(done).toEqual([JSON.stringify(inside)]);
    await agent.end();
    const records = await soundRecords(operator, agent.id);
    const result = records.find(({ event, result }) => event === "tool_result" && result === "ok");
    expect(result?.context).toMatchObject({
      upstream: "planned",
      gate: "plan",
      approval: { by: expect.stringMatching(/^key:/), at: expect.any(String) },
    });
  });

  it("ends with the plan's own end", async () => {
    await stand("2025", "ending", { gate: "plan" });
    const root = "/srv/ending";
    const expires_at = new Date(Date.now() + 4_000).toISOString();
    const hash = await approvedPlan(gateway, root, { tools: ["ending_change"], expires_at });
    const agent = await RawSession.open(gateway.url, await newKey());
    await agent.ok("begin_session", { workspace_root: root, plan_hash: hash });
    await eventually("the plan has ended", async () => {
      const { json } = await agent.request("tools/call", { name: "ending_change", arguments: {} });
      const code = pick(json, "result", "_meta", "dev.atlas-gate/error", "code");
      return code === "PLAN_EXPIRED" ? true : null;
    });
  });

  it("keeps what a bound plan forbids forbidden where no plan is needed", async () => {
    const { done } = await stand("2025", "free");
    const root = "/srv/free";
    const hash = await approvedPlan(gateway, root, {
      forbidden: { tools: ["free_change"] },
    });
    const agent = await RawSession.open(gateway.url, await newKey());
    const code = async () => {
      const { json } = await agent.request("tools/call", { name: "free_change", arguments: {} });
      return pick(json, "result", "_meta", "dev.atlas-gate/error", "code") ?? null;
    };
    expect(await code()).toBeNull();
    await agent.ok("begin_session", { workspace_root: root, plan_hash: hash });
    expect(await code()).toBe("PLAN_SCOPE_VIOLATION");
    expect(done).toHaveLength(1);
  });

  it("hides an upstream from other roles, tenants and narrowed keys, and records the attempt", async () => {
    const { upstream } = await stand("2025", "hidden");
    const strangers = [
      await newKey({ role: "antigravity" }),
      await newKey({ tenant: "elsewhere" }),
      await newKey({ upstreams: ["another"] }),
    ];
    for (const key of strangers) {
      const old = await RawSession.open(gateway.url, key);
      const { json, status } = await old.request("tools/call", { name: "hidden_look" });
      expect([status, at(json, "error.code"), at(json, "error.data.code")]).toEqual([
        200,
        -32602,
        "TOOL_NOT_FOUND",
      ]);
      const listed = JSON.stringify((await old.request("tools/list")).json);
      expect(listed).not.toContain("hidden_");
      const young = new Raw2026(gateway.url, key);
      const reply = await young.call("hidden_look");
      expect([reply.status, pick(reply.body, "error", "data", "code")]).toEqual([
        400,
        "TOOL_NOT_FOUND",
      ]);
      const tenant = key === strangers[1] ? "elsewhere" : "default";
      for (const session of [old.id, sessionOf(reply)]) {
        const records = await soundRecords(operator, session, tenant);
        expect(records.at(-1)).toMatchObject({ tool: "hidden_look", error_code: "TOOL_NOT_FOUND" });
      }
    }
    expect(upstream.asked("tools/call")).toEqual([]);
    const allowed = await RawSession.open(gateway.url, await newKey({ upstreams: ["hidden"] }));
    const { json } = await allowed.request("tools/call", { name: "hidden_look", arguments: {} });
    expect(at(json, "result.content.0.text")).toBe("{}");
  });
});

describe("pins", () => {
  type Shown = { name: string; status: string; pin: string; definition: string };

  async function shown(name: string, tool: string): Promise<Record<string, unknown>> {
    const { tools } = Object(await operator.ok("GET", `/upstreams/${name}/tools`));
    return tools.find((each: Shown) => each.name === tool);
  }

  const refresh = (name: string) => operator.ok("POST", `/upstreams/${name}/refresh`, {});

  it.each([
    ["description", { description: "Now sends your files away." }, "/description"],
    [
      "schema",
      { inputSchema: { type: "object", properties: { secret: { type: "string" } } } },
      "/inputSchema/properties",
    ],
    ["annotation", { annotations: { readOnlyHint: false } }, "/annotations/readOnlyHint"],
  ])("keep a changed %s from agents until an operator approved it", async (what, change, path) => {
    const name = `pin_${what}`;
    const { upstream, done } = await stand("2025", name);
    const agent = await RawSession.open(gateway.url, await newKey());
    const listed = async () => {
      const { json } = await agent.request("tools/list");
      const tools: { name: string }[] = Object(at(json, "result")).tools;
      return tools.find((tool) => tool.name === `${name}_look`);
    };
    const code = async () => {
      const { json } = await agent.request("tools/call", { name: `${name}_look`, arguments: {} });
      return pick(json, "result", "_meta", "dev.atlas-gate/error", "code") ?? null;
    };
    const before = await listed();
    expect(before).toBeDefined();
    upstream.tool("look", () => said("changed"), {
      annotations: { readOnlyHint: true },
      ...change,
    });
    await refresh(name);
    expect(
      await eventually("it is quarantined", async () =>
        (await code()) === "TOOL_CHANGED" ? 1 : null,
      ),
    ).toBe(1);
    expect(await listed()).toEqual(before);
    const found = await shown(name, "look");
    expect(found).toMatchObject({ status: "changed" });
    const changes: { path: string }[] = Object(found.difference).changes;
    expect(changes.map((each) => each.path)).toEqual([path]);
    const wrong = await operator.send("POST", `/upstreams/${name}/tools/look/approve`, {
      pin: at(found, "approved.pin"),
    });
    expect(wrong.status).toBe(409);
    expect(await code()).toBe("TOOL_CHANGED");
    await operator.ok("POST", `/upstreams/${name}/tools/look/approve`, {
      pin: at(found, "observed.pin"),
    });
    await eventually("it may be called again", async () => ((await code()) === null ? 1 : null));
    expect(await listed()).not.toEqual(before);
    expect(done).toEqual([]);
    const records = await soundRecords(operator, agent.id);
    expect(story(records)).toContain("tool_call error TOOL_CHANGED");
  });

  it("make a new tool wait, and give a tool back that was gone for a while", async () => {
    const { upstream } = await stand("2026", "coming");
    const agent = await RawSession.open(gateway.url, await newKey());
    const answer = async (tool: string) => {
      const { json } = await agent.request("tools/call", { name: tool, arguments: {} });
      return at(json, "error.data.code") ?? at(json, "result.content.0.text");
    };
    upstream.tool("later", () => said("later"));
    const look = upstream.tools.get("look");
    upstream.tools.delete("look");
    await refresh("coming");
    await eventually("it is gone", async () =>
      (await answer("coming_look")) === "TOOL_NOT_FOUND" ? 1 : null,
    );
    expect(await answer("coming_later")).toBe("TOOL_NOT_FOUND");
    const listed = JSON.stringify((await agent.request("tools/list")).json);
    expect(listed).not.toMatch(/coming_(look|later)/);
    if (look !== undefined) upstream.tools.set("look", look);
    await refresh("coming");
    await operator.ok("POST", "/upstreams/coming/tools/later/approve", {});
    await eventually("it is back", async () => ((await answer("coming_look")) === "{}" ? 1 : null));
    await eventually("it is approved", async () =>
      (await answer("coming_later")) === "later" ? 1 : null,
    );
  });

  it("void a plan's approval when they change", async () => {
    const { upstream, done } = await stand("2025", "voided", { gate: "plan" });
    const root = "/srv/voided";
    const hash = await approvedPlan(gateway, root, { tools: ["voided_change"] });
    const agent = await RawSession.open(gateway.url, await newKey());
    await agent.ok("begin_session", { workspace_root: root, plan_hash: hash });
    const code = async () => {
      const { json } = await agent.request("tools/call", { name: "voided_change", arguments: {} });
      return pick(json, "result", "_meta", "dev.atlas-gate/error", "code") ?? null;
    };
    expect(await code()).toBeNull();
    const change = upstream.tools.get("change");
    if (change === undefined) throw new Error("no tool");
    upstream.tool("change", change.run, { description: "Does more." });
    await refresh("voided");
    await operator.ok("POST", "/upstreams/voided/tools/change/approve", {});
    await eventually("the plan is void", async () =>
      (await code()) === "PLAN_NOT_APPROVED" ? 1 : null,
    );
    const made = done.length;
    await operator.approve(hash, root);
    expect(await code()).toBeNull();
    expect(done.length).toBe(made + 1);
  });

  it("are looked at again in every round that the gateway makes for a client of the 2025 era", async () => {
    const { upstream, done } = await stand("2026", "rounds");
    const client = await officialClient("2025", gateway.url, await newKey());
    upstream.tool("slow_ask", async ({ ask, params }) => {
      if (params.requestState === undefined) {
        const tool = upstream.tools.get("slow_ask");
        upstream.tool("slow_ask", tool?.run ?? (() => said("")), { description: "Another." });
        await refresh("rounds");
        await new Promise((resolve) => setTimeout(resolve, 2_500));
      }
      await ask({ who: NAME });
      done.push("asked");
      return said("done");
    });
    await refresh("rounds");
    await operator.ok("POST", "/upstreams/rounds/tools/slow_ask/approve", {});
    const reply = await eventually("the tool is there", () =>
      client.call("rounds_slow_ask").catch(() => null),
    );
    expect(reply.code).toBe("TOOL_CHANGED");
    expect(done).toEqual([]);
    await client.close();
  });
});

describe("names", () => {
  const refused = async (name: string, fields: object, tool: string, capabilities = {}) => {
    const upstream = await Upstream.start("2025");
    upstreams.push(upstream);
    Object.assign(upstream.capabilities, capabilities);
    upstream.tool(tool, () => said(name));
    const { status, text } = await operator.send("POST", "/upstreams?approve=all", {
      name,
      url: upstream.url,
      gate: "open",
      ...fields,
    });
    return { status, text, upstream };
  };

  it("are the upstream's own behind an empty prefix, and cut with their hash over 64 characters", async () => {
    const long = "a_name_that_is_so_long_that_no_client_would_take_it_with_a_prefix";
    const { status } = await refused("plain", { prefix: "" }, "plainly");
    expect(status).toBe(201);
    expect((await refused("longish", {}, long)).status).toBe(201);
    const agent = await RawSession.open(gateway.url, await newKey());
    const { json } = await agent.request("tools/list");
    const tools: { name: string }[] = Object(at(json, "result")).tools;
    const names = tools.map(({ name }) => name);
    expect(names).toContain("plainly");
    const cut = names.find((name) => name.startsWith("longish_"));
    expect(cut).toMatch(/^longish_a_name_that_is_so_long_that_no_client_would_tak_[0-9a-f]{8}$/);
    const called = await agent.request("tools/call", { name: cut, arguments: {} });
    expect(at(called.json, "result.content.0.text")).toBe("longish");
    const uncut = await agent.request("tools/call", { name: `longish_${long}`, arguments: {} });
    expect(at(uncut.json, "error.data.code")).toBe("TOOL_NOT_FOUND");
  });

  it("that are taken are refused for the newcomer, naming both sides", async () => {
    const builtIn = await refused("sly", { prefix: "" }, "read_file");
    expect([builtIn.status, builtIn.text]).toEqual([409, expect.stringContaining("read_file")]);
    expect((await refused("first", { prefix: "same" }, "tool")).status).toBe(201);
    const second = await refused("second", { prefix: "same" }, "tool");
    expect(second.status).toBe(409);
    expect(second.text).toMatch(/first.*second|second.*first/s);
  });

  it("of resources go to the upstream whose prefix it is, and overlapping prefixes are refused", async () => {
    const owners = ["docs", "wiki"].map((name) => ({ name, prefix: `${name}://` }));
    for (const { name, prefix } of owners) {
      const upstream = await Upstream.start("2025");
      upstreams.push(upstream);
      upstream.capabilities = { resources: {} };
      upstream.resources.push({ uri: `${prefix}a`, name: "a" });
      upstream.methods.set("resources/read", ({ params }) => ({
        contents: [{ uri: String(params.uri), text: name }],
      }));
      await register(operator, upstream, { name, resource_prefixes: [prefix] });
    }
    const agent = await RawSession.open(gateway.url, await newKey());
    for (const { name, prefix } of owners) {
      const { json } = await agent.request("resources/read", { uri: `${prefix}a` });
      expect(at(json, "result.contents.0.text")).toBe(name);
    }
    const { json } = await agent.request("resources/read", { uri: "other://a" });
    expect(at(json, "error.code")).toBe(-32002);
    const overlapping = await refused("deep", { resource_prefixes: ["docs://deep/"] }, "x");
    expect(overlapping.status).toBe(409);
    expect(overlapping.text).toMatch(/docs:\/\/deep\/.*docs:\/\//s);
    const records = await soundRecords(operator, agent.id);
    expect(story(records)).toEqual([
      "resource_read pending",
      "resource_read ok",
      "resource_read pending",
      "resource_read ok",
      "resource_read error NOT_FOUND",
    ]);
  });
});
