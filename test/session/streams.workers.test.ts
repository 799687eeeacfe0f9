/**
 * The streams of a session as its object keeps them: order, what is under way,
 * what is resumed, what is forgotten, and what survives the object.
 */
import { runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import { NO_SWITCHES } from "../../src/policy/kill-switch.ts";
import { partsOf, Streams } from "../../src/session/streams.ts";
import { BASE, Client, mintKey } from "../support/gateway.ts";
import { captureLogs, crash, evict, inSession, session } from "../support/objects.ts";

/** One frame as the object sends it: whether its event is whole, the event's id, and text. */
type Frame = { isLast: boolean; id: string; text: string };

/** The Worker's end of a stream's socket, which acknowledges when the test says so. */
class Reader {
  readonly frames: Frame[] = [];
  readonly #socket: WebSocket;
  #acknowledged = 0;
  closed = false;

  constructor(socket: WebSocket, isEager: boolean) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (typeof data !== "string") throw new Error("Not text");
      const end = data.indexOf("\n");
      this.frames.push({
        isLast: data.startsWith("E"),
        id: data.slice(1, end),
        text: data.slice(end + 1),
      });
      if (isEager) this.acknowledge(1);
    });
    socket.addEventListener("close", () => {
      this.closed = true;
    });
    socket.accept();
  }

  acknowledge(frames = this.frames.length - this.#acknowledged): void {
    this.#acknowledged += frames;
    for (let n = 0; n < frames; n++) this.#socket.send("w");
  }

  say(text: string): void {
    this.#socket.send(text);
  }

  leave(): void {
    this.#socket.close(1000, "left");
  }

  get chars(): number {
    return this.frames.reduce((sum, { text }) => sum + text.length, 0);
  }

  get unacknowledged(): number {
    return this.frames.slice(this.#acknowledged).reduce((sum, { text }) => sum + text.length, 0);
  }

  /** Whole events, their parts joined. */
  get events(): { id: string; text: string }[] {
    const events: { id: string; text: string }[] = [];
    let parts = "";
    for (const { isLast, id, text } of this.frames) {
      parts += text;
      if (!isLast) continue;
      events.push({ id, text: parts });
      parts = "";
    }
    return events;
  }
}

/** Waits for what another object does; fails by the test's own timeout. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Long enough for frames that are already sent to come in. */
async function settled(reader: Reader): Promise<void> {
  for (let before = -1; before !== reader.frames.length; ) {
    before = reader.frames.length;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

captureLogs();

const readers: Reader[] = [];
afterEach(() => {
  for (const reader of readers.splice(0)) if (!reader.closed) reader.leave();
});

async function newSession(): Promise<string> {
  return (await Client.open(await mintKey("windsurf"))).id;
}

/** Works with the streams of a session, as its object does. */
function withStreams<R>(id: string, work: (streams: Streams) => R): Promise<R> {
  return inSession(id, (_sql, state) => work(new Streams(state)));
}

const REQUEST = { id: 1, request_id: "request-1" };

/** Takes a stream of a session over the way a Worker does. */
async function take(
  client: Client,
  wish: Record<string, unknown>,
  isEager = true,
): Promise<{ reader: Reader; stream: number }> {
  const principal = {
    id: client.key.principal,
    tenant: client.key.tenant,
    role: client.key.role,
    workspaces: null,
    upstreams: null,
  };
  const response = await session(client.id).fetch("https://session/stream", {
    headers: {
      upgrade: "websocket",
      "x-stream-request": JSON.stringify({
        principal,
        wish,
        requestId: "a-request",
        switches: NO_SWITCHES,
      }),
    },
  });
  if (response.webSocket === null) throw new Error(`No socket: ${response.status}`);
  const reader = new Reader(response.webSocket, isEager);
  readers.push(reader);
  return { reader, stream: Number(response.headers.get("x-stream")) };
}

const newClient = async () => Client.open(await mintKey("windsurf"));
const GET = { kind: "get", directory: 1 };

describe("a stream", () => {
  test("sends its events in order, each once, and closes when the last was written", async () => {
    const client = await newClient();
    const stream = await withStreams(client.id, (streams) => {
      const opened = streams.open("post", REQUEST);
      for (let n = 1; n <= 20; n++) streams.append(opened, `event ${n}`, false);
      return opened;
    });
    const { reader } = await take(client, { kind: "call", stream });
    await withStreams(client.id, (streams) => streams.append(stream, "the last", true));
    await until(() => reader.closed);
    expect(reader.events).toEqual([
      ...Array.from({ length: 20 }, (_, n) => ({
        id: `${stream}-${n + 1}`,
        text: `event ${n + 1}`,
      })),
      { id: `${stream}-21`, text: "the last" },
    ]);
  });

  test("takes nothing after its last event", async () => {
    const id = await newSession();
    await withStreams(id, (streams) => {
      const stream = streams.open("post", REQUEST);
      streams.append(stream, "the last", true);
      streams.append(stream, "too late", true);
      expect(streams.placeOf({ stream, n: 1 })).toBe("over");
      expect(streams.placeOf({ stream, n: 0 })).toBe("open");
      expect(streams.placeOf({ stream, n: 2 })).toBe("gone");
    });
  });

  test("sends a large event in parts, and none of them parts a character", async () => {
    const client = await newClient();
    for (const lead of ["", "x"]) {
      const text = lead + "🦉".repeat(500_000);
      const stream = await withStreams(client.id, (streams) => {
        const opened = streams.open("post", REQUEST);
        streams.append(opened, text, true);
        return opened;
      });
      const { reader } = await take(client, { kind: "call", stream });
      await until(() => reader.closed);
      expect(reader.frames.length).toBeGreaterThan(3);
      expect(reader.frames.map(({ isLast }) => isLast)).toEqual([
        ...reader.frames.slice(1).map(() => false),
        true,
      ]);
      expect(reader.events.length).toBe(1);
      expect(reader.events[0]?.text === text).toBe(true);
    }
  });

  test("has an empty event too", () => {
    expect(partsOf("")).toEqual([""]);
    expect(partsOf("ab")).toEqual(["ab"]);
  });

  test("of the 2026 era has no ids, cannot be resumed, and is gone with its socket", async () => {
    const client = await newClient();
    const stream = await withStreams(client.id, (streams) => streams.open("call", REQUEST));
    const { reader } = await take(client, { kind: "call", stream });
    await withStreams(client.id, (streams) => streams.append(stream, "news", false));
    await until(() => reader.frames.length === 1);
    expect(reader.frames[0]?.id).toBe("");
    await withStreams(client.id, (streams) => {
      expect(streams.placeOf({ stream, n: 0 })).toBe("gone");
    });
    reader.leave();
    await expect.poll(() => withStreams(client.id, (streams) => streams.kindOf(stream))).toBeNull();
    expect(await inSession(client.id, (sql) => rows(sql, "events"))).toBe(0);
  });
});

function rows(sql: SqlStorage, table: "streams" | "events"): number {
  return sql.exec<{ n: number }>(`SELECT count(*) AS n FROM ${table}`).one().n;
}

describe("a client that does not read", () => {
  /** The window, and the one part that may reach over it. */
  const MOST_UNDER_WAY = 600_000 + 300_000;

  test("gets its window and no more until it has read", async () => {
    const client = await newClient();
    const stream = await withStreams(client.id, (streams) => {
      const opened = streams.open("post", REQUEST);
      for (let n = 0; n < 10; n++) streams.append(opened, "y".repeat(290_000), n === 9);
      return opened;
    });
    const { reader } = await take(client, { kind: "call", stream }, false);
    await settled(reader);
    expect(reader.chars).toBeGreaterThan(290_000);
    expect(reader.chars).toBeLessThanOrEqual(MOST_UNDER_WAY);
    expect(reader.closed).toBe(false);
    for (let most = reader.chars; !reader.closed; ) {
      reader.acknowledge();
      await settled(reader);
      expect(reader.unacknowledged).toBeLessThanOrEqual(MOST_UNDER_WAY);
      most = Math.max(most, reader.chars);
    }
    expect(reader.events.map(({ text }) => text.length)).toEqual(Array(10).fill(290_000));
  });

  test("gets so many small frames and no more", async () => {
    const client = await newClient();
    const stream = await withStreams(client.id, (streams) => {
      const opened = streams.open("post", REQUEST);
      for (let n = 0; n < 200; n++) streams.append(opened, String(n), n === 199);
      return opened;
    });
    const { reader } = await take(client, { kind: "call", stream }, false);
    await settled(reader);
    expect(reader.frames).toHaveLength(64);
    reader.acknowledge(10);
    await settled(reader);
    expect(reader.frames).toHaveLength(74);
    while (!reader.closed) {
      reader.acknowledge();
      await settled(reader);
    }
    expect(reader.events.map(({ text }) => text)).toEqual(
      Array.from({ length: 200 }, (_, n) => String(n)),
    );
  });

  test("costs the object its window, with fifty streams of a megabyte each, and loses nothing", async () => {
    const client = await newClient();
    const count = 50;
    const size = 1_000_000;
    const streams = await withStreams(client.id, (all) =>
      Array.from({ length: count }, (_, n) => all.open("post", { id: n, request_id: `r${n}` })),
    );
    const taken = await Promise.all(
      streams.map((stream) => take(client, { kind: "call", stream }, false)),
    );
    for (const [n, stream] of streams.entries()) {
      await withStreams(client.id, (all) =>
        all.append(stream, String.fromCharCode(65 + n).repeat(size), true),
      );
    }
    await Promise.all(taken.map(({ reader }) => settled(reader)));
    for (const { reader } of taken) {
      expect(reader.closed).toBe(false);
      expect(reader.unacknowledged).toBeLessThanOrEqual(MOST_UNDER_WAY);
    }
    while (taken.some(({ reader }) => !reader.closed)) {
      for (const { reader } of taken) if (!reader.closed) reader.acknowledge();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const [n, { reader }] of taken.entries()) {
      expect(reader.events.length).toBe(1);
      expect(reader.events[0]?.text === String.fromCharCode(65 + n).repeat(size)).toBe(true);
    }
  });
});

describe("a resumed stream", () => {
  test("goes on after the place that is named, and takes the socket from who had it", async () => {
    const client = await newClient();
    const stream = await withStreams(client.id, (streams) => {
      const opened = streams.open("post", REQUEST);
      for (const text of ["one", "two", "three"]) streams.append(opened, text, false);
      return opened;
    });
    const first = await take(client, { kind: "call", stream });
    await until(() => first.reader.frames.length === 3);
    for (const [after, texts] of [
      [0, ["one", "two", "three"]],
      [2, ["three"]],
      [3, []],
    ] as const) {
      const { reader } = await take(client, { kind: "resume", after: `${stream}-${after}` });
      await settled(reader);
      expect(reader.events.map(({ text }) => text)).toEqual(texts);
    }
    await until(() => first.reader.closed);
    const before = first.reader.frames.length;
    await withStreams(client.id, (streams) => streams.append(stream, "four", true));
    await until(() => readers.every(({ closed }) => closed));
    expect(first.reader.frames).toHaveLength(before);
    expect(readers.at(-1)?.events.map(({ text }) => text)).toEqual(["four"]);
  });

  test("is answered where its call was lost with the object", async () => {
    const client = await newClient();
    const [open, over] = await withStreams(client.id, (streams) => {
      const over = streams.open("post", { id: "over", request_id: "r-over" });
      streams.append(over, "the answer", true);
      return [streams.open("post", { id: "abc", request_id: "r-lost" }), over] as const;
    });
    await crash(session(client.id));
    const lost = await take(client, { kind: "resume", after: `${open}-0` });
    await until(() => lost.reader.closed);
    expect(lost.reader.events.map(({ text }) => JSON.parse(text))).toMatchObject([
      { id: "abc", error: { data: { code: "OUTCOME_UNKNOWN", request_id: "r-lost" } } },
    ]);
    const kept = await take(client, { kind: "resume", after: `${over}-0` });
    await until(() => kept.reader.closed);
    expect(kept.reader.events.map(({ text }) => text)).toEqual(["the answer"]);
    // Told once, however often the object is lost.
    await crash(session(client.id));
    const again = await take(client, { kind: "resume", after: `${open}-0` });
    await until(() => again.reader.closed);
    expect(again.reader.events).toHaveLength(1);
  });
});

describe("the session's own streams", () => {
  test("give a message to the newest that somebody holds, and to no other", async () => {
    const client = await newClient();
    const [first, second, third] = [
      await take(client, GET),
      await take(client, GET),
      await take(client, GET),
    ];
    const tell = (text: string) =>
      withStreams(client.id, (streams) => {
        streams.append(streams.standalone() ?? 0, text, false);
      });
    await tell("one");
    await until(() => third.reader.frames.length === 1);
    third.reader.leave();
    await expect
      .poll(() => withStreams(client.id, (streams) => streams.standalone()))
      .toBe(second.stream);
    await tell("two");
    await until(() => second.reader.frames.length === 1);
    await settled(first.reader);
    expect(
      [first, second, third].map(({ reader }) => reader.events.map(({ text }) => text)),
    ).toEqual([[], ["two"], ["one"]]);
  });

  test("hand on to a new one what was never sent, in order, and nothing twice", async () => {
    const client = await newClient();
    const first = await take(client, GET);
    await withStreams(client.id, (streams) => streams.append(first.stream, "sent", false));
    await until(() => first.reader.frames.length === 1);
    first.reader.leave();
    await until(() => first.reader.closed);
    await expect
      .poll(() => inSession(client.id, (_sql, state) => state.getWebSockets().length))
      .toBe(0);
    await withStreams(client.id, (streams) => {
      for (const text of ["a", "b", "c"]) streams.append(first.stream, text, false);
    });
    const second = await take(client, GET);
    await until(() => second.reader.frames.length === 3);
    await withStreams(client.id, (streams) => streams.append(second.stream, "d", false));
    await until(() => second.reader.frames.length === 4);
    expect(second.reader.events).toEqual(
      ["a", "b", "c", "d"].map((text, n) => ({ id: `${second.stream}-${n + 1}`, text })),
    );
    const old = await take(client, { kind: "resume", after: `${first.stream}-0` });
    await settled(old.reader);
    expect(old.reader.events).toEqual([{ id: `${first.stream}-1`, text: "sent" }]);
  });

  test("keep so many events, and refuse a place before them", async () => {
    const id = await newSession();
    await withStreams(id, (streams) => {
      const stream = streams.open("get", null);
      for (let n = 1; n <= 1_500; n++) streams.append(stream, String(n), false);
      expect(streams.placeOf({ stream, n: 499 })).toBe("gone");
      expect(streams.placeOf({ stream, n: 500 })).toBe("open");
      expect(streams.placeOf({ stream, n: 1_500 })).toBe("open");
      expect(streams.placeOf({ stream, n: 1_501 })).toBe("gone");
    });
    expect(await inSession(id, (sql) => rows(sql, "events"))).toBe(1_000);
  });

  test("that clients have left are forgotten, but for the last ones", async () => {
    const client = await newClient();
    const held = await take(client, GET);
    await withStreams(client.id, (streams) => {
      for (let n = 0; n < 100; n++) streams.open("get", null);
    });
    expect(await inSession(client.id, (sql) => rows(sql, "streams"))).toBe(33);
    expect(await withStreams(client.id, (streams) => streams.kindOf(held.stream))).toBe("get");
  });
});

describe("finished streams", () => {
  test("are kept up to a number, the newest", async () => {
    const id = await newSession();
    const last = await withStreams(id, (streams) => {
      let stream = 0;
      for (let n = 0; n < 1_100; n++) {
        stream = streams.open("post", REQUEST);
        streams.append(stream, "x", true);
      }
      return stream;
    });
    expect(await inSession(id, (sql) => [rows(sql, "streams"), rows(sql, "events")])).toEqual([
      1_000, 1_000,
    ]);
    await withStreams(id, (streams) => {
      expect(streams.placeOf({ stream: last - 999, n: 0 })).toBe("open");
      expect(streams.placeOf({ stream: last - 1_000, n: 0 })).toBe("gone");
    });
  });

  test("are kept up to a size, in this life of the object and the next", async () => {
    const id = await newSession();
    const text = "z".repeat(8_000_000);
    const finish = (streams: Streams) => {
      const stream = streams.open("post", REQUEST);
      streams.append(stream, text, true);
      return stream;
    };
    await withStreams(id, (streams) => {
      for (let n = 0; n < 10; n++) finish(streams);
    });
    expect(await inSession(id, (sql) => rows(sql, "streams"))).toBe(8);
    await withStreams(id, finish);
    expect(await inSession(id, (sql) => rows(sql, "streams"))).toBe(8);
  });
});

describe("an idle session with an open stream", () => {
  test("hibernates, and still tells its client of a change", async () => {
    const client = await newClient();
    const response = await exports.default.fetch(`${BASE}/mcp`, {
      headers: {
        authorization: `Bearer ${client.key.key}`,
        "mcp-session-id": client.id,
        accept: "text/event-stream",
      },
    });
    expect(response.status).toBe(200);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader?.read())?.value).toMatch(/^id: \d+-0\n/);
    const stub = session(client.id);
    await runInDurableObject(stub, (object) => {
      Reflect.set(object, "isOfThisLife", true);
    });
    // An eviction that waits for nothing: what holds an object in memory makes it fail.
    await evict(stub);
    const isOfThisLife = await runInDurableObject(stub, (object) =>
      Reflect.get(object, "isOfThisLife"),
    );
    expect(isOfThisLife).toBeUndefined();
    expect(await inSession(client.id, (_sql, state) => state.getWebSockets().length)).toBe(1);
    await evict(stub);
    await withStreams(client.id, (streams) => {
      streams.append(
        streams.standalone() ?? 0,
        '{"jsonrpc":"2.0","method":"notifications/x"}',
        false,
      );
    });
    const told = await reader?.read();
    expect(told?.value).toMatch(
      /^event: message\nid: \d+-1\ndata: {"jsonrpc":"2.0","method":"notifications\/x"}\n\n$/,
    );
    await reader?.cancel();
    // The object learns that nobody reads any more.
    await expect
      .poll(() => inSession(client.id, (_sql, state) => state.getWebSockets().length))
      .toBe(0);
  });

  test("tells of a directory that changed while it slept, once for all its streams", async () => {
    const client = await newClient();
    const streams = [await take(client, GET), await take(client, GET)];
    await evict(session(client.id));
    // What the Workers that hold the streams say when they hear of it from the hub.
    for (const { reader } of streams) {
      reader.say(JSON.stringify({ directory: 2, changed: ["tools"] }));
    }
    const frames = () => streams.flatMap(({ reader }) => reader.frames);
    await until(() => frames().length > 0);
    await Promise.all(streams.map(({ reader }) => settled(reader)));
    expect(frames().map(({ text }) => JSON.parse(text))).toEqual([
      { jsonrpc: "2.0", method: "notifications/tools/list_changed" },
    ]);
  });
});
