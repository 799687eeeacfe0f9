import { expect, expectTypeOf, test } from "vitest";
import { allow, type Decision, ERROR_CODES, refuse } from "../../src/policy/errors.ts";
import { MCP_ROLES, ROLES, roleSchema } from "../../src/policy/roles.ts";

test("knows each of the contract's error codes once", () => {
  const contract =
    "UNAUTHENTICATED KEY_EXPIRED FORBIDDEN ORIGIN_FORBIDDEN ADDRESS_FORBIDDEN CLIENT_CERT_REQUIRED MISDIRECTED RATE_LIMITED QUOTA_EXCEEDED PAYLOAD_TOO_LARGE OVERLOADED KILL_SWITCH SESSION_REQUIRED SESSION_NOT_FOUND ROLE_FORBIDDEN PLAN_REQUIRED PLAN_NOT_FOUND PLAN_NOT_APPROVED PLAN_EXPIRED PLAN_SCOPE_VIOLATION PATH_ESCAPE NOT_FOUND CONFLICT INVALID_ARGUMENT TOOL_NOT_FOUND TOOL_CHANGED UPSTREAM_UNAVAILABLE UPSTREAM_TIMEOUT UPSTREAM_ERROR UPSTREAM_UNAUTHORIZED CANCELLED OUTCOME_UNKNOWN INTERNAL_ERROR";
  expect([...ERROR_CODES].sort()).toEqual(contract.split(" ").sort());
});

test("a decision carries its value or its refusal", () => {
  expect(allow("src/a.ts")).toEqual({ ok: true, value: "src/a.ts" });
  expect(refuse("CONFLICT", "Read it again.")).toEqual({
    ok: false,
    refusal: { code: "CONFLICT", message: "Read it again." },
  });
  expectTypeOf(allow()).toEqualTypeOf<Decision>();
  expectTypeOf(allow(1)).toEqualTypeOf<Decision<number>>();
});

test("an operator does not speak MCP", () => {
  expect(ROLES.filter((role) => !MCP_ROLES.some((mcp) => mcp === role))).toEqual(["operator"]);
  expect(roleSchema.safeParse("Operator").success).toBe(false);
});
