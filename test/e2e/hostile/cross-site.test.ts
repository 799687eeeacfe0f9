import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, at, send } from "../support/http.ts";
import { initializeMessage, postMcp } from "../support/mcp.ts";
import { exchange, rawRequest } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

const FRIEND = "https://agents.example";

let stage: Stage;
let keyId: string;

beforeAll(async () => {
  stage = await Stage.start({ vars: { ALLOWED_ORIGINS: FRIEND } });
  keyId = (await stage.operator.mintKey({ role: "auditor" })).id;
});

afterAll(() => stage?.dispose());

/** What a page would have the operator's browser do. */
const CHANGES: readonly (readonly [string, string, () => string, object?])[] = [
  ["a key", "POST", () => "/admin/keys", { name: "mine", role: "operator" }],
  ["a key's end", "DELETE", () => `/admin/keys/${keyId}`],
  ["a key's successor", "POST", () => `/admin/keys/${keyId}/rotate`, {}],
  ["a kill switch", "POST", () => "/admin/kill-switches", { scope: {}, reason: "for fun" }],
  [
    "an upstream",
    "POST",
    () => "/admin/upstreams",
    { name: "mine", url: "https://evil.example/mcp" },
  ],
  ["another url", "PATCH", () => "/admin/upstreams/honest", { url: "https://evil.example/mcp" }],
  ["an upstream's end", "DELETE", () => "/admin/upstreams/honest"],
  ["a witness", "POST", () => "/admin/witnessed-logs", { origin: "evil.example/log", vkey: "x" }],
];

function change(
  [, method, path, body]: (typeof CHANGES)[number],
  headers: Record<string, string>,
): Promise<Answer> {
  return send(`${stage.url}${path()}`, {
    method,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      authorization: `Bearer ${stage.gateway.keys.operator}`,
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** The gateway's own name with another scheme is not among them: the local server writes its own scheme there. */
function origins(): string[] {
  const { port } = new URL(stage.url);
  return [
    "https://evil.example",
    "null",
    "file://",
    `${FRIEND}.evil.example`,
    `${FRIEND}:443`,
    `${FRIEND}:8443`,
    `${FRIEND}/`,
    FRIEND.toUpperCase(),
    FRIEND.replace("https", "http"),
    `${FRIEND}, https://evil.example`,
    `${FRIEND} https://evil.example`,
    "https://evil.example#https://agents.example",
    `http://localhost:${port}`,
    "http://127.0.0.1",
    `http://127.0.0.1:${port}.evil.example`,
    "chrome-extension://abcdefghijklmnop",
  ];
}

describe("a page of another origin, with the operator's own key", () => {
  test.each(CHANGES.map((each) => ({ what: each[0], each })))(
    "does not make $what",
    async ({ each }) => {
      for (const origin of origins()) {
        const answer = await stage.refuses({ status: 403, code: "ORIGIN_FORBIDDEN" }, () =>
          change(each, { origin }),
        );
        expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
        expect(answer.headers["cache-control"]).toBe("no-store");
      }
    },
  );

  test("has no preflight answered, and reads nothing", async () => {
    for (const origin of origins()) {
      for (const path of ["/mcp", "/admin/keys", "/admin/kill-switches", "/metrics"]) {
        const preflight = {
          origin,
          "access-control-request-method": "POST",
          "access-control-request-headers": "authorization, content-type",
        };
        const asked = await stage.refuses({ status: 403, code: "ORIGIN_FORBIDDEN" }, () =>
          send(`${stage.url}${path}`, { method: "OPTIONS", headers: preflight }),
        );
        const read = await stage.refuses({ status: 403, code: "ORIGIN_FORBIDDEN" }, () =>
          send(`${stage.url}${path}`, {
            headers: { origin, authorization: `Bearer ${stage.gateway.keys.operator}` },
          }),
        );
        for (const { headers } of [asked, read]) {
          expect(Object.keys(headers).filter((name) => name.startsWith("access-control-"))).toEqual(
            [],
          );
        }
      }
    }
  });
});

describe("a form, which needs no preflight", () => {
  const types = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain; application/json",
    "application/json, text/plain",
    "application/jsonp",
    "application/xml",
    "",
  ];

  test.each(types)("of the type %j makes nothing, whoever fills it in", async (type) => {
    const bodied = CHANGES.filter(([, , , body]) => body !== undefined);
    for (const each of bodied) {
      await stage.refuses({ status: 415, code: "INVALID_ARGUMENT" }, () =>
        change(each, { "content-type": type }),
      );
    }
    await stage.refuses({ status: 415, code: "INVALID_ARGUMENT" }, () =>
      postMcp(stage.url, initializeMessage(), {
        key: stage.gateway.keys.windsurf,
        headers: { "content-type": type },
      }),
    );
  });

  test("as a field named after the whole body makes nothing", async () => {
    const body = '{"name":"mine","role":"operator","ignored":"=x"}';
    await stage.refuses({ status: 415, code: "INVALID_ARGUMENT" }, () =>
      send(`${stage.url}/admin/keys`, {
        method: "POST",
        headers: {
          "content-type": "text/plain",
          authorization: `Bearer ${stage.gateway.keys.operator}`,
        },
        body,
      }),
    );
  });
});

describe("what a browser sends along by itself", () => {
  test("opens nothing: cookies, a login in the URL, a referrer, the page's own host", async () => {
    const { operator, windsurf } = stage.gateway.keys;
    const cookies = [operator, windsurf].flatMap((key) => [
      `authorization=Bearer ${key}`,
      `x-api-key=${key}; api_key=${key}; session=${key}; token=${key}`,
      `__Host-atlas-gate=${key}`,
    ]);
    const basic = Buffer.from(`operator:${operator}`).toString("base64");
    const ambient = [
      ...cookies.map((cookie) => ({ cookie })),
      { referer: `${stage.url}/dashboard?key=${operator}` },
      { authorization: `Basic ${basic}` },
      { "proxy-authorization": `Bearer ${operator}` },
      { "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", origin: stage.url },
    ];
    for (const headers of ambient) {
      for (const each of CHANGES) {
        const [, method, path, body] = each;
        const refusal = { status: 401, code: "UNAUTHENTICATED", secrets: [basic] };
        await stage.refuses(refusal, () =>
          send(`${stage.url}${path()}`, {
            method,
            headers: { "content-type": "application/json", ...headers },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          }),
        );
      }
    }
  });

  test("nor does a page of an allowed origin without a credential", async () => {
    for (const each of CHANGES) {
      const answer = await stage.refuses({ status: 401, code: "UNAUTHENTICATED" }, () =>
        change(each, { origin: FRIEND, authorization: "Bearer x" }),
      );
      expect(answer.headers["access-control-allow-origin"]).toBe(FRIEND);
      expect(answer.headers["access-control-allow-credentials"]).toBeUndefined();
    }
  });
});

describe("GET and HEAD", () => {
  test("change nothing on any route there is, whatever is in the query", async () => {
    const { paths } = Object(await stage.operator.ok("GET", "/openapi.json"));
    const routes = Object.keys(paths).map((path) => path.replaceAll(/\{\w+\}/g, "honest"));
    expect(routes.length).toBeGreaterThan(20);
    const host = `Host: ${new URL(stage.url).host}`;
    const credential = `Authorization: Bearer ${stage.gateway.keys.operator}`;
    const growth = await stage.growthOf(async () => {
      for (const path of routes) {
        const query =
          "?name=mine&role=operator&_method=POST&method=DELETE&reason=x&workspace_root=/srv";
        for (const method of ["GET", "HEAD", "OPTIONS"]) {
          for (const target of [path, `${path}${query}`]) {
            const lines = [`${method} ${target} HTTP/1.1`, host, credential, "Connection: close"];
            if (method === "HEAD") await head(lines);
            else await exchange(stage.url, rawRequest(lines));
          }
        }
      }
    });
    expect(growth).toEqual({ objects: [], records: {}, tables: [] });
    const keys = at(await stage.operator.ok("GET", "/keys"), "keys");
    expect(JSON.stringify(keys)).not.toContain("mine");
  });

  /** An answer to HEAD has the length of a body that never comes. */
  function head(lines: readonly string[]): Promise<Answer> {
    const path = lines[0]?.split(" ")[1] ?? "/";
    const headers = { authorization: `Bearer ${stage.gateway.keys.operator}` };
    return send(`${stage.url}${path}`, { method: "HEAD", headers });
  }
});
