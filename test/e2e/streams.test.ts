/**
 * The streams of the 2025 era, on the wire: what a client of any make relies on
 * when its connection comes and goes.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exportLines, problemsOf, readLine } from "./support/chain.ts";
import type { EventStream } from "./support/event-stream.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { callStreamed, getStream, primedStream, register } from "./support/streaming.ts";
import { Upstream2025 } from "./support/upstream-2025.ts";

let gateway: Gateway;
let operator: Operator;
let upstream: Upstream2025;
let tokens = 0;

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

const open = (version?: string) => RawSession.open(gateway.url, gateway.keys.windsurf, version);

/** A name for a held call that no other test uses. */
function newToken(): string {
  tokens += 1;
  return `token-${tokens}`;
}

async function recordsOf(session: RawSession) {
  const text = await operator.export(session.id);
  const problems = problemsOf(text, { id: session.id, tenant: "default" });
  // A call that is under way has no result yet.
  expect(problems.filter((problem) => !problem.endsWith(": 0 results"))).toEqual([]);
  return exportLines(text).map(readLine);
}

/** A call that is under way at the upstream, its stream open and primed. */
async function held(session: RawSession, id: string | number) {
  const token = newToken();
  const stream = await callStreamed(session, id, "up_hold", { token });
  const priming = await stream.next();
  await upstream.untilFate(token, "running");
  return { token, stream, place: priming.id ?? "" };
}

function resultText(message: unknown): unknown {
  return at(message, "result.content.0.text");
}

describe("the stream of a call", () => {
  it("begins with a priming event, byte for byte, and ends with the response", async () => {
    const session = await open();
    const { token, stream, place } = await held(session, 7);
    expect(stream.headers["content-type"]).toBe("text/event-stream");
    expect(place).toMatch(/^\d+-0$/);
    expect(stream.raw.startsWith(`id: ${place}\nretry: 1000\ndata: \n\n`)).toBe(true);
    upstream.release(token);
    const event = await stream.next();
    expect(event.id).toBe(place.replace(/0$/, "1"));
    expect(JSON.parse(event.data ?? "")).toMatchObject({
      jsonrpc: "2.0",
      id: 7,
      result: { content: [{ type: "text", text: `held ${token}` }] },
    });
    await stream.untilEnded();
  });

  it.each(["2025-03-26", "2025-06-18"])(
    "gives clients of %s an id to resume from, and no data that they would read as JSON",
    async (version) => {
      const session = await open(version);
      const { token, stream, place } = await held(session, 1);
      expect(stream.raw.startsWith(`id: ${place}\nretry: 1000\n\n`)).toBe(true);
      upstream.release(token);
      expect(resultText(await stream.message())).toBe(`held ${token}`);
      expect(stream.events.filter(({ data }) => data === "")).toEqual([]);
    },
  );

  it("is JSON while the upstream is quick and silent", async () => {
    const session = await open();
    const answer = await session.request("tools/call", { name: "up_echo", arguments: { a: 1 } });
    expect(answer.headers["content-type"]).toContain("application/json");
    expect(at(answer.json, "result.content.0.text")).toBe('{"a":1}');
  });

  it("carries progress and log messages in order, before the response", async () => {
    const session = await open();
    const stream = await callStreamed(
      session,
      "s",
      "up_steps",
      { n: 3 },
      {
        progressToken: "mine",
      },
    );
    await stream.untilEnded();
    const kinds = stream.messages.map((message) => [
      at(message, "method") ?? "response",
      at(message, "params.progressToken"),
      at(message, "params.progress") ?? at(message, "params.data.step"),
    ]);
    expect(kinds).toEqual([
      ...[1, 2, 3].flatMap((n) => [
        ["notifications/progress", "mine", n],
        ["notifications/message", undefined, n],
      ]),
      ["response", undefined, undefined],
    ]);
    const ids = stream.events.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.includes(null)).toBe(false);
  });

  it("carries a response of megabytes whole, no character of it cut", async () => {
    const session = await open();
    // Two units of UTF-16 that must not be parted, after an odd and after an even number of others.
    for (const lead of ["", "a"]) {
      const args = { lead, unit: "🦉", times: 500_000 };
      const stream = await callStreamed(session, `big ${lead}`, "up_big", args);
      expect(stream.headers["content-type"]).toBe("text/event-stream");
      expect(await stream.message()).toMatchObject({ method: "notifications/message" });
      const whole = resultText(await stream.message()) === lead + "🦉".repeat(500_000);
      expect(whole).toBe(true);
      await stream.untilEnded();
    }
  });
});

describe("a client that left in the middle of a call", () => {
  it("finds the response that came before it was back", async () => {
    const session = await open();
    const { token, stream, place } = await held(session, 3);
    stream.leave();
    upstream.release(token);
    await eventually("the result is recorded", async () =>
      (await recordsOf(session)).some(({ event }) => event === "tool_result") ? true : null,
    );
    const resumed = await getStream(session, place);
    expect(resumed.status).toBe(200);
    const message = await resumed.message();
    expect([at(message, "id"), resultText(message)]).toEqual([3, `held ${token}`]);
    await resumed.untilEnded();
    // Again from the same place: the response is still there.
    const again = await getStream(session, place);
    expect(await again.message()).toEqual(message);
    await again.untilEnded();
  });

  it("finds the response that comes after it is back", async () => {
    const session = await open();
    const { token, stream, place } = await held(session, 3);
    stream.leave();
    const resumed = await getStream(session, place);
    expect(resumed.status).toBe(200);
    upstream.release(token);
    expect(resultText(await resumed.message())).toBe(`held ${token}`);
    await resumed.untilEnded();
  });

  it("gets nothing twice: it goes on after the event that it names", async () => {
    const session = await open();
    const stream = await callStreamed(session, 1, "up_steps", { n: 2 }, { progressToken: 1 });
    await stream.untilEnded();
    const sent = stream.events.filter(({ data }) => data !== "");
    expect(sent).toHaveLength(5);
    for (const [after, { id }] of sent.entries()) {
      const resumed = await getStream(session, id ?? "");
      if (after === sent.length - 1) {
        // All of it is there: nothing to come back for.
        expect([resumed.status, resumed.raw]).toEqual([204, ""]);
        continue;
      }
      await resumed.untilEnded();
      expect(resumed.messages).toEqual(
        sent.slice(after + 1).map(({ data }) => JSON.parse(data ?? "")),
      );
    }
  });

  it("resumes several streams at once, each its own", async () => {
    const session = await open();
    const calls = await Promise.all([1, 2, 3, 4, 5].map((id) => held(session, id)));
    for (const { stream } of calls) stream.leave();
    const resumed = await Promise.all(calls.map(({ place }) => getStream(session, place)));
    for (const { token } of calls.toReversed()) upstream.release(token);
    for (const [index, stream] of resumed.entries()) {
      const message = await stream.message();
      const call = calls[index];
      expect([at(message, "id"), resultText(message)]).toEqual([index + 1, `held ${call?.token}`]);
      await stream.untilEnded();
      expect(stream.messages).toHaveLength(1);
    }
  });

  it.each(["", "x", "1", "1-", "-1", "1-0-0", "99999-0", "1-99999", "1-0'", " 1 - 0", "0x1-0"])(
    "is refused with 400 for the place %j",
    async (place) => {
      const session = await open();
      const { token, stream } = await held(session, 1);
      const refused = await getStream(session, place);
      expect(refused.status).toBe(400);
      stream.leave();
      upstream.release(token);
    },
  );

  it("is somebody else to another principal: 404, and nothing of the stream", async () => {
    const session = await open();
    const { token, stream, place } = await held(session, 1);
    const { key } = await operator.mintKey({ role: "windsurf" });
    const thief = await RawSession.open(gateway.url, key);
    for (const stolen of [place, undefined]) {
      const refused = await getStream(Object.assign(thief, { id: session.id }), stolen);
      expect(refused.status).toBe(404);
    }
    upstream.release(token);
    expect(resultText(await stream.message())).toBe(`held ${token}`);
  });
});

describe("the session's own stream", () => {
  it("needs a session, and a client that reads streams", async () => {
    const session = await open();
    const bare = await getStream(Object.assign(await open(), { id: "nothing" }));
    expect(bare.status).toBe(404);
    const stream = await getStream(session);
    expect(stream.status).toBe(200);
    expect(stream.headers["content-type"]).toBe("text/event-stream");
    expect(stream.headers["cache-control"]).toContain("no-transform");
    const { id } = await stream.next();
    expect(stream.raw).toBe(`id: ${id}\nretry: 1000\ndata: \n\n`);
  });

  it("hears of a tool that an operator approved, and of an upstream that went, on one stream only", async () => {
    const other = await Upstream2025.start();
    const session = await open();
    const streams = await Promise.all([1, 2, 3].map(() => primedStream(session)));
    const told = () => streams.flatMap((stream) => stream.messages);
    const untilTold = (n: number) =>
      eventually(`${n} messages were sent`, () => (told().length >= n ? true : null));
    await register(operator, "coming", other.url, { resource_prefixes: ["none://"] });
    await untilTold(3);
    await operator.send("DELETE", "/upstreams/coming");
    await untilTold(6);
    const changed = ["prompts", "resources", "tools"].map(
      (list) => `notifications/${list}/list_changed`,
    );
    expect(
      told()
        .map((message) => at(message, "method"))
        .toSorted(),
    ).toEqual([...changed, ...changed].toSorted());
    await other.close();
  });

  it("goes over to another stream when the one that was told is gone", async () => {
    const session = await open();
    await session.request("resources/subscribe", { uri: "doc://a" });
    const first = await primedStream(session);
    const second = await primedStream(session);
    await eventually("the upstream has a subscriber", async () => {
      await upstream.touch("doc://a");
      return second.messages.length > 0 || first.messages.length > 0 ? true : null;
    });
    const [told, spare] = second.messages.length > 0 ? [second, first] : [first, second];
    expect(spare.messages).toEqual([]);
    told.leave();
    await eventually("the other stream is told", async () => {
      await upstream.touch("doc://a");
      return spare.messages.length > 0 ? true : null;
    });
  });

  it("keeps what came while the client was away, for its Last-Event-ID and for a new stream", async () => {
    for (const way of ["resume", "anew"] as const) {
      const session = await open();
      await session.request("resources/subscribe", { uri: "doc://b" });
      const stream = await primedStream(session);
      await eventually("the upstream is watched", async () => {
        await upstream.touch("doc://b");
        return stream.messages.length > 0 ? true : null;
      });
      const last = stream.events.at(-1)?.id ?? "";
      stream.leave();
      // What is sent before the Worker has noticed goes to a socket that nobody reads: the place tells.
      await upstream.touch("doc://b");
      const back = await getStream(session, way === "resume" ? last : undefined);
      if (way === "anew") await upstream.touch("doc://b");
      expect(await back.message()).toEqual({
        jsonrpc: "2.0",
        method: "notifications/resources/updated",
        params: { uri: "doc://b" },
      });
      back.leave();
    }
  });

  it("ends with the session", async () => {
    const session = await open();
    const streams = await Promise.all([primedStream(session), primedStream(session)]);
    const call = await held(session, 1);
    expect((await session.end()).status).toBe(204);
    await Promise.all(streams.map((stream) => stream.untilEnded()));
    await call.stream.untilEnded();
    expect((await getStream(session)).status).toBe(404);
    await upstream.untilFate(call.token, "cancelled");
  });
});

describe("a call that its client cancels", () => {
  const cancel = (session: RawSession, requestId: string | number) =>
    session.post({
      jsonrpc: "2.0",
      method: "notifications/cancelled",
      params: { requestId, reason: "no longer wanted" },
    });

  async function untilRecorded(session: RawSession) {
    return eventually("the call's end is recorded", async () => {
      const last = (await recordsOf(session)).at(-1);
      return last?.event === "tool_result" ? last : null;
    });
  }

  it("is cancelled at the upstream, recorded, and not answered", async () => {
    const session = await open();
    const { token, stream } = await held(session, 5);
    expect((await cancel(session, 5)).status).toBe(202);
    await upstream.untilFate(token, "cancelled");
    expect(await untilRecorded(session)).toMatchObject({
      result: "error",
      error_code: "CANCELLED",
      tool: "up_hold",
    });
    await stream.untilEnded();
    expect(stream.messages).toEqual([]);
  });

  it("is not answered either while it has no stream yet", async () => {
    const session = await open();
    const token = newToken();
    const opening = callStreamed(session, 5, "up_hold", { token });
    await cancel(session, 5);
    const stream: EventStream = await opening;
    expect(stream.status).toBe(200);
    await cancel(session, 5);
    await stream.untilEnded();
    expect(stream.messages).toEqual([]);
    expect(await untilRecorded(session)).toMatchObject({ error_code: "CANCELLED" });
  });

  it("says nothing more to a client that asks again", async () => {
    const session = await open();
    const { stream, place } = await held(session, 5);
    await cancel(session, 5);
    await stream.untilEnded();
    expect((await getStream(session, place)).status).toBe(204);
  });

  it("of another id, another type of id or another session goes on", async () => {
    const session = await open();
    const { token, stream } = await held(session, 5);
    await cancel(session, 6);
    await cancel(session, "5");
    await cancel(await open(), 5);
    upstream.release(token);
    expect(resultText(await stream.message())).toBe(`held ${token}`);
  });

  it("stays as it was when its result had come before", async () => {
    const session = await open();
    const { token, stream } = await held(session, 5);
    upstream.release(token);
    await stream.untilEnded();
    expect((await cancel(session, 5)).status).toBe(202);
    const results = (await recordsOf(session)).filter(({ event }) => event === "tool_result");
    expect(results).toMatchObject([{ result: "ok", error_code: null }]);
  });
});

describe("a batch and its streams", () => {
  it("answers upstream calls of a batch as JSON, in order", async () => {
    const session = await open("2025-03-26");
    const answer = await postMcp(
      gateway.url,
      [1, 2].map((id) => ({
        jsonrpc: "2.0",
        id,
        method: "tools/call",
        params: { name: "up_steps", arguments: { n: 1 }, _meta: { progressToken: id } },
      })),
      { key: session.key, session: session.id },
    );
    expect(answer.status).toBe(200);
    expect([at(answer.json, "0.id"), at(answer.json, "1.id")]).toEqual([1, 2]);
  });
});

describe("a gateway that was killed and started again", () => {
  it("delivers what was finished, says what was lost, and hears of resources again", async () => {
    const session = await open();
    const finished = await held(session, "finished");
    const lost = await held(session, "lost");
    await session.request("resources/subscribe", { uri: "doc://a" });
    const own = await primedStream(session);
    const place = own.events.at(-1)?.id ?? "";
    finished.stream.leave();
    upstream.release(finished.token);
    await eventually("the result is recorded", async () =>
      (await recordsOf(session)).some(({ event }) => event === "tool_result") ? true : null,
    );
    await gateway.kill();
    await lost.stream.untilEnded();
    await own.untilEnded();
    await gateway.restart();

    const back = await getStream(session, finished.place);
    expect(resultText(await back.message())).toBe(`held ${finished.token}`);
    await back.untilEnded();

    const answer = await getStream(session, lost.place);
    const message = await answer.message();
    await answer.untilEnded();
    expect(message).toMatchObject({ id: "lost", error: { data: { code: "OUTCOME_UNKNOWN" } } });
    const records = await recordsOf(session);
    const settled = records.find(({ error_code }) => error_code === "OUTCOME_UNKNOWN");
    expect(settled).toMatchObject({ event: "tool_result", tool: "up_hold" });
    expect(at(message, "error.data.receipt")).toMatchObject({
      session_id: session.id,
      seq: settled?.seq,
      hash_chain: settled?.hash_chain,
    });

    const again = await getStream(session, place);
    expect(again.status).toBe(200);
    await eventually("the resource's change arrives", async () => {
      await upstream.touch("doc://a");
      return again.messages.some((told) => at(told, "params.uri") === "doc://a") ? true : null;
    });
  });
});
