import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeHeaderValue, headerMismatch, paramMismatch } from "../../src/mcp/headers.ts";
import type { RpcRequest } from "../../src/mcp/jsonrpc.ts";

const VERSION = "2026-07-28";

function call(name: string): RpcRequest {
  return { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, arguments: {} } };
}

function headersFor(request: RpcRequest, name: string): Headers {
  return new Headers({
    "MCP-Protocol-Version": VERSION,
    "Mcp-Method": request.method,
    "Mcp-Name": name,
  });
}

const base64 = (text: string) => `=?base64?${Buffer.from(text, "utf8").toString("base64")}?=`;

describe("decodeHeaderValue", () => {
  it("gives back the examples of the specification", () => {
    expect(decodeHeaderValue("us-west1")).toBe("us-west1");
    expect(decodeHeaderValue("=?base64?SGVsbG8sIOS4lueVjA==?=")).toBe("Hello, 世界");
    expect(decodeHeaderValue("=?base64?IHBhZGRlZCA=?=")).toBe(" padded ");
    expect(decodeHeaderValue("=?base64?bGluZTEKbGluZTI=?=")).toBe("line1\nline2");
    expect(decodeHeaderValue("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")).toBe("=?base64?literal?=");
  });

  it("gives back any text that was put into the sentinel", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const whole = text.toWellFormed();
        expect(decodeHeaderValue(base64(whole))).toBe(whole);
      }),
    );
  });

  it("refuses loose base64, broken UTF-8 and characters that no header holds", () => {
    for (const value of [
      "=?base64?SGVsbG8?=",
      "=?base64?SG Vs?=",
      "=?base64?/w==?=",
      "a\u00e9",
      "a\u0000",
    ]) {
      expect(decodeHeaderValue(value), value).toBeNull();
    }
  });

  it("takes the markers only in lower case and only as a pair", () => {
    expect(decodeHeaderValue("=?BASE64?aGk=?=")).toBe("=?BASE64?aGk=?=");
    expect(decodeHeaderValue("=?base64?aGk=")).toBe("=?base64?aGk=");
    expect(decodeHeaderValue("=?base64?=")).toBe("=?base64?=");
  });
});

describe("headerMismatch", () => {
  it("accepts headers that mirror the body, plain or encoded", () => {
    const request = call("read_file");
    expect(headerMismatch(headersFor(request, "read_file"), request, VERSION)).toBeNull();
    expect(headerMismatch(headersFor(request, base64("read_file")), request, VERSION)).toBeNull();
  });

  it("names the header that is missing", () => {
    const request = call("read_file");
    for (const name of ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"]) {
      const headers = headersFor(request, "read_file");
      headers.delete(name);
      expect(headerMismatch(headers, request, VERSION)).toContain(name);
    }
  });

  it("names the header that says something else", () => {
    const request = call("read_file");
    for (const name of ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"]) {
      const headers = headersFor(request, "read_file");
      headers.set(name, "other");
      expect(headerMismatch(headers, request, VERSION)).toContain(name);
    }
  });

  it("compares values with their case", () => {
    const request = call("read_file");
    const headers = headersFor(request, "read_file");
    headers.set("Mcp-Method", "Tools/Call");
    expect(headerMismatch(headers, request, VERSION)).toContain("Mcp-Method");
  });

  it("asks for no name where the method has none", () => {
    const request: RpcRequest = { jsonrpc: "2.0", id: 1, method: "tools/list" };
    const headers = headersFor(request, "x");
    headers.delete("Mcp-Name");
    expect(headerMismatch(headers, request, VERSION)).toBeNull();
  });
});

describe("paramMismatch", () => {
  const header = (value: string) => new Headers({ "Mcp-Param-Region": value });

  it("has no header for an argument that is missing or null, and one for every other", () => {
    expect(paramMismatch(new Headers(), "Region", undefined)).toBeNull();
    expect(paramMismatch(new Headers(), "Region", null)).toBeNull();
    expect(paramMismatch(new Headers(), "Region", "eu")).toContain("Mcp-Param-Region");
    expect(paramMismatch(header("eu"), "Region", undefined)).toContain("Mcp-Param-Region");
  });

  it("compares strings exactly, integers as numbers, booleans by name", () => {
    expect(paramMismatch(header("eu"), "Region", "eu")).toBeNull();
    expect(paramMismatch(header("EU"), "Region", "eu")).not.toBeNull();
    expect(paramMismatch(header("42.0"), "Region", 42)).toBeNull();
    expect(paramMismatch(header("43"), "Region", 42)).not.toBeNull();
    expect(paramMismatch(header("true"), "Region", true)).toBeNull();
    expect(paramMismatch(header("True"), "Region", true)).not.toBeNull();
    expect(paramMismatch(header("x"), "Region", ["x"])).not.toBeNull();
  });
});
