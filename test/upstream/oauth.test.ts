import { describe, expect, it, vi } from "vitest";
import { parseConfig as gatewayConfig } from "../../src/config.ts";
import type { ClientCredentials } from "../../src/upstream/config.ts";
import { accessToken, renewalTime, tokenRequest } from "../../src/upstream/oauth.ts";
import { SingleFlight } from "../../src/upstream/single-flight.ts";
import { openTarget } from "../../src/upstream/target.ts";

const CREDENTIALS: ClientCredentials = {
  kind: "oauth_client_credentials",
  token_url: "https://auth.acme.com/token",
  client_id: "me & you",
  client_secret: "p:w +ü",
  auth_method: "basic",
};

let upstreams = 0;

/** An upstream that no other test has a token of. */
const newUpstream = () => `upstream-${++upstreams}`;

/** A token endpoint that gives out token-1, token-2, … */
function endpoint(answer: Record<string, unknown> = { expires_in: 600 }, status = 200) {
  const requests: RequestInit[] = [];
  const send = async (_url: string, init: RequestInit): Promise<Response> => {
    requests.push(init);
    await new Promise((resolve) => setTimeout(resolve, 1));
    const token = { access_token: `token-${requests.length}`, token_type: "Bearer", ...answer };
    return Response.json(token, { status });
  };
  return { requests, send };
}

describe("a request for a token", () => {
  it("is the client credentials grant, with the client in the header", () => {
    const { body, headers } = tokenRequest({
      ...CREDENTIALS,
      scope: "a b",
      resource: "https://r/",
    });
    expect(body).toBe("grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fr%2F");
    // Both halves in form encoding, RFC 6749, section 2.3.1.
    expect(Buffer.from(headers.authorization?.split(" ")[1] ?? "", "base64").toString()).toBe(
      "me+%26+you:p%3Aw+%2B%C3%BC",
    );
  });

  it("has the client in the body where the server wants that", () => {
    const { body, headers } = tokenRequest({ ...CREDENTIALS, auth_method: "post", resource: null });
    expect(new URLSearchParams(body).get("client_secret")).toBe("p:w +ü");
    expect(headers.authorization).toBeUndefined();
    expect(body).not.toContain("resource");
  });
});

describe("a token", () => {
  it("is asked for once and kept, however many ask at a time", async () => {
    const { requests, send } = endpoint();
    const name = newUpstream();
    const tokens = await Promise.all(
      Array.from({ length: 10 }, () => accessToken(name, CREDENTIALS, send)),
    );
    expect(new Set(tokens)).toEqual(new Set(["token-1"]));
    expect(await accessToken(name, CREDENTIALS, send)).toBe("token-1");
    expect(requests).toHaveLength(1);
  });

  it("is another upstream's, or of other credentials, never", async () => {
    const { requests, send } = endpoint();
    const name = newUpstream();
    await accessToken(name, CREDENTIALS, send);
    await accessToken(newUpstream(), CREDENTIALS, send);
    await accessToken(name, { ...CREDENTIALS, client_secret: "new" }, send);
    expect(requests).toHaveLength(3);
  });

  it("is renewed before its end", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    try {
      const { send } = endpoint({ expires_in: 600 });
      const name = newUpstream();
      await accessToken(name, CREDENTIALS, send);
      vi.setSystemTime(Date.now() + 479_000);
      expect(await accessToken(name, CREDENTIALS, send)).toBe("token-1");
      vi.setSystemTime(Date.now() + 1_000);
      expect(await accessToken(name, CREDENTIALS, send)).toBe("token-2");
    } finally {
      vi.useRealTimers();
    }
  });

  it("is renewed at 80 % of its life or a minute before its end, and used for half of it at least", () => {
    expect(renewalTime(1_000, 3_600_000)).toBe(1_000 + 2_880_000);
    expect(renewalTime(0, 200_000)).toBe(140_000);
    expect(renewalTime(0, 60_000)).toBe(30_000);
    expect(renewalTime(0, 0)).toBe(0);
  });

  it("that was refused is replaced once for all that used it", async () => {
    const { requests, send } = endpoint();
    const name = newUpstream();
    const first = await accessToken(name, CREDENTIALS, send);
    const renewed = await Promise.all([
      accessToken(name, CREDENTIALS, send, first),
      accessToken(name, CREDENTIALS, send, first),
    ]);
    expect(renewed).toEqual(["token-2", "token-2"]);
    expect(await accessToken(name, CREDENTIALS, send, first)).toBe("token-2");
    expect(requests).toHaveLength(2);
  });

  it.each([
    [{ error: "invalid_client", error_description: "p:w" }, 401, "401 (invalid_client)"],
    [{ error: "<script>" }, 500, "answers 500."],
    [{ access_token: "" }, 200, "no token response"],
    [{ access_token: 5 }, 200, "no token response"],
    [{ token_type: "mac" }, 200, "not bearer"],
    [{ padding: "x".repeat(70_000) }, 200, "no token response"],
  ])("is refused when the server answers %j with %i", async (answer, status, told) => {
    const { requests, send } = endpoint(answer, status);
    const name = newUpstream();
    const asking = accessToken(name, CREDENTIALS, send);
    await expect(asking).rejects.toMatchObject({ name: "TokenRefused" });
    await expect(asking).rejects.toThrow(told);
    await expect(accessToken(name, CREDENTIALS, send)).rejects.toThrow(told);
    expect(requests).toHaveLength(2);
  });
});

describe("single flight", () => {
  it("begins anew where the work it waited for never ends", async () => {
    const flight = new SingleFlight<string>(20);
    void flight.run(() => new Promise(() => undefined));
    expect(await flight.run(async () => "second")).toBe("second");
    expect(await flight.run(async () => "third")).toBe("third");
  });

  it("gives a failure to all who waited, and to none after them", async () => {
    const flight = new SingleFlight<string>(1_000);
    const failing = () => Promise.reject(new Error("away"));
    const all = await Promise.allSettled([flight.run(failing), flight.run(async () => "never")]);
    expect(all.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await flight.run(async () => "again")).toBe("again");
  });
});

describe("a target", () => {
  const loaded = gatewayConfig({
    ADMIN_TOKEN: "x".repeat(32),
    LOG_SIGNING_KEY: Buffer.alloc(32, 1).toString("base64"),
    SECRETS_KEY: Buffer.alloc(32, 2).toString("base64"),
  });
  if (!loaded.ok) throw new Error(loaded.message);
  const upstream = {
    name: "acme",
    url: "https://mcp.acme.com/mcp",
    prefix: "acme",
    gate: "open" as const,
    tenants: ["default"],
    roles: ["windsurf" as const],
    timeout_ms: 1000,
    session_param: false,
    sampling: false,
    elicitation: false,
    resource_prefixes: [],
  };

  it.each([
    [{ kind: "none" as const }, {}],
    [{ kind: "bearer" as const, token: "t" }, { authorization: "Bearer t" }],
    [{ kind: "header" as const, name: "X-Key", value: "v" }, { "x-key": "v" }],
  ])("authenticates with %j", async (auth, headers) => {
    expect(await openTarget(loaded.config, upstream, auth).authorize(false)).toEqual(headers);
  });

  it("asks for a token for its own URL through its guarded fetch, and anew after a refusal", async () => {
    const asked: string[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      if (new URL(String(input)).pathname === "/dns-query") return Response.json({ Status: 3 });
      asked.push(String(init?.body));
      return Response.json({ access_token: `t${asked.length}`, token_type: "bearer" });
    });
    try {
      const target = openTarget(loaded.config, { ...upstream, name: newUpstream() }, CREDENTIALS);
      expect(await target.authorize(false)).toEqual({ authorization: "Bearer t1" });
      expect(await target.authorize(false)).toEqual({ authorization: "Bearer t1" });
      expect(await target.authorize(true)).toEqual({ authorization: "Bearer t2" });
      expect(new URLSearchParams(asked[0]).get("resource")).toBe(upstream.url);
      const inside = { ...CREDENTIALS, token_url: "https://169.254.169.254/token" };
      const guarded = openTarget(loaded.config, upstream, inside);
      await expect(guarded.authorize(false)).rejects.toMatchObject({ name: "AddressRefused" });
      expect(asked).toHaveLength(2);
    } finally {
      vi.restoreAllMocks();
    }
  });
});
