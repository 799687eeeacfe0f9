import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FORM, type OfficialClient, officialClient, ROOTS, SAMPLED } from "./support/clients.ts";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { Operator } from "./support/operator.ts";
import { soundRecords, story } from "./support/records.ts";
import { hang, type Question, said, Upstream } from "./support/upstream.ts";

const NAME = {
  method: "elicitation/create",
  params: {
    mode: "form",
    message: "Who are you?",
    requestedSchema: { type: "object", properties: { name: { type: "string" } } },
  },
} satisfies Question;
const SIGN = {
  method: "elicitation/create",
  params: { mode: "url", message: "Sign here.", url: "https://sign.example/1" },
} satisfies Question;
const MODEL = {
  method: "sampling/createMessage",
  params: {
    messages: [{ role: "user", content: { type: "text", text: "Say something." } }],
    maxTokens: 10,
  },
} satisfies Question;
const WHERE = { method: "roots/list" } satisfies Question;

/** Longest silence of the upstreams that fail, in ms. */
const TIMEOUT_MS = 1_500;

function equipped(upstream: Upstream): Upstream {
  const answers = (value: unknown) => said(JSON.stringify(value));
  const signed =
    upstream.era === "2025"
      ? { ...SIGN, params: { ...SIGN.params, elicitationId: "of the upstream" } }
      : SIGN;
  return upstream
    .tool("echo", ({ args }) => answers(args))
    .tool("ask_name", async ({ ask }) => answers(await ask({ q: NAME })))
    .tool("ask_signature", async ({ ask }) => answers(await ask({ q: signed })))
    .tool("ask_model", async ({ ask }) => answers(await ask({ q: MODEL })))
    .tool("ask_roots", async ({ ask }) => answers(await ask({ q: WHERE })))
    .tool("ask_twice", async ({ ask, params }) => {
      const state = params.requestState;
      const name =
        typeof state === "string" && state.startsWith("knows ")
          ? JSON.parse(state.slice("knows ".length))
          : (await ask({ name: NAME }, "first")).name;
      const { roots } = await ask({ roots: WHERE }, `knows ${JSON.stringify(name)}`);
      return answers({ name, roots });
    })
    .tool("ask_all", async ({ ask }) => answers(await ask({ a: NAME, b: MODEL, c: WHERE })))
    .tool("work", ({ notify, meta }) => {
      const progressToken = meta.progressToken ?? "none";
      for (const progress of [1, 2, 3]) {
        notify("notifications/progress", { progressToken, progress, total: 3 });
      }
      return said("worked");
    })
    .tool("hang", hang);
}

let gateway: Gateway;
let operator: Operator;
const upstreams = new Map<string, Upstream>();

async function stand(name: string, era: "2025" | "2026", fields: object = {}): Promise<Upstream> {
  const upstream = equipped(await Upstream.start(era));
  upstreams.set(name, upstream);
  await register(operator, upstream, { name, session_param: false, ...fields });
  return upstream;
}

function upstreamOf(name: string): Upstream {
  const found = upstreams.get(name);
  if (found === undefined) throw new Error(`no upstream ${name}`);
  return found;
}

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
  for (const era of ["2025", "2026"] as const) {
    await stand(`u${era}`, era);
    await stand(`moody${era}`, era, { timeout_ms: TIMEOUT_MS });
    await (await stand(`down${era}`, era)).close();
  }
});

afterAll(async () => {
  await Promise.all([...upstreams.values()].map((upstream) => upstream.close()));
  await gateway?.dispose();
});

describe.each([
  { client: "2025", upstream: "2025" },
  { client: "2026", upstream: "2026" },
  { client: "2025", upstream: "2026" },
  { client: "2026", upstream: "2025" },
] as const)("a $client client with a $upstream upstream", (pair) => {
  let client: OfficialClient;

  /** A client on a principal of its own, so that its records are this test's alone. */
  async function newClient(): Promise<OfficialClient> {
    const { key } = await operator.mintKey({ role: "windsurf" });
    client = await officialClient(pair.client, gateway.url, key);
    return client;
  }

  const name = `u${pair.upstream}`;
  /** One pair where the question is asked within the call; else one pair a round. */
  const asksWithin = pair.client === "2025" && pair.upstream === "2025";

  function expectedStory(rounds: readonly (readonly string[])[]): string[] {
    const asked = (method: string, result: string) => `client_request(${method}) ${result}`;
    if (asksWithin) {
      const within = rounds.flatMap((methods) => [
        ...methods.map((method) => asked(method, "pending")),
        ...methods.map((method) => asked(method, "ok")),
      ]);
      return ["tool_intent pending", ...within, "tool_result ok"];
    }
    const before = rounds.flatMap((methods) => [
      "tool_intent pending",
      "tool_result input_required",
      ...(pair.client === "2025"
        ? [
            ...methods.map((method) => asked(method, "pending")),
            ...methods.map((method) => asked(method, "ok")),
          ]
        : [...methods.map((method) => asked(method, "input_required")), asked("null", "ok")]),
    ]);
    return [...before, "tool_intent pending", "tool_result ok"];
  }

  it.each([
    ["ask_name", [["elicitation/create"]], { q: FORM }],
    ["ask_signature", [["elicitation/create"]], { q: { action: "accept" } }],
    ["ask_model", [["sampling/createMessage"]], { q: SAMPLED }],
    ["ask_roots", [["roots/list"]], { q: ROOTS }],
    ["ask_twice", [["elicitation/create"], ["roots/list"]], { name: FORM, roots: ROOTS }],
  ] as const)("carries the question of %s and its answer", async (tool, rounds, answer) => {
    const { call, asked, close } = await newClient();
    const { text, receipt } = await call(`${name}_${tool}`);
    expect(JSON.parse(text)).toEqual(answer);
    expect(asked.map(({ method }) => method)).toEqual(rounds.flat());
    // The official client of 2026 hands on no `_meta` of most questions.
    for (const { params } of pair.client === "2025" ? asked : []) {
      expect(at(params, "_meta")).toMatchObject({ "dev.atlas-gate/upstream": name });
    }
    if (tool === "ask_signature" && pair.client === "2025") {
      const id = at(asked[0]?.params, "elicitationId");
      expect(pair.upstream === "2025" ? id : typeof id).toBe(
        pair.upstream === "2025" ? "of the upstream" : "string",
      );
    }
    await close();
    expect(story(await soundRecords(operator, receipt.session_id))).toEqual(expectedStory(rounds));
  });

  it("asks several questions of one round together", async () => {
    const { call, asked, close } = await newClient();
    const { text, receipt } = await call(`${name}_ask_all`);
    expect(JSON.parse(text)).toEqual({ a: FORM, b: SAMPLED, c: ROOTS });
    expect(asked).toHaveLength(3);
    await close();
    const records = await soundRecords(operator, receipt.session_id);
    const results = story(records).filter((line) => line.startsWith("tool_result"));
    expect(results).toEqual([
      ...(asksWithin ? [] : ["tool_result input_required"]),
      "tool_result ok",
    ]);
  });

  it("passes progress on, with the token that the client gave", async () => {
    const { call, close } = await newClient();
    const heard: number[] = [];
    const { text, receipt } = await call(
      `${name}_work`,
      {},
      { onprogress: ({ progress }) => heard.push(progress) },
    );
    expect([text, heard]).toEqual(["worked", [1, 2, 3]]);
    await close();
    expect(story(await soundRecords(operator, receipt.session_id))).toEqual([
      "tool_intent pending",
      "tool_result ok",
    ]);
  });

  it("cancels the upstream's call when the client cancels", async () => {
    const upstream = upstreamOf(name);
    const { call, close } = await newClient();
    const { receipt } = await call(`${name}_echo`);
    const before = upstream.asked("tools/call", "hang").length;
    const told = upstream.asked("notifications/cancelled").length;
    const aborter = new AbortController();
    const hanging = call(`${name}_hang`, {}, { signal: aborter.signal });
    const settled = expect(hanging).rejects.toThrow();
    await eventually("the upstream has the call", () =>
      upstream.asked("tools/call", "hang").length > before ? true : null,
    );
    aborter.abort("changed my mind");
    await settled;
    const records = await eventually("the call is closed as cancelled", async () => {
      const found = await soundRecordsSoFar(receipt.session_id);
      return found.at(-1)?.error_code === "CANCELLED" ? found : null;
    });
    expect(story(records).slice(-2)).toEqual([
      "tool_intent pending",
      "tool_result error CANCELLED",
    ]);
    if (pair.upstream === "2025") {
      await eventually("the upstream was told", () =>
        upstream.asked("notifications/cancelled").length > told ? true : null,
      );
    }
    await close();
  });

  /** While a call is under way its intent is open, which the chain's check would call a problem. */
  async function soundRecordsSoFar(sessionId: string) {
    try {
      return await soundRecords(operator, sessionId);
    } catch (error) {
      if (error instanceof Error && /0 results$/.test(error.message)) return [];
      throw error;
    }
  }

  it.each([
    ["that is down", "UPSTREAM_UNAVAILABLE", "down", null],
    ["that answers 500", "UPSTREAM_UNAVAILABLE", "moody", [500, "oops"]],
    ["that says nothing", "UPSTREAM_TIMEOUT", "moody", "silent"],
    ["that wants other credentials", "UPSTREAM_UNAUTHORIZED", "moody", [401, "{}"]],
    ["that answers with a page", "UPSTREAM_ERROR", "moody", [200, "<html>", "text/html"]],
    ["that answers no JSON-RPC", "UPSTREAM_ERROR", "moody", [200, '{"ok":true}']],
    ["that answers no JSON", "UPSTREAM_ERROR", "moody", [200, '{"jsonrpc":']],
  ] as const)("says of an upstream %s what happened: %s", async (_what, code, which, fault) => {
    const moody = upstreamOf(`${which}${pair.upstream}`);
    const { call, close } = await newClient();
    moody.fault = (seen, response) => {
      if (fault === null || seen.method !== "tools/call") return false;
      if (fault === "silent") return true;
      const [status, body, type = "application/json"] = fault;
      response.writeHead(status, { "content-type": type }).end(body);
      return true;
    };
    const failed = await call(`${which}${pair.upstream}_echo`, { secret_of_mine: 1 });
    moody.fault = null;
    expect(failed.code).toBe(code);
    expect(failed.text).not.toMatch(/oops|html/);
    if (which === "moody") {
      const healed = await call(`${which}${pair.upstream}_echo`, { n: 1 });
      expect(healed.text).toBe('{"n":1}');
    }
    await close();
    const lines = story(await soundRecords(operator, failed.receipt.session_id));
    expect(lines.slice(0, 2)).toEqual(["tool_intent pending", `tool_result error ${code}`]);
  });
});
