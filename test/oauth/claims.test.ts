import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { claimAt, grantOf } from "../../src/oauth/claims.ts";
import { parseIssuers, type TokenIssuer } from "../../src/oauth/issuers.ts";

function issuerWith(more: object = {}): TokenIssuer {
  const parsed = parseIssuers(JSON.stringify([{ issuer: "https://login.example.com", ...more }]));
  const issuer = parsed.ok ? parsed.issuers[0] : undefined;
  if (issuer === undefined) throw new Error("no issuer");
  return issuer;
}

const CLAIMS = { sub: "alice", role: "windsurf", scope: "mcp:read openid mcp:write" };

describe("a grant", () => {
  test("names issuer and subject, role, tenant and the scopes that are known", () => {
    expect(grantOf(issuerWith(), CLAIMS)).toEqual({
      ok: true,
      grant: {
        principal: "oauth:https://login.example.com|alice",
        tenant: "default",
        role: "windsurf",
        scopes: ["mcp:read", "mcp:write"],
      },
    });
  });

  test("reads role and tenant where the issuer's entry says", () => {
    const issuer = issuerWith({
      role_claim: "realm_access.roles",
      tenant_claim: "https://example.com/tenant",
    });
    const claims = {
      sub: "bob",
      realm_access: { roles: ["offline_access", "auditor"] },
      "https://example.com/tenant": "acme",
      scp: ["mcp:audit", 7],
    };
    expect(grantOf(issuer, claims)).toMatchObject({
      ok: true,
      grant: { tenant: "acme", role: "auditor", scopes: ["mcp:audit"] },
    });
  });

  test.each([
    [{ ...CLAIMS, sub: undefined }, "subject"],
    [{ ...CLAIMS, sub: "" }, "subject"],
    [{ ...CLAIMS, sub: 7 }, "subject"],
    [{ ...CLAIMS, sub: "a\nb" }, "subject"],
    [{ ...CLAIMS, sub: "a\u2028b" }, "subject"],
    [{ ...CLAIMS, sub: "\ud800" }, "subject"],
    [{ ...CLAIMS, sub: "a".repeat(256) }, "subject"],
    [{ ...CLAIMS, role: undefined }, "role"],
    [{ ...CLAIMS, role: "operator" }, "role"],
    [{ ...CLAIMS, role: "WINDSURF" }, "role"],
    [{ ...CLAIMS, role: ["windsurf", "auditor"] }, "role"],
    [{ ...CLAIMS, role: { windsurf: true } }, "role"],
    [{ ...CLAIMS, tenant: "" }, "tenant"],
    [{ ...CLAIMS, tenant: "a/b" }, "tenant"],
    [{ ...CLAIMS, tenant: ["acme"] }, "tenant"],
    [{ ...CLAIMS, cnf: { jkt: "x" } }, "sender_constrained"],
  ])("of %j fails for its %s", (claims, problem) => {
    expect(grantOf(issuerWith(), claims)).toEqual({ ok: false, problem });
  });

  test("makes up no tenant where the entry says which claim names it", () => {
    const issuer = issuerWith({ tenant_claim: "org" });
    expect(grantOf(issuer, CLAIMS)).toEqual({ ok: false, problem: "tenant" });
  });

  test("of two different subjects is never one principal", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        const [one, other] = [a, b].map((sub) => grantOf(issuerWith(), { ...CLAIMS, sub }));
        if (a === b || !one?.ok || !other?.ok) return;
        expect(one.grant.principal).not.toBe(other.grant.principal);
      }),
    );
  });

  test("is read from whatever claims there are without a throw, and never grants more than it knows", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (claims) => {
        const result = grantOf(issuerWith(), claims);
        if (result.ok) expect(["antigravity", "windsurf", "auditor"]).toContain(result.grant.role);
      }),
    );
  });
});

test("a claim is looked up among own members only", () => {
  expect(claimAt({}, "constructor.name")).toBeUndefined();
  expect(claimAt({ a: { b: 1 }, "a.b": 2 }, "a.b")).toBe(2);
  expect(claimAt({ a: "text" }, "a.length")).toBeUndefined();
});
