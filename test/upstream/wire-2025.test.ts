import { afterEach, describe, expect, it } from "vitest";
import type { WireHooks, WireOutcome, WireSession2025 } from "../../src/upstream/types.ts";
import { close, initialize, listen, notify, request } from "../../src/upstream/wire-2025.ts";
import { type Exchange, event, type FaultyServer, faultyServer, targetOf } from "./support.ts";

const SESSION: WireSession2025 = {
  sessionId: "s-1",
  protocolVersion: "2025-11-25",
  capabilities: {},
};
const HOOKS: WireHooks = { timeoutMs: 3_000 };

let server: FaultyServer | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function serve(handle: (exchange: Exchange) => void | Promise<void>): Promise<FaultyServer> {
  server = await faultyServer(handle);
  return server;
}

/** Asks a server that handles POSTed requests so; notifications and answers get 202. */
async function ask(
  handle: (exchange: Exchange) => void | Promise<void>,
  hooks: Partial<WireHooks> = {},
  changes: Parameters<typeof targetOf>[1] = {},
): Promise<WireOutcome> {
  const { url } = await serve((exchange) => {
    if (exchange.method === "POST" && (exchange.body.id === undefined || !exchange.body.method)) {
      exchange.response.writeHead(202).end();
    } else return handle(exchange);
  });
  return await request(
    targetOf(url, changes),
    SESSION,
    "tools/call",
    { name: "t" },
    { ...HOOKS, ...hooks },
  );
}

const answer = (exchange: Exchange, result: unknown = { ok: true }) => ({
  jsonrpc: "2.0",
  id: exchange.body.id,
  result,
});

const failureOf = (outcome: WireOutcome) =>
  outcome.kind === "failed" ? `${outcome.failure.reason}/${outcome.failure.ran}` : outcome.kind;

describe("a JSON answer", () => {
  it("is the result, with its very text", async () => {
    const text = '{"n":1.50,"s":"\\u0041\\/","o":{ "a" : 1 }}';
    const outcome = await ask(({ json, body }) => {
      json(200, `{"jsonrpc":"2.0", "result": ${text} ,"id":${JSON.stringify(body.id)}}`);
    });
    expect(outcome).toEqual({ kind: "result", result: JSON.parse(text), text, isIJson: true });
  });

  it("is passed on byte for byte where JavaScript cannot hold it, and says so", async () => {
    for (const text of ['{"n":9007199254740993}', '{"a":1,"a":2}', '{"s":"\\ud800"}']) {
      const outcome = await ask(({ json, body }) => {
        json(200, `{"result":${text},"jsonrpc":"2.0","id":${JSON.stringify(body.id)}}`);
      });
      expect(outcome).toEqual({ kind: "result", result: JSON.parse(text), text, isIJson: false });
      await server?.close();
    }
  });

  it("is not blamed for what is wrong around it", async () => {
    const outcome = await ask(({ json, body }) => {
      json(200, `{"jsonrpc":"2.0","x":1e400,"id":${JSON.stringify(body.id)},"result":{"a":1}}`);
    });
    expect(outcome).toMatchObject({ text: '{"a":1}', isIJson: true });
  });

  it("is found in a batch, among notifications", async () => {
    const heard: string[] = [];
    const outcome = await ask(
      (exchange) => {
        const progress = { jsonrpc: "2.0", method: "notifications/progress" };
        const other = { jsonrpc: "2.0", id: "other", result: { wrong: true } };
        exchange.json(200, [progress, other, answer(exchange)]);
      },
      { onNotification: ({ method }) => heard.push(method) },
    );
    expect(outcome).toMatchObject({ kind: "result", text: '{"ok":true}' });
    expect(heard).toEqual(["notifications/progress"]);
  });

  it("is an error when the server says so, with whatever status, if it is about our request", async () => {
    const error = { code: -32602, message: "no such tool" };
    for (const status of [200, 400, 404, 500]) {
      const { url } = await serve(({ json, body }) =>
        json(status, { jsonrpc: "2.0", id: body.id, error }),
      );
      const session = { ...SESSION, sessionId: null };
      const outcome = await request(targetOf(url), session, "tools/call", {}, HOOKS);
      expect(outcome, String(status)).toEqual({ kind: "error", error });
      await server?.close();
    }
    const idless = await ask(({ json }) => json(200, { jsonrpc: "2.0", id: null, error }));
    expect(idless).toEqual({ kind: "error", error });
  });

  it("is refused when it is no answer to the request", async () => {
    const bodies: [(exchange: Exchange) => void, string][] = [
      [(e) => e.json(200, { jsonrpc: "2.0", id: "other", result: {} }), "protocol/maybe"],
      [(e) => e.json(200, { jsonrpc: "2.0", id: e.body.id, result: 7 }), "protocol/maybe"],
      [(e) => e.json(200, "not json"), "protocol/maybe"],
      [(e) => e.json(200, `${"[".repeat(200)}${"]".repeat(200)}`), "protocol/maybe"],
      [
        (e) => {
          e.response.writeHead(200, { "content-type": "application/json" });
          const id = JSON.stringify(e.body.id);
          e.response.write(`{"jsonrpc":"2.0","id":${id},"result":{"x":"`);
          e.response.end(Buffer.from([0xff, 0x22, 0x7d, 0x7d]));
        },
        "protocol/maybe",
      ],
      [(e) => void e.response.writeHead(202).end(), "protocol/maybe"],
      [
        (e) => void e.response.writeHead(200, { "content-type": "text/html" }).end("<p>"),
        "protocol/maybe",
      ],
      [
        (e) => e.json(200, { jsonrpc: "2.0", id: e.body.id, result: { x: "x".repeat(65_536) } }),
        "too_large/maybe",
      ],
      [
        (e) => {
          e.response.writeHead(200, { "content-type": "application/json" });
          const more = () =>
            e.response.write("x".repeat(9_999), () => !e.response.destroyed && setTimeout(more));
          more();
        },
        "too_large/maybe",
      ],
      [
        (e) => {
          e.response.writeHead(200, {
            "content-type": "application/json",
            "content-length": "100",
          });
          e.response.write("{");
          setTimeout(() => e.response.destroy(), 20);
        },
        "unreachable/maybe",
      ],
    ];
    for (const [handle, expected] of bodies) {
      expect(failureOf(await ask(handle)), handle.toString()).toBe(expected);
      await server?.close();
    }
  });
});

describe("an HTTP status", () => {
  it("says whether the request may have run", async () => {
    const expected: Record<number, string> = {
      302: "refused/no",
      400: "refused/no",
      403: "refused/no",
      404: "session_lost/no",
      405: "refused/no",
      413: "refused/no",
      415: "refused/no",
      429: "refused/no",
      500: "unreachable/maybe",
      502: "unreachable/maybe",
      503: "refused/no",
    };
    for (const [status, failure] of Object.entries(expected)) {
      const outcome = await ask(({ json }) =>
        json(
          Number(status),
          { jsonrpc: "2.0", id: null, error: { code: -32000, message: "x" } },
          { location: "/" },
        ),
      );
      expect(failureOf(outcome), status).toBe(failure);
      expect(outcome.kind === "failed" && outcome.failure.httpStatus, status).toBe(Number(status));
      await server?.close();
    }
  });

  it("404 without a session is a refusal", async () => {
    const { url } = await serve(({ response }) => void response.writeHead(404).end());
    const outcome = await request(
      targetOf(url),
      { ...SESSION, sessionId: null },
      "ping",
      undefined,
      HOOKS,
    );
    expect(failureOf(outcome)).toBe("refused/no");
  });

  it("401 asks for new credentials once", async () => {
    const asked: boolean[] = [];
    const authorize = async (again: boolean) => {
      asked.push(again);
      return { authorization: again ? "Bearer new" : "Bearer old" };
    };
    const outcome = await ask(
      (e) => (e.headers.authorization === "Bearer new" ? e.result({}) : e.json(401, {})),
      {},
      { authorize },
    );
    expect(outcome.kind).toBe("result");
    expect(asked).toEqual([false, true]);
    await server?.close();
    const refused = await ask(({ json }) => json(401, {}), {}, { authorize });
    expect(failureOf(refused)).toBe("unauthorized/no");
    expect(asked).toEqual([false, true, false, true]);
  });

  it("keeps credentials and line breaks out of the detail, and is short", async () => {
    const authorize = async () => ({ authorization: "Bearer s3cret-token" });
    const outcome = await ask(
      (e) => void e.response.writeHead(400).end(`a\r\nb s3cret-token ${"x".repeat(900)}`),
      {},
      { authorize },
    );
    const detail = outcome.kind === "failed" ? outcome.failure.detail : "";
    expect(detail).toContain("a b [redacted]");
    expect(detail).not.toContain("s3cret");
    expect(detail.length).toBeLessThan(230);
  });
});

describe("a connection", () => {
  it("that fails may have carried the request; before it was sent it has not", async () => {
    const { url } = await serve(({ response }) => void response.destroy());
    const target = targetOf(url);
    expect(failureOf(await request(target, SESSION, "a", {}, HOOKS))).toBe("unreachable/maybe");
    const refusing = targetOf(url, {
      fetch: () => {
        throw Object.assign(new Error("private address"), { name: "AddressRefused" });
      },
    });
    expect(failureOf(await request(refusing, SESSION, "a", {}, HOOKS))).toBe("refused/no");
    const locked = targetOf(url, { authorize: () => Promise.reject(new Error("s3cret")) });
    const outcome = await request(locked, SESSION, "a", {}, HOOKS);
    expect(failureOf(outcome)).toBe("unauthorized/no");
    expect(JSON.stringify(outcome)).not.toContain("s3cret");
  });
});

describe("an event stream", () => {
  it("brings notifications and then the answer, also one of many lines", async () => {
    const heard: unknown[] = [];
    const outcome = await ask(
      (e) => {
        const write = e.sse();
        write(": hello\n\nevent: other\ndata: {}\n\ndata: no json\n\n");
        write(event({ jsonrpc: "2.0", id: "other", result: { wrong: true } }));
        write(event({ jsonrpc: "2.0", method: "notifications/progress", params: { progress: 1 } }));
        write(
          `event: message\ndata: {"jsonrpc":"2.0",\ndata: "id":"${e.body.id}",\ndata: "result":{"a":\ndata: 1}}\n\n`,
        );
      },
      { onNotification: (notification) => heard.push(notification.params) },
    );
    expect(outcome).toMatchObject({ kind: "result", text: '{"a":\n1}' });
    expect(heard).toEqual([{ progress: 1 }]);
    // It was left open by the server; the client closes it.
    await server?.close();
  });

  it("names its version and session, and every request has an id of its own", async () => {
    const { url, seen } = await serve((e) => e.result({}));
    for (let i = 0; i < 3; i++)
      await request(targetOf(url), SESSION, "tools/list", undefined, HOOKS);
    for (const { headers, body } of seen) {
      expect(headers["mcp-session-id"]).toBe("s-1");
      expect(headers["mcp-protocol-version"]).toBe("2025-11-25");
      expect(headers.accept).toBe("application/json, text/event-stream");
      expect(body).toEqual({ jsonrpc: "2.0", id: body.id, method: "tools/list" });
    }
    expect(new Set(seen.map(({ body }) => body.id)).size).toBe(3);
  });

  it("is gone on with where it was cut, when the server gave an id", async () => {
    for (const cut of ["end", "destroy"] as const) {
      let id: string | undefined;
      const outcome = await ask((e) => {
        if (e.method === "GET") {
          const write = e.sse();
          const isThird = e.headers["last-event-id"] === "e2";
          write(
            isThird
              ? event({ jsonrpc: "2.0", id, result: { done: cut } }, "e3")
              : "id: e2\ndata:\n\n",
          );
          e.response.end();
        } else {
          id = e.body.id;
          e.sse()("id: e1\nretry: 10\ndata:\n\n");
          setTimeout(() => e.response[cut](), 20);
        }
      });
      expect(outcome, cut).toMatchObject({ result: { done: cut } });
      const gets = server?.seen.filter(({ method }) => method === "GET") ?? [];
      expect(gets.map(({ headers }) => headers["last-event-id"])).toEqual(["e1", "e2"]);
      expect(gets[0]?.headers["mcp-session-id"]).toBe("s-1");
      expect(server?.seen.filter(({ method }) => method === "POST")).toHaveLength(1);
      await server?.close();
    }
  });

  it("waits for as long as the server says before it goes on", async () => {
    let cutAt = 0;
    let gone = 0;
    let id: string | undefined;
    await ask((e) => {
      if (e.method === "GET") {
        gone = Date.now() - cutAt;
        return e.sse()(event({ jsonrpc: "2.0", id, result: {} }));
      }
      id = e.body.id;
      e.sse()("id: e1\nretry: 300\n\n");
      cutAt = Date.now();
      e.response.end();
    });
    expect(gone).toBeGreaterThanOrEqual(290);
    expect(gone).toBeLessThan(1_000);
  });

  it("is given up after some tries that bring nothing, and never asked anew", async () => {
    const outcome = await ask((e) => {
      if (e.method === "GET") return void e.response.writeHead(503).end();
      e.sse()("id: e1\nretry: 5\n\n");
      e.response.end();
    });
    expect(failureOf(outcome)).toBe("unreachable/maybe");
    expect(server?.seen.filter(({ method }) => method === "GET")).toHaveLength(5);
    expect(server?.seen.filter(({ method }) => method === "POST")).toHaveLength(1);
  });

  it("counts its tries anew with each progress", async () => {
    let round = 0;
    let id: string | undefined;
    const outcome = await ask((e) => {
      if (e.method === "POST") id = e.body.id;
      round++;
      const write = e.sse();
      if (round === 12) write(event({ jsonrpc: "2.0", id, result: {} }));
      else write(`id: e${round}\nretry: 5\n\n`);
      e.response.end();
    });
    expect(outcome.kind).toBe("result");
  });

  it("that lost its session on the way may have run", async () => {
    const outcome = await ask((e) => {
      if (e.method === "GET") return void e.response.writeHead(404).end();
      e.sse()("id: e1\nretry: 5\n\n");
      e.response.end();
    });
    expect(failureOf(outcome)).toBe("session_lost/maybe");
  });

  it("that ends without an id cannot be gone on with", async () => {
    const ended = await ask((e) => {
      e.sse()(event({ jsonrpc: "2.0", method: "notifications/progress" }));
      e.response.end();
    });
    expect(failureOf(ended)).toBe("protocol/maybe");
    await server?.close();
    const reset = await ask((e) => {
      e.sse()(": hi\n\n");
      setTimeout(() => e.response.destroy(), 20);
    });
    expect(failureOf(reset)).toBe("unreachable/maybe");
    expect(server?.seen).toHaveLength(1);
  });

  it("is bounded by event, not as a whole", async () => {
    const outcome = await ask((e) => {
      const write = e.sse();
      for (let i = 0; i < 30; i++)
        write(event({ jsonrpc: "2.0", method: "n", params: { x: "x".repeat(9_000) } }));
      write(event(answer(e)));
    });
    expect(outcome.kind).toBe("result");
    await server?.close();
    const huge = await ask((e) => e.sse()(`data: ${"x".repeat(70_000)}`));
    expect(failureOf(huge)).toBe("too_large/maybe");
  });
});

describe("a request of the upstream", () => {
  const elicitation = {
    jsonrpc: "2.0",
    id: 7,
    method: "elicitation/create",
    params: { message: "?" },
  };

  it("is answered by a POST of its own, pings without asking anybody", async () => {
    const { url, until } = await serve(async (e) => {
      if (e.body.method === undefined) return void e.response.writeHead(202).end();
      const write = e.sse();
      write(event(elicitation));
      write(event({ jsonrpc: "2.0", id: "p", method: "ping" }));
      const answers = await until(2, ({ body }) => body.method === undefined);
      write(event(answer(e, { answers: answers.map(({ body }) => body) })));
    });
    const asked: string[] = [];
    const outcome = await request(
      targetOf(url),
      SESSION,
      "tools/call",
      {},
      {
        ...HOOKS,
        onRequest: async ({ method }) => {
          asked.push(method);
          await new Promise((resolve) => setTimeout(resolve, 30));
          return { result: { action: "decline" } };
        },
      },
    );
    expect(asked).toEqual(["elicitation/create"]);
    expect(outcome).toMatchObject({
      result: {
        answers: [
          { jsonrpc: "2.0", id: "p", result: {} },
          { jsonrpc: "2.0", id: 7, result: { action: "decline" } },
        ],
      },
    });
    const answers = server?.seen.filter(({ body }) => body.method === undefined) ?? [];
    expect(answers.map(({ headers }) => headers["mcp-session-id"])).toEqual(["s-1", "s-1"]);
  });

  it("is refused where nobody answers it, and what goes wrong here is not told", async () => {
    for (const [onRequest, error] of [
      [undefined, { code: -32601, message: "Method not found" }],
      [() => Promise.reject(new Error("s3cret")), { code: -32603, message: "Internal error" }],
    ] as const) {
      const { url, until } = await serve(async (e) => {
        if (e.body.method === undefined) return void e.response.writeHead(202).end();
        const write = e.sse();
        write(event(elicitation));
        const [said] = await until(1, ({ body }) => body.method === undefined);
        write(event(answer(e, { said: said?.body })));
      });
      const hooks = onRequest === undefined ? HOOKS : { ...HOOKS, onRequest };
      const outcome = await request(targetOf(url), SESSION, "tools/call", {}, hooks);
      expect(outcome).toMatchObject({ result: { said: { id: 7, error } } });
      await server?.close();
    }
  });

  it("stops the clock while it is being answered, and no longer", async () => {
    const onRequest = async () => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      return { result: {} };
    };
    const { url, until } = await serve(async (e) => {
      if (e.body.method === undefined || e.body.id === undefined)
        return void e.response.writeHead(202).end();
      const write = e.sse();
      write(event(elicitation));
      await until(1, ({ body }) => body.id === 7 && body.result !== undefined);
      if (e.body.params.isQuick) write(event(answer(e)));
    });
    const hooks = { timeoutMs: 200, onRequest };
    const quick = await request(targetOf(url), SESSION, "tools/call", { isQuick: true }, hooks);
    expect(quick.kind).toBe("result");
    const started = Date.now();
    const slow = await request(targetOf(url), SESSION, "tools/call", { isQuick: false }, hooks);
    expect(failureOf(slow)).toBe("timeout/maybe");
    expect(Date.now() - started).toBeGreaterThan(690);
  });

  it("that is taken back gets no answer, and its answerer is told", async () => {
    let isTold = false;
    const { url, seen } = await serve((e) => {
      if (e.body.method === undefined) return void e.response.writeHead(202).end();
      const write = e.sse();
      write(event(elicitation));
      setTimeout(
        () =>
          write(
            event({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 7 } }),
          ),
        30,
      );
      setTimeout(() => write(event(answer(e))), 100);
    });
    const outcome = await request(
      targetOf(url),
      SESSION,
      "tools/call",
      {},
      {
        ...HOOKS,
        onRequest: (_, signal) =>
          new Promise(() => {
            signal.addEventListener("abort", () => {
              isTold = true;
            });
          }),
      },
    );
    expect(outcome.kind).toBe("result");
    expect(isTold).toBe(true);
    expect(seen).toHaveLength(1);
  });

  it("that is overtaken by the answer is not answered any more, and its answerer is told", async () => {
    const { url, seen } = await serve((e) => {
      const write = e.sse();
      write(event(elicitation));
      write(event(answer(e)));
    });
    let told: AbortSignal | undefined;
    const hooks: WireHooks = {
      ...HOOKS,
      onRequest: (_, signal) => {
        told = signal;
        return new Promise(() => undefined);
      },
    };
    const outcome = await request(targetOf(url), SESSION, "tools/call", {}, hooks);
    expect(outcome.kind).toBe("result");
    expect(told?.aborted).toBe(true);
    expect(seen).toHaveLength(1);
  });
});

describe("the end of a request by its caller", () => {
  const hang = (e: Exchange) => {
    if (e.body?.params?.name === "stream") e.sse()(": open\n\n");
  };

  it("tells the server, and closes the connection", async () => {
    for (const name of ["stream", "silent"]) {
      let isClosed = false;
      const { url, until } = await serve((e) => {
        if (e.body.id === undefined) return void e.response.writeHead(202).end();
        e.response.on("close", () => {
          isClosed = true;
        });
        hang(e);
      });
      const aborter = new AbortController();
      const pending = request(
        targetOf(url),
        SESSION,
        "tools/call",
        { name },
        { ...HOOKS, signal: aborter.signal },
      );
      const [asked] = await until(1, () => true);
      setTimeout(() => aborter.abort(), 30);
      expect(failureOf(await pending), name).toBe("cancelled/maybe");
      const [told] = await until(1, ({ body }) => body.method === "notifications/cancelled");
      expect(told?.body.params.requestId).toBe(asked?.body.id);
      expect(typeof told?.body.params.reason).toBe("string");
      await until(1, () => isClosed);
      await server?.close();
    }
  });

  it("comes with silence, and each message puts it off", async () => {
    const outcome = await ask((e) => hang(e), { timeoutMs: 80 });
    expect(failureOf(outcome)).toBe("timeout/maybe");
    expect(server?.seen.at(-1)?.body.method).toBe("notifications/cancelled");
    await server?.close();
    const busy = await ask(
      async (e) => {
        const write = e.sse();
        for (let i = 0; i < 6; i++) {
          write(event({ jsonrpc: "2.0", method: "notifications/progress" }));
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
        write(event(answer(e)));
      },
      { timeoutMs: 200 },
    );
    expect(busy.kind).toBe("result");
    await server?.close();
    // Comments keep a connection open, not a request alive.
    const idle = await ask(
      (e) => {
        const write = e.sse();
        const timer = setInterval(() => write(": ping\n\n"), 20);
        e.response.on("close", () => clearInterval(timer));
      },
      { timeoutMs: 120 },
    );
    expect(failureOf(idle)).toBe("timeout/maybe");
  });

  it("is not waited for longer than two seconds when the server hangs", async () => {
    const { url } = await serve(() => undefined);
    const started = Date.now();
    const outcome = await request(targetOf(url), SESSION, "tools/call", {}, { timeoutMs: 50 });
    expect(failureOf(outcome)).toBe("timeout/maybe");
    expect(Date.now() - started).toBeLessThan(2_600);
  });

  it("before it was sent means that it did not run", async () => {
    const { url, seen } = await serve((e) => e.result({}));
    const signal = AbortSignal.abort();
    expect(failureOf(await request(targetOf(url), SESSION, "a", {}, { ...HOOKS, signal }))).toBe(
      "cancelled/no",
    );
    const stuck = targetOf(url, { authorize: () => new Promise(() => undefined) });
    expect(failureOf(await request(stuck, SESSION, "a", {}, { timeoutMs: 40 }))).toBe("timeout/no");
    expect(seen).toEqual([]);
  });

  it("works on a fetch that knows no signals", async () => {
    const { url } = await serve(
      (e) => void (e.body.id === undefined && e.response.writeHead(202).end()),
    );
    const deaf = targetOf(url, { fetch: (to, { signal: _, ...init }) => fetch(to, init) });
    expect(failureOf(await request(deaf, SESSION, "a", {}, { timeoutMs: 60 }))).toBe(
      "timeout/maybe",
    );
  });
});

describe("initialize", () => {
  const identity = { clientInfo: { name: "gate", version: "1" }, capabilities: { roots: {} } };
  const welcome = (version: unknown) => ({
    protocolVersion: version,
    capabilities: { tools: {} },
    serverInfo: { name: "up", version: "2" },
    instructions: "Be kind.",
  });
  const open = (version: unknown, headers: Record<string, string> = { "mcp-session-id": "abc" }) =>
    serve((e) => {
      if (e.body?.method !== "initialize") return void e.response.writeHead(202).end();
      e.json(200, answer(e, welcome(version)), headers);
    });

  it("asks for the latest revision, takes any known one and says so from then on", async () => {
    for (const version of ["2025-03-26", "2025-06-18", "2025-11-25"]) {
      const { url, seen } = await open(version);
      expect(await initialize(targetOf(url), identity, HOOKS)).toEqual({
        ok: true,
        session: { sessionId: "abc", protocolVersion: version, capabilities: { tools: {} } },
        serverInfo: { name: "up", version: "2" },
        instructions: "Be kind.",
      });
      expect(seen.map(({ body }) => body.method)).toEqual([
        "initialize",
        "notifications/initialized",
      ]);
      expect(seen[0]?.body.params).toEqual({ protocolVersion: "2025-11-25", ...identity });
      expect(seen[0]?.headers["mcp-protocol-version"]).toBeUndefined();
      expect(seen[1]?.headers).toMatchObject({
        "mcp-protocol-version": version,
        "mcp-session-id": "abc",
      });
      await server?.close();
    }
  });

  it("closes a session of a revision that it does not know", async () => {
    const { url, seen } = await open("2024-11-05");
    const opened = await initialize(targetOf(url), identity, HOOKS);
    expect(opened).toMatchObject({ ok: false, failure: { reason: "protocol", ran: "no" } });
    expect(seen.map(({ method }) => method)).toEqual(["POST", "DELETE"]);
  });

  it("takes servers without sessions, and refuses ids that no header holds", async () => {
    const { url } = await open("2025-11-25", {});
    const opened = await initialize(targetOf(url), identity, HOOKS);
    expect(opened).toMatchObject({ ok: true, session: { sessionId: null } });
    await server?.close();
    const odd = await open("2025-11-25", { "mcp-session-id": "a b" });
    expect(await initialize(targetOf(odd.url), identity, HOOKS)).toMatchObject({
      ok: false,
      failure: { reason: "protocol" },
    });
  });

  it("is never cancelled, only given up", async () => {
    const { url, seen } = await serve(() => undefined);
    const opened = await initialize(targetOf(url), identity, { timeoutMs: 50 });
    expect(opened).toMatchObject({ ok: false, failure: { reason: "timeout" } });
    expect(seen).toHaveLength(1);
  });

  it("hands on an error as it is", async () => {
    const error = { code: -32022, message: "old", data: { supported: ["2026-07-28"] } };
    const { url } = await serve(({ json, body }) =>
      json(400, { jsonrpc: "2.0", id: body.id, error }),
    );
    expect(await initialize(targetOf(url), identity, HOOKS)).toEqual({ ok: false, error });
  });
});

describe("notify and close", () => {
  it("say whether the server took it, and end the session", async () => {
    const { url, seen } = await serve(({ response, method, body }) => {
      response.writeHead(method === "DELETE" ? 200 : body.method === "gone" ? 404 : 202).end();
    });
    const target = targetOf(url);
    expect(
      await notify(target, SESSION, "notifications/roots/list_changed", undefined, HOOKS),
    ).toBeNull();
    expect(await notify(target, SESSION, "gone", { a: 1 }, HOOKS)).toMatchObject({
      reason: "session_lost",
    });
    await close(target, SESSION);
    expect(seen.map(({ method }) => method)).toEqual(["POST", "POST", "DELETE"]);
    expect(seen[2]?.headers["mcp-session-id"]).toBe("s-1");
    await close(target, { ...SESSION, sessionId: null });
    expect(seen).toHaveLength(3);
  });

  it("do not mind a server that is gone", async () => {
    const { url } = await serve(({ response }) => void response.destroy());
    await close(targetOf(url), SESSION);
    expect(await notify(targetOf(url), SESSION, "n", undefined, HOOKS)).toMatchObject({
      reason: "unreachable",
    });
  });
});

describe("listen", () => {
  it("hears what comes, goes on where it was cut, and ends with the signal", async () => {
    const heard: string[] = [];
    let opened = 0;
    const aborter = new AbortController();
    const { url, seen, until } = await serve((e) => {
      if (e.method === "POST") return void e.response.writeHead(202).end();
      const write = e.sse();
      const last = e.headers["last-event-id"];
      if (last === undefined) {
        write(`retry: 10\n${event({ jsonrpc: "2.0", method: "one" }, "a")}`);
        setTimeout(() => e.response.destroy(), 20);
      } else {
        write(event({ jsonrpc: "2.0", method: "two" }, "b"));
        write(event({ jsonrpc: "2.0", id: 1, method: "roots/list" }));
      }
    });
    const ending = listen(
      targetOf(url),
      SESSION,
      {
        timeoutMs: 50,
        signal: aborter.signal,
        onNotification: ({ method }) => heard.push(method),
        onRequest: async () => ({ result: { roots: [] } }),
      },
      { onOpen: () => opened++ },
    );
    await until(1, ({ method }) => method === "POST");
    // Longer than the timeout, which is for opening only.
    await new Promise((resolve) => setTimeout(resolve, 120));
    aborter.abort();
    expect(await ending).toBeNull();
    expect(heard).toEqual(["one", "two"]);
    expect(opened).toBe(2);
    const gets = seen.filter(({ method }) => method === "GET");
    expect(gets.map(({ headers }) => headers["last-event-id"])).toEqual([undefined, "a"]);
  });

  it("is quiet about a server without such a stream, and says when the session is lost", async () => {
    let status = 405;
    const { url } = await serve(({ response }) => void response.writeHead(status).end());
    expect(await listen(targetOf(url), SESSION, HOOKS)).toBeNull();
    status = 404;
    expect(await listen(targetOf(url), SESSION, HOOKS)).toMatchObject({ reason: "session_lost" });
    status = 401;
    expect(await listen(targetOf(url), SESSION, HOOKS)).toMatchObject({ reason: "unauthorized" });
    status = 400;
    expect(await listen(targetOf(url), SESSION, HOOKS)).toMatchObject({ reason: "refused" });
  });

  it("tries again while the server is not there or still holds the last stream", async () => {
    const statuses = [409, 503];
    const aborter = new AbortController();
    const { url } = await serve((e) => {
      const status = statuses.shift();
      if (status === undefined) e.sse();
      else e.response.writeHead(status).end();
    });
    const ending = listen(
      targetOf(url),
      SESSION,
      { ...HOOKS, signal: aborter.signal },
      { onOpen: () => aborter.abort() },
    );
    expect(await ending).toBeNull();
    expect(statuses).toEqual([]);
  });
});
