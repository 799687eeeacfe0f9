import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { initializeMessage, RawSession, toolCall } from "../support/mcp.ts";
import { failuresIn, logLines } from "./support/log-lines.ts";
import { RawConnection, rawRequest } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

let stage: Stage;
let honest: RawSession;
const open: RawConnection[] = [];

beforeAll(async () => {
  stage = await Stage.start();
  honest = await RawSession.open(stage.url, stage.gateway.keys.auditor);
});

afterEach(() => {
  for (const connection of open.splice(0)) connection.cut();
});

afterAll(() => stage?.dispose());

const BODY = JSON.stringify(initializeMessage());
const CHUNKED = "Transfer-Encoding: chunked";
const SIZED = `Content-Length: ${BODY.length}`;

/** By this the lines of a test's own requests are told from all others. */
let trace = "";

beforeEach(() => {
  trace = randomBytes(16).toString("hex");
});

/** A request that has begun, and whose body is the test's to go on with. */
async function begin(path: string, headers: readonly string[], first = ""): Promise<RawConnection> {
  const connection = await RawConnection.open(stage.url);
  open.push(connection);
  const lines = [
    `POST ${path} HTTP/1.1`,
    `Host: ${new URL(stage.url).host}`,
    "Accept: application/json, text/event-stream",
    "Content-Type: application/json",
    `Traceparent: 00-${trace}-00f067aa0ba902b7-01`,
    ...headers,
  ];
  connection.write(Buffer.concat([rawRequest(lines), Buffer.from(first)]));
  return connection;
}

/** Statuses of the requests that were begun, as soon as so many are answered. */
function statuses(count: number): Promise<unknown[]> {
  return eventually("the requests are in the log", () => {
    const own = logLines(stage.log).filter(
      ({ fields }) => fields.event === "request" && fields.trace_id === trace,
    );
    return own.length >= count ? own.map(({ fields }) => fields.status) : null;
  });
}

const bearer = (key: string) => `Authorization: Bearer ${key}`;

describe("a body that does not end, of nobody that is known", () => {
  // The local server holds the refusal back until the body has ended; the gateway's line says when it was made.
  test.each([
    ["no credential", "/mcp", [CHUNKED], "1\r\n{\r\n"],
    ["no credential, and a length", "/mcp", [SIZED], "{"],
    ["no body at all", "/mcp", [SIZED], ""],
    [
      "a bad key",
      "/mcp",
      [CHUNKED, bearer(`ag_${"0".repeat(16)}_${"a".repeat(43)}`)],
      "1\r\n{\r\n",
    ],
    ["no credential for operators", "/admin/keys", [CHUNKED], "1\r\n{\r\n"],
    ["a bad one for operators", "/admin/keys", [SIZED, bearer("x")], "{"],
  ])("%s: refused without waiting for it", async (_what, path, headers, first) => {
    const growth = await stage.growthOf(async () => {
      await begin(path, headers, first);
      expect(await statuses(1)).toEqual([401]);
    });
    expect(growth).toEqual({ objects: [], records: {}, tables: [] });
  });

  test("a length over the limit is refused before the first byte", async () => {
    await begin("/mcp", [bearer(stage.gateway.keys.windsurf), "Content-Length: 99999999"]);
    expect(await statuses(1)).toEqual([413]);
  });
});

describe("a body that does not end, of somebody who is known", () => {
  test.each([
    ["nothing", ""],
    ["a beginning", BODY.slice(0, 40)],
  ])("after %s leaves nothing while it is waited for, nor when it is cut", async (_what, first) => {
    const mark = stage.log.length;
    const headers = [SIZED, bearer(stage.gateway.keys.windsurf)];
    const growth = await stage.growthOf(async () => {
      const connections = await Promise.all(
        Array.from({ length: 20 }, () => begin("/mcp", headers, first)),
      );
      // Others go on meanwhile.
      expect((await honest.request("ping")).status).toBe(200);
      for (const connection of connections) connection.cut();
      await statuses(20);
    });
    expect(growth).toEqual({ objects: [], records: {}, tables: [] });
    expect(failuresIn(stage.log.slice(mark))).toEqual([]);
  });

  test("and has no length leaves nothing, chunk after chunk", async () => {
    const mark = stage.log.length;
    const headers = [CHUNKED, bearer(stage.gateway.keys.windsurf)];
    const growth = await stage.growthOf(async () => {
      const connections = await Promise.all(
        Array.from({ length: 20 }, () => begin("/mcp", headers, "1\r\n{\r\n")),
      );
      for (let n = 0; n < 50; n++) {
        for (const connection of connections) connection.write("1\r\n \r\n");
      }
      expect((await honest.request("ping")).status).toBe(200);
      for (const connection of connections) connection.cut();
      await statuses(20);
    });
    expect(growth).toEqual({ objects: [], records: {}, tables: [] });
    expect(failuresIn(stage.log.slice(mark))).toEqual([]);
  });

  test("and comes a byte at a time is answered when it is whole, others meanwhile", async () => {
    const { windsurf } = stage.gateway.keys;
    const connection = await begin("/mcp", [SIZED, bearer(windsurf)]);
    for (const byte of BODY) {
      connection.write(byte);
      // The pace is the attack: without it the bytes would come as one.
      await sleep(1);
    }
    expect((await honest.request("ping")).status).toBe(200);
    expect((await connection.answer())?.status).toBe(200);
  });

  test("and is shorter than it says is not acted on when the client has said all", async () => {
    const session = await RawSession.open(stage.url, stage.gateway.keys.windsurf);
    const call = JSON.stringify(toolCall(1, "honest_act"));
    const heard = stage.upstream.seen.length;
    const mark = stage.log.length;
    const headers = [
      `Content-Length: ${call.length + 1}`,
      bearer(session.key),
      `Mcp-Session-Id: ${session.id}`,
    ];
    const growth = await stage.growthOf(async () => {
      const connection = await begin("/mcp", headers, call);
      connection.end();
      await connection.closed;
      await statuses(1);
    });
    expect(growth).toEqual({ objects: [], records: {}, tables: [] });
    expect(stage.upstream.seen.length).toBe(heard);
    expect(failuresIn(stage.log.slice(mark))).toEqual([]);
    // Whole, the same call is a call.
    expect(
      (await session.request("tools/call", { name: "honest_act", arguments: {} })).status,
    ).toBe(200);
    expect(stage.upstream.asked("tools/call", "act")).toHaveLength(1);
  });
});

test("a head that does not end is nobody's request", async () => {
  const mark = stage.log.length;
  const growth = await stage.growthOf(async () => {
    const connections = await Promise.all(
      Array.from({ length: 50 }, () => RawConnection.open(stage.url)),
    );
    open.push(...connections);
    for (const connection of connections) connection.write("POST /mcp HTTP/1.1\r\nX-A: b\r\n");
    expect((await honest.request("ping")).status).toBe(200);
    for (const connection of connections) connection.cut();
  });
  expect(failuresIn(stage.log.slice(mark))).toEqual([]);
  expect(growth).toEqual({ objects: [], records: {}, tables: [] });
});
