import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { initializeMessage, RawSession, toolCall } from "../support/mcp.ts";
import { exchange, rawPost, rawRequest } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

/*
 * Over raw sockets, because no HTTP client sends these. Where the local server's
 * parser refuses a request the gateway never sees it; then only the outcome is
 * looked at. On Cloudflare's network its edge stands in that place.
 */

let stage: Stage;
let session: RawSession;
let keys: Stage["gateway"]["keys"];

beforeAll(async () => {
  stage = await Stage.start();
  keys = stage.gateway.keys;
  session = await RawSession.open(stage.url, keys.windsurf);
});

afterAll(() => stage?.dispose());

const bearer = (key: string) => `Authorization: Bearer ${key}`;
const apiKey = (key: string) => `X-API-Key: ${key}`;
const post = (headers: readonly string[], body: object | string = initializeMessage()) =>
  exchange(stage.url, rawPost(stage.url, headers, body));
const CALL = toolCall(1, "honest_act");

describe("two credentials", () => {
  const unknown = `ag_${"0".repeat(16)}_${"a".repeat(43)}`;

  test.each<[string, (one: string, two: string) => string[]]>([
    ["Authorization beside another X-API-Key", (a, b) => [bearer(a), apiKey(b)]],
    ["X-API-Key before another Authorization", (a, b) => [apiKey(a), bearer(b)]],
    ["Authorization twice, differing", (a, b) => [bearer(a), bearer(b)]],
    ["Authorization twice, the same", (a) => [bearer(a), bearer(a)]],
    ["X-API-Key twice, differing", (a, b) => [apiKey(a), apiKey(b)]],
    ["X-API-Key twice, the same", (a) => [apiKey(a), apiKey(a)]],
    ["X-API-Key twice, one empty", (a) => [apiKey(a), apiKey("")]],
    ["two in one Authorization", (a, b) => [`Authorization: Bearer ${a}, Bearer ${b}`]],
    ["two in one X-API-Key", (a, b) => [apiKey(`${a},${b}`)]],
    ["one good, one unknown", (a) => [bearer(a), apiKey(unknown)]],
    ["one good, one of another scheme", (a) => [apiKey(a), "Authorization: Basic YTpi"]],
    ["another spelling of the header", (a, b) => [bearer(a), `aUTHORIZATION: bearer ${b}`]],
  ])("%s", async (_what, headersOf) => {
    const pairs = [
      [keys.windsurf, keys.auditor],
      [keys.auditor, keys.operator],
      [keys.windsurf, stage.gateway.adminToken],
    ] as const;
    for (const [one, two] of pairs) {
      const refusal = { status: 401, code: "UNAUTHENTICATED" };
      await stage.refuses(refusal, () => post(headersOf(one, two)));
      await stage.refuses(refusal, () =>
        exchange(
          stage.url,
          rawRequest([
            "GET /admin/keys HTTP/1.1",
            `Host: ${new URL(stage.url).host}`,
            ...headersOf(two, one),
          ]),
        ),
      );
    }
  });
});

describe("a body of two lengths", () => {
  const body = JSON.stringify(CALL);
  const chunks = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
  const head = (headers: readonly string[]) => [
    "POST /mcp HTTP/1.1",
    `Host: ${new URL(stage.url).host}`,
    "Accept: application/json, text/event-stream",
    "Content-Type: application/json",
    bearer(keys.windsurf),
    `Mcp-Session-Id: ${session.id}`,
    ...headers,
  ];

  test.each([
    [
      "Content-Length twice, differing",
      [`Content-Length: ${body.length}`, "Content-Length: 5"],
      body,
    ],
    ["a list of Content-Lengths", [`Content-Length: ${body.length}, ${body.length}`], body],
    ["a Content-Length with a sign", [`Content-Length: +${body.length}`], body],
    ["a negative Content-Length", ["Content-Length: -1"], body],
    ["a hexadecimal Content-Length", [`Content-Length: 0x${body.length.toString(16)}`], body],
    ["a Content-Length past every number", ["Content-Length: 99999999999999999999"], body],
    ["another Transfer-Encoding", ["Transfer-Encoding: xchunked"], chunks],
    [
      "Transfer-Encoding twice",
      ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
      chunks,
    ],
    ["Transfer-Encoding with a space", ["Transfer-Encoding : chunked"], chunks],
    ["Transfer-Encoding with a tab", ["Transfer-Encoding:\tchunked, identity"], chunks],
    ["Transfer-Encoding folded", ["Transfer-Encoding:", " chunked"], chunks],
    [
      "a chunk whose size is no number",
      ["Transfer-Encoding: chunked"],
      `zz\r\n${body}\r\n0\r\n\r\n`,
    ],
    ["a chunk with a sign", ["Transfer-Encoding: chunked"], `-1\r\n${body}\r\n0\r\n\r\n`],
  ])("%s", async (_what, headers, sent) => {
    await stage.nothingComesOf({}, () => exchange(stage.url, rawRequest(head(headers), sent)));
  });

  // RFC 9112, section 6.3: chunked framing overrides a length; what matters is that nobody reads two requests into one.
  test("Content-Length beside Transfer-Encoding smuggles no second request", async () => {
    const smuggled = rawPost(stage.url, [`Mcp-Session-Id: ${session.id}`], CALL).toString("latin1");
    for (const length of [4, 5 + smuggled.length]) {
      const headers = head(["Transfer-Encoding: chunked", `Content-Length: ${length}`]);
      await stage.nothingComesOf({}, () =>
        exchange(stage.url, rawRequest(headers, `0\r\n\r\n${smuggled}`)),
      );
    }
  });

  test("a second request after the body has no part in the first one's credential", async () => {
    const growth = await stage.growthOf(async () => {
      const ping = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
      const first = rawRequest(head([`Content-Length: ${ping.length}`]), ping);
      const second = rawPost(
        stage.url,
        [`Mcp-Session-Id: ${session.id}`, "Connection: close"],
        CALL,
      );
      const answers = await exchange(stage.url, Buffer.concat([first, second]));
      expect(answers[0]?.status).toBe(200);
      for (const { status } of answers.slice(1)) expect(status).toBe(401);
    });
    expect(growth.records).toEqual({});
    expect(stage.upstream.asked("tools/call")).toEqual([]);
  });
});

describe("lines that are no headers", () => {
  test.each([
    ["a folded header", ["X-A: a", "\tb"]],
    ["a folded credential", ["Authorization: Bearer", ` ${"a".repeat(43)}`]],
    ["a space before the colon", ["X-API-Key : a"]],
    ["no colon", ["X-API-Key a"]],
    ["no name", [": a"]],
    ["a NUL", ["X-A: a\0b"]],
    ["a carriage return", ["X-A: a\rX-API-Key: b"]],
  ])("%s", async (_what, lines) => {
    const headers = [bearer(keys.windsurf), ...lines];
    await stage.nothingComesOf({}, () => post(headers));
  });

  test("Host twice", async () => {
    const own = `Host: ${new URL(stage.url).host}`;
    for (const host of [own, "Host: evil.example"]) {
      await stage.nothingComesOf({}, () => post([bearer(keys.windsurf), host]));
    }
  });
});

describe("a header of the protocol that is there twice", () => {
  const own = () => [bearer(keys.windsurf), `Mcp-Session-Id: ${session.id}`];

  test.each<[string, number, string, (own: string[]) => string[]]>([
    ["Mcp-Session-Id, the same", 404, "SESSION_NOT_FOUND", (a) => [...a, a[1] ?? ""]],
    ["Mcp-Session-Id, another", 404, "SESSION_NOT_FOUND", (a) => [...a, "Mcp-Session-Id: x"]],
    [
      "Mcp-Protocol-Version, differing",
      400,
      "INVALID_ARGUMENT",
      (a) => [...a, "Mcp-Protocol-Version: 2025-11-25", "Mcp-Protocol-Version: 2025-03-26"],
    ],
    [
      "Mcp-Protocol-Version, of two eras",
      400,
      "INVALID_ARGUMENT",
      (a) => [...a, "Mcp-Protocol-Version: 2025-11-25", "Mcp-Protocol-Version: 2026-07-28"],
    ],
    [
      "Origin, one of them its own",
      403,
      "ORIGIN_FORBIDDEN",
      (a) => [...a, `Origin: ${stage.url}`, "Origin: https://evil.example"],
    ],
    [
      "Origin, twice its own",
      403,
      "ORIGIN_FORBIDDEN",
      (a) => [...a, `Origin: ${stage.url}`, `Origin: ${stage.url}`],
    ],
    [
      "Content-Type, one of them of a form",
      415,
      "INVALID_ARGUMENT",
      (a) => [...a, "Content-Type: text/plain"],
    ],
  ])("%s", async (_what, status, code, headersOf) => {
    await stage.refuses({ status, code }, () => post(headersOf(own()), CALL));
  });
});
