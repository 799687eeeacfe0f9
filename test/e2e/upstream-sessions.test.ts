import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { federatingGateway, register } from "./support/federation.ts";
import { Gateway } from "./support/gateway.ts";
import { at } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { lastMessage, pick, Raw2026, sessionOf } from "./support/raw-2026.ts";
import { soundRecords, story } from "./support/records.ts";
import { startTokenServer, type TokenServer } from "./support/token-server.ts";
import { said, Upstream } from "./support/upstream.ts";

let gateway: Gateway;
let operator: Operator;
const upstreams: Upstream[] = [];
const tokenServers: TokenServer[] = [];

async function stand(era: "2025" | "2026", fields: { name: string; [field: string]: unknown }) {
  const upstream = await Upstream.start(era);
  upstreams.push(upstream);
  upstream.tool("echo", ({ args }) => said(JSON.stringify(args)));
  await register(operator, upstream, fields);
  return upstream;
}

async function newSession(): Promise<RawSession> {
  const { key } = await operator.mintKey({ role: "windsurf" });
  return RawSession.open(gateway.url, key);
}

async function echo(session: RawSession, upstream: string): Promise<unknown> {
  const { text } = await session.request("tools/call", { name: `${upstream}_echo`, arguments: {} });
  const message: unknown = JSON.parse(lastMessage(text));
  return at(message, "result.content.0.text") ?? message;
}

/** The upstream sessions that calls came on, one for each call. */
const sessionsOf = (upstream: Upstream) =>
  upstream.asked("tools/call").map(({ headers }) => headers["mcp-session-id"]);

const deletesOf = (upstream: Upstream) =>
  upstream.seen
    .filter(({ http }) => http === "DELETE")
    .map(({ headers }) => headers["mcp-session-id"]);

beforeAll(async () => {
  gateway = await federatingGateway({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await Promise.all([...upstreams, ...tokenServers].map((each) => each.close()));
  await gateway?.dispose();
});

describe("an upstream session", () => {
  it("is one for each gateway session, never shared, and ended with it", async () => {
    const upstream = await stand("2025", { name: "own" });
    upstream.seen.splice(0);
    const [one, two] = [await newSession(), await newSession()];
    for (const session of [one, two, one, two]) expect(await echo(session, "own")).toBe("{}");
    const [a, b, ...rest] = sessionsOf(upstream);
    expect(a).not.toBe(b);
    expect(rest).toEqual([a, b]);
    expect(upstream.asked("initialize")).toHaveLength(2);
    await one.end();
    await eventually("its end is told", () => (deletesOf(upstream).length > 0 ? true : null));
    expect(deletesOf(upstream)).toEqual([a]);
    expect(await echo(two, "own")).toBe("{}");
  });

  it("is not shared by two sessions of one principal either", async () => {
    const upstream = await stand("2025", { name: "twice" });
    const { key } = await operator.mintKey({ role: "windsurf" });
    const sessions = [
      await RawSession.open(gateway.url, key),
      await RawSession.open(gateway.url, key),
    ];
    for (const session of sessions) await echo(session, "twice");
    expect(new Set(sessionsOf(upstream)).size).toBe(2);
  });

  it("is initialised once more when the upstream forgot it, and the client notices nothing", async () => {
    const upstream = await stand("2025", { name: "forgetful" });
    const session = await newSession();
    await echo(session, "forgetful");
    upstream.sessions.clear();
    upstream.seen.splice(0);
    expect(await echo(session, "forgetful")).toBe("{}");
    expect(upstream.seen.map(({ method }) => method)).toEqual([
      "tools/call",
      "initialize",
      "notifications/initialized",
      "tools/call",
    ]);
    await session.end();
    expect(story(await soundRecords(operator, session.id))).toEqual(
      Array.from({ length: 2 }, () => ["tool_intent pending", "tool_result ok"]).flat(),
    );
  });

  it("is initialised once more, and not for ever", async () => {
    const upstream = await stand("2025", { name: "hopeless" });
    const session = await newSession();
    upstream.fault = ({ method }, response) => {
      if (method !== "tools/call") return false;
      response.writeHead(404).end();
      return true;
    };
    const { json } = await session.request("tools/call", { name: "hopeless_echo", arguments: {} });
    expect(at(json, "result.isError")).toBe(true);
    expect(JSON.stringify(json)).toContain("UPSTREAM_UNAVAILABLE");
    expect(upstream.asked("tools/call")).toHaveLength(2);
  });

  it("is a call's own on the ambient session, also when it was forgotten within the call", async () => {
    const upstream = await stand("2025", { name: "alone" });
    const { key } = await operator.mintKey({ role: "windsurf" });
    const client = new Raw2026(gateway.url, key);
    upstream.seen.splice(0);
    for (const _ of [1, 2]) await client.call("alone_echo");
    const [a, b] = sessionsOf(upstream);
    expect(a).not.toBe(b);
    await eventually("both are closed", () => (deletesOf(upstream).length === 2 ? true : null));
    expect(deletesOf(upstream).toSorted()).toEqual([a, b].toSorted());
    upstream.seen.splice(0);
    let isFirst = true;
    upstream.fault = ({ method }, response) => {
      if (method !== "tools/call" || !isFirst) return false;
      isFirst = false;
      upstream.sessions.clear();
      response.writeHead(404).end();
      return true;
    };
    await client.call("alone_echo");
    const [, second] = sessionsOf(upstream);
    await eventually("the one that answered is closed", () =>
      deletesOf(upstream).includes(second) ? true : null,
    );
    expect(upstream.sessions.size).toBe(0);
  });

  it("is another one at another address, where the old one means nothing", async () => {
    const before = await stand("2025", { name: "moved" });
    const session = await newSession();
    await echo(session, "moved");
    const after = await Upstream.start("2025");
    upstreams.push(after);
    after.tool("echo", () => said("from the new address"));
    // Some servers answer 400 to a session that they do not know, which is no way to say "initialise".
    after.fault = ({ headers }, response) => {
      const id = headers["mcp-session-id"];
      if (typeof id !== "string" || after.sessions.has(id)) return false;
      response.writeHead(400).end();
      return true;
    };
    await operator.ok("PATCH", "/upstreams/moved", { url: after.url });
    await eventually("the new address is used", async () =>
      (await echo(session, "moved")) === "from the new address" ? true : null,
    );
    const known = new Set(before.seen.map(({ headers }) => headers["mcp-session-id"]));
    for (const id of sessionsOf(after)) expect(known.has(id)).toBe(false);
  });
});

describe("what reaches an upstream", () => {
  it("is neither the client's credential nor any header of its own", async () => {
    const upstreamsHere = [
      await stand("2025", { name: "clean2025" }),
      await stand("2026", { name: "clean2026" }),
    ];
    const { key } = await operator.mintKey({ role: "windsurf" });
    const evil = {
      cookie: "a=b",
      "x-api-key": key,
      "mcp-param-evil": "1",
      "x-forwarded-for": "10.0.0.1",
      "x-custom": "from the client",
    };
    const client = new Raw2026(gateway.url, key);
    client.meta = { "acme/note": "kept", "dev.atlas-gate/own": "dropped", progressToken: "mine" };
    const session = await RawSession.open(gateway.url, key);
    for (const upstream of ["clean2025", "clean2026"]) {
      const message = { name: `${upstream}_echo`, arguments: { n: 1 } };
      await client.post("tools/call", message, evil);
      await session.post({ jsonrpc: "2.0", id: 9, method: "tools/call", params: message }, evil);
    }
    for (const upstream of upstreamsHere) {
      expect(upstream.asked("tools/call")).toHaveLength(2);
      for (const { headers, message } of upstream.seen) {
        const text = JSON.stringify([headers, message]);
        expect(text).not.toContain(key);
        expect(text).not.toMatch(/a=b|mcp-param-evil|from the client|10\.0\.0\.1|mine|dropped/);
        expect(text).not.toContain(session.id);
      }
      const [first] = upstream.asked("tools/call");
      expect(pick(first?.message, "params", "_meta", "acme/note")).toBe("kept");
      if (upstream.era === "2026") {
        expect(first?.headers).toMatchObject({
          "mcp-protocol-version": "2026-07-28",
          "mcp-method": "tools/call",
          "mcp-name": "echo",
        });
      }
    }
  });

  it("is mirrored into headers anew, whatever the era of the client", async () => {
    const upstream = await Upstream.start("2026");
    upstreams.push(upstream);
    const inputSchema = {
      type: "object",
      properties: { region: { type: "string", "x-mcp-header": "Region" } },
    };
    upstream.tool("query", ({ headers }) => said(String(headers["mcp-param-region"])), {
      inputSchema,
    });
    await register(operator, upstream, { name: "mirror" });
    const session = await newSession();
    const { json } = await session.request("tools/call", {
      name: "mirror_query",
      arguments: { region: "ü" },
    });
    expect(at(json, "result.content.0.text")).toBe(
      `=?base64?${Buffer.from("ü").toString("base64")}?=`,
    );
  });

  it("is not the handle of the gateway's session", async () => {
    const upstream = await stand("2026", { name: "handle" });
    const { key } = await operator.mintKey({ role: "windsurf" });
    const client = new Raw2026(gateway.url, key);
    const atlas_session = await client.begin("/srv/handle");
    const reply = await client.call("handle_echo", { n: 1, atlas_session });
    expect(pick(reply.body, "result", "content", "0", "text")).toBe('{"n":1}');
    expect(sessionOf(reply)).toBe(atlas_session);
    expect(JSON.stringify(upstream.seen)).not.toContain(atlas_session);
  });
});

describe("an upstream's credentials", () => {
  const SECRETS = {
    bearer: "bearer-secret-4711-abcdef",
    header: "header-secret-4712-abcdef",
    client: "client-secret-4713-abcdef",
  };

  async function oauth(name: string, seconds: number) {
    const server = await startTokenServer({ seconds });
    tokenServers.push(server);
    const upstream = await stand("2026", {
      name,
      auth: {
        kind: "oauth_client_credentials",
        token_url: server.url,
        client_id: "the-gateway",
        client_secret: SECRETS.client,
      },
    });
    return { server, upstream };
  }

  it("go with every request, as they were registered", async () => {
    const bearer = await stand("2025", {
      name: "bearer",
      auth: { kind: "bearer", token: SECRETS.bearer },
    });
    const header = await stand("2026", {
      name: "header",
      auth: { kind: "header", name: "X-Upstream-Key", value: SECRETS.header },
    });
    const session = await newSession();
    expect(await echo(session, "bearer")).toBe("{}");
    expect(await echo(session, "header")).toBe("{}");
    await session.end();
    await eventually("the session is closed", () => (deletesOf(bearer).length > 1 ? true : null));
    for (const { headers } of bearer.seen) {
      expect(headers.authorization).toBe(`Bearer ${SECRETS.bearer}`);
    }
    for (const { headers } of header.seen) {
      expect([headers["x-upstream-key"], headers.authorization]).toEqual([
        SECRETS.header,
        undefined,
      ]);
    }
  });

  it("of OAuth are a token that is renewed before its end, and once after a 401", async () => {
    const { server, upstream } = await oauth("oauth", 4);
    const session = await newSession();
    expect(await echo(session, "oauth")).toBe("{}");
    const [asked] = server.requests;
    expect(asked?.form.get("grant_type")).toBe("client_credentials");
    expect(asked?.headers.authorization).toBe(
      `Basic ${Buffer.from(`the-gateway:${SECRETS.client}`).toString("base64")}`,
    );
    const before = server.requests.length;
    await sleep(3_800);
    expect(await echo(session, "oauth")).toBe("{}");
    expect(server.requests.length).toBeGreaterThan(before);
    expect(upstream.seen.at(-1)?.headers.authorization).toBe(`Bearer ${server.token()}`);
    // The upstream stops taking the token that is in use.
    const revoked = server.token();
    upstream.fault = ({ headers }, response) => {
      if (headers.authorization !== `Bearer ${revoked}`) return false;
      response.writeHead(401).end();
      return true;
    };
    expect(await echo(session, "oauth")).toBe("{}");
    upstream.fault = (_seen, response) => {
      response.writeHead(401).end();
      return true;
    };
    upstream.seen.splice(0);
    expect(JSON.stringify(await echo(session, "oauth"))).toContain("UPSTREAM_UNAUTHORIZED");
    expect(upstream.seen).toHaveLength(2);
  });

  it("are in no answer, no record, no log line, and nowhere on the disk", async () => {
    const { server } = await oauth("leaky", 600);
    const echoing = await stand("2025", {
      name: "echoing",
      auth: { kind: "bearer", token: SECRETS.bearer },
    });
    echoing.fault = ({ method, headers }, response) => {
      if (method !== "tools/call") return false;
      // A server that quotes what it was sent, in an error that the gateway logs.
      response.writeHead(500).end(`bad credentials: ${headers.authorization}`);
      return true;
    };
    const session = await newSession();
    expect(await echo(session, "leaky")).toBe("{}");
    const failed = JSON.stringify(await echo(session, "echoing"));
    const refused = await operator.send("POST", "/upstreams", {
      name: "Bad Name",
      url: "http://x/",
      auth: { kind: "bearer", token: SECRETS.bearer },
    });
    expect(refused.status).toBe(400);
    const patched = await operator.send("PATCH", "/upstreams/leaky", {
      auth: { kind: "header", name: "X-Key", value: SECRETS.header },
    });
    const tokens = server.requests.map((_, at) => `token-${at + 1}-of-the-fake-server`);
    await session.end();
    await operator.auditUntil(`session_id=${session.id}`, (entries) =>
      entries.some(({ event }) => event === "session_close"),
    );
    await operator.auditUntil("role=operator", (entries) =>
      entries.some(({ context }) => at(context, "action") === "upstream.change"),
    );
    const answers = [
      failed,
      refused.text,
      patched.text,
      JSON.stringify(await operator.ok("GET", "/upstreams")),
      JSON.stringify(await operator.ok("GET", "/upstreams/leaky")),
      JSON.stringify(await operator.ok("GET", "/upstreams/echoing/tools")),
      JSON.stringify(await operator.audit("since=2020-01-01T00:00:00Z")),
      gateway.command.output,
    ];
    const secrets = [...Object.values(SECRETS), ...tokens];
    for (const secret of secrets) {
      for (const answer of answers) expect(answer.includes(secret)).toBe(false);
    }
    expect(await holdersOf(gateway.stateDir, secrets)).toEqual([]);
  });

  /** Files below a folder that have one of the texts in them. */
  async function holdersOf(folder: string, secrets: readonly string[]): Promise<string[]> {
    const found: string[] = [];
    let bytes = 0;
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const content = await readFile(path);
      bytes += content.length;
      if (secrets.some((secret) => content.includes(secret))) found.push(path);
    }
    // Otherwise the state is elsewhere, and nothing was looked at.
    expect(bytes).toBeGreaterThan(100_000);
    return found;
  }
});

describe("an address", () => {
  it("that another one redirects to gets nothing", async () => {
    const target = await stand("2025", { name: "target" });
    const upstream = await stand("2026", { name: "redirecting" });
    target.seen.splice(0);
    upstream.fault = (_seen, response) => {
      response.writeHead(307, { location: target.url }).end();
      return true;
    };
    const session = await newSession();
    const answer = JSON.stringify(await echo(session, "redirecting"));
    expect(answer).toContain("UPSTREAM_UNAVAILABLE");
    expect(answer).toContain("was not carried out");
    expect(target.seen).toEqual([]);
    expect(upstream.asked("tools/call")).toHaveLength(1);
  });

  it("that is not public is refused by a gateway that was not told otherwise", async () => {
    const closed = await Gateway.start();
    try {
      const admin = new Operator(closed.url, closed.keys.operator);
      const urls = [
        "http://127.0.0.1:1/mcp",
        "https://localhost/mcp",
        "https://10.0.0.1/mcp",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/mcp",
        "https://[fd00::1]/mcp",
        "https://2130706433/mcp",
        "https://metadata.google.internal/mcp",
        "http://public.example.com/mcp",
        "ftp://public.example.com/mcp",
      ];
      for (const url of urls) {
        const { status, text } = await admin.send("POST", "/upstreams", { name: "inside", url });
        expect([url, status, text]).toEqual([
          url,
          400,
          expect.stringContaining("INVALID_ARGUMENT"),
        ]);
      }
      const auth = {
        kind: "oauth_client_credentials",
        token_url: "https://192.168.0.1/token",
        client_id: "a",
        client_secret: "b",
      };
      const url = "https://public.example.com/mcp";
      const { status } = await admin.send("POST", "/upstreams", { name: "inside", url, auth });
      expect(status).toBe(400);
    } finally {
      await closed.dispose();
    }
  });
});
