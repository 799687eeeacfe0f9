import { afterAll, beforeAll, describe, test } from "vitest";
import { type Answer, send } from "../support/http.ts";
import { initializeMessage } from "../support/mcp.ts";
import { seconds, TokenStage } from "./support/token-stage.ts";

let on: TokenStage;

beforeAll(async () => {
  on = await TokenStage.start();
});

afterAll(() => on?.dispose());

describe("claims that do not fit, genuinely signed", () => {
  test("another audience", async () => {
    const base = on.stage.url;
    const wrong: unknown[] = [
      `${on.resource}/`,
      `${on.resource}x`,
      `${on.resource}?a`,
      `${on.resource}#`,
      on.resource.slice(0, -1),
      on.resource.toUpperCase(),
      `${base}//`,
      `${base}/admin`,
      "https://gate.example.com/mcp",
      ["https://gate.example.com/mcp", `${on.resource}/`],
      [[on.resource]],
      [],
      { [on.resource]: true },
      "*",
      "",
      null,
      true,
      undefined,
    ];
    for (const aud of wrong) await on.refused(await on.issuer.signed({}, on.claims({ aud })));
  });

  test("another issuer", async () => {
    const wrong: unknown[] = [
      "https://evil.example.com",
      `${on.issuer.url}/`,
      on.issuer.url.slice(0, -1),
      on.issuer.url.replace("127.0.0.1", "localhost"),
      `${on.issuer.url}@evil.example.com`,
      [on.issuer.url],
      { iss: on.issuer.url },
      "",
      null,
      undefined,
    ];
    for (const iss of wrong) await on.refused(await on.issuer.signed({}, on.claims({ iss })));
  });

  test("another time", async () => {
    await on.refused(await on.issuer.signed({}, on.claims({ exp: seconds() - 31 })), "KEY_EXPIRED");
    await on.refused(await on.issuer.signed({}, on.claims({ exp: 0 })), "KEY_EXPIRED");
    await on.refused(await on.issuer.signed({}, on.claims({ exp: -1e300 })), "KEY_EXPIRED");
    for (const changes of [
      { nbf: seconds() + 90 },
      { iat: seconds() + 90 },
      { exp: undefined },
      { exp: null },
      { exp: String(seconds() + 300) },
      { nbf: "0" },
      { iat: "now" },
    ]) {
      await on.refused(await on.issuer.signed({}, on.claims(changes)));
    }
  });

  test("another type: an ID token, a logout token, a proof", async () => {
    for (const typ of [
      "JWT",
      "jwt",
      "id_token",
      "logout+jwt",
      "dpop+jwt",
      "at+jwtx",
      "",
      undefined,
    ]) {
      await on.refused(await on.issuer.signed({ typ }, on.claims()));
    }
    const idToken = on.claims({ aud: "a-client", nonce: "n", at_hash: "h", auth_time: seconds() });
    await on.refused(await on.issuer.signed({ typ: "JWT" }, idToken));
    await on.refused(
      await on.issuer.signed({ typ: undefined }, on.claims({ nonce: "n", at_hash: "h" })),
    );
  });

  test("nobody, or a name that could pass for two", async () => {
    for (const sub of [
      undefined,
      null,
      "",
      7,
      ["alice"],
      "a\nb",
      "a\u2028b",
      "\ud800",
      "x".repeat(256),
    ]) {
      await on.refused(await on.issuer.signed({}, on.claims({ sub })));
    }
    await on.refused(await on.issuer.signed({}, on.claims({ cnf: { jkt: "thumbprint" } })));
  });

  test("a role or tenant that is not to be had", async () => {
    for (const changes of [
      { role: "operator" },
      { role: ["windsurf", "auditor"] },
      { role: undefined },
      { role: { windsurf: true } },
      { tenant: "../other" },
      { tenant: ["default"] },
    ]) {
      await on.refused(await on.issuer.signed({}, on.claims(changes)), "FORBIDDEN");
    }
  });

  test("the same claim twice: the last one counts, as every parser of JSON here has it", async () => {
    const twice = (name: string, value: unknown) =>
      `${JSON.stringify(on.claims()).slice(0, -1)},${JSON.stringify(name)}:${JSON.stringify(value)}}`;
    await on.refused(await on.issuer.signed({}, twice("aud", "https://gate.example.com/mcp")));
    await on.refused(await on.issuer.signed({}, twice("iss", "https://evil.example.com")));
    await on.refused(await on.issuer.signed({}, twice("exp", 1)), "KEY_EXPIRED");
    await on.refused(await on.issuer.signed({}, twice("role", "operator")), "FORBIDDEN");
  });
});

describe("a genuine token in the wrong place", () => {
  const place = (path: string, headers: Record<string, string>, body?: string) =>
    send(`${on.stage.url}${path}`, {
      method: "POST",
      headers: {
        accept: "application/json, text/event-stream",
        "content-type": "application/json",
        ...headers,
      },
      body: body ?? JSON.stringify(initializeMessage()),
    });

  test.each(["query", "cookie", "X-API-Key", "Basic", "form", "two words", "DPoP"])(
    "%s",
    async (where) => {
      const token = await on.issuer.token(on.resource);
      const basic = Buffer.from(`alice:${token}`).toString("base64");
      const form = { "content-type": "application/x-www-form-urlencoded" };
      const ways: Record<string, () => Promise<Answer>> = {
        query: () => place(`/mcp?access_token=${token}`, {}),
        cookie: () => place("/mcp", { cookie: `access_token=${token}; authorization=${token}` }),
        "X-API-Key": () => place("/mcp", { "x-api-key": token }),
        Basic: () => place("/mcp", { authorization: `Basic ${basic}` }),
        form: () => place("/mcp", form, `access_token=${token}`),
        "two words": () => place("/mcp", { authorization: `Bearer ${token} ${token}` }),
        DPoP: () => place("/mcp", { authorization: `DPoP ${token}` }),
      };
      const attack = ways[where];
      if (attack === undefined) throw new Error(where);
      const secrets = [token.slice(-30), basic.slice(0, 40)];
      await on.stage.refuses({ status: 401, code: "UNAUTHENTICATED", secrets }, attack);
    },
  );

  test("the admin API and the metrics", async () => {
    const token = await on.issuer.token(on.resource, { role: "operator" });
    const genuine = await on.issuer.token(on.resource);
    for (const each of [token, genuine]) {
      for (const path of ["/admin/keys", "/admin/audit", "/metrics"]) {
        const secrets = [each.slice(-30)];
        await on.stage.refuses({ status: 401, code: "UNAUTHENTICATED", secrets }, () =>
          send(`${on.stage.url}${path}`, { headers: { authorization: `Bearer ${each}` } }),
        );
      }
    }
  });
});
