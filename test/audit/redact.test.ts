import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { JsonObject, JsonValue } from "../../src/audit/record.ts";
import { MAX_ARGS_BYTES, storeArgs } from "../../src/audit/redact.ts";
import { json, loneSurrogate } from "./arbitraries.ts";
import { canonical } from "./reference.ts";

const redact = (args: JsonObject, contentKeys: readonly string[] = []): string | null =>
  storeArgs("redacted", args, { contentKeys });

/** Invented credentials, put together here so that no scanner of this repository takes them for real. */
const x = (prefix: string, unit: string, length: number): string =>
  prefix + unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
const CREDENTIALS: readonly [string, string][] = [
  ["a PEM key", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----"],
  ["an RSA key on one line", "-----BEGIN RSA PRIVATE KEY-----\\nMIIE"],
  ["an OpenSSH key", "-----BEGIN OPENSSH PRIVATE KEY-----"],
  ["an encrypted key", "-----BEGIN ENCRYPTED PRIVATE KEY-----"],
  ["a PGP key", "-----BEGIN PGP PRIVATE KEY BLOCK-----"],
  ["a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
  ["an unsigned JWT", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."],
  ["an encrypted JWT without a key part", "eyJhbGciOiJkaXIifQ..aXY.Y3Q.dGFn"],
  ["an AWS key id", x("AKIA", "IOSFODNN7", 16)],
  ["a temporary AWS key id", x("ASIA", "IOSFODNN7", 16)],
  ["a GitHub token", x("ghp_", "aB3", 36)],
  ["a GitHub OAuth token", x("gho_", "aB3", 36)],
  ["a GitHub user token", x("ghu_", "aB3", 36)],
  ["a GitHub server token", x("ghs_", "aB3", 36)],
  ["a GitHub refresh token", x("ghr_", "aB3", 36)],
  ["a fine-grained GitHub token", x("github_pat_", "11AB_c", 82)],
  ["a GitLab token", x("glpat-", "aB-3_", 20)],
  ["a Slack bot token", x("xoxb-", "123-", 40)],
  ["a Slack user token", x("xoxp-", "123-", 40)],
  ["a Stripe key", x("sk_live_", "aB3", 24)],
  ["a restricted Stripe key", x("rk_live_", "aB3", 24)],
  ["a Stripe test key", x("sk_test_", "aB3", 24)],
  ["a Google key", x("AIza", "Sy-_9", 35)],
  ["an OpenAI key", x("sk-", "aB3", 48)],
  ["an OpenAI project key", x("sk-proj-", "aB3_-", 100)],
  ["an Anthropic key", x("sk-ant-api03-", "aB3_-", 90)],
  ["an npm token", x("npm_", "aB3", 36)],
  ["a SendGrid key", `${x("SG.", "aB3", 22)}.${x("", "aB-3_", 43)}`],
  ["a Hugging Face token", x("hf_", "aBc", 34)],
  ["a PyPI token", x("pypi-AgEIcHlwaS5vcmc", "aB3", 60)],
  ["a DigitalOcean token", x("dop_v1_", "0af", 64)],
  ["a Vault token", x("hvs.", "aB3", 30)],
  ["a Slack webhook", "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijkl"],
  ["a key of this gateway", x("ag_k1x9_", "aB-3_", 43)],
];

describe("credential names", () => {
  const named = [
    "password",
    "PASSWORD",
    "passwd",
    "user_password",
    "db.password",
    "secret",
    "client-secret",
    "clientSecret",
    "token",
    "accessToken",
    "access_token",
    "AUTH_TOKEN",
    "OAuthToken",
    "oauth2Token",
    "idToken",
    "Token",
    "apikey",
    "apiKey",
    "APIKey",
    "API_KEY",
    "x-api-key",
    "api key",
    "X-ApiKey",
    "authorization",
    "Authorization",
    "proxy-authorization",
    "cookie",
    "Set-Cookie",
    "private_key",
    "privateKey",
    "PRIVATE-KEY",
    "sshPrivateKeyPath",
    "credential",
    "credentials",
    "awsCredentials",
    "passWord",
    "APIToken",
    "DBPassword",
    "PassWord",
    "my secret!",
    "{token}",
    "é_token",
  ];
  it.each(named)("takes the value of %j, of whatever kind", (key) => {
    for (const value of ["v", 1, true, null, ["v"], { deep: "v" }]) {
      expect(redact({ [key]: value })).toBe(canonical({ [key]: "[REDACTED]" }));
    }
  });

  const ordinary = [
    "max_tokens",
    "maxTokens",
    "tokens",
    "author",
    "authority",
    "authorized",
    "monkey",
    "key",
    "keyboard",
    "public_key",
    "primaryKey",
    "api",
    "api_version_key",
    "apis",
    "keyApi",
    "private",
    "privately",
    "privateNote",
    "tokenize",
    "tokenizer",
    "passwords",
    "secrets",
    "cookies",
    "secretary",
    "password1",
    "pass_word",
    "pass",
    "bypass",
    "path",
    "",
    "_",
    "__proto__",
  ];
  it.each(ordinary)("leaves the value of %j", (key) => {
    const args = Object.fromEntries([[key, "v"]]);
    expect(redact(args)).toBe(canonical(args));
  });
});

describe("credential formats", () => {
  it.each(CREDENTIALS)("takes the whole string that holds %s", (_name, credential) => {
    for (const text of [
      credential,
      `see ${credential}, please`,
      `x=${credential}`,
      `%3D${credential}`,
      `\\n${credential}\\n`,
    ]) {
      expect(redact({ text })).toBe('{"text":"[REDACTED]"}');
    }
  });

  it.each(CREDENTIALS)("takes keys that hold %s", (_name, credential) => {
    // "PRIVATE KEY" is a credential's name too, so there the value goes as well.
    expect(redact({ a: { [credential]: 1 } })).toMatch(
      /^\{"a":\{"\[REDACTED\]":(?:1|"\[REDACTED\]")\}\}$/,
    );
  });

  const ordinary = [
    "task-manager-configuration-file-loader",
    "risk-management-framework-overview.md",
    "feature_flag_enabled_for_all_customers_now",
    "tag_name_of_the_release_candidate",
    "npm_config_registry_and_more_settings_here",
    "eyJust.a.sentence.",
    "eyJhbGciOiJIUzI1NiJ9 alone",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "AKIA",
    "AKIAlowercase0000000",
    "SG.short",
    "the token is secret",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "0199a3c2-7b1f-8abc-9def-0123456789ab",
  ];
  it.each(ordinary)("leaves %j", (text) => {
    expect(redact({ text })).toBe(canonical({ text }));
  });
});

describe("storeArgs", () => {
  const credential = fc.constantFrom(...CREDENTIALS.map(([, text]) => text));
  const secretive = fc
    .tuple(fc.constantFrom("", "x ", "é:", "a\n"), credential, fc.constantFrom("", " y", "\u0000"))
    .map((parts) => parts.join(""));
  /** Random arguments with a credential, or a marker under a credential's name, somewhere inside. */
  const leaky = fc
    .tuple(
      json,
      fc.oneof(
        secretive.map((text): [JsonValue, string] => [text, text]),
        secretive.map((text): [JsonValue, string] => [{ [text]: 1 }, text]),
        fc.constant<[JsonValue, string]>([{ apiKey: [{ x: "MARKER" }] }, "MARKER"]),
        fc.constant<[JsonValue, string]>([{ refresh_token: "MARKER" }, "MARKER"]),
      ),
      fc.array(fc.oneof(fc.constant(0), fc.constantFrom("a", "__proto__", "max_tokens")), {
        maxLength: 6,
      }),
    )
    .map(([base, [planted, secret], path]) => {
      const inner = path.reduceRight<JsonValue>(
        (value, step) => (step === 0 ? ["z", value] : Object.fromEntries([[step, value]])),
        planted,
      );
      return { args: Object.fromEntries([...Object.entries(base), ["planted", inner]]), secret };
    });

  it("never lets a secret through, at any depth", () => {
    fc.assert(
      fc.property(leaky, ({ args, secret }) => {
        const stored = redact(args) ?? "";
        const inside = JSON.stringify(secret).slice(1, -1);
        expect(JSON.stringify(args)).toContain(inside);
        expect(stored).not.toContain(inside);
        expect(stored).toMatch(/\[REDACTED\]|"truncated":true/);
      }),
    );
  });

  it("never touches the caller's object", () => {
    const freeze = (value: unknown): void => {
      if (typeof value !== "object" || value === null) return;
      Object.freeze(value);
      for (const member of Object.values(value)) freeze(member);
    };
    fc.assert(
      fc.property(
        leaky,
        fc.constantFrom("redacted" as const, "full" as const),
        ({ args }, mode) => {
          const before = canonical(args);
          freeze(args);
          storeArgs(mode, args, { contentKeys: ["planted"] });
          expect(canonical(args)).toBe(before);
        },
      ),
    );
  });

  it("keeps arguments without secrets as they are, in canonical form", () => {
    const args = { b: [1.5, { y: null, x: "é" }], a: true };
    const text = '{"a":true,"b":[1.5,{"x":"é","y":null}]}';
    expect(redact(args)).toBe(text);
    expect(storeArgs("full", args, { contentKeys: ["b"] })).toBe(text);
  });

  it("keeps secrets in full mode only, and nothing in digest mode", () => {
    const args = { password: "p", text: x("ghp_", "aB3", 36), content: "c" };
    const options = { contentKeys: ["content"] };
    expect(storeArgs("full", args, options)).toBe(canonical(args));
    expect(storeArgs("digest", args, options)).toBeNull();
  });

  it("redacts inside and under own __proto__ keys", () => {
    const args: JsonObject = JSON.parse('{"__proto__":{"token":"t","a":1},"b":{"__proto__":"x"}}');
    const stored = '{"__proto__":{"a":1,"token":"[REDACTED]"},"b":{"__proto__":"x"}}';
    expect(redact(args)).toBe(stored);
    expect(Object.hasOwn(Object.prototype, "token")).toBe(false);
  });

  it("puts the size of file contents in their place, at the top only", () => {
    const args = { content: "é😀", path: "p", more: { content: "kept" } };
    expect(redact(args, ["content"])).toBe(
      '{"content":{"bytes":6},"more":{"content":"kept"},"path":"p"}',
    );
    expect(redact({ content: x("ghp_", "aB3", 36) }, ["content"])).toBe('{"content":{"bytes":40}}');
    expect(redact({ content: { b: 1, a: "é" } }, ["content"])).toBe('{"content":{"bytes":16}}');
    expect(redact({ token: "abc" }, ["token"])).toBe('{"token":"[REDACTED]"}');
  });

  it("replaces what is over 8 KiB of UTF-8, after redaction, in full mode too", () => {
    // {"a":"…"} has 8 bytes around the text; é has two.
    const fits = { a: "é".repeat((MAX_ARGS_BYTES - 8) / 2) };
    expect(redact(fits)).toBe(canonical(fits));
    const over = { a: `${fits.a}x` };
    expect(redact(over)).toBe('{"bytes":8193,"truncated":true}');
    expect(storeArgs("full", over, { contentKeys: [] })).toBe('{"bytes":8193,"truncated":true}');
    expect(redact({ secret: "x".repeat(9000), a: 1 })).toBe('{"a":1,"secret":"[REDACTED]"}');
    expect(redact({ content: "x".repeat(9000) }, ["content"])).toBe('{"content":{"bytes":9000}}');
  });

  it("makes text well-formed instead of failing", () => {
    fc.assert(
      fc.property(
        loneSurrogate,
        fc.constantFrom("redacted" as const, "full" as const),
        (bad, mode) => {
          const args = { [bad]: [bad], content: bad };
          const good = bad.toWellFormed();
          const text = storeArgs(mode, args, { contentKeys: [] });
          expect(text).toBe(canonical({ [good]: [good], content: good }));
        },
      ),
    );
    expect(redact({ content: { a: "\ud800" } }, ["content"])).toBe('{"content":{"bytes":11}}');
  });

  it("reads nesting of 100,000 levels", () => {
    const deep = "[".repeat(100_000) + "]".repeat(100_000);
    expect(redact(JSON.parse(`{"a":${deep}}`))).toBe('{"bytes":200006,"truncated":true}');
    expect(redact(JSON.parse(`{"a":${deep}}`), ["a"])).toBe('{"a":{"bytes":200000}}');
    expect(redact({ a: [], token: JSON.parse(deep) })).toBe('{"a":[],"token":"[REDACTED]"}');
  });

  const costly = [
    "eyJ",
    "eyJaaaaaaaaaaaa ",
    "eyJaaaaaaaaaaaaa.x ",
    "ag_",
    "ag_a ",
    "sk-",
    "sk-a ",
    "-----BEGIN ",
    "-----BEGIN AAAA",
    "PRIVATE KEY",
    "SG.",
    "SG.aaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "dp.aa.",
    "A",
    "a",
    "0",
    "=",
    "%3D",
    "\\n",
    "xoxb-",
    "ghp_ ",
    "AKIA",
    "aB",
    "AAb",
    "A1",
    "api",
    "token",
    "é",
    "_",
  ];
  it.each(costly)("finishes on a megabyte of %j, as text and as key", (unit) => {
    const text = unit.repeat(Math.ceil(1_000_000 / unit.length));
    for (const args of [{ text }, { a: [{ [text]: 1 }] }, { text: `${text}!` }]) {
      expect(redact(args)).toMatch(/"truncated":true|\[REDACTED\]/);
    }
  });
});
