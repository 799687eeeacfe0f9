import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { lastMessage, pick } from "./support/raw-2026.ts";
import { said, Upstream } from "./support/upstream.ts";

let gateway: Gateway;
let operator: Operator;
let upstream: Upstream;

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
  upstream = await Upstream.start("2025");
  upstream.capabilities = { tools: {}, logging: {} };
  upstream
    .tool("log", ({ notify }) => {
      for (const level of ["debug", "warning", "error"]) {
        notify("notifications/message", { level, data: `at ${level}` });
      }
      return said("logged");
    })
    .tool(
      "work",
      ({ notify, meta, params }) => {
        notify("notifications/progress", { progressToken: "of another", progress: 1 });
        const { progressToken = null } = meta;
        notify("notifications/progress", { progressToken, progress: 2 });
        return said(JSON.stringify(Object.keys(params).sort()));
      },
      { execution: { taskSupport: "optional" } },
    );
  await register(operator, upstream, { name: "up", session_param: false });
});

afterAll(async () => {
  await upstream?.close();
  await gateway?.dispose();
});

async function session(capabilities: object = {}): Promise<RawSession> {
  const { key } = await operator.mintKey({ role: "windsurf" });
  return RawSession.open(gateway.url, key, "2025-11-25", capabilities);
}

/** What a response said before it ended, as messages. */
function messages(text: string): unknown[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice("data: ".length)));
}

describe("a change of the client's roots", () => {
  it("is told to the upstreams that were promised to hear of it, and to no other", async () => {
    const changed = { jsonrpc: "2.0", method: "notifications/roots/list_changed" };
    const promised = (): unknown[] =>
      upstream.asked("initialize").map(({ message }) => pick(message, "params", "capabilities"));
    const heard = () => upstream.asked("notifications/roots/list_changed");

    const silent = await session({ roots: {} });
    await silent.request("tools/call", { name: "up_log" });
    expect(promised().at(-1)).toEqual({ roots: {} });
    expect((await silent.post(changed)).status).toBe(202);

    const telling = await session({ roots: { listChanged: true } });
    expect((await telling.post(changed)).status).toBe(202);
    await telling.request("tools/call", { name: "up_log" });
    expect(promised().at(-1)).toEqual({ roots: { listChanged: true } });
    expect(heard()).toEqual([]);
    expect((await telling.post(changed)).status).toBe(202);
    await eventually("the upstream hears of it", () => (heard().length > 0 ? true : null));
    const of = heard().map(({ headers }) => String(headers["mcp-session-id"]));
    expect(of).toHaveLength(1);
    expect(pick(upstream.sessions.get(of[0] ?? ""), "params", "capabilities")).toEqual({
      roots: { listChanged: true },
    });
  });
});

describe("progress", () => {
  it("is passed on under the client's own token, and only what is about its call", async () => {
    const client = await session();
    const { text } = await client.request("tools/call", {
      name: "up_work",
      _meta: { progressToken: 7 },
    });
    const progress = messages(text).filter(
      (message) => pick(message, "method") === "notifications/progress",
    );
    expect(progress.map((message) => pick(message, "params"))).toEqual([
      { progressToken: 7, progress: 2 },
    ]);
    const [call] = upstream.asked("tools/call", "work");
    expect(pick(call?.message, "params", "_meta", "progressToken")).not.toBe(7);
  });

  it("is not heard of by who did not ask for it", async () => {
    const client = await session();
    const { text } = await client.request("tools/call", { name: "up_work" });
    expect(text).not.toContain("notifications/progress");
  });
});

describe("log messages", () => {
  it("come from the level on that the client has set, each once", async () => {
    const client = await session();
    const levels = async () => {
      const { text } = await client.request("tools/call", { name: "up_log" });
      return messages(text)
        .filter((message) => pick(message, "method") === "notifications/message")
        .map((message) => pick(message, "params", "level"));
    };
    expect(await levels()).toEqual(["debug", "warning", "error"]);
    expect(
      at((await client.request("logging/setLevel", { level: "error" })).json, "result"),
    ).toEqual({});
    expect(await levels()).toEqual(["error"]);
    const refused = await client.request("logging/setLevel", { level: "warn" });
    expect(at(refused.json, "error.code")).toBe(-32602);
  });
});

describe("the tasks of 2025-11-25", () => {
  it("are not offered: a call with one is a call without, and none of their methods is there", async () => {
    const client = await session();
    const list = await client.request("tools/list");
    expect(list.text).not.toContain("taskSupport");
    const { text } = await client.request("tools/call", {
      name: "up_work",
      task: { ttl: 60_000 },
    });
    expect(pick(JSON.parse(lastMessage(text)), "result", "content", "0", "text")).toBe('["name"]');
    for (const method of ["tasks/list", "tasks/get", "tasks/result", "tasks/cancel"]) {
      const answer = await client.request(method, { taskId: "1" });
      expect(at(answer.json, "error.code")).toBe(-32601);
    }
  });
});
