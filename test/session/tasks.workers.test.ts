import { afterEach, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import type { KillScope } from "../../src/policy/kill-switch.ts";
import { admin } from "../support/gateway.ts";
import {
  call,
  type From,
  type Internet,
  internet,
  post2026,
  REGISTRATION,
  replied,
} from "../support/internet.ts";
import { captureLogs, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

let net: Internet;
const standing: string[] = [];

beforeAll(async () => {
  net = await internet();
  const registered = await admin("POST", "/upstreams?approve=all", { body: REGISTRATION });
  expect([registered.status, registered.body]).toMatchObject([201, { approved: true }]);
});

afterEach(async () => {
  net.seen.length = 0;
  for (const id of standing.splice(0)) {
    expect((await admin("DELETE", `/kill-switches/${id}?reason=over`)).status).toBe(204);
  }
});

async function engage(scope: KillScope): Promise<void> {
  const answer = await admin("POST", "/kill-switches", { body: { scope, reason: "an incident" } });
  standing.push(z.object({ id: z.string() }).parse(answer.body).id);
}

/** A subject's task of `tools_job`, and what it takes to ask about it. */
async function begun(sub: string) {
  const from = { token: await net.sign({ sub }) };
  const { result } = await call(from, "tools_job");
  const taskId = z.string().parse(result.taskId);
  net.seen.length = 0;
  return {
    from,
    ask: async (who: From, method: string) => {
      const params = method === "tasks/update" ? { taskId, inputResponses: {} } : { taskId };
      return replied(await post2026(who, method, params));
    },
  };
}

const methods = (): string[] => net.seen.map(({ method }) => method);

describe("a switch of a tool", () => {
  test("stops what would go on with a task of it; to look at the task and to end it stay possible", async () => {
    const { from, ask } = await begun("hana");
    await engage({ tool: "tools_job" });
    expect((await ask(from, "tasks/update")).code).toBe("KILL_SWITCH");
    expect((await ask(from, "tasks/get")).code).toBeNull();
    expect((await ask(from, "tasks/cancel")).code).toBeNull();
    expect(methods()).toEqual(["tasks/get", "tasks/cancel"]);
  });

  test("leaves tasks of other tools", async () => {
    const { from, ask } = await begun("ines");
    await engage({ tool: "tools_echo" });
    expect((await ask(from, "tasks/update")).code).toBeNull();
  });

  test("of its upstream stops them altogether", async () => {
    const { from, ask } = await begun("jo");
    await engage({ upstream: "tools" });
    for (const method of ["tasks/get", "tasks/update", "tasks/cancel"]) {
      expect((await ask(from, method)).code).toBe("KILL_SWITCH");
    }
    expect(methods()).toEqual([]);
  });
});

describe("a client without the scope of the tool", () => {
  test("may look at a task of it, and do nothing about it", async () => {
    const { ask } = await begun("kim");
    const reader = { token: await net.sign({ sub: "kim", scope: "mcp:read" }) };
    for (const method of ["tasks/update", "tasks/cancel"]) {
      const refused = await ask(reader, method);
      expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([
        403,
        expect.stringContaining('error="insufficient_scope", scope="mcp:read mcp:write"'),
      ]);
    }
    expect((await ask(reader, "tasks/get")).code).toBeNull();
    expect(methods()).toEqual(["tasks/get"]);
  });

  test("goes on with a task of a tool that reads", async () => {
    const marked = await admin("POST", "/upstreams/tools/tools/job/approve", {
      body: { reads: true },
    });
    expect(marked.status).toBe(200);
    const { ask } = await begun("lea");
    const reader = { token: await net.sign({ sub: "lea", scope: "mcp:read" }) };
    expect((await ask(reader, "tasks/update")).code).toBeNull();
    expect((await ask(reader, "tasks/cancel")).code).toBeNull();
    // Without it, not even that.
    const auditor = { token: await net.sign({ sub: "lea", scope: "mcp:audit" }) };
    expect((await ask(auditor, "tasks/cancel")).status).toBe(403);
  });

  test("learns nothing of a task that is not its own", async () => {
    const { ask } = await begun("mia");
    const other = { token: await net.sign({ sub: "nora", scope: "mcp:read" }) };
    expect(await ask(other, "tasks/cancel")).toMatchObject({ status: 400, code: "NOT_FOUND" });
    expect(methods()).toEqual([]);
  });
});
