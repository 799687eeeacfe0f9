import { createPublicKey } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RawSession } from "../support/mcp.ts";
import { hmacJwt, jwt, Stranger } from "./support/forged-token.ts";
import { TokenStage } from "./support/token-stage.ts";

const stranger = new Stranger();
let on: TokenStage;

beforeAll(async () => {
  on = await TokenStage.start();
});

afterAll(() => on?.dispose());

test("a genuine token opens a session: what follows is refused for what it is", async () => {
  const growth = await on.stage.growthOf(async () => {
    expect((await on.bearing(await on.issuer.token(on.resource))).status).toBe(200);
    expect((await on.bearing(await on.other.token(on.resource))).status).toBe(200);
    expect((await on.bearing(await on.issuer.signed({}, on.claims()))).status).toBe(200);
  });
  expect(Object.values(growth.records)).toHaveLength(3);
});

describe("an algorithm that proves nothing", () => {
  test.each([
    "none",
    "None",
    "NONE",
    "nOnE",
    "none ",
    "",
    null,
    0,
    true,
    ["none"],
    { alg: "none" },
  ])("%j", async (alg) => {
    const header = { alg, typ: "at+jwt", kid: "key-1" };
    const signature = (await on.issuer.token(on.resource)).split(".")[2];
    for (const end of ["", "AA", signature]) await on.refused(jwt(header, on.claims(), end));
  });

  test("none at all", async () => {
    await on.refused(jwt({ typ: "at+jwt", kid: "key-1" }, on.claims()));
  });

  test.each(["HS256", "HS384", "HS512"])("%s with the public key as a secret", async (alg) => {
    const text = await (await fetch(`${on.issuer.url}/jwks`)).text();
    const [jwk] = JSON.parse(text).keys;
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const pem = key.export({ format: "pem", type: "spki" });
    const secrets = [
      text,
      JSON.stringify(jwk),
      pem,
      pem.toString().trim(),
      key.export({ format: "der", type: "spki" }),
      Buffer.from(jwk.n, "base64url"),
      jwk.n,
      "",
    ];
    for (const secret of secrets) {
      await on.refused(hmacJwt({ alg, typ: "at+jwt", kid: "key-1" }, on.claims(), secret));
    }
  });

  test.each(["RS1", "PS256", "ES256", "EdDSA", "dir", "RSA-OAEP"])(
    "%s over a signature of another",
    async (alg) => {
      const [, payload = "", signature = ""] = (await on.issuer.token(on.resource)).split(".");
      const head = Buffer.from(JSON.stringify({ alg, typ: "at+jwt", kid: "key-1" }));
      await on.refused(`${head.toString("base64url")}.${payload}.${signature}`);
    },
  );
});

describe("a token that brings its own key", () => {
  test.each(["jwk", "jku", "x5c", "x5u", "x5t", "kid"])("in %s", async (name) => {
    const values: Record<string, unknown> = {
      jwk: stranger.publicJwk,
      jku: `${on.inside.url}/jwks`,
      x5c: [stranger.certificate],
      x5u: `${on.inside.url}/cert.pem`,
      x5t: "AAAAAAAAAAAAAAAAAAAAAAAAAAA",
      kid: `${on.inside.url}/jwks`,
    };
    await on.refused(stranger.jwt({ kid: "key-1", [name]: values[name] }, on.claims()));
    await on.refused(stranger.jwt({ [name]: values[name] }, on.claims()));
    expect(on.inside.connections).toBe(0);
  });

  test("or one of another issuer of this deployment", async () => {
    await on.refused(await on.other.token(on.resource, { iss: on.issuer.url }));
    await on.refused(await on.issuer.token(on.resource, { iss: on.other.url }));
  });

  test("or a critical extension that nobody knows, genuinely signed", async () => {
    for (const header of [
      { crit: ["exp"], exp: 0 },
      { crit: ["b64"], b64: false },
      { crit: ["urn:x"], "urn:x": 1 },
      { crit: [] },
      { crit: "alg" },
    ]) {
      await on.refused(await on.issuer.signed(header, on.claims()));
    }
  });
});

describe("a token that is no token", () => {
  test("changed after it was signed", async () => {
    const good = await on.issuer.token(on.resource);
    const [head = "", , signature = ""] = good.split(".");
    const [, payload = ""] = (await on.issuer.token(on.resource, { role: "auditor" })).split(".");
    await on.refused(`${head}.${payload}.${signature}`);
    await on.refused(`${head}.${payload}.`);
    await on.refused(`${good}.${good}`);
    await on.refused(`${good}=`);
    await on.refused(good.split("").reverse().join(""));
  });

  test("larger than one may be, genuinely signed or not", async () => {
    for (const size of [8 * 1024 + 1, 60 * 1024]) {
      await on.refused("x".repeat(size));
      await on.refused(`${"e30".repeat(size / 3)}.e30.e30`);
    }
    for (const size of [13 * 1024, 45 * 1024]) {
      await on.refused(await on.issuer.signed({}, on.claims({ padding: "x".repeat(size) })));
    }
  });

  test("no JSON, or the wrong kind of it", async () => {
    for (const body of [
      "",
      "[]",
      "null",
      "{",
      '"alice"',
      '{"iss":',
      "\ufeff{}",
      "{}".repeat(100),
    ]) {
      await on.refused(await on.issuer.signed({}, body));
    }
    await on.refused(jwt("[]", on.claims(), "AA"));
    await on.refused(jwt("null", on.claims(), "AA"));
    await on.refused(jwt(`${'{"a":'.repeat(2_000)}1${"}".repeat(2_000)}`, on.claims(), "AA"));
  });
});

describe("key ids that nobody knows", () => {
  test.each([
    "../../../../etc/passwd",
    "/dev/null",
    "key-1' OR '1'='1",
    "key-1\u0000",
    "file:///etc/passwd",
    "__proto__",
    "constructor",
    "toString",
    "k".repeat(4_000),
  ])("%j", async (kid) => {
    await on.refused(await on.issuer.signed({ kid }, on.claims()));
  });

  test("in a flood cost the issuer one look, and nobody else anything", async () => {
    const session = await RawSession.open(on.stage.url, await on.issuer.token(on.resource));
    const looks = () => on.issuer.asked.filter((path) => path === "/jwks").length;
    const before = looks();
    const flood = Array.from({ length: 120 }, (_, n) =>
      on.issuer.signed({ kid: `flood-${n}` }, on.claims()),
    );
    const tokens = await Promise.all(flood);
    const fresh = await on.issuer.token(on.resource, { sub: "bob" });
    const honest: number[] = [];
    await Promise.all([
      ...tokens.map(async (token) => {
        expect((await on.bearing(token)).status).toBe(401);
      }),
      ...Array.from({ length: 20 }, async () => {
        honest.push((await session.request("ping")).status);
      }),
      on.bearing(fresh).then(({ status }) => honest.push(status)),
    ]);
    expect(honest).toEqual(Array(21).fill(200));
    expect(looks() - before).toBeLessThanOrEqual(1);
    on.stage.keepsSecret(
      on.stage.log,
      tokens.map((token) => token.slice(-30)),
    );
    // The last of them, by itself, against what is stored.
    await on.refused(tokens.at(-1) ?? "");
  });
});
