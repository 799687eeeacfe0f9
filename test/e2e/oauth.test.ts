import { createHmac } from "node:crypto";
import { ClientCredentialsProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuthorizationServer, RESOURCE_SERVER, subOf } from "./support/authorization-server.ts";
import { Gateway } from "./support/gateway.ts";
import { at, send } from "./support/http.ts";
import { initializeMessage, postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { startWhoamiUpstream, type WhoamiUpstream } from "./support/whoami-upstream.ts";

let issuer: AuthorizationServer;
let upstream: WhoamiUpstream;
let gateway: Gateway;
let resource: string;

beforeAll(async () => {
  issuer = await AuthorizationServer.start();
  upstream = await startWhoamiUpstream();
  const entry = {
    issuer: issuer.url,
    introspection_endpoint: `${issuer.url}/introspect`,
    ...RESOURCE_SERVER,
  };
  gateway = await Gateway.start({
    vars: {
      FLUSH_INTERVAL_SECONDS: "1",
      ALLOW_PRIVATE_UPSTREAMS: "true",
      MCP_TOKEN_ISSUERS: JSON.stringify([entry]),
    },
  });
  resource = `${gateway.url}/mcp`;
});

afterAll(async () => {
  await gateway?.dispose();
  await upstream?.close();
  await issuer?.close();
});

const bearing = (token: string) => postMcp(gateway.url, initializeMessage(), { key: token });

describe("a client with nothing but the endpoint", () => {
  test("finds the issuer, gets a token for this server and calls a tool", async () => {
    issuer.claims = { sub: "service-7" };
    const provider = new ClientCredentialsProvider({ clientId: "svc", clientSecret: "s" });
    const transport = new StreamableHTTPClientTransport(new URL(resource), {
      authProvider: provider,
    });
    const client = new Client({ name: "e2e oauth", version: "1.0.0" });
    // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
    await client.connect(transport as Parameters<Client["connect"]>[0]);
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toContain("write_file");
    const result = await client.callTool({
      name: "begin_session",
      arguments: { workspace_root: "/srv/oauth" },
    });
    expect(result.isError).not.toBe(true);
    // The client asked for a token that is good here and nowhere else.
    expect(issuer.forms.at(-1)?.get("resource")).toBe(resource);
    const operator = new Operator(gateway.url, gateway.keys.operator);
    const records = await operator.send("GET", `/audit/sessions/${transport.sessionId}`);
    expect(records.text).toContain(`"principal":"oauth:${issuer.url}|service-7"`);
    await transport.terminateSession();
    await client.close();
  });
});

describe("a token", () => {
  test("that is hostile is refused without a trace of it", async () => {
    const good = await issuer.token(resource);
    expect((await bearing(good)).status).toBe(200);
    const [, payload = ""] = good.split(".");
    const seconds = Math.floor(Date.now() / 1000);
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const none = `${encode({ alg: "none", typ: "at+jwt" })}.${payload}.`;
    const hs = `${encode({ alg: "HS256", typ: "at+jwt", kid: "key-1" })}.${payload}`;
    const keys = await (await fetch(`${issuer.url}/jwks`)).text();
    const confused = `${hs}.${createHmac("sha256", keys).update(hs).digest("base64url")}`;
    const hostile = [
      none,
      confused,
      await issuer.token("https://other.example.com/mcp"),
      await issuer.token(resource, { exp: seconds - 60 }),
      await issuer.token(resource, { nbf: seconds + 120 }),
      await issuer.token(resource, { iss: "https://evil.example.com" }),
      await issuer.token(resource, {}, { typ: "JWT" }),
      await issuer.token(resource, {}, { kid: "unheard-of" }),
      `${good.slice(0, -4)}AAAA`,
      "x".repeat(12_000),
    ];
    const before = gateway.command.output;
    for (const token of hostile) {
      const answer = await bearing(token);
      expect([answer.status, at(answer.json, "error.code")]).toEqual([401, -31401]);
      expect(answer.headers["www-authenticate"]).toContain('error="invalid_token"');
      expect(answer.text).not.toContain(token.slice(-30));
      expect(gateway.command.output.slice(before.length)).not.toContain(token.slice(-30));
    }
  });

  test("with a key id that nobody knows costs its issuer one look a minute at most", async () => {
    await bearing(await issuer.token(resource));
    const before = issuer.asked.filter((path) => path === "/jwks").length;
    for (let n = 0; n < 40; n++) {
      const answer = await bearing(await issuer.token(resource, {}, { kid: `flood-${n}` }));
      expect(answer.status).toBe(401);
    }
    expect(issuer.asked.filter((path) => path === "/jwks").length - before).toBeLessThanOrEqual(1);
  });

  test("that is no JWT is introspected; an inactive one is refused", async () => {
    issuer.opaque.set("opaque-bob", {
      active: true,
      sub: "bob",
      aud: resource,
      role: "auditor",
      scope: "mcp:audit",
    });
    expect((await bearing("opaque-bob")).status).toBe(200);
    expect((await bearing("opaque-eve")).status).toBe(401);
  });

  test("without the scope is told which one it takes", async () => {
    const token = await issuer.token(resource, { scope: "mcp:read" });
    const session = await RawSession.open(gateway.url, token);
    const refused = await session.request("tools/call", {
      name: "write_file",
      arguments: { path: "a", content: "b" },
    });
    expect(refused.status).toBe(403);
    expect(refused.headers["www-authenticate"]).toMatch(
      /error="insufficient_scope", scope="mcp:read mcp:write", resource_metadata=/,
    );
  });

  test("of another subject finds none of the first one's sessions", async () => {
    const session = await RawSession.open(gateway.url, await issuer.token(resource));
    const thief = await issuer.token(resource, { sub: "mallory" });
    const stolen = await postMcp(
      gateway.url,
      { jsonrpc: "2.0", id: 1, method: "ping" },
      { key: thief, session: session.id },
    );
    expect(stolen.status).toBe(404);
  });
});

describe("an upstream that wants to know who calls", () => {
  test("sees the user's exchanged token, never the client's own, nor another user's", async () => {
    const operator = new Operator(gateway.url, gateway.keys.operator);
    const registered = await operator.send("POST", "/upstreams?approve=all", {
      name: "who",
      url: upstream.url,
      gate: "open",
      roles: ["windsurf"],
      auth: {
        kind: "token_exchange",
        token_url: `${issuer.url}/token`,
        client_id: "atlas-gate",
        client_secret: "exchange secret",
      },
    });
    expect([registered.status, at(registered.json, "approved")]).toEqual([201, true]);
    expect(registered.text).not.toContain("exchange secret");

    const tokens = new Map<string, string>();
    for (const sub of ["alice", "bob"]) {
      const own = await issuer.token(resource, { sub });
      tokens.set(sub, own);
      const session = await RawSession.open(gateway.url, own);
      const answer = await session.request("tools/call", { name: "who_whoami", arguments: {} });
      expect(answer.text).toContain("heard");
      await session.request("tools/call", { name: "who_whoami", arguments: {} });
    }
    const calls = upstream.seen.filter(({ method }) => method === "tools/call");
    const subjects = calls.map(({ authorization }) => subOf(authorization?.slice(7) ?? ""));
    expect(subjects).toEqual(["alice", "alice", "bob", "bob"]);
    // One exchange for each user; the client's own token went to the token endpoint alone.
    const exchanges = issuer.forms.filter((form) => form.has("subject_token"));
    expect(exchanges.map((form) => form.get("subject_token"))).toEqual([...tokens.values()]);
    expect(exchanges.every((form) => form.get("resource") === upstream.url)).toBe(true);
    for (const { authorization } of upstream.seen) {
      for (const own of tokens.values()) expect(authorization).not.toContain(own);
    }
  });

  test("is not called in the gateway's name for a caller with a key", async () => {
    const before = upstream.seen.length;
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const outcome = await session.request("tools/call", { name: "who_whoami", arguments: {} });
    expect(outcome.text).toContain("UPSTREAM_UNAUTHORIZED");
    expect(upstream.seen.length).toBe(before);
  });

  test("leaves no token in the gateway's state", async () => {
    const operator = new Operator(gateway.url, gateway.keys.operator);
    const audit = await operator.send("GET", "/audit?limit=200");
    for (const form of issuer.forms) {
      const token = form.get("subject_token");
      if (token !== null) expect(audit.text).not.toContain(token.slice(-40));
    }
  });
});

describe("a client certificate", () => {
  const FINGERPRINT = "0123456789abcdef".repeat(4);
  const blob = (changes: object = {}) =>
    JSON.stringify({
      // Without it the local server compresses whatever the client asked for.
      clientAcceptEncoding: "identity",
      tlsClientAuth: {
        certPresented: "1",
        certVerified: "SUCCESS",
        certRevoked: "0",
        certFingerprintSHA256: FINGERPRINT,
        certSubjectDNRFC2253: "CN=agent",
        ...changes,
      },
    });

  test("that an operator bound is a principal of its own", async () => {
    const operator = new Operator(gateway.url, gateway.keys.operator);
    const bound = await operator.send("POST", "/client-certificates", {
      name: "agent",
      fingerprint_sha256: FINGERPRINT,
      role: "auditor",
    });
    expect(bound.status).toBe(201);
    const knock = (headers: Record<string, string>) =>
      postMcp(gateway.url, initializeMessage(), { headers });
    expect((await knock({ "mf-cf-blob": blob() })).status).toBe(200);
    const failed = blob({ certVerified: "FAILED:self signed certificate" });
    expect((await knock({ "mf-cf-blob": failed })).status).toBe(401);
    const withKey = await knock({
      "mf-cf-blob": blob(),
      authorization: `Bearer ${gateway.keys.windsurf}`,
    });
    expect([withKey.status, withKey.text]).toEqual([403, expect.stringContaining('"FORBIDDEN"')]);
  });
});

describe("limits and addresses of a deployment", () => {
  let limited: Gateway;

  beforeAll(async () => {
    limited = await Gateway.start({
      vars: {
        RATE_LIMIT_PER_MINUTE: "6",
        RATE_LIMIT_BURST: "20",
        MAX_SESSIONS_PER_PRINCIPAL: "2",
        ALLOWED_IPS: "127.0.0.0/8,192.0.2.0/24",
      },
    });
  });

  afterAll(() => limited?.dispose());

  test("are exact for a session, and count its sessions", async () => {
    const session = await RawSession.open(limited.url, limited.keys.windsurf);
    const answers = await Promise.all(Array.from({ length: 21 }, () => session.request("ping")));
    const refused = answers.filter(({ status }) => status === 429);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(20);
    expect(refused).toHaveLength(1);
    expect(Number(refused[0]?.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(refused[0]?.headers["retry-after"])).toBeLessThanOrEqual(10);
    await RawSession.open(limited.url, limited.keys.windsurf);
    const third = await postMcp(limited.url, initializeMessage(), { key: limited.keys.windsurf });
    expect([third.status, at(third.json, "error.data.code")]).toEqual([429, "QUOTA_EXCEEDED"]);
    await session.end();
    await RawSession.open(limited.url, limited.keys.windsurf);
  });

  test("let an address in that is listed, and no other, whatever it says of itself", async () => {
    const from = (headers: Record<string, string>) =>
      send(`${limited.url}/mcp`, {
        method: "POST",
        headers: { "x-api-key": limited.keys.auditor, ...headers },
      });
    expect((await from({ "cf-connecting-ip": "192.0.2.77" })).status).toBe(415);
    const outside = { "cf-connecting-ip": "198.51.100.7" };
    for (const more of [{}, { "x-forwarded-for": "127.0.0.1" }, { "x-real-ip": "127.0.0.1" }]) {
      const answer = await from({ ...outside, ...more });
      expect([answer.status, at(answer.json, "error.data.code")]).toEqual([
        403,
        "ADDRESS_FORBIDDEN",
      ]);
    }
    expect((await send(`${limited.url}/health`, { headers: outside })).status).toBe(200);
  });
});
