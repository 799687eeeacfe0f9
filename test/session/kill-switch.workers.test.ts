import { env, exports } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import * as z from "zod";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { type KillScope, NO_SWITCHES } from "../../src/policy/kill-switch.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import {
  admin,
  BASE,
  Client,
  currentOperator,
  executor,
  mintKey,
  newRoot,
  principalOf,
  recordsOf,
} from "../support/gateway.ts";
import { captureLogs, crash, session, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

const engagedSchema = z.object({ id: z.string(), scope: z.record(z.string(), z.string()) });
const standing: string[] = [];

async function engage(scope: KillScope, reason = "an incident"): Promise<string> {
  const answer = await admin("POST", "/kill-switches", { body: { scope, reason } });
  expect(answer.status).toBe(201);
  const { id } = engagedSchema.parse(answer.body);
  standing.push(id);
  return id;
}

async function lift(id: string): Promise<void> {
  const answer = await admin("DELETE", `/kill-switches/${id}?reason=over`);
  expect(answer.status).toBe(204);
}

afterEach(async () => {
  for (const id of standing.splice(0)) await lift(id);
});

describe("a call that a kill switch stops", () => {
  test("is refused with KILL_SWITCH and recorded, and goes on once it is lifted", async () => {
    const { client } = await executor(newRoot());
    const id = await engage({});
    const stopped = await client.call("write_file", { path: "src/a.txt", content: "a" });
    expect(stopped).toMatchObject({ status: 200, code: "KILL_SWITCH" });
    expect(stopped.message).toContain(id);
    const records = await recordsOf(client.id);
    expect(records.at(-1)).toMatchObject({
      event: "tool_call",
      tool: "write_file",
      result: "error",
      error_code: "KILL_SWITCH",
      context: { kill_switch: id },
    });
    await lift(id);
    expect((await client.call("write_file", { path: "src/a.txt", content: "a" })).code).toBeNull();
  });

  test("is checked after its arguments and before its role", async () => {
    const client = await Client.open(await mintKey("auditor"));
    await engage({ tenant: "default" });
    expect((await client.call("write_file", { path: 1 })).code).toBe("INVALID_ARGUMENT");
    const call = await client.call("write_file", { path: "a", content: "" });
    expect(call.code).toBe("KILL_SWITCH");
  });

  test("begin_session is one of them", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await engage({ role: "windsurf" });
    expect((await client.call("begin_session", { workspace_root: newRoot() })).code).toBe(
      "KILL_SWITCH",
    );
  });

  test("is only the one of the tool that the switch names", async () => {
    const { client } = await executor(newRoot());
    await engage({ tool: "write_file" });
    expect((await client.call("write_file", { path: "src/a", content: "" })).code).toBe(
      "KILL_SWITCH",
    );
    expect((await client.call("list_files")).code).toBeNull();
  });
});

describe("a session's own switch", () => {
  test("is in its object before the operator has the answer, and an older copy does not undo it", async () => {
    const key = await mintKey("windsurf");
    const client = await Client.open(key);
    const other = await Client.open(key);
    await engage({ session_id: client.id });
    const stale = {
      principal: principalOf(key, "windsurf"),
      payload: {
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: "read_audit_log", arguments: {} },
      },
      requestId: "r-1",
      switches: NO_SWITCHES,
    } as const;
    const reply = await session(client.id).handle(stale);
    expect(reply).toMatchObject({ kind: "reply", log: { error_code: "KILL_SWITCH" } });
    await crash(session(client.id));
    const again = await session(client.id).handle(stale);
    expect(again).toMatchObject({ kind: "reply", log: { error_code: "KILL_SWITCH" } });
    expect((await other.call("read_audit_log")).code).toBeNull();
  });

  test("names a session that can be one of the gateway's", async () => {
    const body = { scope: { session_id: "00000000-0000-8000-8000-000000000000" }, reason: "x" };
    // All zeroes is the form of an ambient session; a digit more is nobody's.
    expect(
      (await admin("POST", "/kill-switches", { body: { ...body, scope: { session_id: "no" } } }))
        .status,
    ).toBe(404);
  });
});

describe("a stream of a stopped session", () => {
  test("is not opened, and that is recorded", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const id = await engage({});
    const response = await exports.default.fetch(`${BASE}/mcp`, {
      headers: {
        authorization: `Bearer ${client.key.key}`,
        accept: "text/event-stream",
        "mcp-session-id": client.id,
      },
    });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).not.toBeNull();
    expect(await response.json()).toMatchObject({ error: { data: { code: "KILL_SWITCH" } } });
    expect((await recordsOf(client.id)).at(-1)).toMatchObject({
      event: "stream_open",
      error_code: "KILL_SWITCH",
      context: { kill_switch: id },
    });
  });
});

describe("the operator's side", () => {
  test("lists the switches that stand, and those that were lifted with who and why", async () => {
    const id = await engage({ upstream: "github" }, "it sends mail");
    const list = async (query: string) =>
      z
        .object({ kill_switches: z.array(z.looseObject({ id: z.string() })) })
        .parse((await admin("GET", `/kill-switches${query}`)).body).kill_switches;
    const operator = await currentOperator();
    expect((await list("")).find((one) => one.id === id)).toMatchObject({
      scope: { upstream: "github" },
      reason: "it sends mail",
      engaged_by: operator.principal,
      lifted_by: null,
    });
    standing.splice(standing.indexOf(id), 1);
    await lift(id);
    expect((await list("")).some((one) => one.id === id)).toBe(false);
    expect((await list("?lifted=true")).find((one) => one.id === id)).toMatchObject({
      lifted_by: operator.principal,
      lift_reason: "over",
    });
  });

  test("every switch engaged and lifted is recorded with who and why, before and after", async () => {
    const id = await engage({ tool: "write_file" }, "why it was");
    await lift(id);
    standing.pop();
    const operator = await currentOperator();
    const ambient = ambientSessionId(sha256Hex, operator, Date.now());
    const own = (await recordsOf(ambient)).filter(({ context }) =>
      JSON.stringify(context?.kill_switch ?? null).includes(id),
    );
    expect(own.map(({ result, context }) => [context?.action, result, context?.reason])).toEqual([
      ["kill_switch.engage", "pending", "why it was"],
      ["kill_switch.engage", "ok", "why it was"],
      ["kill_switch.lift", "pending", "over"],
      ["kill_switch.lift", "ok", "over"],
    ]);
  });

  test.each([
    [{ reason: "no scope" }, "scope"],
    [{ scope: {} }, "reason"],
    [{ scope: { everything: "yes" }, reason: "x" }, "everything"],
    [{ scope: { role: "operator" }, reason: "x" }, "role"],
  ])("refuses %j and names the field", async (body, field) => {
    const answer = await admin("POST", "/kill-switches", { body });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(field);
  });

  test("lifting needs a reason, and an id that there is", async () => {
    const id = await engage({ tool: "nothing" });
    expect((await admin("DELETE", `/kill-switches/${id}`)).status).toBe(400);
    expect((await admin("DELETE", "/kill-switches/none?reason=x")).status).toBe(404);
  });
});

test("what is stored of a switch is in D1 alone until a session hears of it", async () => {
  await engage({ tenant: "elsewhere" });
  const row = await env.ARCHIVE_DB.prepare(
    "SELECT count(*) AS n FROM kill_switches WHERE lifted_at IS NULL",
  ).first<{ n: number }>();
  expect(row?.n).toBe(1);
});
