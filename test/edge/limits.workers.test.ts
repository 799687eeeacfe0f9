import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { requireConfig } from "../../src/config.ts";
import { type Asking, admit, stillAdmitted } from "../../src/edge/admission.ts";
import { authenticate } from "../../src/edge/authenticate.ts";
import { takeStreamPlace } from "../../src/edge/open-streams.ts";
import type { Principal } from "../../src/edge/principal.ts";
import { HttpRefusal } from "../../src/edge/refusal.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import {
  admin,
  BASE,
  Client,
  initializeRequest,
  type Key,
  keyOf,
  mintKey,
  postMcp,
  recordsOf,
} from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  evict,
  MINUTE,
  SECOND,
  session,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const PING = { jsonrpc: "2.0", id: 7, method: "ping" };

/** Six a minute and twenty at once, as the limit of one key. */
const SIX_A_MINUTE = { rate_per_minute: 6, burst: 20 };

async function statuses(count: number, call: () => Promise<{ status: number }>): Promise<number[]> {
  const answers = await Promise.all(Array.from({ length: count }, call));
  return answers.map(({ status }) => status);
}

describe("the limit of a session", () => {
  test("lets twenty at once through, and refuses the 21st with the time to come back", async () => {
    const client = await Client.open(await mintKey("windsurf", { limits: SIX_A_MINUTE }));
    expect(await statuses(20, () => client.rpc("ping"))).toEqual(Array(20).fill(200));
    const refused = await postMcp(client.key.key, client.id, PING);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "10"]);
    expect(refused.body).toMatchObject({
      jsonrpc: "2.0",
      id: 7,
      error: { code: -31429, data: { code: "RATE_LIMITED" } },
    });
    advance(9 * SECOND);
    expect((await client.rpc("ping")).status).toBe(429);
    advance(SECOND);
    expect(await statuses(2, () => client.rpc("ping"))).toEqual([200, 429]);
  });

  test("never refuses who keeps to the rate", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { limits: { rate_per_minute: 7, burst: 1 } }),
    );
    for (let n = 0; n < 30; n++) {
      expect((await client.rpc("ping")).status).toBe(200);
      advance(Math.ceil(MINUTE / 7));
    }
  });

  test("does not count notifications, answers, GET and DELETE", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 1 } }),
    );
    expect((await client.rpc("ping")).status).toBe(200);
    const silent = [
      { jsonrpc: "2.0", method: "notifications/initialized" },
      { jsonrpc: "2.0", id: "x", result: {} },
    ];
    for (const payload of silent) {
      expect((await postMcp(client.key.key, client.id, payload)).status).toBe(202);
    }
    expect((await client.rpc("ping")).status).toBe(429);
    expect(await client.end()).toBe(204);
  });

  test("counts each request of a batch, and takes all of them or none", async () => {
    const key = await mintKey("windsurf", { limits: { rate_per_minute: 6, burst: 5 } });
    const opened = await postMcp(key.key, null, initializeRequest("2025-03-26"));
    const id = opened.headers.get("mcp-session-id");
    const batch = (size: number) =>
      Array.from({ length: size }, (_, n) => ({ jsonrpc: "2.0", id: n, method: "ping" }));
    expect((await postMcp(key.key, id, batch(3))).status).toBe(200);
    expect((await postMcp(key.key, id, batch(3))).status).toBe(429);
    expect((await postMcp(key.key, id, batch(2))).status).toBe(200);
  });

  test("is one of each session, and of the ambient one too", async () => {
    const key = await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 1 } });
    const [one, other] = [await Client.open(key), await Client.open(key)];
    expect((await one.rpc("ping")).status).toBe(200);
    expect((await other.rpc("ping")).status).toBe(200);
    const ambient = () => call2026(key, "list_plans");
    expect([(await ambient()).status, (await ambient()).status]).toEqual([200, 429]);
  });

  test("counts subscriptions/listen on the ambient one, and records none too many", async () => {
    const key = await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 2 } });
    const listen = async () => {
      const response = await post2026(key, "subscriptions/listen", { notifications: {} });
      await response.body?.cancel();
      return [response.status, response.headers.get("retry-after")];
    };
    expect([await listen(), await listen()]).toEqual([
      [200, null],
      [200, null],
    ]);
    expect(await listen()).toEqual([429, "60"]);
    expect((await call2026(key, "list_plans")).status).toBe(429);
    const events = (await recordsOf(ambientOf(key))).map(({ event }) => event);
    expect(events).toEqual(["session_open", "subscriptions_listen", "subscriptions_listen"]);
  });

  test("bounds the records of a refused use of another's session, whose answer stays the same", async () => {
    const victim = await Client.open(await mintKey("windsurf"));
    const key = await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 2 } });
    const stranger = new Client(key, victim.id);
    for (let n = 0; n < 4; n++) expect((await stranger.rpc("ping")).status).toBe(404);
    const records = await recordsOf(ambientOf(key));
    expect(records.map(({ error_code }) => error_code)).toEqual([
      null,
      "SESSION_NOT_FOUND",
      "SESSION_NOT_FOUND",
    ]);
    const said = logs.filter((line) => line.includes('"refused_use_not_recorded"'));
    expect(said).toHaveLength(2);
    expect(said[0]).toContain(victim.id);
  });

  test("lives in memory: an object that was evicted begins anew", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 1 } }),
    );
    expect(await statuses(2, () => client.rpc("ping"))).toEqual([200, 429]);
    await evict(session(client.id));
    expect((await client.rpc("ping")).status).toBe(200);
  });

  test("leaves no record of what it refused", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { limits: { rate_per_minute: 1, burst: 1 } }),
    );
    const first = await client.call("read_audit_log");
    await client.rpc("tools/call", { name: "read_audit_log", arguments: {} });
    advance(MINUTE);
    const next = await client.call("read_audit_log");
    expect(next.receipt?.seq).toBe((first.receipt?.seq ?? 0) + 1);
  });
});

async function call2026(key: Key, name: string, args: Record<string, unknown> = {}) {
  const response = await post2026(key, "tools/call", { name, arguments: args });
  await response.body?.cancel();
  return response;
}

function post2026(key: Key, method: string, params: Record<string, unknown>) {
  const version = "2026-07-28";
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": version,
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  return exports.default.fetch(`${BASE}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key.key}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": version,
      "mcp-method": method,
      ...(typeof params.name === "string" ? { "mcp-name": params.name } : {}),
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta } }),
  });
}

/** The ambient session of a key's principal, of today. */
function ambientOf(key: Key): string {
  const owner = { tenant: key.tenant, principal: key.principal };
  return ambientSessionId(sha256Hex, owner, Date.now());
}

describe("live sessions of a principal", () => {
  test("are bounded, and one that is ended makes room at once", async () => {
    const key = await mintKey("windsurf", { limits: { sessions: 2 } });
    const first = await Client.open(key);
    await Client.open(key);
    const refused = await postMcp(key.key, null, initializeRequest());
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "60"]);
    expect(refused.body).toMatchObject({ id: "init", error: { data: { code: "QUOTA_EXCEEDED" } } });
    await first.end();
    await Client.open(key);
    expect((await postMcp(key.key, null, initializeRequest())).status).toBe(429);
  });

  test("are counted for begin_session of the 2026 era too, and for each principal by itself", async () => {
    const key = await mintKey("windsurf", { limits: { sessions: 1 } });
    const begin = () => call2026(key, "begin_session", { workspace_root: "/srv/quota" });
    expect([(await begin()).status, (await begin()).status]).toEqual([200, 429]);
    await Client.open(await mintKey("windsurf", { limits: { sessions: 1 } }));
  });

  test("are as many as they may be also when all are opened at once", async () => {
    const [key, other] = await Promise.all(
      [1, 3].map((sessions) => mintKey("windsurf", { limits: { sessions } })),
    );
    if (key === undefined || other === undefined) throw new Error("no keys");
    const open = (as: Key) => () => postMcp(as.key, null, initializeRequest());
    const begin = () => call2026(key, "begin_session", { workspace_root: "/srv/at-once" });
    const opened = [...(await statuses(12, open(key))), ...(await statuses(12, begin))];
    expect(opened.sort()).toEqual([200, ...Array(23).fill(429)]);
    expect((await statuses(12, open(other))).sort()).toEqual([
      200,
      200,
      200,
      ...Array(9).fill(429),
    ]);
  });

  test("that were not opened after all give their place back", async () => {
    const key = await mintKey("windsurf", { limits: { sessions: 1 } });
    const badRoot = () => call2026(key, "begin_session", { workspace_root: "no/root" });
    expect([(await badRoot()).status, (await badRoot()).status]).toEqual([200, 200]);
    await Client.open(key);
  });

  test("that other isolates opened are counted from the index", async () => {
    const key = await mintKey("windsurf", { limits: { sessions: 1 } });
    const row = {
      session_id: "00000000-0000-8000-8000-000000000001",
      tenant: "default",
      principal: key.principal,
      role: "windsurf",
      era: "2025",
      created_at: "2100-01-01T00:00:00.000Z",
      last_seen_at: "2100-01-01T00:00:00.000Z",
      entries: 1,
    };
    const columns = Object.keys(row);
    await env.ARCHIVE_DB.prepare(
      `INSERT INTO sessions (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
    )
      .bind(...Object.values(row))
      .run();
    expect((await postMcp(key.key, null, initializeRequest())).status).toBe(429);
    await env.ARCHIVE_DB.prepare("UPDATE sessions SET ended_at = ? WHERE session_id = ?")
      .bind("2100-01-02T00:00:00.000Z", row.session_id)
      .run();
    await Client.open(key);
  });
});

describe("streams of a principal in an isolate", () => {
  const principal = (id: string): Principal => ({
    id,
    tenant: "default",
    role: "windsurf",
    workspaces: null,
    upstreams: null,
    limits: { streams: 2 },
  });

  test("are bounded, and each gives its place back once", () => {
    const one = takeStreamPlace(principal("key:streams"));
    takeStreamPlace(principal("key:streams"));
    const another = () => takeStreamPlace(principal("key:streams"));
    expect(another).toThrowError(expect.objectContaining({ status: 503, code: "OVERLOADED" }));
    expect(() => takeStreamPlace(principal("key:other"))).not.toThrow();
    one.leave();
    one.leave();
    expect(another).not.toThrow();
    expect(another).toThrow();
  });

  test("that were silent for a minute are none any more", () => {
    const alive = takeStreamPlace(principal("key:silent"));
    takeStreamPlace(principal("key:silent"));
    advance(MINUTE / 2);
    alive.seen();
    advance(MINUTE / 2);
    const another = () => takeStreamPlace(principal("key:silent"));
    expect(another).not.toThrow();
    expect(another).toThrow();
  });
});

describe("the limit of a principal", () => {
  test("holds over all its sessions", async () => {
    const key = await mintKey("windsurf", { limits: { principal_per_minute: 5 } });
    const [one, other] = [await Client.open(key), await Client.open(key)];
    expect([(await one.rpc("ping")).status, (await other.rpc("ping")).status]).toEqual([200, 200]);
    expect((await one.rpc("ping")).status).toBe(200);
    const refused = await other.rpc("ping");
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "12"]);
    advance(12 * SECOND);
    expect((await other.rpc("ping")).status).toBe(200);
  });
});

describe("an address with bad credentials", () => {
  const bad = (n: number): string => `ag_${String(n).padStart(16, "0")}_${"x".repeat(43)}`;
  const from = (address: string) => ({ "cf-connecting-ip": address });

  test("is held off for a minute; who is known goes on, and so does every other address", async () => {
    const known = await Client.open(await mintKey("windsurf"));
    const fresh = await mintKey("windsurf");
    const address = "203.0.113.5";
    let refused = 0;
    let heldOff = 0;
    for (let n = 0; n < 60; n++) {
      const { status } = await postMcp(bad(n), null, PING, from(address));
      if (status === 401) refused += 1;
      else if (status === 429) heldOff += 1;
    }
    expect(refused + heldOff).toBe(60);
    expect(heldOff).toBeGreaterThan(20);
    const held = await postMcp(fresh.key, null, initializeRequest(), from(address));
    expect([held.status, held.headers.get("retry-after")]).toEqual([429, "60"]);
    expect((await postMcp(known.key.key, known.id, PING, from(address))).status).toBe(200);
    const elsewhere = await postMcp(fresh.key, null, initializeRequest(), from("203.0.113.6"));
    expect(elsewhere.status).toBe(200);
    // Another address cannot be pretended to.
    const forwarded = { ...from(address), "x-forwarded-for": "203.0.113.7" };
    expect((await postMcp(bad(99), null, PING, forwarded)).status).toBe(429);
    advance(MINUTE);
    expect((await postMcp(bad(100), null, PING, from(address))).status).not.toBe(200);
  });

  test("is not held off for a credential that is repeated: its answer is in memory", async () => {
    const expired = await mintKey("windsurf");
    await env.ARCHIVE_DB.prepare("UPDATE api_keys SET expires_at = ? WHERE id = ?")
      .bind(new Date(Date.now() - SECOND).toISOString(), expired.id)
      .run();
    const address = "203.0.113.8";
    for (const credential of [bad(2_000), expired.key, "no-key-at-all"]) {
      for (let n = 0; n < 40; n++) {
        expect((await postMcp(credential, null, PING, from(address))).status).toBe(401);
      }
    }
    const fresh = await mintKey("windsurf");
    const newcomer = await postMcp(fresh.key, null, initializeRequest(), from(address));
    expect(newcomer.status).toBe(200);
  });

  test("that is held off does not keep an open stream from noticing a revocation", async () => {
    const address = "203.0.113.9";
    const [revoked, kept] = [await mintKey("windsurf"), await mintKey("windsurf")];
    const asking = ({ key }: Key): Asking => ({
      request: new Request(`${BASE}/mcp`, {
        headers: { authorization: `Bearer ${key}`, ...from(address) },
      }),
      env,
      config: requireConfig(env),
      waitUntil: () => {},
    });
    const streams = [await admit(asking(revoked)), await admit(asking(kept))];
    await admin("DELETE", `/keys/${revoked.id}`);
    for (let n = 0; n < 60; n++) await postMcp(bad(3_000 + n), null, PING, from(address));
    const newcomer = await mintKey("windsurf");
    await expect(admit(asking(newcomer))).rejects.toMatchObject({ status: 429 });
    advance(MINUTE / 2);
    const still = [revoked, kept].map((key, n) => {
      const stream = streams[n];
      if (stream === undefined) throw new Error("no stream");
      return stillAdmitted(asking(key), stream.principal);
    });
    expect(await Promise.all(still)).toEqual([false, true]);
  });

  test("of this machine is not held off: without the platform all callers have one address", async () => {
    for (let n = 0; n < 50; n++) {
      expect((await postMcp(bad(1_000 + n), null, PING)).status).toBe(401);
    }
  });
});

describe("the limits of a key", () => {
  test.each([
    [{ rate_per_minute: 0 }, "limits.rate_per_minute"],
    [{ burst: 1.5 }, "limits.burst"],
    [{ streams: 257 }, "limits.streams"],
    [{ bogus: 1 }, "bogus"],
  ])("are refused where they are none: %j", async (limits, names) => {
    const answer = await admin("POST", "/keys", { body: { name: "x", role: "windsurf", limits } });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(names);
  });

  test("go on to its successor", async () => {
    const key = await mintKey("windsurf", { limits: { burst: 3, rate_per_minute: 1 } });
    const successor = keyOf(await admin("POST", `/keys/${key.id}/rotate`, { body: {} }));
    const pending: Promise<unknown>[] = [];
    const { principal } = await authenticate(successor.key, env.ARCHIVE_DB, Date.now(), (work) =>
      pending.push(work),
    );
    await Promise.all(pending);
    expect(principal.limits).toEqual({ burst: 3, rate_per_minute: 1 });
  });

  test("bound the calls that are under way", async () => {
    const client = await Client.open(
      await mintKey("windsurf", { limits: { concurrent_calls: 1 } }),
    );
    await client.must("begin_session", { workspace_root: "/srv/concurrent" });
    const answers = await statuses(5, () =>
      client.rpc("tools/call", { name: "list_files", arguments: {} }),
    );
    expect(answers).toContain(200);
    expect(answers).toContain(429);
    expect((await client.rpc("ping")).status).toBe(200);
  });
});

test("a look-up that is not let through refuses with what it was refused with", async () => {
  const refusal = new HttpRefusal(429, "RATE_LIMITED", "no");
  const asked = authenticate(
    `ag_${"9".repeat(16)}_${"y".repeat(43)}`,
    env.ARCHIVE_DB,
    Date.now(),
    () => {},
    {
      beforeLookup: () => Promise.reject(refusal),
    },
  );
  await expect(asked).rejects.toBe(refusal);
});
