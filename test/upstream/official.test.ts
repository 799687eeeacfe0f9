import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { declaredHeaders, paramHeaders } from "../../src/mcp/param-headers.ts";
import { probeEra } from "../../src/upstream/probe.ts";
import type { WireHooks, WireSession2025 } from "../../src/upstream/types.ts";
import * as wire2025 from "../../src/upstream/wire-2025.ts";
import * as wire2026 from "../../src/upstream/wire-2026.ts";
import { officialServer1, officialServer2 } from "./official-servers.ts";
import { type Exchange, faultyServer, targetOf } from "./support.ts";

const HOOKS: WireHooks = { timeoutMs: 5_000 };
const IDENTITY = { clientInfo: { name: "gate", version: "1" }, capabilities: { elicitation: {} } };
const OPTIONS = { clientInfo: { name: "gate", version: "1" }, clientCapabilities: {} };
const PROBE = {
  clientInfo: IDENTITY.clientInfo,
  capabilities2025: IDENTITY.capabilities,
  capabilities2026: {},
  timeoutMs: 2_000,
};

const soon = async (isSo: () => boolean) => {
  for (let i = 0; i < 400 && !isSo(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(isSo()).toBe(true);
};

describe("the official 1.x server", () => {
  let server: Awaited<ReturnType<typeof officialServer1>>;
  let session: WireSession2025;

  beforeAll(async () => {
    server = await officialServer1();
    const opened = await wire2025.initialize(targetOf(server.url), IDENTITY, HOOKS);
    if (!opened.ok) throw new Error(JSON.stringify(opened));
    expect(opened.session.protocolVersion).toBe("2025-11-25");
    expect(opened.session.sessionId).toMatch(/^[0-9a-f-]{36}$/);
    expect(opened.serverInfo).toMatchObject({ name: "one" });
    expect(opened.instructions).toBe("From one.");
    session = opened.session;
  });
  afterAll(() => server.close());

  const call = (name: string, args = {}, hooks: Partial<WireHooks> = {}) =>
    wire2025.request(
      targetOf(server.url),
      session,
      "tools/call",
      { name, arguments: args },
      { ...HOOKS, ...hooks },
    );

  it("lists and calls", async () => {
    const list = await wire2025.request(
      targetOf(server.url),
      session,
      "tools/list",
      undefined,
      HOOKS,
    );
    expect(list).toMatchObject({ kind: "result", isIJson: true });
    expect(await call("echo", { text: "héllo" })).toMatchObject({
      kind: "result",
      text: '{"content":[{"type":"text","text":"héllo"}]}',
    });
  });

  it("resumes a stream that the server closed, and loses nothing", async () => {
    const heard: unknown[] = [];
    const outcome = await call(
      "cut",
      {},
      { onNotification: ({ params }) => heard.push(params?.data) },
    );
    expect(outcome).toMatchObject({ result: { content: [{ text: "after the cut" }] } });
    expect(heard).toEqual(["while you were away"]);
    expect(server.state.calls).toBe(1);
  });

  it("resumes a stream whose connection breaks", async () => {
    let isFirst = true;
    const target = targetOf(server.url, {
      fetch: async (url, init) => {
        const response = await fetch(url, init);
        if (!isFirst || response.body === null) return response;
        isFirst = false;
        // The first event arrives, and then the line is dead.
        const reader = response.body.getReader();
        let chunks = 0;
        const body = new ReadableStream<Uint8Array>({
          pull: async (controller) => {
            if (chunks++ > 0) return controller.error(new TypeError("network"));
            const { value } = await reader.read();
            if (value !== undefined) controller.enqueue(value);
          },
        });
        return new Response(body, response);
      },
    });
    const outcome = await wire2025.request(target, session, "tools/call", { name: "cut" }, HOOKS);
    expect(outcome).toMatchObject({ result: { content: [{ text: "after the cut" }] } });
  });

  it("asks its client, who may take longer than the timeout", async () => {
    const outcome = await call(
      "ask",
      {},
      {
        timeoutMs: 300,
        onRequest: async ({ method }) => {
          expect(method).toBe("elicitation/create");
          await new Promise((resolve) => setTimeout(resolve, 700));
          return { result: { action: "decline" } };
        },
      },
    );
    expect(outcome).toMatchObject({ result: { content: [{ text: "decline" }] } });
  });

  it("stops a call that is cancelled, or that took too long", async () => {
    expect(await call("hang", {}, { timeoutMs: 100 })).toMatchObject({
      failure: { reason: "timeout", ran: "maybe" },
    });
    await soon(() => server.state.cancelled === 1);
    const signal = AbortSignal.timeout(100);
    expect(await call("hang", {}, { signal })).toMatchObject({ failure: { reason: "cancelled" } });
    await soon(() => server.state.cancelled === 2);
  });

  it("speaks on the session's own stream", async () => {
    const heard: unknown[] = [];
    const aborter = new AbortController();
    let isOpen = false;
    const ending = wire2025.listen(
      targetOf(server.url),
      session,
      {
        ...HOOKS,
        signal: aborter.signal,
        onNotification: ({ params }) => heard.push(params?.data),
      },
      {
        onOpen: () => {
          isOpen = true;
        },
      },
    );
    await soon(() => isOpen);
    await call("announce");
    await soon(() => heard.length === 1);
    expect(heard).toEqual(["to all"]);
    aborter.abort();
    expect(await ending).toBeNull();
  });

  it("is found to be of the 2025 era, and its session can be used and closed", async () => {
    const target = targetOf(server.url);
    const probed = await probeEra(target, PROBE);
    if (probed.era !== "2025") throw new Error(JSON.stringify(probed));
    expect(probed).toMatchObject({ instructions: "From one.", serverInfo: { name: "one" } });
    const pong = await wire2025.request(target, probed.session, "ping", undefined, HOOKS);
    expect(pong).toMatchObject({ kind: "result", text: "{}" });
    await wire2025.close(target, probed.session);
    expect(server.state.sessions.has(probed.session.sessionId ?? "")).toBe(false);
    expect(await wire2025.request(target, probed.session, "ping", undefined, HOOKS)).toMatchObject({
      failure: { reason: "session_lost", ran: "no" },
    });
  });
});

describe("the official 2.x server", () => {
  let server: Awaited<ReturnType<typeof officialServer2>>;

  beforeAll(async () => {
    server = await officialServer2();
  });
  afterAll(() => server.close());

  const call = (name: string, args = {}, options = {}, hooks: Partial<WireHooks> = {}) =>
    wire2026.request(
      targetOf(server.url),
      "tools/call",
      { name, arguments: args },
      { ...OPTIONS, ...options },
      { ...HOOKS, ...hooks },
    );

  it("is found to be of the 2026 era", async () => {
    expect(await probeEra(targetOf(server.url), PROBE)).toEqual({
      era: "2026",
      protocolVersion: "2026-07-28",
      capabilities: { tools: { listChanged: true } },
      instructions: "From two.",
      serverInfo: { name: "two", version: "2.0.0" },
      ttlMs: expect.any(Number),
    });
  });

  it("is found to be of the 2026 era also when it speaks both", async () => {
    const both = await officialServer2("stateless");
    expect(await probeEra(targetOf(both.url), PROBE)).toMatchObject({ era: "2026" });
    await both.close();
  });

  it("takes calls whose headers mirror the declared arguments, and no others", async () => {
    const list = await wire2026.request(
      targetOf(server.url),
      "tools/list",
      undefined,
      OPTIONS,
      HOOKS,
    );
    if (list.kind !== "result" || !Array.isArray(list.result.tools)) throw new Error("no tools");
    const tool = JSON.parse(JSON.stringify(list.result.tools)).find(
      ({ name }: { name: string }) => name === "query",
    );
    const declared = declaredHeaders(tool.inputSchema);
    expect(declared).toEqual({ ok: true, headers: [{ name: "Region", path: ["region"] }] });
    if (!declared.ok) return;
    for (const region of ["eu", "Zürich, 世界", " padded", "=?base64?x?="]) {
      const args = { region };
      const headers = paramHeaders(declared.headers, args);
      expect(await call("query", args, { paramHeaders: headers })).toMatchObject({
        result: { content: [{ text: `in ${region}` }] },
      });
    }
    expect(await call("query", { region: "eu" })).toMatchObject({ error: { code: -32020 } });
  });

  it("brings notifications of a call before its answer", async () => {
    const heard: unknown[] = [];
    const outcome = await call(
      "noisy",
      {},
      { meta: { progressToken: "p1" } },
      { onNotification: ({ params }) => heard.push(params) },
    );
    expect(outcome).toMatchObject({ result: { content: [{ text: "done" }] } });
    expect(heard).toEqual([expect.objectContaining({ progressToken: "p1", progress: 1 })]);
  });

  it("stops a call when its connection is closed", async () => {
    const outcome = await call("hang", {}, {}, { timeoutMs: 150 });
    expect(outcome).toMatchObject({ failure: { reason: "timeout", ran: "maybe" } });
    await soon(() => server.state.cancelled === 1);
  });

  it("answers an unknown method and an unknown version with its errors", async () => {
    const target = targetOf(server.url);
    expect(await wire2026.request(target, "no/such", {}, OPTIONS, HOOKS)).toMatchObject({
      error: { code: -32601 },
    });
    const later = { ...OPTIONS, protocolVersion: "2027-01-01" };
    expect(await wire2026.request(target, "tools/list", {}, later, HOOKS)).toMatchObject({
      error: { code: -32022, data: { supported: ["2026-07-28"] } },
    });
  });

  it("acknowledges a subscription and tells of changes", async () => {
    const granted: unknown[] = [];
    const heard: unknown[] = [];
    const aborter = new AbortController();
    const ending = wire2026.listen(
      targetOf(server.url),
      { toolsListChanged: true, promptsListChanged: true },
      OPTIONS,
      {
        timeoutMs: 200,
        signal: aborter.signal,
        onAcknowledged: (filter) => granted.push(filter),
        onNotification: ({ method }) => heard.push(method),
      },
    );
    await soon(() => granted.length === 1);
    expect(granted).toEqual([{ toolsListChanged: true }]);
    // Longer than the timeout, which is for the acknowledgement only.
    await new Promise((resolve) => setTimeout(resolve, 300));
    server.notify.toolsChanged();
    await soon(() => heard.length === 1);
    expect(heard).toEqual(["notifications/tools/list_changed"]);
    aborter.abort();
    expect(await ending).toBeNull();
  });

  it("ends a subscription to what it does not offer", async () => {
    expect(
      await wire2026.listen(targetOf(server.url), { promptsListChanged: true }, OPTIONS, HOOKS),
    ).toBeNull();
  });
});

describe("probeEra", () => {
  const initializeResult = {
    protocolVersion: "2025-06-18",
    capabilities: { tools: {} },
    serverInfo: {},
  };

  it("takes every refusal of an old server for what it is", async () => {
    const refusals: [number, unknown][] = [
      [400, "Bad Request"],
      [
        400,
        {
          jsonrpc: "2.0",
          id: null,
          error: { code: -32000, message: "No valid session ID provided" },
        },
      ],
      [404, ""],
      [405, ""],
      [406, ""],
      [422, { detail: [] }],
      [202, ""],
      [200, { error: -32601 }],
      [200, { error: -32600 }],
      [200, { error: -32000 }],
      [200, { result: {} }],
      [200, { result: { supportedVersions: ["2025-11-25"] } }],
    ];
    for (const [status, body] of refusals) {
      const server = await faultyServer((e) => {
        if (e.body.method === "initialize") return e.result(initializeResult);
        if (e.body.id === undefined) return void e.response.writeHead(202).end();
        if (status !== 200) return e.json(status, body);
        const said = body as { error?: number; result?: unknown };
        const rest =
          said.result === undefined ? { error: { code: said.error, message: "?" } } : said;
        e.json(200, { jsonrpc: "2.0", id: e.body.id, ...rest });
      });
      const probed = await probeEra(targetOf(server.url), PROBE);
      expect(probed, JSON.stringify([status, body])).toMatchObject({
        era: "2025",
        session: { protocolVersion: "2025-06-18" },
      });
      await server.close();
    }
  });

  it("decides nothing on what may pass", async () => {
    const statuses: Record<number, string> = {
      302: "refused",
      401: "unauthorized",
      403: "refused",
      429: "refused",
      500: "unreachable",
      502: "unreachable",
      503: "refused",
    };
    for (const [status, reason] of Object.entries(statuses)) {
      const server = await faultyServer((e) => {
        if (e.body.method === "initialize") e.result(initializeResult);
        else e.json(Number(status), "");
      });
      const probed = await probeEra(targetOf(server.url), PROBE);
      expect(probed, status).toMatchObject({ era: null, failure: { reason } });
      expect(server.seen.every(({ body }) => body.method === "server/discover")).toBe(true);
      await server.close();
    }
    for (const failing of [
      (e: Exchange) => void e.response.writeHead(200, { "content-type": "text/html" }).end("<p>"),
      (e: Exchange) => {
        e.sse()(": open\n\n");
        e.response.end();
      },
    ]) {
      const server = await faultyServer((e) => {
        if (e.body.method === "initialize") e.result(initializeResult);
        else failing(e);
      });
      const probed = await probeEra(targetOf(server.url), PROBE);
      expect(probed).toMatchObject({ era: null, failure: { reason: "protocol" } });
      await server.close();
    }
    const silent = await faultyServer(() => undefined);
    const timedOut = await probeEra(targetOf(silent.url), { ...PROBE, timeoutMs: 60 });
    expect(timedOut).toMatchObject({ era: null, failure: { reason: "timeout" } });
    await silent.close();
    const gone = await probeEra(targetOf(silent.url), PROBE);
    expect(gone).toMatchObject({ era: null, failure: { reason: "unreachable" } });
  });

  it("says when a server speaks neither", async () => {
    const server = await faultyServer((e) =>
      e.json(400, { jsonrpc: "2.0", id: e.body.id, error: { code: -32022, message: "2099 only" } }),
    );
    const probed = await probeEra(targetOf(server.url), PROBE);
    expect(probed).toMatchObject({ era: null, failure: { reason: "protocol" } });
    await server.close();
  });
});
