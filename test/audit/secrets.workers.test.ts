import { env, exports } from "cloudflare:workers";
import { expect, test } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import {
  admin,
  BASE,
  Client,
  currentOperator,
  executor,
  exported,
  initializeRequest,
  mintKey,
  newRoot,
  planOf,
  postMcp,
  savePlan,
} from "../support/gateway.ts";
import {
  captureLogs,
  inSession,
  ring,
  ringUntilReleased,
  session,
  storedRecords,
  useStoppedClock,
} from "../support/objects.ts";
import { opened, segmentLines, segments } from "../support/sinks.ts";

useStoppedClock();
const logs = captureLogs();

const MARK = "xYzZy7";
/** Credentials of the common kinds, each with a mark to look for; put together here, so that no scanner takes them for real. */
const BY_FORMAT = {
  github: `${"ghp"}_${MARK}${"a".repeat(30)}`,
  jwt: `${"eyJ"}hbGciOiJIUzI1NiJ9.${"eyJ"}${MARK}${"b".repeat(20)}.${"c".repeat(43)}`,
  pem: `-----BEGIN ${"PRIVATE"} KEY-----\n${MARK}\n-----END ${"PRIVATE"} KEY-----\n`,
  slack: `${"xoxb"}-123456789012-${MARK}${"d".repeat(24)}`,
};
const PLAIN = `${MARK} hunter2`;

/** Arguments with a credential at every depth, under its name or by its form. */
const ARGS = {
  password: PLAIN,
  accessToken: PLAIN,
  "api-key": { value: PLAIN, list: [PLAIN] },
  headers: [{ Authorization: PLAIN }, { cookie: PLAIN }],
  note: `the token is ${BY_FORMAT.github}, keep it`,
  deep: { deeper: [[{ text: BY_FORMAT.jwt }], BY_FORMAT.pem, BY_FORMAT.slack] },
  [BY_FORMAT.github]: "as a key",
  max_tokens: 5,
  author: "Ada",
};

/** Which of the secrets a text holds: what a failure prints is these, not the text. */
function holds(text: string, ...secrets: string[]): string[] {
  return secrets.filter((secret) => text.includes(secret));
}

/** Every row of every table of the archive, as text. */
async function archiveText(): Promise<string> {
  const tables = [
    "sessions",
    "audit_log",
    "audit_log_archive",
    "api_keys",
    "workspaces",
    "deployment",
  ];
  const dumps = await env.ARCHIVE_DB.batch(
    tables.map((table) => env.ARCHIVE_DB.prepare(`SELECT * FROM ${table}`)),
  );
  return JSON.stringify(dumps.map(({ results }) => results));
}

/** Everything that a session's object keeps, as text. */
function objectText(id: string): Promise<string> {
  return inSession(id, (sql) =>
    JSON.stringify(
      ["state", "records", "open_intents", "due", "sinks"].map((table) =>
        sql.exec(`SELECT * FROM ${table}`).toArray(),
      ),
    ),
  );
}

test("no credential in a call's arguments reaches a record, the archive, a segment, a log line or an error", async () => {
  const root = newRoot();
  const { client, planHash } = await executor(root);
  const answers = [
    await client.call("no_such_tool", ARGS),
    await client.call("read_audit_log", ARGS),
    await client.call("read_file", { path: "src/a", ...ARGS }),
    await client.call("begin_session", { workspace_root: root, plan_hash: planHash, ...ARGS }),
    await client.call("write_file", { path: "../a", content: PLAIN + BY_FORMAT.pem }),
    await client.call("write_file", { path: "src/a", content: PLAIN + BY_FORMAT.pem }),
    await client.call("write_file", { path: "src/a", content: PLAIN, expected_sha256: "" }),
    await client.call("lint_plan", { plan: { ...planOf(), ...ARGS } }),
  ];
  // Arguments that are echoed for people stay with the caller; values are not echoed.
  for (const { text } of answers) {
    expect(holds(text, "hunter2", BY_FORMAT.jwt)).toEqual([]);
  }
  expect(await client.end()).toBe(204);
  const lines = await exported(client.id);
  expect(await storedRecords(client.id)).toHaveLength(lines.length);
  const texts = [lines.join("\n"), await objectText(client.id)];
  await ringUntilReleased(client.id);
  texts.push(await archiveText(), logs.join("\n"));
  for (const { text } of await segments(client.id)) texts.push(text);
  for (const line of await segmentLines(client.id))
    texts.push((await opened(client.id, line)).text);
  for (const text of texts) {
    expect(text.length).toBeGreaterThan(0);
    expect(holds(text, MARK, "hunter2")).toEqual([]);
  }
  // What is no credential is kept, so that the record says what was asked.
  expect(lines[2]).toContain('"max_tokens":5');
  expect(lines[2]).toContain('"author":"Ada"');
  expect(lines[2]).toContain("[REDACTED]");
});

test("no credential that a caller presents reaches a log line, a record or an answer", async () => {
  const key = await mintKey("windsurf");
  const operator = await currentOperator();
  const wrong = key.key.replace(/.$/, (last) => (last === "a" ? "b" : "a"));
  const texts: string[] = [];
  for (const credential of [key.key, wrong, operator.key, env.ADMIN_TOKEN, `Basic ${MARK}`, MARK]) {
    texts.push((await postMcp(credential, null, initializeRequest())).text);
    texts.push((await postMcp(credential, null, "{")).text);
    texts.push((await admin("GET", "/nothing-here", { as: credential })).text);
  }
  const inUrl = await exports.default.fetch(`${BASE}/mcp?access_token=${key.key}`, {
    method: "POST",
    headers: { "x-api-key": wrong, "content-type": "application/json" },
    body: "{}",
  });
  texts.push(await inUrl.text());
  const client = await Client.open(key);
  await client.call("read_file", { path: "a" });
  await ring(session(client.id));
  texts.push(logs.join("\n"), await archiveText(), await objectText(client.id));
  for (const text of texts) {
    const keys = [key.key, wrong, operator.key].map((credential) => credential.slice(-43));
    const secrets = [env.ADMIN_TOKEN, env.SECRETS_KEY, env.LOG_SIGNING_KEY];
    expect(holds(text, MARK, ...keys, ...secrets)).toEqual([]);
  }
});

test("a credential in an operator's reason reaches no record", async () => {
  const operator = await currentOperator();
  const root = newRoot();
  const planHash = await savePlan(root);
  const body = { workspace_root: root, reason: `deploy with ${BY_FORMAT.github}` };
  expect((await admin("POST", `/plans/${planHash}/approve`, { body })).status).toBe(200);
  const owner = { tenant: "default", principal: operator.principal };
  const id = ambientSessionId(sha256Hex, owner, Date.now());
  expect(holds((await exported(id)).join("\n"), MARK)).toEqual([]);
});

test("a credential in a tool's name reaches neither a record nor a log line", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  await client.call(BY_FORMAT.github);
  expect(holds((await exported(client.id)).join("\n"), MARK)).toEqual([]);
  expect(holds(logs.join("\n"), MARK)).toEqual([]);
});
