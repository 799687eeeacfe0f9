import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/http.ts";
import { exchange, rawRequest } from "./support/raw-socket.ts";
import { codeOf, Stage } from "./support/stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.start();
});

afterAll(() => stage?.dispose());

/** Where caches, proxies and routers disagree about what a path is. */
const TARGETS = [
  "/mcp/..;/admin/keys",
  "/mcp/../admin/keys",
  "/mcp/%2e%2e/admin/keys",
  "/mcp/..%2fadmin/keys",
  "/mcp/.%2e/admin/keys",
  "/mcp/%252e%252e/admin/keys",
  "/health/../admin/keys",
  "/health/..%2fadmin/keys",
  "/health%2f..%2fadmin/keys",
  "/log/tile/../../admin/keys",
  "/log/tile/..%2f..%2fadmin/keys",
  "/log/tile/%2e%2e/%2e%2e/admin/keys",
  "/.well-known/../admin/keys",
  "/.well-known/oauth-protected-resource/../../admin/keys",
  "//admin/keys",
  "///admin//keys",
  "/admin//keys",
  "/./admin/./keys",
  "/admin/keys/",
  "/admin/keys/.css",
  "/admin/keys.css",
  "/admin/keys;.css",
  "/admin/keys;a=b/x.js",
  "/admin/keys%2f.css",
  "/admin/keys%3f.css",
  "/admin/keys%23.css",
  "/admin/keys%00.css",
  "/admin/keys%0a.css",
  "/admin/keys/%2e%2e",
  "/admin/keys\\..\\..\\mcp",
  "/%61dmin/keys",
  "/%2561dmin/keys",
  "/ADMIN/keys",
  "/admin/KEYS",
  "/admin/../mcp",
  "/admin%2fkeys",
  "/admin%5ckeys",
  "\u002fadmin/keys?x=/../health",
  "/admin/keys?",
  "/admin/keys?/health",
  "/admin/keys#/health",
  "/admin/keys?cb=1.css",
  "/admin/__proto__",
  "/admin/keys/__proto__",
  "/admin/keys/%5F%5Fproto%5F%5F",
  "/admin/audit/sessions/../../keys",
  "/admin/audit/sessions/..%2f..%2fkeys",
  "/admin/upstreams/honest/tools/..%2f..%2f..%2fkeys",
  "//mcp",
  "/mcp%2f",
  "/mcp/",
  "/mcp/.",
  "/mcp;x=y",
  "/mcp%20",
  "/mcp%09",
  "/mcp.json",
  "/mcp/x.css",
  "/%6dcp",
  "/MCP",
  "/mcp?access_token=a&x-api-key=b",
  "/metrics/",
  "/metrics/x.css",
  "/%6d%65trics",
  "/metrics%00",
  `/${"a".repeat(8_000)}`,
  `/admin/keys?${"a=b&".repeat(2_000)}`,
  "/admin/%c0%ae%c0%ae/keys",
  "/admin/%ff%fe",
  "/%",
  "/%zz/admin/keys",
  "/evil.example",
  "/http://evil.example/admin/keys",
  "/@evil.example",
];

function ask(target: string, headers: readonly string[], method = "GET"): Promise<Answer[]> {
  const host = `Host: ${new URL(stage.url).host}`;
  return exchange(
    stage.url,
    rawRequest([
      `${method} ${target} HTTP/1.1`,
      host,
      "X-Forwarded-Host: evil.example",
      ...headers,
    ]),
  );
}

/** No cache may keep it, and nothing in it is the attacker's. */
function isNobodysToKeep(answer: Answer): void {
  const { "cache-control": control, "x-request-id": id, ...rest } = answer.headers;
  if (id === undefined) return;
  expect(control).toBe("no-store");
  expect(rest.location).toBeUndefined();
  expect(rest.age).toBeUndefined();
  expect(`${JSON.stringify(rest)}${answer.text}`).not.toMatch(
    /evil\.example|\.css|\.js\b|aaaaaaaa/,
  );
}

const REFUSED = [400, 401, 403, 404, 405, 406, 415];

describe.each(["GET", "POST", "DELETE"])("%s of a path that is two", (method) => {
  test.each(TARGETS)("%s", async (target) => {
    const { windsurf } = stage.gateway.keys;
    for (const headers of [[], [`X-API-Key: ${windsurf}`], [`Cookie: k=${windsurf}`]]) {
      const answers = await stage.nothingComesOf({}, () => ask(target, headers, method));
      for (const answer of answers) {
        isNobodysToKeep(answer);
        if (answer.headers["x-request-id"] === undefined) continue;
        expect(REFUSED).toContain(answer.status);
        expect(codeOf(answer)).toMatch(/^[A-Z_]+$/);
      }
    }
  });
});

describe("what an operator is shown", () => {
  test("no cache may keep, by whichever path it was found", async () => {
    const headers = [`X-API-Key: ${stage.gateway.keys.operator}`];
    let found = 0;
    for (const target of TARGETS) {
      for (const answer of await ask(target, headers)) {
        if (answer.status !== 200) continue;
        found += 1;
        expect([target, answer.headers["cache-control"]]).toEqual([target, "no-store"]);
        expect(answer.headers.etag).toBeUndefined();
      }
    }
    expect(found).toBeGreaterThan(3);
  });

  test("is not shown under what looks like a file to a cache", async () => {
    const headers = [`X-API-Key: ${stage.gateway.keys.operator}`];
    for (const target of [
      "/admin/keys/.css",
      "/admin/keys.css",
      "/admin/keys;.css",
      "/metrics/x.css",
      "/admin/keys%2f.css",
    ]) {
      await stage.refuses({ status: 404, code: "NOT_FOUND" }, () => ask(target, headers));
    }
  });
});
