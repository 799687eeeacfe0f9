/**
 * `subscriptions/listen`, and calls whose responses are streams, in the 2026
 * era: by hand where the bytes matter, else through the official client 2.x.
 */
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ambientId } from "./support/ambient.ts";
import { exportLines, readLine } from "./support/chain.ts";
import { EventStream } from "./support/event-stream.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { ACCEPT } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { register } from "./support/streaming.ts";
import { Upstream2026 } from "./support/upstream-2026.ts";

const VERSION = "2026-07-28";
const SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId";

let gateway: Gateway;
let operator: Operator;
let upstream: Upstream2026;
let tokens = 0;

beforeAll(async () => {
  upstream = await Upstream2026.start();
  gateway = await Gateway.start({
    vars: { ALLOW_PRIVATE_UPSTREAMS: "true", FLUSH_INTERVAL_SECONDS: "1" },
  });
  operator = new Operator(gateway.url, gateway.keys.operator);
  await register(operator, "up", upstream.url, { resource_prefixes: ["note://"] });
});

afterAll(async () => {
  await gateway?.dispose();
  await upstream?.close();
});

type Sent = { key?: string; id?: string | number; meta?: Record<string, unknown> };

/** One request as a conforming client writes it. */
function post(method: string, params: Record<string, unknown>, sent: Sent = {}) {
  const { key = gateway.keys.windsurf, id = 1, meta = {} } = sent;
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    ...meta,
  };
  return EventStream.open(`${gateway.url}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      accept: ACCEPT,
      "content-type": "application/json",
      "mcp-protocol-version": VERSION,
      "mcp-method": method,
      ...(typeof params.name === "string" ? { "mcp-name": params.name } : {}),
    },
    body: JSON.stringify({ jsonrpc: "2.0", id, method, params: { ...params, _meta } }),
  });
}

const listen = (notifications: Record<string, unknown>, sent?: Sent) =>
  post("subscriptions/listen", { notifications }, sent);

async function client(key = gateway.keys.windsurf): Promise<Client> {
  const connected = new Client(
    { name: "e2e", version: "1" },
    { versionNegotiation: { mode: { pin: VERSION } }, capabilities: { elicitation: {} } },
  );
  await connected.connect(
    new StreamableHTTPClientTransport(new URL(`${gateway.url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${key}` } },
    }),
  );
  return connected;
}

async function newKey() {
  const minted = await operator.mintKey({ role: "windsurf" });
  const records = async () => {
    const { status, text } = await operator.get(
      `/audit/sessions/${ambientId("default", `key:${minted.id}`)}`,
    );
    return status === 200 ? exportLines(text).map(readLine) : [];
  };
  return { ...minted, records };
}

function newToken(): string {
  tokens += 1;
  return `token-${tokens}`;
}

describe("subscriptions/listen", () => {
  it("acknowledges what it grants, first, and records it", async () => {
    const { key, records } = await newKey();
    const stream = await listen(
      {
        toolsListChanged: true,
        promptsListChanged: false,
        resourceSubscriptions: ["note://a", "elsewhere://x"],
      },
      { key, id: "sub-1" },
    );
    expect([stream.status, stream.headers["content-type"]]).toEqual([200, "text/event-stream"]);
    const event = await stream.next();
    expect(event.id).toBeNull();
    expect(JSON.parse(event.data ?? "")).toEqual({
      jsonrpc: "2.0",
      method: "notifications/subscriptions/acknowledged",
      params: {
        notifications: { toolsListChanged: true, resourceSubscriptions: ["note://a"] },
        _meta: { [SUBSCRIPTION]: "sub-1" },
      },
    });
    const opened = (await records()).filter(({ event }) => event === "subscriptions_listen");
    expect(opened).toMatchObject([{ result: "ok", context: { granted: 1 } }]);
    stream.leave();
  });

  it.each([
    { what: "no filter", notifications: undefined },
    {
      what: "a list of too many resources",
      notifications: { resourceSubscriptions: Array(300).fill("note://a") },
    },
    { what: "a flag that is none", notifications: { toolsListChanged: "yes" } },
  ])("refuses $what with 400 and -32602", async ({ notifications }) => {
    const stream = await post("subscriptions/listen", { notifications });
    await stream.untilEnded();
    expect(stream.status).toBe(400);
    expect(JSON.parse(stream.raw)).toMatchObject({ id: 1, error: { code: -32602 } });
  });

  it("tells each listener of what it asked for, and of nothing else", async () => {
    const streams = {
      tools: await listen({ toolsListChanged: true }, { id: 1 }),
      a: await listen({ resourceSubscriptions: ["note://a"] }, { id: 2 }),
      b: await listen({ resourceSubscriptions: ["note://b"] }, { id: 3 }),
      nothing: await listen({}, { id: 4 }),
    };
    await Promise.all(Object.values(streams).map((stream) => stream.next()));
    await eventually("a change of a is told", () => {
      upstream.touch("note://a");
      return streams.a.messages.length > 1 ? true : null;
    });
    await eventually("a change of b is told", () => {
      upstream.touch("note://b");
      return streams.b.messages.length > 1 ? true : null;
    });
    const name = `new_${newToken().replace("-", "_")}`;
    upstream.addTool(name);
    // It waits for approval: nobody's list reads otherwise yet.
    await eventually("the new tool waits", async () => {
      const tools = JSON.stringify(await operator.ok("GET", "/upstreams/up/tools"));
      return tools.includes(name) ? true : null;
    });
    expect(streams.tools.messages).toHaveLength(1);
    await operator.ok("POST", `/upstreams/up/tools/${name}/approve`, {});
    expect(await streams.tools.message()).toEqual({
      jsonrpc: "2.0",
      method: "notifications/tools/list_changed",
      params: { _meta: { [SUBSCRIPTION]: 1 } },
    });
    for (const [stream, uri, id] of [
      [streams.a, "note://a", 2],
      [streams.b, "note://b", 3],
    ] as const) {
      for (const message of stream.messages.slice(1)) {
        expect(message).toEqual({
          jsonrpc: "2.0",
          method: "notifications/resources/updated",
          params: { uri, _meta: { [SUBSCRIPTION]: id } },
        });
      }
    }
    expect(streams.nothing.messages).toHaveLength(1);
    for (const stream of Object.values(streams)) stream.leave();
  });

  it("works with the official client, for two clients at once", async () => {
    const clients = [await client(), await client((await newKey()).key)];
    const heard = clients.map((): string[] => []);
    for (const [index, each] of clients.entries()) {
      each.setNotificationHandler("notifications/resources/updated", ({ params }) => {
        heard[index]?.push(params.uri);
      });
    }
    const subscriptions = await Promise.all(
      clients.map((each) =>
        each.listen({ resourceSubscriptions: ["note://a"], toolsListChanged: true }),
      ),
    );
    for (const { honoredFilter } of subscriptions) {
      expect(honoredFilter).toEqual({
        resourceSubscriptions: ["note://a"],
        toolsListChanged: true,
      });
    }
    await eventually("both are told", () => {
      upstream.touch("note://a");
      return heard.every((uris) => uris.length > 0) ? true : null;
    });
    await subscriptions[0]?.close();
    expect(await subscriptions[0]?.closed).toBe("local");
    const [first, second] = heard.map(({ length }) => length);
    await eventually("the other is told again", () => {
      upstream.touch("note://a");
      return (heard[1]?.length ?? 0) > (second ?? 0) ? true : null;
    });
    expect(heard[0]).toHaveLength(first ?? 0);
    for (const each of clients) await each.close();
  });

  it("is open as often at once as the key may have streams, and one that is left makes room", async () => {
    const { key } = await operator.mintKey({ role: "windsurf", limits: { streams: 2 } });
    const open = () => listen({ toolsListChanged: true }, { key });
    const [first, second] = [await open(), await open()];
    expect([first.status, second.status]).toEqual([200, 200]);
    const refused = await open();
    await refused.untilEnded();
    expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "30"]);
    expect(JSON.parse(refused.raw)).toMatchObject({
      id: 1,
      error: { code: -31503, data: { code: "OVERLOADED" } },
    });
    await first.next();
    first.leave();
    const third = await eventually("there is room again", async () => {
      const stream = await open();
      return stream.status === 200 ? stream : null;
    });
    second.leave();
    third.leave();
  });

  it("ends within a minute of the key's revocation, with its response", async () => {
    const { id, key } = await newKey();
    const stream = await listen({ toolsListChanged: true }, { key, id: "mine" });
    await stream.next();
    expect((await operator.send("DELETE", `/keys/${id}`)).status).toBe(204);
    await eventually("the subscription has ended", () => (stream.ended ? true : null), 60_000);
    expect(stream.messages.at(-1)).toMatchObject({
      id: "mine",
      result: { resultType: "complete", _meta: { [SUBSCRIPTION]: "mine" } },
    });
    // Silent as it was, it was kept alive.
    expect(stream.raw).toContain("\n\n: keep-alive\n\n");
  });
});

describe("a call of the 2026 era", () => {
  const call = (name: string, args: Record<string, unknown>, sent?: Sent) =>
    post("tools/call", { name, arguments: args }, sent);

  it("streams progress, and log messages where they are asked for alone, without event ids", async () => {
    for (const logLevel of ["info", null]) {
      const stream = await call(
        "up_steps",
        { n: 2 },
        {
          meta: {
            progressToken: 0,
            ...(logLevel === null ? {} : { "io.modelcontextprotocol/logLevel": logLevel }),
          },
        },
      );
      await stream.untilEnded();
      const step = (n: number) => [
        { method: "notifications/progress", params: { progressToken: 0, progress: n, total: 2 } },
        ...(logLevel === null
          ? []
          : [{ method: "notifications/message", params: { level: "info", data: { step: n } } }]),
      ];
      expect(stream.messages).toMatchObject([
        ...step(1),
        ...step(2),
        { id: 1, result: { resultType: "complete", content: [{ text: "stepped" }] } },
      ]);
      expect(stream.events.every(({ id, retry }) => id === null && retry === null)).toBe(true);
    }
  });

  it("is cancelled at the upstream and recorded so when its client closes the stream", async () => {
    const { key, records } = await newKey();
    const token = newToken();
    const stream = await call("up_hold", { token }, { key });
    await upstream.untilFate(token, "running");
    stream.leave();
    await upstream.untilFate(token, "cancelled");
    const end = await eventually("the end is recorded", async () => {
      const last = (await records()).at(-1);
      return last?.event === "tool_result" ? last : null;
    });
    expect(end).toMatchObject({ result: "error", error_code: "CANCELLED", tool: "up_hold" });
  });

  it("stays recorded as it was when its result came before the client left", async () => {
    const { key, records } = await newKey();
    const token = newToken();
    const stream = await call("up_hold", { token }, { key });
    await upstream.untilFate(token, "running");
    upstream.release(token);
    await stream.message();
    stream.leave();
    const results = (await records()).filter(({ event }) => event === "tool_result");
    expect(results).toMatchObject([{ result: "ok", error_code: null }]);
  });

  it("of the official client reports progress, asks, and can be aborted", async () => {
    const each = await client();
    each.setRequestHandler("elicitation/create", ({ params }) => ({
      action: "accept",
      content: { branch: `of ${params.message}` },
    }));
    const steps: number[] = [];
    const stepped = await each.callTool(
      { name: "up_steps", arguments: { n: 3 } },
      { onprogress: ({ progress }) => steps.push(progress) },
    );
    expect(at(stepped, "content.0.text")).toBe("stepped");
    expect(steps).toEqual([1, 2, 3]);
    const asked = await each.callTool({ name: "up_ask", arguments: {} });
    expect(JSON.parse(String(at(asked, "content.0.text")))).toMatchObject({
      action: "accept",
      content: { branch: "of Which branch?" },
    });
    const token = newToken();
    const aborter = new AbortController();
    const held = each.callTool(
      { name: "up_hold", arguments: { token } },
      { signal: aborter.signal },
    );
    await upstream.untilFate(token, "running");
    aborter.abort();
    await expect(held).rejects.toThrow();
    await upstream.untilFate(token, "cancelled");
    await each.close();
  });
});
