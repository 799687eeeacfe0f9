import { env } from "cloudflare:workers";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import {
  type Answer,
  admin,
  BASE,
  initializeRequest,
  type Key,
  mintKey,
  postMcp,
} from "../support/gateway.ts";
import { gatewayWith, type Sent } from "../support/gateway-with.ts";
import { advance, captureLogs, MINUTE, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const ISSUER = "https://login.example.com";

function codeOf({ status, text }: Answer): [number, string | null] {
  return [status, /"code":"([A-Z_]+)"/.exec(text)?.[1] ?? null];
}

const INIT = { body: initializeRequest() };

let issuerFetch: { mockRestore: () => void } | null = null;

/** Ends what stands for the issuer; the captured log goes on. */
function issuerGoes(): void {
  issuerFetch?.mockRestore();
  issuerFetch = null;
}

afterEach(issuerGoes);

describe("without an issuer", () => {
  test("there is no metadata, and a challenge says nothing of tokens", async () => {
    const send = gatewayWith({});
    for (const path of ["", "/mcp"]) {
      const answer = await send({
        method: "GET",
        path: `/.well-known/oauth-protected-resource${path}`,
      });
      expect(codeOf(answer)).toEqual([404, "NOT_FOUND"]);
    }
    const refused = await send(INIT);
    expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
  });
});

describe("with an issuer", () => {
  const vars = {
    MCP_TOKEN_ISSUERS: JSON.stringify([{ issuer: ISSUER, jwks_uri: `${ISSUER}/jwks` }]),
  };
  const send = gatewayWith(vars);
  let sign: (claims?: JWTPayload) => Promise<string>;
  let keySet: object;

  beforeAll(async () => {
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    keySet = { keys: [{ ...(await exportJWK(publicKey)), kid: "k" }] };
    sign = (claims = {}) =>
      new SignJWT({
        iss: ISSUER,
        aud: `${BASE}/mcp`,
        sub: "alice",
        exp: Date.now() / 1000 + 300,
        role: "windsurf",
        scope: "mcp:read mcp:write",
        ...claims,
      })
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "k" })
        .sign(privateKey);
  });

  function issuerAnswers(): { asked: string[] } {
    const asked: string[] = [];
    issuerGoes();
    issuerFetch = vi.spyOn(globalThis, "fetch").mockImplementation(async (input) => {
      asked.push(String(input));
      return Response.json(keySet);
    });
    return { asked };
  }

  const bearing = (token: string): Sent => ({
    ...INIT,
    headers: { authorization: `Bearer ${token}` },
  });

  test("both places of the metadata name the resource, the issuer and the scopes", async () => {
    for (const path of ["", "/mcp"]) {
      const answer = await send({
        method: "GET",
        path: `/.well-known/oauth-protected-resource${path}`,
      });
      expect(answer.status).toBe(200);
      expect(answer.body).toEqual({
        // RFC 9728, section 3.3: what the document's own place was made from.
        resource: `${BASE}${path}`,
        authorization_servers: [ISSUER],
        scopes_supported: ["mcp:read", "mcp:write", "mcp:plan", "mcp:audit"],
        bearer_methods_supported: ["header"],
        resource_name: "Atlas Gate",
      });
    }
  });

  test("the metadata is for pages that may call, as all else is", async () => {
    const allowing = gatewayWith({ ...vars, ALLOWED_ORIGINS: "https://app.example" });
    const get = (headers: Record<string, string>) =>
      allowing({ method: "GET", path: "/.well-known/oauth-protected-resource/mcp", headers });
    const cors = ({ status, headers }: Answer) => [
      status,
      headers.get("access-control-allow-origin"),
      headers.get("vary"),
    ];
    expect(cors(await get({ origin: "https://app.example" }))).toEqual([
      200,
      "https://app.example",
      "origin",
    ]);
    expect(cors(await get({}))).toEqual([200, null, "origin"]);
    expect(cors(await get({ origin: "https://evil.example" }))).toEqual([403, null, "origin"]);
  });

  test("a refusal says where the metadata is, and a token that is at fault", async () => {
    const place = `resource_metadata="${BASE}/.well-known/oauth-protected-resource/mcp"`;
    const none = await send(INIT);
    expect([none.status, none.headers.get("www-authenticate")]).toEqual([
      401,
      `Bearer scope="mcp:read", ${place}`,
    ]);
    issuerAnswers();
    const bad = await send(bearing(await sign({ aud: "https://other.example.com" })));
    expect([bad.status, bad.headers.get("www-authenticate")]).toEqual([
      401,
      `Bearer error="invalid_token", scope="mcp:read", ${place}`,
    ]);
  });

  test("a token opens a session, which is its subject's and nobody else's", async () => {
    issuerAnswers();
    const token = await sign();
    const opened = await send(bearing(token));
    expect(opened.status).toBe(200);
    const session = opened.headers.get("mcp-session-id") ?? "";
    const ping = { jsonrpc: "2.0", id: 1, method: "ping" };
    const as = async (bearer: string) =>
      (
        await send({
          body: ping,
          headers: { authorization: `Bearer ${bearer}`, "mcp-session-id": session },
        })
      ).status;
    expect(await as(token)).toBe(200);
    expect(await as(await sign({ scope: "mcp:read" }))).toBe(200);
    expect(await as(await sign({ sub: "mallory" }))).toBe(404);
    expect(await as(await sign({ tenant: "acme" }))).toBe(404);
    expect(await as((await mintKey("windsurf")).key)).toBe(404);
    const row = await admin("GET", `/audit/sessions/${session}`);
    expect(row.text).toContain(`"principal":"oauth:${ISSUER}|alice"`);
    expect(row.text).not.toContain(token.slice(-40));
    expect(logs.some((line) => line.includes(token.slice(-40)))).toBe(false);
  });

  test("a token is verified once a minute, and not longer than it lives", async () => {
    const { asked } = issuerAnswers();
    const token = await sign({ exp: Date.now() / 1000 + 90, sub: "carol" });
    for (let n = 0; n < 5; n++) expect((await send(bearing(token))).status).toBe(200);
    expect(asked.length).toBeLessThanOrEqual(1);
    advance(2 * MINUTE + 1);
    expect(codeOf(await send(bearing(token)))).toEqual([401, "KEY_EXPIRED"]);
  });

  test("a scope that is missing is 403, with what to ask for", async () => {
    issuerAnswers();
    const token = await sign({ scope: "mcp:read", sub: "dave" });
    const session = (await send(bearing(token))).headers.get("mcp-session-id") ?? "";
    const refused = await send({
      body: { jsonrpc: "2.0", id: 5, method: "tools/call", params: { name: "write_file" } },
      headers: { authorization: `Bearer ${token}`, "mcp-session-id": session },
    });
    expect(refused.status).toBe(403);
    expect(refused.headers.get("www-authenticate")).toBe(
      `Bearer error="insufficient_scope", scope="mcp:read mcp:write", resource_metadata="${BASE}/.well-known/oauth-protected-resource/mcp"`,
    );
    const none = await send(bearing(await sign({ scope: "openid", sub: "dave" })));
    expect([
      none.status,
      none.headers.get("www-authenticate")?.includes('scope="mcp:read"'),
    ]).toEqual([403, true]);
  });

  test("a genuine token without a role is 403, and 503 while its issuer is away", async () => {
    issuerAnswers();
    expect(codeOf(await send(bearing(await sign({ role: "operator" }))))).toEqual([
      403,
      "FORBIDDEN",
    ]);
    issuerGoes();
    issuerFetch = vi.spyOn(globalThis, "fetch").mockRejectedValue(new TypeError("away"));
    const other = JSON.stringify([{ issuer: `${ISSUER}/other` }]);
    const down = gatewayWith({ MCP_TOKEN_ISSUERS: other });
    const answer = await down(bearing(await sign({ iss: `${ISSUER}/other` })));
    expect(codeOf(answer)).toEqual([503, "OVERLOADED"]);
    expect(answer.headers.get("retry-after")).not.toBeNull();
  });

  test("a token is for /mcp, in Authorization alone; keys go on as before", async () => {
    issuerAnswers();
    const token = await sign();
    const asKey = await send({ ...INIT, headers: { "x-api-key": token } });
    expect(codeOf(asKey)).toEqual([401, "UNAUTHENTICATED"]);
    const both = await send({
      ...bearing(token),
      headers: { authorization: `Bearer ${token}`, "x-api-key": "x" },
    });
    expect(codeOf(both)).toEqual([401, "UNAUTHENTICATED"]);
    const onAdmin = await send({
      method: "GET",
      path: "/admin/keys",
      headers: { authorization: `Bearer ${token}` },
    });
    expect(codeOf(onAdmin)).toEqual([401, "UNAUTHENTICATED"]);
    expect((await send(bearing((await mintKey("windsurf")).key))).status).toBe(200);
  });
});

describe("a token that its issuer is asked about", () => {
  const opaque = {
    issuer: ISSUER,
    introspection_endpoint: `${ISSUER}/introspect`,
    client_id: "gate",
    client_secret: "secret",
  };
  const send = gatewayWith({ MCP_TOKEN_ISSUERS: JSON.stringify([opaque]) });
  /** 400 for whoever is let in: there is no session. */
  const ping = (token: string) =>
    send({
      body: { jsonrpc: "2.0", id: 1, method: "ping" },
      headers: { authorization: `Bearer ${token}`, "cf-connecting-ip": "203.0.113.20" },
    });

  function issuerSays(answer: () => Response): { asked: () => number } {
    issuerGoes();
    const fetched = vi.spyOn(globalThis, "fetch").mockImplementation(async () => answer());
    issuerFetch = fetched;
    return { asked: () => fetched.mock.calls.length };
  }

  async function atOnce(count: number, token: string): Promise<number[]> {
    const answers = await Promise.all(Array.from({ length: count }, () => ping(token)));
    return [...new Set(answers.map(({ status }) => status))];
  }

  test("is asked about once for all calls of a moment, and again after a minute", async () => {
    const grant = { sub: "erin", role: "windsurf", scope: "mcp:read", aud: `${BASE}/mcp` };
    const issuer = issuerSays(() => Response.json({ active: true, ...grant }));
    expect(await atOnce(30, "opaque-good")).toEqual([400]);
    expect(issuer.asked()).toBe(1);
    advance(MINUTE);
    expect(await atOnce(30, "opaque-good")).toEqual([400]);
    expect(issuer.asked()).toBe(2);
  });

  test("and that is not good counts as one failure of its address, not as one for each call", async () => {
    const issuer = issuerSays(() => Response.json({ active: false }));
    expect(await atOnce(60, "opaque-bad")).toEqual([401]);
    expect(issuer.asked()).toBe(1);
    expect((await ping((await mintKey("windsurf")).key)).status).toBe(400);
  });

  test("is not asked about again while Retry-After says to wait", async () => {
    const issuer = issuerSays(() => new Response(null, { status: 500 }));
    const refused = await ping("opaque-away");
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(await atOnce(5, "opaque-away")).toEqual([503]);
    expect(issuer.asked()).toBe(1);
    advance(5_000);
    expect((await ping("opaque-away")).status).toBe(503);
    expect(issuer.asked()).toBe(2);
  });
});

describe("ALLOWED_IPS", () => {
  const send = gatewayWith({ ALLOWED_IPS: "192.0.2.0/24, 2001:db8::/32" });
  const from = (address: string) => ({ "cf-connecting-ip": address });

  test("is asked before any credential, on /mcp and for operators", async () => {
    const { key } = await mintKey("windsurf");
    const authorization = `Bearer ${key}`;
    const inside = await send({ ...INIT, headers: { authorization, ...from("192.0.2.1") } });
    expect(inside.status).toBe(200);
    const outside = { authorization, ...from("198.51.100.1"), "x-forwarded-for": "192.0.2.1" };
    expect(codeOf(await send({ ...INIT, headers: outside }))).toEqual([403, "ADDRESS_FORBIDDEN"]);
    expect(codeOf(await send({ ...INIT, headers: from("198.51.100.1") }))[0]).toBe(403);
    const onAdmin = await send({ method: "GET", path: "/admin/keys", headers: outside });
    expect(codeOf(onAdmin)).toEqual([403, "ADDRESS_FORBIDDEN"]);
    expect((await send({ method: "GET", path: "/health" })).status).toBe(200);
  });
});

describe("a client certificate", () => {
  const send = gatewayWith({});
  const strict = gatewayWith({ REQUIRE_CLIENT_CERT: "true" });
  const FINGERPRINT = "ab".repeat(32);

  const tls = (changes: object = {}) => ({
    certPresented: "1",
    certVerified: "SUCCESS",
    certRevoked: "0",
    certFingerprintSHA256: FINGERPRINT,
    certSubjectDNRFC2253: "CN=agent,O=Acme",
    ...changes,
  });

  const bindingSchema = z.object({ id: z.string(), principal: z.string() });

  async function bind(body: Record<string, unknown>): Promise<z.infer<typeof bindingSchema>> {
    const answer = await admin("POST", "/client-certificates", { body: { name: "a", ...body } });
    if (answer.status !== 201) throw new Error(answer.text);
    return bindingSchema.parse(answer.body);
  }

  async function unbind({ id }: { id: string }): Promise<number> {
    return (await admin("DELETE", `/client-certificates/${id}`)).status;
  }

  async function principalOf(answer: Answer): Promise<string> {
    const id = answer.headers.get("mcp-session-id") ?? "";
    return (
      /"principal":"([^"]*)"/.exec((await admin("GET", `/audit/sessions/${id}`)).text)?.[1] ?? ""
    );
  }

  test("alone is its principal: of a role of its own, by fingerprint before subject", async () => {
    const bySubject = await bind({ subject: "CN=agent,O=Acme", role: "auditor" });
    const byPrint = await bind({
      fingerprint_sha256: FINGERPRINT.toUpperCase().replace(/(..)(?=.)/g, "$1:"),
      role: "windsurf",
      tenant: "acme",
    });
    expect(byPrint.principal).toBe(`cert:${byPrint.id}`);
    const opened = await send({ ...INIT, tls: tls() });
    expect(opened.status).toBe(200);
    expect(await principalOf(opened)).toBe(`cert:${byPrint.id}`);
    expect(await unbind(byPrint)).toBe(204);
    expect(await principalOf(await send({ ...INIT, tls: tls() }))).toBe(`cert:${bySubject.id}`);
    await unbind(bySubject);
    expect(codeOf(await send({ ...INIT, tls: tls() }))).toEqual([401, "UNAUTHENTICATED"]);
  });

  test("with a key must belong to the same principal, also after the key was rotated", async () => {
    const key = await mintKey("windsurf");
    const other = await mintKey("windsurf");
    const binding = await bind({ fingerprint_sha256: FINGERPRINT, key_id: key.id });
    const as = (each: Key) =>
      send({ ...INIT, tls: tls(), headers: { authorization: `Bearer ${each.key}` } });
    expect((await as(key)).status).toBe(200);
    expect(codeOf(await as(other))).toEqual([403, "FORBIDDEN"]);
    const rotated = await admin("POST", `/keys/${key.id}/rotate`, { body: { overlap_hours: 0 } });
    const successor = z.object({ id: z.string(), key: z.string() }).parse(rotated.body);
    expect((await as({ ...key, ...successor })).status).toBe(200);
    expect(await principalOf(await send({ ...INIT, tls: tls() }))).toBe(key.principal);
    // With the last key of its line the certificate ends, too.
    await admin("DELETE", `/keys/${successor.id}`);
    expect(codeOf(await send({ ...INIT, tls: tls() }))).toEqual([401, "UNAUTHENTICATED"]);
    await unbind(binding);
  });

  test.each([
    [{ certVerified: "FAILED:unable to verify the first certificate" }],
    [{ certVerified: "FAILED:certificate has expired" }],
    [{ certVerified: "NONE" }],
    [{ certPresented: "0" }],
    [{ certRevoked: "1" }],
    [{ certFingerprintSHA256: "" }],
  ])("that the platform did not verify is none: %j", async (changes) => {
    const binding = await bind({ fingerprint_sha256: FINGERPRINT, role: "windsurf" });
    expect((await send({ ...INIT, tls: tls(changes) })).status).toBe(401);
    expect(codeOf(await strict({ ...INIT, tls: tls(changes) }))).toEqual([
      403,
      "CLIENT_CERT_REQUIRED",
    ]);
    await unbind(binding);
  });

  test("where one is required, nobody comes in without, nor with one that is bound to nobody", async () => {
    const key = await mintKey("windsurf");
    const headers = { authorization: `Bearer ${key.key}` };
    expect(codeOf(await strict({ ...INIT, headers }))).toEqual([403, "CLIENT_CERT_REQUIRED"]);
    const stranger = await strict({ ...INIT, headers, tls: tls() });
    expect(codeOf(stranger)).toEqual([403, "CLIENT_CERT_REQUIRED"]);
    const binding = await bind({ fingerprint_sha256: FINGERPRINT, key_id: key.id });
    expect((await strict({ ...INIT, headers, tls: tls() })).status).toBe(200);
    expect((await send({ method: "GET", path: "/health" })).status).toBe(200);
    await unbind(binding);
  });

  test("cannot be pretended to by headers", async () => {
    const binding = await bind({ fingerprint_sha256: FINGERPRINT, role: "windsurf" });
    const headers = {
      "cf-client-cert-verified": "true",
      "cf-client-cert-sha256": FINGERPRINT,
      "x-client-cert": FINGERPRINT,
    };
    expect((await send({ ...INIT, headers })).status).toBe(401);
    await unbind(binding);
  });

  test.each([
    [{}, "fingerprint_sha256"],
    [{ fingerprint_sha256: "abc", role: "windsurf" }, "fingerprint_sha256"],
    [{ fingerprint_sha256: FINGERPRINT, subject: "CN=a", role: "windsurf" }, "fingerprint_sha256"],
    [{ fingerprint_sha256: FINGERPRINT }, "key_id"],
    [{ fingerprint_sha256: FINGERPRINT, role: "operator" }, "role"],
    [{ fingerprint_sha256: FINGERPRINT, key_id: "x", tenant: "a" }, "key_id"],
    [{ subject: "CN=a", role: "windsurf", principal: "key:abc" }, "principal"],
    [{ subject: "CN=a", role: "windsurf", bogus: 1 }, "bogus"],
  ])("is not bound by %j", async (body, names) => {
    const answer = await admin("POST", "/client-certificates", { body: { name: "a", ...body } });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(names);
  });

  test("is bound once at a time, and every change is recorded", async () => {
    const binding = await bind({ subject: "CN=once", role: "windsurf" });
    const again = await admin("POST", "/client-certificates", {
      body: { name: "b", subject: "CN=once", role: "auditor" },
    });
    expect(codeOf(again)).toEqual([409, "CONFLICT"]);
    await unbind(binding);
    expect(await unbind(binding)).toBe(204);
    expect(await unbind({ id: "unheard-of" })).toBe(404);
    const listed = await admin("GET", "/client-certificates?limit=200");
    expect(listed.text).toContain(binding.id);
  });
});

test("a key's stranger at the door costs nothing that is kept", async () => {
  const rows = () =>
    env.ARCHIVE_DB.prepare("SELECT count(*) AS n FROM client_certificates").first("n");
  const before = await rows();
  expect((await postMcp("not-a-key", null, initializeRequest())).status).toBe(401);
  expect(await rows()).toBe(before);
});
