import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ambientId, principalOf } from "../support/ambient.ts";
import { eventually } from "../support/eventually.ts";
import { type Answer, send } from "../support/http.ts";
import { initializeMessage, postMcp, RawSession, toolCall } from "../support/mcp.ts";
import { Raw2026, type Reply } from "../support/raw-2026.ts";
import { primedStream } from "../support/streaming.ts";
import { Stage } from "./support/stage.ts";

let stage: Stage;
let victim: RawSession;
/** A handle of the victim's in the 2026 era. */
let handle: string;

/** Everybody who is not the victim, by what is different about them. */
const thieves: Record<string, { key: string; ambient: string }> = {};
const THIEVES = ["another principal", "another tenant", "another role", "an auditor of the tenant"];

beforeAll(async () => {
  stage = await Stage.start();
  const { windsurf } = stage.gateway.keys;
  victim = await RawSession.open(stage.url, windsurf);
  await victim.call("begin_session", { workspace_root: "/srv/victim" });
  handle = await new Raw2026(stage.url, windsurf).begin("/srv/victim-2026");
  const kinds: { role: string; tenant?: string }[] = [
    { role: "windsurf" },
    { role: "windsurf", tenant: "other" },
    { role: "antigravity" },
    { role: "auditor" },
  ];
  for (const [n, what] of THIEVES.entries()) {
    const fields = kinds[n] ?? { role: "windsurf" };
    const { key } = await stage.operator.mintKey(fields);
    const ambient = ambientId(fields.tenant ?? "default", principalOf(key));
    thieves[what] = { key, ambient };
    // Its first attempt opens the ambient session in which all of them are recorded.
    expect((await attempt(key, "POST")).status).toBe(404);
  }
});

afterAll(() => stage?.dispose());

function attempt(key: string, method: string, more: Record<string, string> = {}, body?: object) {
  return send(`${stage.url}/mcp`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      "mcp-session-id": victim.id,
      accept: method === "GET" ? "text/event-stream" : "application/json, text/event-stream",
      ...(method === "POST" ? { "content-type": "application/json" } : {}),
      ...more,
    },
    ...(method === "POST" ? { body: JSON.stringify(body ?? toolCall(1, "honest_act")) } : {}),
  });
}

const asAnswer = (reply: Promise<Reply>): Promise<Answer> =>
  reply.then(({ status, text, body }) => ({
    status,
    text,
    json: body,
    headers: { "x-content-type-options": "nosniff" },
  }));

describe.each(THIEVES)("%s with the victim's session", (what) => {
  const thief = () => thieves[what] ?? { key: "", ambient: "" };

  test.each<[string, (key: string) => Promise<Answer>]>([
    ["a call", (key) => attempt(key, "POST")],
    ["a ping", (key) => attempt(key, "POST", {}, { jsonrpc: "2.0", id: 1, method: "ping" })],
    [
      "a binding",
      (key) => attempt(key, "POST", {}, toolCall(1, "begin_session", { workspace_root: "/srv/x" })),
    ],
    [
      "a notification",
      (key) =>
        attempt(
          key,
          "POST",
          {},
          { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } },
        ),
    ],
    [
      "an answer to its upstream",
      (key) => attempt(key, "POST", {}, { jsonrpc: "2.0", id: 1, result: {} }),
    ],
    ["a new initialize", (key) => attempt(key, "POST", {}, initializeMessage())],
    ["its stream", (key) => attempt(key, "GET")],
    ["an old event of its stream", (key) => attempt(key, "GET", { "last-event-id": "1-0" })],
    ["the end of it", (key) => attempt(key, "DELETE")],
  ])("%s: a 404, recorded with the thief alone", async (_way, way) => {
    const before = await stage.operator.export(victim.id);
    const { key, ambient } = thief();
    const secrets = [key.slice(-43), "/srv/victim"];
    const records = { [ambient]: 1 };
    await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND", secrets, records }, () =>
      way(key),
    );
    expect(await stage.operator.export(victim.id)).toBe(before);
    const noted = (await stage.operator.export(ambient)).trimEnd().split("\n").at(-1) ?? "{}";
    expect(JSON.parse(noted)).toMatchObject({
      principal: principalOf(key),
      error_code: "SESSION_NOT_FOUND",
      context: { attempted_session: victim.id },
    });
  });

  test("its handle in the 2026 era: the tool error of one that never was", async () => {
    const { key, ambient } = thief();
    const client = new Raw2026(stage.url, key);
    const tool = what === "an auditor of the tenant" ? "read_audit_log" : "list_files";
    const before = await stage.operator.export(handle);
    const records = { [ambient]: 1 };
    const texts: string[] = [];
    for (const stolen of [handle, "01920000-0000-8000-8000-000000000000", victim.id]) {
      const expected = { status: 200, code: "SESSION_NOT_FOUND", records };
      const answer = await stage.refuses(expected, () =>
        asAnswer(client.call(tool, { session_id: stolen })),
      );
      texts.push(JSON.stringify(answer.json).replace(/"(?:id|seq)":\d+|"hash_chain":"\w+"/g, ""));
    }
    expect(new Set(texts).size).toBe(1);
    expect(await stage.operator.export(handle)).toBe(before);
  });
});

test("an operator's key is refused before any session is looked for", async () => {
  const before = await stage.operator.export(victim.id);
  for (const method of ["POST", "GET", "DELETE"]) {
    await stage.refuses({ status: 403, code: "FORBIDDEN" }, () =>
      attempt(stage.gateway.keys.operator, method),
    );
  }
  expect(await stage.operator.export(victim.id)).toBe(before);
});

describe("a session id of the client's own choosing", () => {
  const forms = (): string[] => [
    victim.id.toUpperCase(),
    victim.id.replaceAll("-", ""),
    `{${victim.id}}`,
    `urn:uuid:${victim.id}`,
    `${victim.id},${victim.id}`,
    `${victim.id}%00`,
    `${victim.id}/../${handle}`,
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-8000-8000-000000000000",
    "ffffffff-ffff-8fff-bfff-ffffffffffff",
    crypto.randomUUID(),
    "x",
    "__proto__",
    "' OR 1=1 --",
    "a".repeat(4_000),
  ];

  test("opens nothing, not by initialize either", async () => {
    for (const id of forms()) {
      for (const message of [initializeMessage(), toolCall(1, "honest_act")]) {
        await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND" }, () =>
          postMcp(stage.url, message, { key: victim.key, session: id }),
        );
      }
      for (const method of ["GET", "DELETE"]) {
        await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND" }, () =>
          attempt(victim.key, method, { "mcp-session-id": id }),
        );
      }
    }
  });

  test("is no session's when one bit of a true one is another", async () => {
    const hex = victim.id.replaceAll("-", "");
    for (let bit = 0; bit < 128; bit++) {
      const bytes = Buffer.from(hex, "hex");
      bytes.writeUInt8((bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
      const id = bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
      await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND" }, () =>
        postMcp(stage.url, toolCall(1, "honest_act"), { key: victim.key, session: id }),
      );
    }
  });

  test("is no handle, and a record of the caller's own", async () => {
    const ambient = ambientId("default", principalOf(victim.key));
    const client = new Raw2026(stage.url, victim.key);
    await client.call("list_files", {});
    const own = { status: 200, code: "SESSION_NOT_FOUND", records: { [ambient]: 1 } };
    const printable = forms().filter((id) => !id.includes("%00"));
    for (const id of [...printable, ambient]) {
      await stage.refuses(own, () => asAnswer(client.call("list_files", { session_id: id })));
    }
  });
});

describe("an ambient session", () => {
  test("is not to be had by its id, by its own principal or another, and has no end", async () => {
    const ambient = ambientId("default", principalOf(victim.key));
    for (const { key } of [victim, ...Object.values(thieves)]) {
      for (const method of ["POST", "GET", "DELETE"]) {
        await stage.refuses({ status: 404, code: "SESSION_NOT_FOUND" }, () =>
          attempt(key, method, { "mcp-session-id": ambient }),
        );
      }
    }
    await stage.operator.send("DELETE", `/sessions/${ambient}`);
    const mine = ambientId("default", principalOf(stage.gateway.keys.operator));
    const before = await stage.operator.export(ambient);
    expect((await stage.operator.send("DELETE", `/sessions/${ambient}`)).status).toBe(409);
    expect((await stage.operator.send("DELETE", `/sessions/${mine}`)).status).toBe(409);
    expect(await stage.operator.export(ambient)).toBe(before);
  });
});

describe("an event id", () => {
  test("of another session's stream brings none of its events", async () => {
    const thief = await RawSession.open(stage.url, thieves["another principal"]?.key ?? "");
    const stream = await primedStream(victim);
    // What the gateway asks because of the victim's stream is none of the attack's.
    await eventually("the gateway listens at the upstream", () =>
      stage.upstream.seen.some(({ method }) => method === "subscriptions/listen") ? true : null,
    );
    const id = stream.events[0]?.id ?? "";
    expect(id).not.toBe("");
    for (const stolen of [
      id,
      `${victim.id}:${id}`,
      "0",
      "-1",
      "1-99999999999999999999",
      "x".repeat(9_000),
    ]) {
      await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () =>
        attempt(thief.key, "GET", { "mcp-session-id": thief.id, "last-event-id": stolen }),
      );
    }
    stream.leave();
  });
});

test("the next key of the victim's line goes on with the session", async () => {
  const id = victim.key.split("_")[1];
  const rotated = await stage.operator.ok("POST", `/keys/${id}/rotate`, {});
  const key = Reflect.get(Object(rotated), "key");
  const ping = { jsonrpc: "2.0", id: 1, method: "ping" };
  expect((await postMcp(stage.url, ping, { key, session: victim.id })).status).toBe(200);
  expect((await victim.request("ping")).status).toBe(200);
});
