import { exportJWK, exportSPKI, generateKeyPair, type CryptoKey as JoseKey, SignJWT } from "jose";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkAccessToken } from "../../src/oauth/access-token.ts";
import type { Send } from "../../src/oauth/fetch-json.ts";
import { parseIssuers, type TokenIssuer } from "../../src/oauth/issuers.ts";

const RESOURCE = "https://gate.example.com/mcp";
const NOW = Date.UTC(2100, 0, 1);
const MINUTE = 60_000;

/** Members put in place of the usual ones; undefined leaves one out. */
type Changes = Record<string, unknown>;
type Pair = { publicKey: JoseKey; privateKey: JoseKey };

let rsa: Pair;
let next: Pair;
let stranger: Pair;

beforeAll(async () => {
  rsa = await generateKeyPair("RS256", { extractable: true });
  next = await generateKeyPair("ES256", { extractable: true });
  stranger = await generateKeyPair("RS256", { extractable: true });
});

/** An issuer with a key set of its own, which counts how often it is asked. */
class FakeIssuer {
  readonly entry: TokenIssuer;
  readonly asked: string[] = [];
  keys: Record<string, unknown>[] = [];
  isDown = false;
  metadata: Record<string, unknown> | null;

  constructor(name: string, more: object = {}) {
    const issuer = `https://${name}.example.com/t`;
    const parsed = parseIssuers(JSON.stringify([{ issuer, ...more }]));
    const [entry] = parsed.ok ? parsed.issuers : [];
    if (entry === undefined) throw new Error("no issuer");
    this.entry = entry;
    this.metadata = { issuer, jwks_uri: `https://${name}.example.com/jwks` };
  }

  readonly send: Send = async (url) => {
    this.asked.push(new URL(url).pathname);
    if (this.isDown) throw new TypeError("no route");
    if (url.endsWith("/jwks")) return Response.json({ keys: this.keys });
    const isMetadata = new URL(url).pathname === "/.well-known/oauth-authorization-server/t";
    return isMetadata && this.metadata !== null
      ? Response.json(this.metadata)
      : new Response("", { status: 404 });
  };

  async publish(pair: Pair, kid: string): Promise<void> {
    this.keys.push({ ...(await exportJWK(pair.publicKey)), kid });
  }

  check(token: string, now = NOW) {
    return checkAccessToken(token, [this.entry], RESOURCE, this.send, now);
  }

  async token(
    claims: Changes = {},
    header: Changes = {},
    key: JoseKey | Uint8Array = rsa.privateKey,
  ): Promise<string> {
    const seconds = NOW / 1000;
    return new SignJWT({
      iss: this.entry.issuer,
      aud: RESOURCE,
      sub: "alice",
      iat: seconds - 10,
      exp: seconds + 300,
      role: "windsurf",
      scope: "mcp:read",
      ...claims,
    })
      .setProtectedHeader({ alg: "RS256", ...{ typ: "at+jwt", kid: "k1", ...header } })
      .sign(key);
  }
}

let names = 0;
let issuer: FakeIssuer;

beforeEach(async () => {
  names += 1;
  issuer = new FakeIssuer(`issuer-${names}`);
  await issuer.publish(rsa, "k1");
});

function unsigned(header: object, claims: object, signature = ""): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part(header)}.${part(claims)}.${signature}`;
}

describe("a JWT", () => {
  test("of a trusted issuer is accepted, its keys found by discovery and read once", async () => {
    expect(await issuer.check(await issuer.token())).toMatchObject({
      kind: "accepted",
      grant: { principal: `oauth:${issuer.entry.issuer}|alice`, role: "windsurf" },
      expiresAt: NOW + 300_000,
    });
    await issuer.check(await issuer.token({ sub: "bob" }));
    expect(issuer.asked).toEqual(["/.well-known/oauth-authorization-server/t", "/jwks"]);
  });

  test.each([RESOURCE, new URL(RESOURCE).origin, `${new URL(RESOURCE).origin}/`])(
    "meant for %s is for this server",
    async (aud) => {
      const token = await issuer.token({ aud: ["https://other.example.com", aud] });
      expect(await issuer.check(token)).toMatchObject({ kind: "accepted" });
    },
  );

  test.each<[string, Changes, Changes, string]>([
    ["meant for another server", { aud: "https://other.example.com/mcp" }, {}, "audience"],
    ["meant for another path", { aud: "https://gate.example.com/mcp/other" }, {}, "audience"],
    ["meant for another port", { aud: "https://gate.example.com:8443" }, {}, "audience"],
    ["meant for nobody", { aud: undefined }, {}, "audience"],
    ["that has expired", { exp: NOW / 1000 - 31 }, {}, "expired"],
    ["without an end", { exp: undefined }, {}, "malformed"],
    ["that begins later", { nbf: NOW / 1000 + 31 }, {}, "not_yet_valid"],
    ["that was issued in the future", { iat: NOW / 1000 + 31 }, {}, "not_yet_valid"],
    ["of an issuer that is not trusted", { iss: "https://evil.example.com" }, {}, "issuer"],
    ["whose issuer differs by a slash", { iss: "https://x.example.com/t/" }, {}, "issuer"],
    ["that is an ID token", {}, { typ: "JWT" }, "type"],
    ["without a type", {}, { typ: undefined }, "type"],
    ["without a subject", { sub: undefined }, {}, "subject"],
    ["that is bound to a key", { cnf: { jkt: "x" } }, {}, "sender_constrained"],
    ["with a critical extension", {}, { crit: ["x"], x: 1 }, "malformed"],
  ])("%s is refused", async (_name, claims, header, problem) => {
    if (header.crit !== undefined) {
      const [, payload, signature] = (await issuer.token(claims)).split(".");
      const head = { alg: "RS256", typ: "at+jwt", kid: "k1", ...header };
      const forged = `${Buffer.from(JSON.stringify(head)).toString("base64url")}.${payload}.${signature}`;
      expect(await issuer.check(forged)).toMatchObject({ kind: "invalid" });
      return;
    }
    const token = await issuer.token(claims, header);
    expect(await issuer.check(token)).toEqual({ kind: "invalid", problem });
  });

  test("is for this server in whatever case scheme and host are written, and else letter by letter", async () => {
    for (const aud of ["HTTPS://Gate.Example.COM/mcp", ["x", "https://GATE.example.com/mcp"]]) {
      expect((await issuer.check(await issuer.token({ aud }))).kind).toBe("accepted");
    }
    for (const aud of [
      "https://gate.example.com/MCP",
      "https://gate.example.com/mcp/",
      "https://gate.example.com:443/mcp",
      "https://u@gate.example.com/mcp",
      "https://gate.example.com//",
      [],
      [["https://gate.example.com/mcp"]],
    ]) {
      const result = await issuer.check(await issuer.token({ aud }));
      expect(result).toEqual({ kind: "invalid", problem: "audience" });
    }
  });

  test("that names no key is tried with each that fits, as in a rotation", async () => {
    const second = await generateKeyPair("RS256", { extractable: true });
    await issuer.publish(second, "k2");
    await issuer.publish(next, "other-kind");
    for (const { privateKey } of [rsa, second]) {
      const token = await issuer.token({}, { kid: undefined }, privateKey);
      expect((await issuer.check(token)).kind).toBe("accepted");
      const expired = await issuer.token({ exp: NOW / 1000 - 31 }, { kid: undefined }, privateKey);
      expect(await issuer.check(expired)).toEqual({ kind: "invalid", problem: "expired" });
    }
    const forged = await issuer.token({}, { kid: undefined }, stranger.privateKey);
    expect(await issuer.check(forged)).toEqual({ kind: "invalid", problem: "signature" });
  });

  test("is taken half a minute around its time, for clocks differ", async () => {
    const late = await issuer.token({ exp: NOW / 1000 - 29 });
    const early = await issuer.token({ nbf: NOW / 1000 + 29, iat: NOW / 1000 + 29 });
    expect((await issuer.check(late)).kind).toBe("accepted");
    expect((await issuer.check(early)).kind).toBe("accepted");
  });

  test("without a signature is refused, whatever it calls that", async () => {
    const claims = { iss: issuer.entry.issuer, aud: RESOURCE, sub: "alice", role: "windsurf" };
    for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
      for (const signature of ["", "AAAA"]) {
        const token = unsigned({ alg, typ: "at+jwt", kid: "k1" }, claims, signature);
        expect((await issuer.check(token)).kind).toBe("invalid");
      }
    }
  });

  test("signed with the public key as a secret is refused", async () => {
    const spki = new TextEncoder().encode(await exportSPKI(rsa.publicKey));
    const jwk = new TextEncoder().encode(JSON.stringify(await exportJWK(rsa.publicKey)));
    for (const secret of [spki, jwk]) {
      const token = await issuer.token({}, { alg: "HS256" }, secret);
      expect(await issuer.check(token)).toEqual({ kind: "invalid", problem: "algorithm" });
    }
  });

  test("signed with a secret that the key set publishes is refused", async () => {
    const secret = new Uint8Array(32).fill(7);
    issuer.keys.push({ kty: "oct", kid: "s", k: Buffer.from(secret).toString("base64url") });
    const token = await issuer.token({}, { alg: "HS256", kid: "s" }, secret);
    expect((await issuer.check(token)).kind).toBe("invalid");
  });

  test("signed by somebody else, or changed afterwards, is refused", async () => {
    const forged = await issuer.token({}, {}, stranger.privateKey);
    expect(await issuer.check(forged)).toEqual({ kind: "invalid", problem: "signature" });
    const [head, , signature] = (await issuer.token()).split(".");
    const [, other] = (await issuer.token({ role: "auditor" })).split(".");
    const mixed = await issuer.check(`${head}.${other}.${signature}`);
    expect(mixed).toEqual({ kind: "invalid", problem: "signature" });
  });

  test("that brings its own key is refused", async () => {
    const jwk = await exportJWK(stranger.publicKey);
    const token = await issuer.token({}, { jwk, kid: "k1" }, stranger.privateKey);
    expect(await issuer.check(token)).toEqual({ kind: "invalid", problem: "signature" });
    expect(issuer.asked.filter((path) => path !== "/jwks")).toHaveLength(1);
  });

  test("without a role, or with the operator's, is genuine and of no use", async () => {
    expect(await issuer.check(await issuer.token({ role: "operator" }))).toEqual({
      kind: "forbidden",
      missing: "role",
    });
  });

  test.each(["", "..", "a.b.c", "eyJ.eyJ.x", "a".repeat(20_000), "e30.e30.", "e30.W10.AA"])(
    "that is none is refused without a question: %s",
    async (token) => {
      expect((await issuer.check(token)).kind).toBe("invalid");
      expect(issuer.asked).toEqual([]);
    },
  );

  test("may have another type where the issuer's entry says so, and another audience", async () => {
    const lax = new FakeIssuer(`lax-${names}`, {
      token_types: ["at+jwt", "jwt", "none"],
      audience: "api",
    });
    await lax.publish(rsa, "k1");
    for (const typ of ["JWT", "application/at+jwt", undefined]) {
      expect((await lax.check(await lax.token({ aud: ["api"] }, { typ }))).kind).toBe("accepted");
    }
    expect((await lax.check(await lax.token())).kind).toBe("invalid");
  });
});

describe("the keys of an issuer", () => {
  test("are read anew for a key id that is not among them, once a minute at most", async () => {
    await issuer.check(await issuer.token());
    issuer.keys = [];
    await issuer.publish(next, "k2");
    const rotated = await issuer.token({}, { alg: "ES256", kid: "k2" }, next.privateKey);
    expect(await issuer.check(rotated, NOW + MINUTE)).toMatchObject({ kind: "accepted" });
    const before = issuer.asked.length;
    for (let n = 0; n < 200; n++) {
      const flood = await issuer.token({}, { kid: `unknown-${n}` });
      expect(await issuer.check(flood, NOW + MINUTE + n)).toEqual({
        kind: "invalid",
        problem: "key",
      });
    }
    expect(issuer.asked.length).toBe(before);
  });

  test("that were withdrawn are forgotten within ten minutes", async () => {
    const token = await issuer.token({ exp: NOW / 1000 + 7200 });
    await issuer.check(token);
    issuer.keys = [];
    await issuer.publish(next, "k2");
    expect((await issuer.check(token, NOW + 9 * MINUTE)).kind).toBe("accepted");
    expect((await issuer.check(token, NOW + 10 * MINUTE)).kind).toBe("invalid");
  });

  test("go on for a day while the issuer is away, and then nothing can be said", async () => {
    const token = await issuer.token({ exp: NOW / 1000 + 3 * 86_400 });
    await issuer.check(token);
    issuer.isDown = true;
    expect((await issuer.check(token, NOW + 23 * 60 * MINUTE)).kind).toBe("accepted");
    // Whether a key that is not known exists cannot be said either.
    const unknown = await issuer.token({ exp: NOW / 1000 + 3 * 86_400 }, { kid: "k9" });
    expect((await issuer.check(unknown, NOW + 23 * 60 * MINUTE + 1)).kind).toBe("unavailable");
    expect((await issuer.check(token, NOW + 24 * 60 * MINUTE)).kind).toBe("unavailable");
    issuer.isDown = false;
    expect((await issuer.check(token, NOW + 24 * 60 * MINUTE + MINUTE)).kind).toBe("accepted");
  });

  test("are asked for once a minute while they cannot be had", async () => {
    issuer.isDown = true;
    const token = await issuer.token();
    for (let n = 0; n < 50; n++) {
      expect((await issuer.check(token, NOW + n * 1_000)).kind).toBe("unavailable");
    }
    // One attempt tries each place where the metadata may be.
    expect(issuer.asked).toHaveLength(3);
  });

  test("are not taken from metadata that is another issuer's", async () => {
    issuer.metadata = {
      issuer: "https://evil.example.com",
      jwks_uri: "https://evil.example.com/jwks",
    };
    expect((await issuer.check(await issuer.token())).kind).toBe("unavailable");
    expect(issuer.asked).not.toContain("/jwks");
  });
});

describe("a token that is no JWT", () => {
  const answers = new Map<string, object>();

  function opaque(): { entry: TokenIssuer; asked: Request[]; send: Send } {
    const asked: Request[] = [];
    const parsed = parseIssuers(
      JSON.stringify([
        {
          issuer: "https://opaque.example.com",
          introspection_endpoint: "https://opaque.example.com/introspect",
          client_id: "gate",
          client_secret: "h%sh :x",
        },
      ]),
    );
    const [entry] = parsed.ok ? parsed.issuers : [];
    if (entry === undefined) throw new Error("no issuer");
    const send: Send = async (url, init) => {
      const request = new Request(url, init);
      asked.push(request.clone());
      const token = new URLSearchParams(await request.text()).get("token") ?? "";
      const answer = answers.get(token);
      return answer === undefined ? new Response("", { status: 500 }) : Response.json(answer);
    };
    return { entry, asked, send };
  }

  const ACTIVE = { active: true, aud: RESOURCE, sub: "alice", role: "windsurf", scope: "mcp:read" };

  test("is introspected, with the credentials of this server", async () => {
    const { entry, asked, send } = opaque();
    answers.set("good", { ...ACTIVE, exp: NOW / 1000 + 60 });
    expect(await checkAccessToken("good", [entry], RESOURCE, send, NOW)).toMatchObject({
      kind: "accepted",
      grant: { principal: "oauth:https://opaque.example.com|alice" },
      expiresAt: NOW + 60_000,
    });
    const [request] = asked;
    const basic = Buffer.from("gate:h%25sh+%3Ax").toString("base64");
    expect(request?.headers.get("authorization")).toBe(`Basic ${basic}`);
    expect(request?.method).toBe("POST");
  });

  test.each<[object, object]>([
    [{ active: false }, { kind: "invalid", problem: "inactive" }],
    [
      { ...ACTIVE, aud: undefined },
      { kind: "invalid", problem: "audience" },
    ],
    [
      { ...ACTIVE, aud: ["other"] },
      { kind: "invalid", problem: "audience" },
    ],
    [
      { ...ACTIVE, iss: "https://evil.example.com" },
      { kind: "invalid", problem: "issuer" },
    ],
    [
      { ...ACTIVE, exp: NOW / 1000 - 31 },
      { kind: "invalid", problem: "expired" },
    ],
    [
      { ...ACTIVE, nbf: NOW / 1000 + 31 },
      { kind: "invalid", problem: "not_yet_valid" },
    ],
    [
      { ...ACTIVE, token_type: "DPoP" },
      { kind: "invalid", problem: "sender_constrained" },
    ],
    [
      { ...ACTIVE, role: "operator" },
      { kind: "forbidden", missing: "role" },
    ],
    [{ active: "true" }, { kind: "unavailable" }],
  ])("of which the issuer says %j is not accepted", async (answer, expected) => {
    const { entry, send } = opaque();
    answers.set("bad", answer);
    expect(await checkAccessToken("bad", [entry], RESOURCE, send, NOW)).toEqual(expected);
  });

  test("is neither good nor bad while the issuer fails", async () => {
    const { entry, send } = opaque();
    const result = await checkAccessToken("unheard-of", [entry], RESOURCE, send, NOW);
    expect(result).toEqual({ kind: "unavailable" });
  });

  test("is refused where no issuer can be asked", async () => {
    expect(await issuer.check("opaque")).toEqual({ kind: "invalid", problem: "malformed" });
  });
});
