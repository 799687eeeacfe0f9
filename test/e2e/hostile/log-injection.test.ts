import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ambientId, principalOf } from "../support/ambient.ts";
import { eventually } from "../support/eventually.ts";
import { type Answer, at, send } from "../support/http.ts";
import { initializeMessage, postMcp, RawSession, toolCall } from "../support/mcp.ts";
import { Raw2026 } from "../support/raw-2026.ts";
import { soundRecords } from "../support/records.ts";
import { linesOf, logLines } from "./support/log-lines.ts";
import { exchange, rawPost, rawRequest } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

const FORGED =
  '{"level":"alarm","event":"forged","request_id":"00000000-0000-8000-8000-000000000000"}';

/** What a reader of a log may take for something else, as text. */
const TEXTS = {
  newlines: `a\r\n${FORGED}\nb`,
  "escapes of a terminal": "a\u001b[2J\u001b]0;owned\u0007\u009b31mb",
  "a fragment of JSON": `","event":"forged","x":"${FORGED}`,
  "separators of lines": `a\u2028${FORGED}\u2029\u0085\u000b\u000cb`,
  "marks of direction": "a\u202e\u2066txt.exe\u200f\ufeffb",
  "other controls": "a\u0000\u007f\u0080\u009fb",
  backslashes: String.raw`\u000a\x1b\",\\`,
};

/** The same as bytes of a header: what HTTP itself would refuse is left out. */
function headerBytes(text: string): string {
  return Buffer.from(text.replaceAll(/[\0\r\n]/g, " "), "utf8").toString("latin1");
}

let stage: Stage;
let session: RawSession;

beforeAll(async () => {
  stage = await Stage.start();
  session = await RawSession.open(stage.url, stage.gateway.keys.windsurf);
});

afterAll(() => stage?.dispose());

/** One line a request, in plain characters, and none that it did not cause. */
async function isOneLine(answer: Answer): Promise<void> {
  const id = answer.headers["x-request-id"];
  await stage.logged([id]);
  const lines = linesOf(stage.log, id);
  expect(lines).toHaveLength(1);
  expect(lines[0]?.text).toMatch(/^[\x20-\x7e]+$/);
  expect(Object.values(lines[0]?.fields ?? {})).not.toContain("alarm");
}

afterAll(() => {
  expect(logLines(stage.log).filter(({ fields }) => fields.event === "forged")).toEqual([]);
});

describe.each(Object.entries(TEXTS))("%s", (_what, text) => {
  const key = () => `Authorization: Bearer ${stage.gateway.keys.windsurf}`;

  test.each([
    "User-Agent",
    "Origin",
    "Referer",
    "Traceparent",
    "Last-Event-ID",
    "Mcp-Session-Id",
    "Mcp-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
    "X-Request-Id",
    "CF-Connecting-IP",
    "CF-Ray",
    "Accept-Language",
  ])("in %s", async (name) => {
    const header = `${name}: ${headerBytes(text)}`;
    const post = rawPost(stage.url, [key(), header], initializeMessage());
    const [answer] = await exchange(stage.url, post);
    if (answer === undefined) throw new Error("no answer");
    await isOneLine(answer);
  });

  test("in a credential that is refused", async () => {
    for (const name of ["Authorization: Bearer", "X-API-Key:"]) {
      const header = `${name} ag_${headerBytes(text)}`;
      const answer = await stage.refuses({ status: 401, code: "UNAUTHENTICATED" }, () =>
        exchange(stage.url, rawPost(stage.url, [header], initializeMessage())),
      );
      await isOneLine(answer);
    }
  });

  test("in the path and the query", async () => {
    const escaped = encodeURIComponent(text);
    for (const path of [`/${escaped}`, `/mcp?${escaped}=${escaped}`, `/admin/keys/${escaped}`]) {
      await isOneLine(await send(`${stage.url}${path}`, { headers: {} }));
      // Bytes that belong escaped, as they are.
      const raw = decodeURIComponent(path).replaceAll(/[\0-\x20]/g, "");
      const line = `GET ${Buffer.from(raw, "utf8").toString("latin1")} HTTP/1.1`;
      const answers = await exchange(
        stage.url,
        rawRequest([line, `Host: ${new URL(stage.url).host}`]),
      );
      for (const answer of answers) {
        if ("x-request-id" in answer.headers) await isOneLine(answer);
      }
    }
  });

  test("in names that a caller chooses", async () => {
    const answers = [
      await session.post({ jsonrpc: "2.0", id: text, method: text, params: {} }),
      await session.post({ jsonrpc: "2.0", method: text }),
      await session.post(toolCall(text, text)),
      await session.post(toolCall(1, "read_file", { path: text, [text]: text })),
      await session.post({ jsonrpc: "2.0", id: 1, method: "prompts/get", params: { name: text } }),
      await session.post({
        jsonrpc: "2.0",
        id: 1,
        method: "resources/read",
        params: { uri: text },
      }),
      await postMcp(
        stage.url,
        {
          ...initializeMessage(),
          params: {
            protocolVersion: text,
            capabilities: {},
            clientInfo: { name: text, version: text },
          },
        },
        { key: stage.gateway.keys.windsurf },
      ),
    ];
    for (const answer of answers) await isOneLine(answer);
  });

  test("in the handle and the method of the 2026 era", async () => {
    const client = new Raw2026(stage.url, stage.gateway.keys.windsurf);
    const before = logLines(stage.log).length;
    const encoded = `=?base64?${Buffer.from(text).toString("base64")}?=`;
    const handle = { name: "read_file", arguments: { path: "a", session_id: text } };
    await client.post("tools/call", handle, { "mcp-param-atlas-session": encoded });
    await client.post("tools/call", { name: text, arguments: {} }, { "mcp-name": encoded });
    await eventually("the log has both requests", () =>
      logLines(stage.log).length >= before + 2 ? true : null,
    );
    for (const { text: line } of logLines(stage.log).slice(before)) {
      expect(line).toMatch(/^[\x20-\x7e]+$/);
    }
  });
});

test("half a surrogate pair goes nowhere", async () => {
  const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}`;
  await isOneLine(
    await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () => session.post(body)),
  );
  const header = "User-Agent: a\xed\xa0\x80b\xff";
  const [answer] = await exchange(stage.url, rawPost(stage.url, [header], initializeMessage()));
  if (answer === undefined) throw new Error("no answer");
  await isOneLine(answer);
});

test("a header that would be two is refused before it is read", async () => {
  for (const end of ["\r\n\r\n", "\n\n", "\r\r"]) {
    const header = `User-Agent: a${end}${FORGED}`;
    await stage.nothingComesOf({}, () =>
      exchange(stage.url, rawPost(stage.url, [header], initializeMessage())),
    );
  }
});

test("the connection log holds plain text", async () => {
  const rows = await eventually("the connection log has the attacks", async () => {
    const page = await stage.operator.ok("GET", "/connections?limit=200");
    const list = at(page, "connections");
    return Array.isArray(list) && list.length > 20 ? list : null;
  });
  for (const row of rows) {
    for (const value of Object.values(row)) {
      expect(String(value)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    }
    expect(row.address === null || /^[0-9a-f.:]+$/.test(row.address)).toBe(true);
  }
});

test("every record is one line of its session's sound chain", async () => {
  const { windsurf } = stage.gateway.keys;
  for (const id of [session.id, ambientId("default", principalOf(windsurf))]) {
    const records = await soundRecords(stage.operator, id);
    expect(records.length).toBeGreaterThan(Object.keys(TEXTS).length);
    expect(records.every(({ principal }) => principal === principalOf(windsurf))).toBe(true);
    expect(records.map(({ event }) => event)).not.toContain("forged");
  }
});
