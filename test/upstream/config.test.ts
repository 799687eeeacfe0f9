import { describe, expect, it } from "vitest";
import type * as z from "zod";
import { describeIssues } from "../../src/tools/tool.ts";
import {
  changeBody,
  changed,
  openAuth,
  parseConfig,
  registrationBody,
  registrationOf,
  sealAuth,
  shownAuth,
  withoutSecrets,
} from "../../src/upstream/config.ts";

const URL_ = "https://mcp.acme.com/mcp";
const KEY = new Uint8Array(32).fill(5);

function registered(body: Record<string, unknown>) {
  const registration = registrationOf(registrationBody.parse({ name: "acme", url: URL_, ...body }));
  if (!registration.ok) throw new Error(registration.refusal.message);
  return registration.value;
}

/** What an operator is told of a body that does not fit; null for one that does. */
function problem(body: Record<string, unknown>, schema: z.ZodObject = registrationBody) {
  const parsed = schema.safeParse({
    ...(schema === registrationBody ? { name: "acme", url: URL_ } : {}),
    ...body,
  });
  return parsed.success ? null : describeIssues(parsed.error);
}

describe("a registration", () => {
  it("has the defaults of the contract", () => {
    expect(registered({})).toEqual({
      config: {
        name: "acme",
        url: URL_,
        prefix: "acme",
        gate: "plan",
        tenants: ["default"],
        roles: ["windsurf"],
        timeout_ms: 60_000,
        session_param: true,
        sampling: false,
        elicitation: false,
        resource_prefixes: [],
      },
      auth: { kind: "none" },
    });
    expect(registered({ prefix: "" }).config.prefix).toBe("");
  });

  it("comes back from its stored text", () => {
    const { config } = registered({ roles: ["auditor", "windsurf"], resource_prefixes: ["a://"] });
    expect(parseConfig(JSON.stringify(config))).toEqual(config);
  });

  it.each([
    [{ name: "Acme" }, "name"],
    [{ name: "" }, "name"],
    [{ name: "x".repeat(64) }, "name"],
    [{ name: "a.b" }, "name"],
    [{ url: "mcp" }, "url"],
    [{ url: "ftp://acme.com" }, "url"],
    [{ url: "https://a:b@acme.com/" }, "url"],
    [{ url: "https://acme.com/#x" }, "url"],
    [{ url: "https://acme.com/?api_key=abc" }, "url"],
    [{ url: `https://acme.com/?k=ghp_${"a".repeat(36)}` }, "url"],
    [{ url: `https://acme.com/${"a".repeat(2_048)}` }, "url"],
    [{ prefix: "a.b" }, "prefix"],
    [{ prefix: "x".repeat(33) }, "prefix"],
    [{ gate: "closed" }, "gate"],
    [{ tenants: [] }, "tenants"],
    [{ tenants: ["a b"] }, "tenants.0"],
    [{ tenants: ["a", "a"] }, "tenants"],
    [{ roles: ["operator"] }, "roles.0"],
    [{ roles: [] }, "roles"],
    [{ timeout_ms: 99 }, "timeout_ms"],
    [{ timeout_ms: 600_001 }, "timeout_ms"],
    [{ timeout_ms: 1000.5 }, "timeout_ms"],
    [{ session_param: "yes" }, "session_param"],
    [{ resource_prefixes: [""] }, "resource_prefixes.0"],
    [{ colour: "red" }, "colour"],
    [{ auth: { kind: "bearer" } }, "auth.token"],
    [{ auth: { kind: "bearer", token: "a b" } }, "auth.token"],
    [{ auth: { kind: "bearer", token: "a\nb" } }, "auth.token"],
    [{ auth: { kind: "bearer", token: "x", user: "y" } }, "user"],
    [{ auth: { kind: "header", name: "Mcp-Session-Id", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "HOST", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "accept", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "Content-Type", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "content-length", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "a b", value: "x" } }, "auth.name"],
    [{ auth: { kind: "header", name: "x-key", value: "a\r\nhost: b" } }, "auth.value"],
    [{ auth: { kind: "oauth_client_credentials", token_url: "x" } }, "auth.token_url"],
    [{ auth: { kind: "basic" } }, "auth"],
    [{ auth: "none" }, "auth"],
    [{ auth: { kind: "token_exchange", token_url: URL_ } }, "auth.client_id"],
  ])("is refused with %j, naming %s", (body, names) => {
    const told = problem(body);
    expect(told).toContain(names);
    expect(told).not.toContain("ghp_");
  });

  it("needs a prefix where its name is too long to be one", () => {
    const name = "x".repeat(40);
    expect(registrationOf(registrationBody.parse({ name, url: URL_ }))).toMatchObject({
      ok: false,
    });
    expect(registered({ name, prefix: "x" }).config).toMatchObject({ name, prefix: "x" });
  });

  it("is changed field by field, its name never", () => {
    const before = registered({ auth: { kind: "bearer", token: "t0ken" } });
    const after = changed(before, changeBody.parse({ gate: "open" }));
    expect(after).toEqual({ ...before, config: { ...before.config, gate: "open" } });
    const none = changed(before, changeBody.parse({ auth: { kind: "none" } }));
    expect(none.auth).toEqual({ kind: "none" });
    expect(problem({ name: "other" }, changeBody)).toContain("name");
    expect(problem({ roles: [] }, changeBody)).toContain("roles");
  });
});

const OAUTH = {
  kind: "oauth_client_credentials" as const,
  token_url: "https://auth.acme.com/token",
  client_id: "me",
  client_secret: "hush",
};

describe("credentials", () => {
  it.each([
    { kind: "none" },
    { kind: "bearer", token: "hush" },
    { kind: "header", name: "X-Key", value: "hush" },
    OAUTH,
    { ...OAUTH, scope: "a b", resource: null, auth_method: "post" },
  ])("of kind $kind open for their upstream alone, and are never shown", (auth) => {
    const { auth: given } = registered({ auth });
    const sealed = sealAuth(KEY, "acme", given);
    expect(openAuth(KEY, "acme", sealed)).toEqual(given);
    expect(() => openAuth(KEY, "other", sealed)).toThrow();
    expect(() => openAuth(new Uint8Array(32), "acme", sealed)).toThrow();
    const shown = JSON.stringify(shownAuth(given));
    expect(shown).toContain(auth.kind);
    expect(shown).not.toContain("hush");
  });

  it.each([
    { auth: { kind: "header", name: "X-Key", value: "hush" } },
    { auth: { kind: "bearer", token: "hush" } },
    { auth: OAUTH },
    { auth: { kind: "bearer", tokn: "hush", nested: { deep: "hush" } } },
    { auth: "hush" },
    { auth: ["hush"] },
  ])("are taken out of what is recorded, misplaced ones too: %j", (sent) => {
    const kept = withoutSecrets({ name: "acme", ...sent });
    expect(kept).toMatchObject({ name: "acme" });
    expect(JSON.stringify(kept)).not.toContain("hush");
  });
});
