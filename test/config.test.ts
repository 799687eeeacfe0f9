import { describe, expect, test } from "vitest";
import { type ConfigResult, parseConfig } from "../src/config.ts";
import { isWithin } from "../src/policy/cidr.ts";

const KEY = Buffer.alloc(32, 1).toString("base64");
const SECRETS = { ADMIN_TOKEN: KEY, SECRETS_KEY: KEY, LOG_SIGNING_KEY: KEY };

function configWith(vars: Record<string, string>): ConfigResult {
  return parseConfig({ ...SECRETS, ...vars });
}

function valid(vars: Record<string, string>) {
  const result = configWith(vars);
  if (!result.ok) throw new Error(result.message);
  return result.config;
}

describe("who gets in and how much", () => {
  test("has limits unless they are turned off, and lets every address in unless it is told", () => {
    expect(valid({})).toMatchObject({
      sessionRate: { perMinute: 600, burst: 20 },
      principalPerMinute: 6000,
      maxSessionsPerPrincipal: 1000,
      allowedIps: null,
      tokenIssuers: [],
      requireClientCert: false,
    });
    expect(
      valid({ RATE_LIMIT_PER_MINUTE: "0", RATE_LIMIT_PRINCIPAL_PER_MINUTE: "0" }),
    ).toMatchObject({ sessionRate: null, principalPerMinute: null });
  });

  test("reads a list of addresses as it is written by hand", () => {
    const { allowedIps } = valid({ ALLOWED_IPS: " 192.0.2.0/24,2001:db8::/32 , 198.51.100.1," });
    if (allowedIps === null) throw new Error("no list");
    expect(
      ["192.0.2.8", "2001:db8::5", "198.51.100.1"].every((ip) => isWithin(allowedIps, ip)),
    ).toBe(true);
    expect(isWithin(allowedIps, "198.51.100.2")).toBe(false);
  });

  test.each([
    ["ALLOWED_IPS", "192.0.2.1/24"],
    ["ALLOWED_IPS", "192.0.2.0/24 198.51.100.0/24"],
    ["RATE_LIMIT_PER_MINUTE", "-1"],
    ["RATE_LIMIT_PER_MINUTE", "1.5"],
    ["RATE_LIMIT_BURST", "-1"],
    ["MAX_SESSIONS_PER_PRINCIPAL", "0"],
    ["REQUIRE_CLIENT_CERT", "yes"],
    ["MCP_TOKEN_ISSUERS", "https://login.example.com"],
  ])("a bad %s is one error that names it", (name, value) => {
    const result = configWith({ [name]: value });
    expect(result).toMatchObject({ ok: false, message: expect.stringContaining(name) });
  });

  test.each([
    ["ALLOWED_IPS", "192.0.2.0/24, 10.20.30.40/8", "entry 2", "10.20"],
    ["ALLOWED_IPS", "db-internal.example", "entry 1", "db-internal"],
    ["ALLOWED_ORIGINS", "https://a.example,,https://secret.example/path", "entry 3", "secret"],
    ["MCP_TOKEN_ISSUERS", '[{"issuer": "ftp://secret.example"}]', "0.issuer", "secret"],
    ["PUBLIC_URL", "https://secret.example/path", "PUBLIC_URL", "secret"],
    ["WITNESSES", '[{"name":"w","vkey":"x","url":"http://secret.example"}]', "0.vkey", "secret"],
    ["LOG_ORIGIN", "secret name", "LOG_ORIGIN", "secret"],
    ["ALERT_WEBHOOKS", '[{"kind":"json","url":"secret"}]', "ALERT_WEBHOOKS", "secret"],
    ["ARCHIVE", "secret", "ARCHIVE", "secret"],
  ])(
    "a bad %s is told by its place and not quoted: everybody sees it",
    (name, value, place, quoted) => {
      const result = configWith({ [name]: value });
      if (result.ok) throw new Error("it was taken");
      expect(result.message).toContain(name);
      expect(result.message).toContain(place);
      expect(result.message).not.toContain(quoted);
    },
  );
});
