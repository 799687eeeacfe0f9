import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, at, send } from "../support/http.ts";
import { ACCEPT, initializeMessage, toolCall } from "../support/mcp.ts";
import { exchange, rawPost } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

/*
 * On Cloudflare's network no client can set CF-Connecting-IP or what is in
 * request.cf. The local server has no such edge: it takes both from whoever
 * asks. What can be shown here is that no value of them, and no other header,
 * opens more than the address that it spells.
 */

let stage: Stage;
let required: Stage;
const ALLOWED = "192.0.2.77";

beforeAll(async () => {
  [stage, required] = await Promise.all([
    Stage.start({ vars: { ALLOWED_IPS: "127.0.0.0/8,192.0.2.0/24,2001:db8:1::/48" } }),
    Stage.start({ vars: { REQUIRE_CLIENT_CERT: "true" } }),
  ]);
});

afterAll(() => Promise.all([stage?.dispose(), required?.dispose()]));

function knock(
  on: Stage,
  headers: Record<string, string>,
  body = initializeMessage(),
): Promise<Answer> {
  return send(`${on.url}/mcp`, {
    method: "POST",
    headers: {
      accept: ACCEPT,
      "content-type": "application/json",
      "x-api-key": on.gateway.keys.windsurf,
      ...headers,
    },
    body: JSON.stringify(body),
  });
}

describe("CF-Connecting-IP", () => {
  test.each([ALLOWED, "::ffff:192.0.2.77", "::FFFF:C000:24D", "2001:db8:1:2::3"])(
    "of %s is let in, for that is in the list",
    async (address) => {
      expect((await knock(stage, { "cf-connecting-ip": address })).status).toBe(200);
    },
  );

  test.each([
    "198.51.100.7",
    "::ffff:198.51.100.7",
    "2001:db8:2::1",
    `${ALLOWED}, 198.51.100.7`,
    `198.51.100.7, ${ALLOWED}`,
    `${ALLOWED},${ALLOWED}`,
    `${ALLOWED} ${ALLOWED}`,
    `${ALLOWED};`,
    `"${ALLOWED}"`,
    `${ALLOWED}:443`,
    `[${ALLOWED}]`,
    "[2001:db8:1::1]",
    "2001:db8:1::1%eth0",
    `${ALLOWED}/24`,
    "192.0.2.0/24",
    "192.0.2",
    "192.0.2.077",
    "0300.0.2.77",
    "0xc0.0.2.77",
    "3221226061",
    "127.1",
    "::192.0.2.77",
    "64:ff9b::192.0.2.77",
    "2002:c000:24d::",
    "::ffff:0:192.0.2.77",
    "localhost",
    "unknown",
    "null",
    "-",
    "*",
    "0.0.0.0/0",
    "192.0.2.77\u0000".replace("\u0000", "%00"),
    "1".repeat(10_000),
  ])("of %s is not", async (address) => {
    await stage.refuses({ status: 403, code: "ADDRESS_FORBIDDEN" }, () =>
      knock(stage, { "cf-connecting-ip": address }),
    );
  });

  test("twice is not, whichever comes first, for agents, operators and metrics", async () => {
    const pairs = [
      [ALLOWED, "198.51.100.7"],
      ["198.51.100.7", ALLOWED],
      [ALLOWED, ALLOWED],
    ];
    const { windsurf, operator } = stage.gateway.keys;
    for (const pair of pairs) {
      const lines = pair.map((address) => `CF-Connecting-IP: ${address}`);
      await stage.refuses({ status: 403, code: "ADDRESS_FORBIDDEN" }, () =>
        exchange(
          stage.url,
          rawPost(stage.url, [...lines, `X-API-Key: ${windsurf}`], initializeMessage()),
        ),
      );
      for (const path of ["/admin/keys", "/metrics"]) {
        const headers = { "cf-connecting-ip": pair.join(", "), "x-api-key": operator };
        await stage.refuses({ status: 403, code: "ADDRESS_FORBIDDEN" }, () =>
          send(`${stage.url}${path}`, { headers }),
        );
      }
    }
  });
});

describe("no other header says where a request is from", () => {
  test.each([
    "X-Forwarded-For",
    "X-Real-IP",
    "True-Client-IP",
    "X-Client-IP",
    "CF-Connecting-IPv6",
    "CF-Pseudo-IPv4",
    "X-Cluster-Client-IP",
    "Fastly-Client-IP",
    "X-Original-Forwarded-For",
    "Forwarded",
    "MF-Client-IP",
    "Via",
  ])("%s", async (name) => {
    for (const value of [ALLOWED, "127.0.0.1", `for=${ALLOWED};host=127.0.0.1`]) {
      await stage.refuses({ status: 403, code: "ADDRESS_FORBIDDEN" }, () =>
        knock(stage, { "cf-connecting-ip": "198.51.100.7", [name]: value }),
      );
    }
  });

  test("and a key that is narrowed to addresses is held to them", async () => {
    const minted = await stage.operator.mintKey({ role: "windsurf", allowed_ips: ["192.0.2.8"] });
    const asked = (address: string, more: Record<string, string> = {}) =>
      knock(stage, { "x-api-key": minted.key, "cf-connecting-ip": address, ...more });
    expect((await asked("192.0.2.8")).status).toBe(200);
    const secrets = [minted.key.slice(-43)];
    for (const address of [ALLOWED, "192.0.2.8, 192.0.2.8", "192.0.2.80"]) {
      await stage.refuses({ status: 403, code: "ADDRESS_FORBIDDEN", secrets }, () =>
        asked(address, { "x-forwarded-for": "192.0.2.8" }),
      );
    }
  });

  test("what is written down of an address that is none is nothing", async () => {
    const rows = at(
      await stage.operator.ok("GET", "/connections?outcome=refused&limit=200"),
      "connections",
    );
    if (!Array.isArray(rows)) throw new Error("no connections");
    for (const { address } of rows)
      expect(address === null || /^[0-9a-f.:]{2,39}$/.test(address)).toBe(true);
  });
});

describe("a client certificate, where one is required", () => {
  test.each([
    "cf-client-cert-sha256",
    "cf-client-cert-der-base64",
    "cf-client-cert-subject-dn",
    "cf-cert-presented",
    "cf-cert-verified",
    "cf-tls-client-auth",
    "tlsClientAuth",
    "x-client-cert",
    "x-ssl-client-verify",
    "x-ssl-client-cert",
    "x-forwarded-client-cert",
    "client-cert",
    "ssl-client-subject-dn",
    "cf",
    "request-cf",
  ])("is not pretended to by %s", async (name) => {
    const tls = JSON.stringify({ tlsClientAuth: { certPresented: "1", certVerified: "SUCCESS" } });
    for (const value of ["SUCCESS", "1", "true", "0".repeat(64), tls]) {
      await required.refuses({ status: 403, code: "CLIENT_CERT_REQUIRED" }, () =>
        knock(required, { [name]: value }),
      );
    }
  });

  // MF-CF-Blob is how wrangler's own tests set request.cf: it stands for the platform, not for a client.
  test.each<[string, unknown]>([
    ["none was presented", { certPresented: "0" }],
    ["it was not verified", { certVerified: "FAILED:unable to verify" }],
    ["it was revoked", { certRevoked: "1" }],
    ["it says so as a number", { certPresented: 1 }],
    ["it says so as a boolean", { certVerified: true }],
    ["its fingerprint is none", { certFingerprintSHA256: "*" }],
    ["it has no fingerprint", { certFingerprintSHA256: null }],
    ["it is bound to nobody", {}],
  ])("nor by request.cf where %s", async (_what, changes) => {
    const tlsClientAuth = {
      certPresented: "1",
      certVerified: "SUCCESS",
      certRevoked: "0",
      certFingerprintSHA256: "ab".repeat(32),
      certSubjectDNRFC2253: "CN=agent",
      ...(typeof changes === "object" ? changes : {}),
    };
    const blob = JSON.stringify({ clientAcceptEncoding: "identity", tlsClientAuth });
    await required.refuses({ status: 403, code: "CLIENT_CERT_REQUIRED" }, () =>
      knock(required, { "mf-cf-blob": blob }),
    );
  });
});

describe("headers that the gateway's own parts speak with", () => {
  test.each([
    "X-Stream-Request",
    "X-Stream",
    "X-Stream-After",
    "X-Stream-Kind",
    "X-Listen",
    "X-Atlas-Principal",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Prefix",
    "Forwarded",
    "Upgrade",
    "CF-Worker",
    "CF-Visitor",
    "CF-Ray",
    "CF-EW-Via",
  ])("%s changes nothing about who asks, what, or from where", async (name) => {
    const { windsurf, operator } = stage.gateway.keys;
    const from = { "cf-connecting-ip": ALLOWED };
    const principal = { id: "key:forged", tenant: "default", role: "operator", workspaces: null };
    for (const value of [
      JSON.stringify({
        principal,
        wish: { kind: "get", directory: 0 },
        requestId: "r",
        switches: {},
      }),
      "DELETE",
      "/admin/keys",
      "websocket",
      "host=evil.example;proto=https",
    ]) {
      const headers = { ...from, [name]: value };
      const get = (path: string, key: string) =>
        send(`${stage.url}${path}`, { headers: { ...headers, "x-api-key": key } });
      await stage.refuses({ status: 403, code: "FORBIDDEN" }, () => get("/admin/keys", windsurf));
      await stage.refuses({ status: 404, code: "NOT_FOUND" }, () => get("/nothing", operator));
      await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND" }, () =>
        knock(stage, { ...headers, "mcp-session-id": "x" }, toolCall(1, "honest_act") as never),
      );
    }
  });
});
