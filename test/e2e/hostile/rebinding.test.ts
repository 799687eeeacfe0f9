import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, at, send } from "../support/http.ts";
import { ACCEPT, initializeMessage } from "../support/mcp.ts";
import { exchange, rawPost, rawRequest } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

const ISSUERS = JSON.stringify([{ issuer: "https://issuer.example.com" }]);
const PUBLIC_HOST = "gate.example.com";

let local: Stage;
let published: Stage;

beforeAll(async () => {
  [local, published] = await Promise.all([
    Stage.start({ vars: { MCP_TOKEN_ISSUERS: ISSUERS } }),
    Stage.start({ vars: { MCP_TOKEN_ISSUERS: ISSUERS, PUBLIC_URL: `https://${PUBLIC_HOST}` } }),
  ]);
});

afterAll(() => Promise.all([local?.dispose(), published?.dispose()]));

const METADATA = "/.well-known/oauth-protected-resource";
const MISDIRECTED = { status: 421, code: "MISDIRECTED" };

/** The ways in which a page that is bound to another name could use the gateway of whoever looks at it. */
function ways(stage: Stage, host: string): (() => Promise<Answer>)[] {
  const { operator, windsurf } = stage.gateway.keys;
  const get = (path: string, headers = {}) =>
    send(`${stage.url}${path}`, { headers: { host, ...headers } });
  return [
    () => get("/health"),
    () => get(METADATA),
    () => get("/log/checkpoint"),
    () => get("/admin/keys", { authorization: `Bearer ${operator}` }),
    () =>
      send(`${stage.url}/mcp`, {
        method: "POST",
        headers: {
          host,
          origin: `http://${host}`,
          accept: ACCEPT,
          "content-type": "application/json",
          authorization: `Bearer ${windsurf}`,
        },
        body: JSON.stringify(initializeMessage()),
      }),
  ];
}

function isPrivate(answer: Answer, host: string): void {
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  const { "x-request-id": _id, date: _date, ...headers } = answer.headers;
  expect(`${JSON.stringify(headers)}${answer.text}`).not.toContain(host);
}

describe("a gateway on this machine", () => {
  test.each([
    "evil.example",
    "evil.example:8787",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "localhost.",
    "localhost.localdomain",
    "a.localhost",
    "0.0.0.0",
    "127.0.0.2",
    "169.254.169.254",
    "metadata.google.internal",
    "10.0.0.1",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[fe80::1]",
    "host.docker.internal",
    "xn--lcalhost-54a",
    PUBLIC_HOST,
  ])("does not answer for %s", async (host) => {
    for (const way of ways(local, host)) {
      isPrivate(await local.refuses(MISDIRECTED, way), host);
    }
  });

  test.each([
    "LOCALHOST",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "user:word@127.0.0.1",
    "[0:0:0:0:0:0:0:1]",
  ])(
    "takes %s for the name of this machine that it spells, and repeats it nowhere",
    async (host) => {
      const [health] = await exchange(
        local.url,
        rawRequest(["GET /health HTTP/1.1", `Host: ${host}`]),
      );
      expect(health?.status).toBe(200);
      const [metadata] = await exchange(
        local.url,
        rawRequest([`GET ${METADATA} HTTP/1.1`, `Host: ${host}`]),
      );
      const resource = new URL(String(at(metadata?.json, "resource")));
      expect(resource.hostname).toMatch(/^(?:localhost|127\.0\.0\.1|\[::1\])$/);
      expect(metadata?.text).not.toMatch(/word|LOCALHOST|2130706433|0x7f|0177/);
    },
  );

  // These are no names: the local server or the gateway, whoever reads them first, refuses them.
  test.each([
    "127.0.0.1:99999",
    "127.0.0.1:abc",
    "a b",
    "",
    "[::1",
    "\u00e9vil",
    "[::1%lo]",
    "<script>",
  ])("has nothing for the host %j", async (host) => {
    const key = `Authorization: Bearer ${local.gateway.keys.windsurf}`;
    const body = JSON.stringify(initializeMessage());
    const lines = [
      "POST /mcp HTTP/1.1",
      `Host: ${host}`,
      key,
      `Accept: ${ACCEPT}`,
      "Content-Type: application/json",
      `Content-Length: ${body.length}`,
    ];
    await local.nothingComesOf({}, () => exchange(local.url, rawRequest(lines, body)));
  });

  test("has nothing for a request without a host", async () => {
    for (const version of ["1.1", "1.0"]) {
      await local.nothingComesOf({}, () =>
        exchange(local.url, rawRequest([`GET /admin/keys HTTP/${version}`])),
      );
    }
  });

  // The local server reads the Host of an absolute request target from the header; either name must be its own.
  test("does not take another name from the request target", async () => {
    const host = `Host: ${new URL(local.url).host}`;
    const absolute = await exchange(
      local.url,
      rawRequest([`GET http://evil.example${METADATA} HTTP/1.1`, host]),
    );
    for (const { text, headers } of absolute) {
      expect(`${text}${JSON.stringify(headers)}`).not.toContain("evil.example");
    }
    await local.refuses(MISDIRECTED, () =>
      exchange(
        local.url,
        rawRequest([`GET ${local.url}${METADATA} HTTP/1.1`, "Host: evil.example"]),
      ),
    );
  });
});

describe("the metadata and the challenge", () => {
  test.each([
    ["X-Forwarded-Host", "evil.example"],
    ["X-Forwarded-Proto", "https"],
    ["X-Forwarded-Port", "444"],
    ["X-Forwarded-Prefix", "/evil.example"],
    ["Forwarded", "host=evil.example;proto=https"],
    ["X-Host", "evil.example"],
    ["X-Original-Host", "evil.example"],
    ["X-Original-URL", "/evil.example"],
    ["MF-Original-Hostname", "evil.example"],
  ])("take nothing from %s", async (name, value) => {
    const headers = { [name]: value };
    for (const suffix of ["", "/mcp"]) {
      const path = `${METADATA}${suffix}`;
      const answer = await send(`${local.url}${path}`, { headers });
      expect([answer.status, at(answer.json, "resource")]).toEqual([200, `${local.url}${suffix}`]);
      expect(answer.text).not.toContain("evil");
    }
    const refusal = { status: 401, code: "UNAUTHENTICATED" };
    const answer = await local.refuses(refusal, () =>
      send(`${local.url}/mcp`, { method: "POST", headers, body: "" }),
    );
    // The local proxy writes its own scheme into headers; the rest is the gateway's.
    const place = `${local.url}${METADATA}/mcp`.replace("http:", "https?:");
    expect(answer.headers["www-authenticate"]).toMatch(new RegExp(`resource_metadata="${place}"`));
    isPrivate(answer, "evil");
  });
});

describe("a gateway with a public address", () => {
  test.each([
    "127.0.0.1",
    "localhost",
    "[::1]",
    "evil.example",
    `${PUBLIC_HOST}.evil.example`,
    `evil.${PUBLIC_HOST}`,
    `${PUBLIC_HOST}.`,
    `${PUBLIC_HOST}:444`,
    `${PUBLIC_HOST}:8787`,
    `${PUBLIC_HOST}@evil.example`,
    "example.com",
  ])("does not answer for %s", async (host) => {
    for (const way of ways(published, host)) {
      isPrivate(await published.refuses(MISDIRECTED, way), "evil");
    }
  });

  test.each(["X-Forwarded-Proto", "X-Forwarded-Ssl", "Front-End-Https", "CF-Visitor", "Forwarded"])(
    "does not believe %s that there was TLS",
    async (name) => {
      for (const value of ["https", "on", '{"scheme":"https"}', "proto=https"]) {
        const headers = [`${name}: ${value}`, `X-API-Key: ${published.gateway.keys.windsurf}`];
        const post = rawPost(published.url, headers, initializeMessage()).toString("latin1");
        const asPublic = post.replace(/Host: \S+/, `Host: ${PUBLIC_HOST}`);
        await published.refuses({ status: 403, code: "FORBIDDEN" }, () =>
          exchange(published.url, Buffer.from(asPublic, "latin1")),
        );
      }
    },
  );

  test("sends plain HTTP to its own name alone, wherever a path points to", async () => {
    for (const path of [
      "//evil.example",
      "/\\evil.example",
      "/@evil.example",
      "/.evil.example",
      "/%0d%0aLocation:%20http://evil.example",
    ]) {
      const lines = [
        `GET ${path} HTTP/1.1`,
        `Host: ${PUBLIC_HOST}`,
        "X-Forwarded-Host: evil.example",
      ];
      const answer = await published.refuses({ status: 308, code: null }, () =>
        exchange(published.url, rawRequest(lines)),
      );
      expect(new URL(String(answer.headers.location)).host).toBe(PUBLIC_HOST);
      expect(answer.headers["cache-control"]).toBe("no-store");
    }
  });
});
