import { describe, expect, test } from "vitest";
import type { TokenExchange } from "../../src/upstream/config.ts";
import { TokenRefused } from "../../src/upstream/oauth.ts";
import { exchangedToken } from "../../src/upstream/token-exchange.ts";

const EXCHANGE: TokenExchange = {
  kind: "token_exchange",
  token_url: "https://auth.example.com/token",
  client_id: "gate",
  client_secret: "hush",
  auth_method: "basic",
  resource: "https://upstream.example.com/mcp",
  audience: "upstream",
  scope: "issues",
};

/** A token endpoint that gives each subject a token of its own, and says what it was asked. */
function endpoint(status = 200, changes: { issued_token_type?: unknown } = {}) {
  const asked: URLSearchParams[] = [];
  const send = async (_url: string, init: RequestInit): Promise<Response> => {
    const form = new URLSearchParams(String(init.body));
    asked.push(form);
    return Response.json(
      status === 200
        ? {
            access_token: `for-${form.get("subject_token")}-${asked.length}`,
            token_type: "Bearer",
            issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
            expires_in: 600,
            ...changes,
          }
        : { error: "invalid_grant" },
      { status },
    );
  };
  return { asked, send };
}

function caller(principal: string, token: string | null) {
  return { kind: "caller" as const, principal, token: () => token };
}

describe("a caller's token", () => {
  test("is exchanged for one that is meant for the upstream", async () => {
    const { asked, send } = endpoint();
    const token = await exchangedToken("one", EXCHANGE, caller("oauth:i|alice", "a1"), send, null);
    expect(token).toBe("for-a1-1");
    expect(Object.fromEntries(asked[0] ?? [])).toEqual({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: "a1",
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
      requested_token_type: "urn:ietf:params:oauth:token-type:access_token",
      resource: "https://upstream.example.com/mcp",
      audience: "upstream",
      scope: "issues",
    });
  });

  test("is exchanged once, for each caller, upstream and token apart", async () => {
    const { asked, send } = endpoint();
    const ask = (upstream: string, who: string, token: string) =>
      exchangedToken(upstream, EXCHANGE, caller(who, token), send, null);
    const first = await ask("two", "alice", "t");
    expect(await ask("two", "alice", "t")).toBe(first);
    const others = [
      await ask("three", "alice", "t"),
      await ask("two", "bob", "t"),
      await ask("two", "alice", "t2"),
    ];
    expect(asked).toHaveLength(4);
    expect(new Set([first, ...others]).size).toBe(4);
  });

  test("is exchanged anew when the upstream refuses what came of it", async () => {
    const { send } = endpoint();
    const ask = (rejected: string | null) =>
      exchangedToken("four", EXCHANGE, caller("alice", "t"), send, rejected);
    const first = await ask(null);
    expect(await ask(first)).not.toBe(first);
  });

  test.each([
    ["urn:ietf:params:oauth:token-type:id_token"],
    ["urn:ietf:params:oauth:token-type:refresh_token"],
    ["urn:ietf:params:oauth:token-type:saml2"],
    ["access_token"],
    [null],
    [7],
  ])("is exchanged for nothing where the server issued %j instead", async (issued_token_type) => {
    const { asked, send } = endpoint(200, { issued_token_type });
    const ask = () => exchangedToken("six", EXCHANGE, caller("alice", "t"), send, null);
    await expect(ask()).rejects.toThrow(TokenRefused);
    // Nor is it kept for the next call.
    await expect(ask()).rejects.toThrow(TokenRefused);
    expect(asked).toHaveLength(2);
  });

  test.each([
    ["urn:ietf:params:oauth:token-type:access_token"],
    ["urn:ietf:params:oauth:token-type:jwt"],
    [undefined],
  ])("is exchanged by a server that says %j of what it issued", async (issued_token_type) => {
    const { send } = endpoint(200, { issued_token_type });
    const upstream = `seven ${issued_token_type}`;
    const token = exchangedToken(upstream, EXCHANGE, caller("alice", "t"), send, null);
    expect(await token).toBe("for-t-1");
  });

  test("that is not there, or not taken, is never replaced by the gateway's own", async () => {
    const { asked, send } = endpoint(400);
    await expect(
      exchangedToken("five", EXCHANGE, caller("key:1", null), send, null),
    ).rejects.toThrow(TokenRefused);
    expect(asked).toEqual([]);
    const refused = exchangedToken("five", EXCHANGE, caller("alice", "secret-t"), send, null);
    await expect(refused).rejects.toThrow("400 (invalid_grant)");
    await expect(refused).rejects.not.toThrow("secret-t");
  });
});
