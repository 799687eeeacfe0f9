import { afterEach, describe, expect, it } from "vitest";
import type { WireHooks, WireOutcome } from "../../src/upstream/types.ts";
import { discover, listen, request } from "../../src/upstream/wire-2026.ts";
import { type Exchange, event, type FaultyServer, faultyServer, targetOf } from "./support.ts";

const HOOKS: WireHooks = { timeoutMs: 3_000 };
const OPTIONS = {
  clientInfo: { name: "gate", version: "1" },
  clientCapabilities: { sampling: {} },
};

let server: FaultyServer | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function serve(handle: (exchange: Exchange) => void | Promise<void>): Promise<FaultyServer> {
  server = await faultyServer(handle);
  return server;
}

async function ask(
  handle: (exchange: Exchange) => void | Promise<void>,
  hooks: Partial<WireHooks> = {},
): Promise<WireOutcome> {
  const { url } = await serve(handle);
  return await request(targetOf(url), "tools/call", { name: "t" }, OPTIONS, { ...HOOKS, ...hooks });
}

const failureOf = (outcome: WireOutcome) =>
  outcome.kind === "failed" ? `${outcome.failure.reason}/${outcome.failure.ran}` : outcome.kind;

describe("a request", () => {
  it("carries its metadata in the body and mirrors it in headers", async () => {
    const { url, seen } = await serve((e) => e.result({}));
    const _meta = { keep: 1, "io.modelcontextprotocol/protocolVersion": "forged" };
    await request(
      targetOf(url),
      "resources/read",
      { uri: "file:///ä", _meta },
      {
        ...OPTIONS,
        meta: { progressToken: 5 },
        paramHeaders: { "Mcp-Param-Region": "eu", "Mcp-Method": "forged" },
      },
      HOOKS,
    );
    expect(seen[0]?.headers).toMatchObject({
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": "resources/read",
      "mcp-name": "=?base64?ZmlsZTovLy/DpA==?=",
      "mcp-param-region": "eu",
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
    });
    expect(seen[0]?.headers["mcp-session-id"]).toBeUndefined();
    expect(seen[0]?.body.params).toEqual({
      uri: "file:///ä",
      _meta: {
        keep: 1,
        progressToken: 5,
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": OPTIONS.clientInfo,
        "io.modelcontextprotocol/clientCapabilities": OPTIONS.clientCapabilities,
      },
    });
  });

  it("has the very text of its result, from JSON and from a stream", async () => {
    const text = '{"resultType":"complete","n":1.0,"big":9007199254740993}';
    for (const isStream of [false, true]) {
      const outcome = await ask((e) => {
        const message = `{"jsonrpc":"2.0","id":"${e.body.id}","result":${text}}`;
        if (isStream) e.sse()(`data: ${message}\n\n`);
        else e.json(200, message);
      });
      expect(outcome).toEqual({ kind: "result", result: JSON.parse(text), text, isIJson: false });
      await server?.close();
    }
  });

  it("is refused by errors about it, and by those of proxies that name no request", async () => {
    const asked: [number, (e: Exchange) => unknown, number, string][] = [
      [404, (e) => e.body.id, -32601, "error"],
      [400, (e) => e.body.id, -32602, "error"],
      [400, () => null, -32020, "error"],
      [400, () => undefined, -32022, "error"],
      [400, () => null, -32000, "refused/no"],
      [400, () => "other", -32020, "refused/no"],
      [503, () => null, -32603, "refused/no"],
      [500, () => null, -32603, "unreachable/maybe"],
    ];
    for (const [status, id, code, expected] of asked) {
      const outcome = await ask((e) =>
        e.json(status, { jsonrpc: "2.0", id: id(e), error: { code, message: "m" } }),
      );
      expect(failureOf(outcome), `${status} ${code}`).toBe(expected);
      await server?.close();
    }
  });

  it("is not resumed when its stream breaks, and may have run", async () => {
    for (const [how, expected] of [
      ["end", "protocol/maybe"],
      ["destroy", "unreachable/maybe"],
    ] as const) {
      const outcome = await ask((e) => {
        e.sse()(`retry: 1\n${event({ jsonrpc: "2.0", method: "n" }, "e1")}`);
        setTimeout(() => e.response[how](), 20);
      });
      expect(failureOf(outcome)).toBe(expected);
      expect(server?.seen).toHaveLength(1);
      await server?.close();
    }
  });

  it("passes over answers to others and requests of the server", async () => {
    const outcome = await ask((e) => {
      const write = e.sse();
      write(event({ jsonrpc: "2.0", id: "x", result: { wrong: true } }));
      write(event({ jsonrpc: "2.0", id: 1, method: "sampling/createMessage", params: {} }));
      write(event({ jsonrpc: "2.0", id: e.body.id, result: { right: true } }));
    });
    expect(outcome).toMatchObject({ result: { right: true } });
    expect(server?.seen).toHaveLength(1);
  });

  it("is cancelled by closing its connection, with no message", async () => {
    let isClosed = false;
    const aborter = new AbortController();
    const pending = ask(
      (e) => {
        e.response.on("close", () => {
          isClosed = true;
        });
        e.sse()(": open\n\n");
        setTimeout(() => aborter.abort(), 20);
      },
      { signal: aborter.signal },
    );
    expect(failureOf(await pending)).toBe("cancelled/maybe");
    await server?.until(1, () => isClosed);
    expect(server?.seen).toHaveLength(1);
  });

  it("ends with silence, which each notification breaks", async () => {
    expect(failureOf(await ask(() => undefined, { timeoutMs: 50 }))).toBe("timeout/maybe");
    await server?.close();
    const busy = await ask(
      async (e) => {
        const write = e.sse();
        for (let i = 0; i < 6; i++) {
          write(event({ jsonrpc: "2.0", method: "notifications/progress" }));
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
        write(event({ jsonrpc: "2.0", id: e.body.id, result: {} }));
      },
      { timeoutMs: 200 },
    );
    expect(busy.kind).toBe("result");
  });

  it("is bounded and strict about what comes back", async () => {
    const bodies: [(exchange: Exchange) => void, string][] = [
      [(e) => e.json(200, { jsonrpc: "2.0", id: "other", result: {} }), "protocol/maybe"],
      [(e) => e.json(200, [{ jsonrpc: "2.0", id: e.body.id, result: {} }, {}]), "protocol/maybe"],
      [(e) => void e.response.writeHead(202).end(), "protocol/maybe"],
      [(e) => e.result({ x: "x".repeat(70_000) }), "too_large/maybe"],
      [(e) => e.sse()(`data: ${"x".repeat(70_000)}`), "too_large/maybe"],
      [(e) => e.sse()(event({ jsonrpc: "2.0", id: e.body.id, result: 7 })), "protocol/maybe"],
      [(e) => e.json(401, {}), "unauthorized/no"],
    ];
    for (const [handle, expected] of bodies) {
      expect(failureOf(await ask(handle)), handle.toString()).toBe(expected);
      await server?.close();
    }
  });
});

describe("discover", () => {
  it("tells an answer that is no discovery from one that is", async () => {
    const { url } = await serve((e) => e.result({ supportedVersions: "2026-07-28" }));
    expect(await discover(targetOf(url), OPTIONS, HOOKS)).toMatchObject({
      ok: false,
      outcome: { kind: "result" },
    });
  });
});

describe("listen", () => {
  const ack = (e: Exchange, notifications: object) =>
    event({
      jsonrpc: "2.0",
      method: "notifications/subscriptions/acknowledged",
      params: { notifications, _meta: { "io.modelcontextprotocol/subscriptionId": e.body.id } },
    });

  it("subscribes anew when the stream ends, and says each time what was granted", async () => {
    const aborter = new AbortController();
    const granted: unknown[] = [];
    const heard: string[] = [];
    const { url, seen, until } = await serve((e) => {
      const write = e.sse();
      write(ack(e, { toolsListChanged: true }));
      write(event({ jsonrpc: "2.0", method: "notifications/tools/list_changed" }));
      if (seen.length === 1) setTimeout(() => e.response.destroy(), 20);
    });
    const ending = listen(targetOf(url), { toolsListChanged: true }, OPTIONS, {
      timeoutMs: 400,
      signal: aborter.signal,
      onAcknowledged: (filter) => granted.push(filter),
      onNotification: ({ method }) => heard.push(method),
    });
    await until(2, () => granted.length === 2);
    expect(seen[1]?.body.id).not.toBe(seen[0]?.body.id);
    expect(seen[1]?.body.params.notifications).toEqual({ toolsListChanged: true });
    aborter.abort();
    expect(await ending).toBeNull();
    expect(granted).toEqual([{ toolsListChanged: true }, { toolsListChanged: true }]);
    expect(heard.length).toBeGreaterThanOrEqual(1);
    expect(heard).not.toContain("notifications/subscriptions/acknowledged");
  });

  it("gives up on what another try would not mend", async () => {
    const refusals: [(e: Exchange) => void, unknown][] = [
      [
        (e) => e.json(404, { jsonrpc: "2.0", id: e.body.id, error: { code: -32601, message: "" } }),
        { kind: "error" },
      ],
      [(e) => e.json(400, ""), { kind: "failed", failure: { reason: "refused" } }],
      [(e) => e.json(401, ""), { kind: "failed", failure: { reason: "unauthorized" } }],
    ];
    for (const [handle, expected] of refusals) {
      const { url } = await serve(handle);
      expect(await listen(targetOf(url), {}, OPTIONS, HOOKS)).toMatchObject(expected as object);
      expect(server?.seen.every(({ body }) => body.method === "subscriptions/listen")).toBe(true);
      await server?.close();
    }
  });

  it("tries again when the server is not there, too busy or does not acknowledge", async () => {
    const aborter = new AbortController();
    const { url, seen } = await serve((e) => {
      if (seen.length === 1) return e.json(503, "");
      if (seen.length === 2) return void e.sse()(": no word\n\n");
      e.sse()(ack(e, { toolsListChanged: true }));
    });
    const ending = listen(targetOf(url), { toolsListChanged: true }, OPTIONS, {
      timeoutMs: 100,
      signal: aborter.signal,
      onAcknowledged: () => aborter.abort(),
    });
    expect(await ending).toBeNull();
    expect(seen).toHaveLength(3);
  });
});
