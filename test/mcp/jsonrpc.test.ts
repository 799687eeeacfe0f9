import { describe, expect, it } from "vitest";
import type { JsonValue } from "../../src/mcp/ijson.ts";
import {
  classifyMessage,
  gatewayErrorCode,
  HEADER_MISMATCH,
  INTERNAL_ERROR,
  INVALID_PARAMS,
  INVALID_REQUEST,
  METHOD_NOT_FOUND,
  MISSING_CAPABILITY,
  PARSE_ERROR,
  rpcError,
  rpcResult,
  UNSUPPORTED_VERSION,
} from "../../src/mcp/jsonrpc.ts";

const error = { code: -32603, message: "no" };

describe("classifying a message", () => {
  it.each<[string, JsonValue]>([
    ["a string id", { jsonrpc: "2.0", id: "a", method: "ping" }],
    ["an empty id", { jsonrpc: "2.0", id: "", method: "ping" }],
    ["the id zero", { jsonrpc: "2.0", id: 0, method: "ping" }],
    ["a negative id", { jsonrpc: "2.0", id: -7, method: "ping" }],
    ["params", { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x" } }],
    ["members that nobody knows", { jsonrpc: "2.0", id: 1, method: "ping", extra: [1] }],
  ])("takes a request with %s, as the object that it is", (_, value) => {
    const classified = classifyMessage(value);
    if (classified.kind !== "request") throw new Error(classified.kind);
    expect(classified.message).toBe(value);
  });

  it("takes a call without an id as a notification, as the object that it is", () => {
    const value: JsonValue = { jsonrpc: "2.0", method: "notifications/initialized", params: {} };
    const classified = classifyMessage(value);
    if (classified.kind !== "notification") throw new Error(classified.kind);
    expect(classified.message).toBe(value);
  });

  it.each<[string, JsonValue]>([
    ["a result", { jsonrpc: "2.0", id: 1, result: {} }],
    ["an error", { jsonrpc: "2.0", id: "a", error }],
    ["an error with data", { jsonrpc: "2.0", id: "a", error: { ...error, data: null } }],
    ["an error without an id", { jsonrpc: "2.0", error }],
    ["an error with the null id of JSON-RPC", { jsonrpc: "2.0", id: null, error }],
  ])("takes a response with %s, as the object that it is", (_, value) => {
    const classified = classifyMessage(value);
    if (classified.kind !== "response") throw new Error(classified.kind);
    expect(classified.message).toBe(value);
  });

  it.each<[JsonValue, string | number | null, RegExp]>([
    [null, null, /object/],
    ["ping", null, /object/],
    [[{ jsonrpc: "2.0", id: 1, method: "ping" }], null, /object/],
    [{}, null, /jsonrpc/],
    [{ id: 3, method: "ping" }, 3, /jsonrpc/],
    [{ jsonrpc: "1.0", id: 3, method: "ping" }, 3, /jsonrpc/],
    [{ jsonrpc: 2, id: 3, method: "ping" }, 3, /jsonrpc/],
    [{ jsonrpc: "2.0", id: null, method: "ping" }, null, /id/],
    [{ jsonrpc: "2.0", id: 1.5, method: "ping" }, null, /id/],
    [{ jsonrpc: "2.0", id: true, method: "ping" }, null, /id/],
    [{ jsonrpc: "2.0", id: {}, method: "ping" }, null, /id/],
    [{ jsonrpc: "2.0", id: "a", method: 5 }, "a", /method/],
    [{ jsonrpc: "2.0", id: "a", method: null }, "a", /method/],
    [{ jsonrpc: "2.0", id: "a", method: "x", params: [] }, "a", /params/],
    [{ jsonrpc: "2.0", id: "a", method: "x", params: null }, "a", /params/],
    [{ jsonrpc: "2.0", method: "x", params: 1 }, null, /params/],
    [{ jsonrpc: "2.0", id: "a" }, "a", /method/],
    [{ jsonrpc: "2.0", id: "a", result: {}, error }, "a", /not both/],
    [{ jsonrpc: "2.0", id: "a", result: 5 }, "a", /result/],
    [{ jsonrpc: "2.0", id: "a", result: [] }, "a", /result/],
    [{ jsonrpc: "2.0", result: {} }, null, /id/],
    [{ jsonrpc: "2.0", id: null, result: {} }, null, /id/],
    [{ jsonrpc: "2.0", id: 1, error: null }, 1, /error/],
    [{ jsonrpc: "2.0", id: 1, error: { code: 1.5, message: "" } }, 1, /code/],
    [{ jsonrpc: "2.0", id: 1, error: { code: 1 } }, 1, /message/],
    [{ jsonrpc: "2.0", id: [], error }, null, /id/],
  ])("refuses %j, with the id %j where it could be read", (value, id, message) => {
    expect(classifyMessage(value)).toEqual({
      kind: "invalid",
      id,
      message: expect.stringMatching(message),
    });
  });
});

describe("answers", () => {
  it("wrap a result", () => {
    expect(rpcResult("a", { ok: true })).toStrictEqual({
      jsonrpc: "2.0",
      id: "a",
      result: { ok: true },
    });
  });

  it("wrap an error, with data only where there is some", () => {
    expect(rpcError(0, -32601, "no")).toStrictEqual({
      jsonrpc: "2.0",
      id: 0,
      error: { code: -32601, message: "no" },
    });
    expect(rpcError("a", -31404, "no", { code: "NOT_FOUND" }).error).toStrictEqual({
      code: -31404,
      message: "no",
      data: { code: "NOT_FOUND" },
    });
    expect(rpcError("a", 1, "no", null).error.data).toBeNull();
  });

  it("have no id where the request's could not be read", () => {
    expect(rpcError(null, -32700, "no")).toStrictEqual({
      jsonrpc: "2.0",
      error: { code: -32700, message: "no" },
    });
  });

  it("are messages themselves", () => {
    const answers: JsonValue[] = [rpcResult(1, {}), rpcError(1, 1, ""), rpcError(null, 1, "")];
    expect(answers.map((answer) => classifyMessage(answer).kind)).toEqual([
      "response",
      "response",
      "response",
    ]);
  });
});

describe("error codes", () => {
  it("are those of JSON-RPC and of MCP 2026-07-28", () => {
    expect([PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND]).toEqual([-32700, -32600, -32601]);
    expect([INVALID_PARAMS, INTERNAL_ERROR]).toEqual([-32602, -32603]);
    expect([HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION]).toEqual([
      -32020, -32021, -32022,
    ]);
  });

  it("of the gateway stay outside JSON-RPC's reserved range for every HTTP status", () => {
    expect(gatewayErrorCode(404)).toBe(-31404);
    expect([gatewayErrorCode(100), gatewayErrorCode(599)]).toEqual([-31100, -31599]);
  });
});
