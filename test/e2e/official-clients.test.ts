/**
 * The official client 1.x, unmodified, through the gateway to an upstream of its
 * own era: all that passes between them.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportLines, readLine } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { Operator } from "./support/operator.ts";
import { register } from "./support/streaming.ts";
import { Upstream2025 } from "./support/upstream-2025.ts";

let gateway: Gateway;
let operator: Operator;
let upstream: Upstream2025;

beforeAll(async () => {
  upstream = await Upstream2025.start();
  gateway = await Gateway.start({
    vars: { ALLOW_PRIVATE_UPSTREAMS: "true", FLUSH_INTERVAL_SECONDS: "1" },
  });
  operator = new Operator(gateway.url, gateway.keys.operator);
  await register(operator, "up", upstream.url);
});

afterAll(async () => {
  await gateway?.dispose();
  await upstream?.close();
});

/** What a client said and heard. */
type Heard = {
  readonly errors: string[];
  readonly logs: unknown[];
  readonly updated: string[];
  listsChanged: number;
  /** GET requests, by whether they resumed a stream. */
  readonly gets: (string | null)[];
};

/** A client that can do everything; `version` is what it asks for instead of its latest. */
async function connect(version?: string) {
  const heard: Heard = { errors: [], logs: [], updated: [], listsChanged: 0, gets: [] };
  const client = new Client(
    { name: "official-1", version: "1" },
    {
      capabilities: {
        sampling: {},
        elicitation: { form: {}, url: {} },
        roots: { listChanged: true },
      },
    },
  );
  client.onerror = (error) => heard.errors.push(error.message);
  client.setRequestHandler(ElicitRequestSchema, ({ params }) =>
    params.mode === "url"
      ? { action: "accept" as const }
      : { action: "accept" as const, content: { branch: `for: ${params.message}` } },
  );
  client.setRequestHandler(CreateMessageRequestSchema, () => ({
    model: "a model",
    role: "assistant" as const,
    content: { type: "text" as const, text: "said" },
  }));
  client.setRequestHandler(ListRootsRequestSchema, () => ({
    roots: [{ uri: "file:///srv/app", name: "app" }],
  }));
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    heard.logs.push(params.data);
  });
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
    heard.updated.push(params.uri);
  });
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
    heard.listsChanged += 1;
  });
  const transport = new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp`), {
    requestInit: { headers: { authorization: `Bearer ${gateway.keys.windsurf}` } },
    // It outlasts a restart of the gateway.
    reconnectionOptions: {
      initialReconnectionDelay: 1000,
      maxReconnectionDelay: 1000,
      reconnectionDelayGrowFactor: 1,
      maxRetries: 60,
    },
    fetch: (url, init) => {
      if (init?.method === "GET") heard.gets.push(new Headers(init.headers).get("last-event-id"));
      const body =
        version !== undefined && typeof init?.body === "string"
          ? init.body.replace(/"protocolVersion":"[^"]*"/, `"protocolVersion":"${version}"`)
          : init?.body;
      return fetch(url, { ...init, ...(body === undefined ? {} : { body }) });
    },
  });
  // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
  await client.connect(transport as Parameters<Client["connect"]>[0]);
  const records = async () =>
    exportLines(await operator.export(transport.sessionId ?? "")).map(readLine);
  return { client, transport, heard, records };
}

const textOf = (result: unknown): string => String(at(result, "content.0.text"));

describe.each(["2025-11-25", "2025-06-18", "2025-03-26"])(
  "the official client at %s",
  (version) => {
    it("calls, hears of progress and logs, and has nothing to complain of", async () => {
      const { client, heard } = await connect(version);
      const progress: number[] = [];
      const stepped = await client.callTool(
        { name: "up_steps", arguments: { n: 3 } },
        CallToolResultSchema,
        { onprogress: (each) => progress.push(each.progress) },
      );
      expect(textOf(stepped)).toBe("stepped");
      expect(progress).toEqual([1, 2, 3]);
      expect(heard.logs).toEqual([{ step: 1 }, { step: 2 }, { step: 3 }]);
      const held = client.callTool({ name: "up_hold", arguments: { token: version } });
      await upstream.untilFate(version, "running");
      upstream.release(version);
      expect(textOf(await held)).toBe(`held ${version}`);
      expect(heard.errors).toEqual([]);
      await client.close();
    });
  },
);

describe("the official client 1.x", () => {
  it("is asked by the upstream in the middle of a call: forms, URLs, its model, its roots", async () => {
    const { client, heard, records } = await connect();
    const ask = async (what: string) =>
      JSON.parse(textOf(await client.callTool({ name: "up_ask", arguments: { what } })));
    expect(await ask("form")).toMatchObject({
      action: "accept",
      content: { branch: "for: Which branch?" },
    });
    expect(await ask("url")).toMatchObject({ action: "accept" });
    expect(await ask("sampling")).toMatchObject({ content: { type: "text", text: "said" } });
    expect(await ask("roots")).toMatchObject({ roots: [{ uri: "file:///srv/app" }] });
    const asked = (await records()).filter(({ event }) => event === "client_request");
    expect(asked.map(({ tool, result }) => [tool, result])).toEqual(
      ["elicitation/create", "elicitation/create", "sampling/createMessage", "roots/list"].flatMap(
        (method) => [
          [method, "pending"],
          [method, "ok"],
        ],
      ),
    );
    expect(heard.errors).toEqual([]);
    await client.close();
  });

  it("is asked also by an upstream that asks on its session's own stream", async () => {
    const { client, heard } = await connect();
    const asked = await client.callTool({
      name: "up_ask",
      arguments: { what: "form", aside: true },
    });
    expect(JSON.parse(textOf(asked))).toMatchObject({ action: "accept" });
    // The stream that watches a resource is the very same one: a server has no other.
    await client.subscribeResource({ uri: "doc://a" });
    const again = await client.callTool({
      name: "up_ask",
      arguments: { what: "roots", aside: true },
    });
    expect(JSON.parse(textOf(again))).toMatchObject({ roots: [{ name: "app" }] });
    await eventually("a change of the resource arrives", async () => {
      await upstream.touch("doc://a");
      return heard.updated.length > 0 ? true : null;
    });
    expect(heard.errors).toEqual([]);
    await client.close();
  });

  it("reads resources, templates, prompts and completions", async () => {
    const { client, heard } = await connect();
    const { resources } = await client.listResources();
    expect(resources.map(({ uri }) => uri)).toEqual(["doc://a", "doc://b"]);
    const { resourceTemplates } = await client.listResourceTemplates();
    expect(resourceTemplates.map(({ uriTemplate }) => uriTemplate)).toEqual(["doc://any/{name}"]);
    expect(at(await client.readResource({ uri: "doc://any/x" }), "contents.0.text")).toBe(
      "the text of doc://any/x",
    );
    const { prompts } = await client.listPrompts();
    expect(prompts.map(({ name }) => name)).toEqual(["up_greet"]);
    const prompt = await client.getPrompt({ name: "up_greet", arguments: { who: "you" } });
    expect(at(prompt, "messages.0.content.text")).toBe("Hello you");
    const completed = await client.complete({
      ref: { type: "ref/prompt", name: "up_greet" },
      argument: { name: "who", value: "w" },
    });
    expect(completed.completion.values).toEqual(["w!"]);
    expect(heard.errors).toEqual([]);
    await client.close();
  });

  it("sets the level that upstreams hear of with the next request", async () => {
    const { client } = await connect();
    const before = upstream.levels.length;
    await client.setLoggingLevel("warning");
    await client.callTool({ name: "up_echo", arguments: {} });
    expect(upstream.levels.slice(before)).toEqual(["warning"]);
    await client.callTool({ name: "up_echo", arguments: {} });
    expect(upstream.levels.slice(before)).toEqual(["warning"]);
    await client.close();
  });

  it("is told of a resource while it is subscribed to it, and not after", async () => {
    const { client, heard } = await connect();
    await client.subscribeResource({ uri: "doc://a" });
    await client.subscribeResource({ uri: "doc://b" });
    await eventually("a change arrives", async () => {
      await upstream.touch("doc://a");
      return heard.updated.length > 0 ? true : null;
    });
    expect(new Set(heard.updated)).toEqual(new Set(["doc://a"]));
    await client.unsubscribeResource({ uri: "doc://a" });
    const told = heard.updated.length;
    await upstream.touch("doc://a");
    await eventually("a change of the other arrives", async () => {
      await upstream.touch("doc://b");
      return heard.updated.includes("doc://b") ? true : null;
    });
    expect(heard.updated.slice(told).filter((uri) => uri === "doc://a")).toEqual([]);
    await client.close();
  });

  it("is told of a tool as soon as an operator approves it, without a poll", async () => {
    const { client, heard } = await connect();
    await eventually("its stream is open", () => (heard.gets.length > 0 ? true : null));
    await upstream.addTool("later");
    await eventually("the new tool waits for approval", async () => {
      await operator.ok("POST", "/upstreams/up/refresh", {});
      const tools = JSON.stringify(await operator.ok("GET", "/upstreams/up/tools"));
      return tools.includes("later") ? true : null;
    });
    expect(heard.listsChanged).toBe(0);
    expect((await client.listTools()).tools.map(({ name }) => name)).not.toContain("up_later");
    await operator.ok("POST", "/upstreams/up/tools/later/approve", {});
    // Sooner than a stream looks by itself whether anything has changed.
    await eventually("it is told", () => (heard.listsChanged > 0 ? true : null), 10_000);
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain("up_later");
    await client.close();
  });

  it("cancels a call for good, and does not come back for its answer for ever", async () => {
    const { client, heard } = await connect();
    const aborter = new AbortController();
    const held = client.callTool(
      { name: "up_hold", arguments: { token: "to cancel" } },
      CallToolResultSchema,
      { signal: aborter.signal },
    );
    await upstream.untilFate("to cancel", "running");
    aborter.abort();
    await expect(held).rejects.toThrow();
    await upstream.untilFate("to cancel", "cancelled");
    await eventually("it has come back once", () => (heard.gets.length >= 2 ? true : null));
    // Three of the pauses that it makes between two tries.
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    expect(heard.gets.map((id) => id !== null)).toEqual([false, true]);
    expect(heard.errors).toEqual([]);
    await client.close();
  });

  it("learns what became of a call that was lost with the gateway", async () => {
    const { client } = await connect();
    let place: string | null = null;
    const held = client.callTool(
      { name: "up_hold", arguments: { token: "cut off" } },
      CallToolResultSchema,
      {
        onresumptiontoken: (token) => {
          place = token;
        },
      },
    );
    // Handled from the start: it may be rejected while the gateway is still starting.
    const rejected = expect(held).rejects.toThrow(/OUTCOME_UNKNOWN/);
    await upstream.untilFate("cut off", "running");
    await eventually("the response is a stream", () => place);
    await gateway.kill();
    await gateway.restart();
    // The call was lost with the gateway, and the client learns so.
    await rejected;
    upstream.release("cut off");
    await client.close();
  });
});
