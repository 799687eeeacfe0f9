import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { parseIssuers } from "../../src/oauth/issuers.ts";

const ISSUER = "https://login.example.com/tenant";

function messageOf(text: string): string {
  const parsed = parseIssuers(text);
  if (parsed.ok) throw new Error(`${text} was taken`);
  return parsed.message;
}

describe("the list of issuers", () => {
  test("has a default for all but the issuer", () => {
    expect(parseIssuers(JSON.stringify([{ issuer: ISSUER }]))).toEqual({
      ok: true,
      issuers: [{ issuer: ISSUER, role_claim: "role", token_types: ["at+jwt"] }],
    });
    expect(parseIssuers("[]")).toEqual({ ok: true, issuers: [] });
  });

  test.each([
    ["{", "JSON"],
    ["{}", "array"],
    [JSON.stringify([{}]), "0.issuer"],
    [JSON.stringify([{ issuer: "login.example.com" }]), "0.issuer"],
    [JSON.stringify([{ issuer: "https://a.example/?x=1" }]), "0.issuer"],
    [JSON.stringify([{ issuer: "https://u:p@a.example" }]), "0.issuer"],
    [JSON.stringify([{ issuer: "https://a.example|b" }]), "0.issuer"],
    [JSON.stringify([{ issuer: ISSUER, jwks_url: "x" }]), "not known"],
    [JSON.stringify([{ issuer: ISSUER, jwks_uri: "file:///etc/passwd" }]), "0.jwks_uri"],
    [JSON.stringify([{ issuer: ISSUER }, { issuer: ISSUER }]), "once"],
    [JSON.stringify([{ issuer: ISSUER, client_secret: "hush" }]), "belong together"],
    [JSON.stringify([{ issuer: ISSUER, introspection_endpoint: `${ISSUER}/i` }]), "together"],
  ])("refuses %s", (text, names) => {
    const message = messageOf(text);
    expect(message).toContain(names);
    expect(message).not.toContain("hush");
  });

  test("that does not fit is an error of the configuration", () => {
    const secrets = { ADMIN_TOKEN: "a".repeat(32), SECRETS_KEY: "", LOG_SIGNING_KEY: "" };
    const key = Buffer.alloc(32, 1).toString("base64");
    const parsed = parseConfig({
      ...secrets,
      SECRETS_KEY: key,
      LOG_SIGNING_KEY: key,
      MCP_TOKEN_ISSUERS: "[{}]",
    });
    expect(parsed).toMatchObject({
      ok: false,
      message: expect.stringContaining("MCP_TOKEN_ISSUERS"),
    });
  });
});
