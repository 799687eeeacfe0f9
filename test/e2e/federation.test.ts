import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import type { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { approvedPlan } from "./support/plans.ts";
import { codeOf, lastMessage, pick, Raw2026, type Reply, sessionOf } from "./support/raw-2026.ts";
import { soundRecords, story } from "./support/records.ts";
import { hang, type Question, said, Upstream } from "./support/upstream.ts";

const HEALTHY = ["good2025", "good2026"] as const;
const NAME = {
  method: "elicitation/create",
  params: { message: "Who are you?", requestedSchema: { type: "object", properties: {} } },
} satisfies Question;
/** In a row, after which an upstream is left alone; and more than one upstream may wait for. */
const MOST_FAILURES = 5;

let gateway: Gateway;
let operator: Operator;
const upstreams = new Map<string, Upstream>();

async function stand(name: string, era: "2025" | "2026", fields: object = {}): Promise<Upstream> {
  const upstream = await Upstream.start(era);
  upstreams.set(name, upstream);
  upstream.tool("whose", ({ args }) => said(`${name} ${JSON.stringify(args)}`)).tool("wait", hang);
  await register(operator, upstream, { name, ...fields });
  return upstream;
}

function upstreamOf(name: string): Upstream {
  const found = upstreams.get(name);
  if (found === undefined) throw new Error(`no upstream ${name}`);
  return found;
}

async function call(session: RawSession, tool: string, args: object = {}): Promise<Reply> {
  const answer = await session.request("tools/call", { name: tool, arguments: args });
  const text = lastMessage(answer.text);
  return { status: answer.status, text, body: JSON.parse(text) };
}

const textOf = ({ body }: Reply) => pick(body, "result", "content", "0", "text");

async function newSession(): Promise<RawSession> {
  return RawSession.open(gateway.url, (await operator.mintKey({ role: "windsurf" })).key);
}

beforeAll(async () => {
  gateway = await federatingGateway();
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await Promise.all([...upstreams.values()].map((upstream) => upstream.close()));
  await gateway?.dispose();
});

describe("five upstreams of both eras, one slow, one failing, one changing", () => {
  beforeAll(async () => {
    await stand("good2025", "2025");
    await stand("good2026", "2026");
    await stand("slow", "2026", { timeout_ms: 60_000 });
    await stand("failing", "2025", { timeout_ms: 1_000 });
    await stand("changing", "2026");
  });

  it("are listed whole, in order, and say which of them cannot be asked now", async () => {
    upstreamOf("failing").fault = (_seen, response) => {
      response.writeHead(500).end();
      return true;
    };
    await operator.ok("POST", "/upstreams/failing/refresh", {});
    const session = await newSession();
    const { key } = await operator.mintKey({ role: "windsurf" });
    const young = new Raw2026(gateway.url, key);
    for (const ask of [
      async () => (await session.request("tools/list")).json,
      async () => (await young.post("tools/list")).body,
    ]) {
      const body = await eventually("the list names the upstream", async () => {
        const found = await ask();
        const missing = pick(found, "result", "_meta", "dev.atlas-gate/unavailable");
        return missing === undefined ? null : found;
      });
      expect(pick(body, "result", "_meta", "dev.atlas-gate/unavailable")).toEqual(["failing"]);
      const tools: { name: string }[] = Object(at(body, "result")).tools;
      const names = tools.map(({ name }) => name);
      expect(names).toEqual(names.toSorted());
      for (const name of ["changing", "failing", "good2025", "good2026", "slow"]) {
        expect(names).toContain(`${name}_whose`);
      }
    }
    upstreamOf("failing").fault = null;
    await operator.ok("POST", "/upstreams/failing/refresh", {});
    await eventually("it is not named any more", async () => {
      const { json } = await session.request("tools/list");
      return pick(json, "result", "_meta", "dev.atlas-gate/unavailable") === undefined ? 1 : null;
    });
  });

  it("answer while one of them hangs and another one changes its tools, each its own calls", async () => {
    const session = await newSession();
    const hanging = Array.from({ length: 5 }, () => call(session, "slow_wait"));
    await eventually("the slow one has all its calls", () =>
      upstreamOf("slow").asked("tools/call", "wait").length === hanging.length ? true : null,
    );
    const marks = Array.from({ length: 20 }, (_, n) => ({ n, at: HEALTHY[n % 2] ?? "" }));
    const [, replies] = await Promise.all([
      (async () => {
        for (const n of [1, 2, 3]) {
          upstreamOf("changing").tool("whose", () => said("changed"), { description: `No. ${n}` });
          await operator.ok("POST", "/upstreams/changing/refresh", {});
        }
      })(),
      Promise.all(marks.map((mark) => call(session, `${mark.at}_whose`, mark))),
    ]);
    expect(replies.map(textOf)).toEqual(marks.map((mark) => `${mark.at} ${JSON.stringify(mark)}`));
    for (const name of HEALTHY) {
      for (const { message } of upstreamOf(name).asked("tools/call")) {
        expect(pick(message, "params", "arguments", "at")).toBe(name);
        expect(JSON.stringify(message)).not.toMatch(/_whose|slow|changing/);
      }
    }
    expect(codeOf(await call(session, "changing_whose"))).toBe("TOOL_CHANGED");
    // They still hang: nobody waited for them.
    expect(await Promise.race([...hanging, "hanging"])).toBe("hanging");
    await session.end();
    await Promise.allSettled(hanging);
    await eventually("their intents are closed", async () => {
      const records = await soundRecords(operator, session.id).catch(() => null);
      return records?.at(-1)?.event === "session_close" ? true : null;
    });
    const lines = story(await soundRecords(operator, session.id));
    expect(lines.filter((line) => line === "tool_result ok")).toHaveLength(marks.length);
    expect(lines.filter((line) => line === "tool_result error CANCELLED")).toHaveLength(5);
  });

  it("give every call a receipt for the last of its two records", async () => {
    const session = await newSession();
    for (const name of HEALTHY) {
      const reply = await call(session, `${name}_whose`);
      const receipt = pick(reply.body, "result", "_meta", "dev.atlas-gate/receipt");
      const records = await soundRecords(operator, session.id);
      const last = records.at(-1);
      expect(receipt).toEqual({
        session_id: session.id,
        seq: last?.seq,
        hash_chain: last?.hash_chain,
      });
      expect(last).toMatchObject({
        event: "tool_result",
        tool: `${name}_whose`,
        intent_seq: Number(last?.seq) - 1,
        context: { upstream: name, gate: "open", pin: expect.stringMatching(/^[0-9a-f]{64}$/) },
      });
      expect(records.at(-2)).toMatchObject({ event: "tool_intent", result: "pending" });
    }
  });
});

describe("an upstream that does not answer", () => {
  it("is left alone after a few failures, answers at once meanwhile, and is tried again later", async () => {
    const upstream = await stand("breaking", "2025", { timeout_ms: 10_000 });
    upstream.tool("ask", async ({ ask }) => said(JSON.stringify(await ask({ q: NAME }))));
    await operator.ok("POST", "/upstreams/breaking/refresh", {});
    await operator.ok("POST", "/upstreams/breaking/tools/ask/approve", {});
    const session = await newSession();
    expect(textOf(await call(session, "breaking_whose"))).toBe("breaking {}");
    upstream.fault = (_seen, response) => {
      response.writeHead(500).end();
      return true;
    };
    for (let n = 0; n < MOST_FAILURES; n++) await call(session, "breaking_whose");
    upstream.seen.splice(0);
    upstream.fault = null;
    const reply = await call(session, "breaking_whose");
    expect(codeOf(reply)).toBe("UPSTREAM_UNAVAILABLE");
    expect(String(textOf(reply))).toContain("was not carried out");
    expect(upstream.seen).toEqual([]);
    const { key } = await operator.mintKey({ role: "windsurf" });
    const asked = new Raw2026(gateway.url, key, { elicitation: {} });
    await eventually("it is tried again", async () => {
      const answer = await asked.call("breaking_ask");
      return pick(answer.body, "result", "resultType") === "input_required" ? true : null;
    });
    // The call that tried waits for its client, and the others need not wait for that.
    expect(textOf(await call(session, "breaking_whose"))).toBe("breaking {}");
  });
});

describe.each(["2025", "2026"] as const)("a call that fails at a %s upstream", (era) => {
  const name = `retried${era}`;
  let upstream: Upstream;

  beforeAll(async () => {
    upstream = await stand(name, era);
  });

  it.each([503, 429])("is made again where the upstream did not take it: %i", async (status) => {
    const session = await newSession();
    await call(session, `${name}_whose`);
    upstream.seen.splice(0);
    let refusals = 2;
    upstream.fault = ({ method }, response) => {
      if (method !== "tools/call" || refusals === 0) return false;
      refusals -= 1;
      response.writeHead(status, { "retry-after": "0" }).end();
      return true;
    };
    expect(textOf(await call(session, `${name}_whose`))).toBe(`${name} {}`);
    expect(upstream.asked("tools/call")).toHaveLength(3);
    const records = story(await soundRecords(operator, session.id));
    expect(records.slice(-2)).toEqual(["tool_intent pending", "tool_result ok"]);
  });

  it.each([
    ["the connection is cut after the request", null],
    ["it says 500", 500],
    ["it says 502", 502],
    ["its stream ends without an answer", "stream"],
  ] as const)("is never made again where it may have run: %s", async (_what, how) => {
    const session = await newSession();
    await call(session, `${name}_whose`);
    upstream.seen.splice(0);
    upstream.fault = ({ method }, response) => {
      if (method !== "tools/call") return false;
      if (how === null) response.destroy();
      else if (how === "stream") {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.end(": nothing\n\n");
      } else response.writeHead(how).end();
      return true;
    };
    const reply = await call(session, `${name}_whose`);
    upstream.fault = null;
    expect(codeOf(reply)).toMatch(/^UPSTREAM_(UNAVAILABLE|ERROR)$/);
    expect(String(textOf(reply))).toContain("may have been carried out");
    expect(upstream.asked("tools/call")).toHaveLength(1);
    const records = await soundRecords(operator, session.id);
    expect(records.at(-1)).toMatchObject({ result: "error", context: { ran: "maybe" } });
    // So that the breaker does not count the next case among these failures.
    expect(textOf(await call(session, `${name}_whose`))).toBe(`${name} {}`);
  });
});

describe("a gateway that is killed in the middle of an upstream's call", () => {
  it("closes the intent as unknown, and asks no Workspace how it ended", async () => {
    const upstream = await stand("killed", "2025", { gate: "plan" });
    const root = "/srv/killed";
    const hash = await approvedPlan(gateway, root, { tools: ["killed_wait", "killed_whose"] });
    const session = await newSession();
    await session.ok("begin_session", { workspace_root: root, plan_hash: hash });
    const { key } = await operator.mintKey({ role: "windsurf" });
    const young = new Raw2026(gateway.url, key);
    const ambient = sessionOf(await young.call("good2025_whose"));
    const lost = [call(session, "killed_wait"), young.call("good2025_wait")].map((each) =>
      each.catch(() => "lost"),
    );
    await eventually("both are under way", () =>
      upstream.asked("tools/call", "wait").length === 1 &&
      upstreamOf("good2025").asked("tools/call", "wait").length === 1
        ? true
        : null,
    );
    await gateway.kill();
    expect(await Promise.all(lost)).toEqual(["lost", "lost"]);
    await gateway.restart();
    operator = new Operator(gateway.url, gateway.keys.operator);
    expect(textOf(await call(session, "killed_whose"))).toBe("killed {}");
    expect(textOf(await young.call("good2025_whose"))).toBe("good2025 {}");
    for (const id of [session.id, ambient]) {
      const records = await soundRecords(operator, id);
      expect(story(records).slice(-4)).toEqual([
        "tool_intent pending",
        "tool_result error OUTCOME_UNKNOWN",
        "tool_intent pending",
        "tool_result ok",
      ]);
      const [intent, unknown] = records.slice(-4);
      expect(unknown).toMatchObject({ intent_seq: intent?.seq, tool: intent?.tool });
      // A Workspace that had been asked would have refused it for ever, and said so.
      expect(unknown?.notes).not.toContain("refused for ever");
    }
    // Made once: a call that may have run is not made again by the next life either.
    expect(upstream.asked("tools/call", "wait")).toHaveLength(1);
  });
});
