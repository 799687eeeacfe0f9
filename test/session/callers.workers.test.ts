import { afterEach, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import type { KillScope } from "../../src/policy/kill-switch.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { admin, initializeRequest, recordsOf, verified } from "../support/gateway.ts";
import {
  call,
  EXCHANGE,
  type From,
  type Internet,
  internet,
  post,
  post2026,
  principalOfSub,
  REGISTRATION,
  type Replied,
  replied,
} from "../support/internet.ts";
import { captureLogs, crash, flush, gate, session, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

let net: Internet;
const standing: string[] = [];

beforeAll(async () => {
  net = await internet();
  const who = { ...REGISTRATION, name: "who", auth: EXCHANGE };
  for (const body of [REGISTRATION, who]) {
    const registered = await admin("POST", "/upstreams?approve=all", { body });
    expect([registered.status, registered.body]).toMatchObject([201, { approved: true }]);
  }
});

afterEach(async () => {
  net.before = null;
  net.seen.length = 0;
  for (const id of standing.splice(0)) {
    expect((await admin("DELETE", `/kill-switches/${id}?reason=over`)).status).toBe(204);
  }
});

async function engage(scope: KillScope): Promise<void> {
  const answer = await admin("POST", "/kill-switches", { body: { scope, reason: "an incident" } });
  standing.push(z.object({ id: z.string() }).parse(answer.body).id);
}

const bearing = async (sub: string, role: string): Promise<From> => ({
  token: await net.sign({ sub, role }),
});

const ambientOf = (sub: string): string =>
  ambientSessionId(sha256Hex, { tenant: "default", principal: principalOfSub(sub) }, Date.now());

/** The records of a subject's ambient session, which an operator finds in the index. */
async function ambientRecords(sub: string) {
  await flush(ambientOf(sub));
  return recordsOf(ambientOf(sub));
}

describe("a principal of two roles in one day", () => {
  test("is stopped in the role of the call, whichever opened its ambient session", async () => {
    const planner = await bearing("ada", "antigravity");
    const executor = await bearing("ada", "windsurf");
    await engage({ role: "windsurf" });
    expect((await call(planner, "tools_echo")).code).toBeNull();
    expect((await call(executor, "tools_echo")).code).toBe("KILL_SWITCH");
    expect((await call(executor, "read_audit_log")).code).toBe("KILL_SWITCH");
    expect((await call(planner, "tools_echo")).code).toBeNull();
    expect(net.seen).toHaveLength(2);
  });

  test("is recorded in the role of the call, and in that of its opener where it is the session's own", async () => {
    const planner = await bearing("bea", "antigravity");
    const executor = await bearing("bea", "windsurf");
    await call(planner, "read_plan", { plan_hash: "0".repeat(64) });
    await call(executor, "tools_echo");
    await call(executor, "no_such_tool");
    await call(planner, "tools_echo");
    const records = await ambientRecords("bea");
    expect(records.map(({ event, role }) => [event, role])).toEqual([
      ["session_open", "antigravity"],
      ["tool_call", "antigravity"],
      ["tool_intent", "windsurf"],
      ["tool_result", "windsurf"],
      ["tool_call", "windsurf"],
      ["tool_intent", "antigravity"],
      ["tool_result", "antigravity"],
    ]);
    expect((await verified(ambientOf("bea"))).verdicts.integrity.ok).toBe(true);
  });

  test("may do what the role of the call may, and begins sessions in it", async () => {
    const planner = await bearing("cleo", "antigravity");
    const executor = await bearing("cleo", "windsurf");
    const write = { path: "a", content: "b" };
    expect((await call(planner, "write_file", write)).code).toBe("ROLE_FORBIDDEN");
    // Its role may; what is missing is a workspace.
    expect((await call(executor, "write_file", write)).code).toBe("SESSION_REQUIRED");
    const begun = await call(executor, "begin_session", { workspace_root: "/srv/two-roles" });
    expect(begun.result.structuredContent).toMatchObject({ role: "windsurf" });
  });

  test("gets the answer of a call that has become a stream", async () => {
    const planner = await bearing("dora", "antigravity");
    const executor = await bearing("dora", "windsurf");
    await call(planner, "tools_echo");
    const { open, opened } = gate();
    net.before = () => opened().then(() => null);
    const response = await post2026(executor, "tools/call", { name: "tools_slow", arguments: {} });
    open();
    expect(await replied(response)).toMatchObject({ status: 200, code: null });
  });

  test("has what was lost settled in the role of its call", async () => {
    const planner = await bearing("emmy", "antigravity");
    const executor = await bearing("emmy", "windsurf");
    await call(planner, "tools_echo");
    const { open, opened } = gate();
    net.before = () => opened().then(() => null);
    // It answers once it is a stream, and is then lost before the upstream has answered.
    await post2026(executor, "tools/call", { name: "tools_slow", arguments: {} });
    await crash(session(ambientOf("emmy")));
    open();
    await call(planner, "read_plan", { plan_hash: "0".repeat(64) });
    const settled = (await ambientRecords("emmy")).slice(3);
    expect(settled).toMatchObject([
      { seq: 4, event: "tool_intent", role: "windsurf" },
      { seq: 5, event: "tool_result", role: "windsurf", error_code: "OUTCOME_UNKNOWN" },
      { seq: 6, event: "tool_call", role: "antigravity" },
    ]);
  });
});

describe("two clients of one user at the same time", () => {
  const NARROW = "mcp:write";
  const WIDE = "mcp:read mcp:write";

  const subjectIn = (name: string, where: string): string =>
    `${name}-${where.replaceAll(" ", "-")}`;

  /** Has the first request that comes to the upstream held up, and then refused for the moment. */
  function holdUpFirst() {
    const reached = gate();
    const free = gate();
    net.before = async () => {
      net.before = null;
      reached.open();
      await free.opened();
      return new Response(null, { status: 503 });
    };
    return { reached: reached.opened, free: free.open };
  }

  const places: [string, (first: From) => Promise<(from: From) => Promise<Replied>>][] = [
    ["their ambient session", async () => (from) => call(from, "who_echo")],
    [
      "a session of the 2025 era",
      async (first) => {
        const opened = await post(first, initializeRequest());
        await opened.body?.cancel();
        const id = opened.headers.get("mcp-session-id") ?? "";
        let requests = 0;
        return async (from) => {
          requests += 1;
          const params = { name: "who_echo", arguments: {} };
          const message = { id: requests, method: "tools/call", params };
          return replied(await post(from, message, { "mcp-session-id": id }));
        };
      },
    ],
  ];

  test.each(places)(
    "are told apart on %s: each token is used for its own calls",
    async (where, place) => {
      const sub = subjectIn("fay", where);
      const narrow = { token: await net.sign({ sub, scope: NARROW }) };
      const wide = { token: await net.sign({ sub, scope: WIDE }) };
      const ask = await place(wide);
      const { reached, free } = holdUpFirst();
      const held = ask(narrow);
      await Promise.race([reached(), held]);
      expect((await ask(wide)).code).toBeNull();
      free();
      expect((await held).code).toBeNull();
      const names = [NARROW, WIDE, NARROW].map(
        (scope) => `Bearer ${sub}/${scope.replaceAll(" ", "+")}`,
      );
      expect(net.seen.map(({ authorization }) => authorization)).toEqual(names);
    },
  );

  test.each(places)("one without a token takes nobody's away on %s", async (where, place) => {
    const sub = subjectIn("gwen", where);
    const fingerprint = sha256Hex(sub);
    const bound = await admin("POST", "/client-certificates", {
      body: {
        name: "a client",
        fingerprint_sha256: fingerprint,
        role: "windsurf",
        principal: principalOfSub(sub),
      },
    });
    expect(bound.status).toBe(201);
    const bearer = { token: await net.sign({ sub, scope: WIDE }) };
    const ask = await place(bearer);
    const { reached, free } = holdUpFirst();
    const held = ask(bearer);
    await Promise.race([reached(), held]);
    expect((await ask({ fingerprint })).code).toBe("UPSTREAM_UNAUTHORIZED");
    free();
    expect((await held).code).toBeNull();
    expect(net.seen.map(({ authorization }) => authorization)).toEqual(
      Array(2).fill(`Bearer ${sub}/mcp:read+mcp:write`),
    );
  });
});
