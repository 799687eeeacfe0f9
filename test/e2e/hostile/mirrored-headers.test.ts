import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ambientId, principalOf } from "../support/ambient.ts";
import { RawSession } from "../support/mcp.ts";
import { codeOf, Raw2026, VERSION } from "../support/raw-2026.ts";
import { exchange, rawPost } from "./support/raw-socket.ts";
import { Stage } from "./support/stage.ts";

let stage: Stage;
let handle: string;
let other: string;

beforeAll(async () => {
  stage = await Stage.start();
  const client = new Raw2026(stage.url, stage.gateway.keys.windsurf);
  handle = await client.begin("/srv/one");
  other = await client.begin("/srv/two");
});

afterAll(() => stage?.dispose());

const META = {
  "io.modelcontextprotocol/protocolVersion": VERSION,
  "io.modelcontextprotocol/clientCapabilities": {},
  "io.modelcontextprotocol/clientInfo": { name: "hostile", version: "1" },
};

const call = (name: string, args: object = {}, meta: object = META) => ({
  jsonrpc: "2.0",
  id: 1,
  method: "tools/call",
  params: { name, arguments: args, _meta: meta },
});

function send(headers: readonly string[], body: object) {
  const key = `Authorization: Bearer ${stage.gateway.keys.windsurf}`;
  return exchange(stage.url, rawPost(stage.url, [key, ...headers], body));
}

const version = `Mcp-Protocol-Version: ${VERSION}`;
const method = "Mcp-Method: tools/call";

describe("headers of 2026-07-28 that contradict the body", () => {
  const files = () => call("list_files", { session_id: handle });
  const name = "Mcp-Name: list_files";
  const param = (id: string) => `Mcp-Param-Atlas-Session: ${id}`;

  test.each<[string, () => readonly string[]]>([
    ["another method", () => [version, "Mcp-Method: tools/list", name, param(handle)]],
    ["the method twice", () => [version, method, method, name, param(handle)]],
    ["no method", () => [version, name, param(handle)]],
    ["another name", () => [version, method, "Mcp-Name: read_file", param(handle)]],
    ["the name twice", () => [version, method, name, "Mcp-Name: write_file", param(handle)]],
    ["no name", () => [version, method, param(handle)]],
    [
      "an encoded name of another tool",
      () => [version, method, "Mcp-Name: =?base64?YQ==?=", param(handle)],
    ],
    ["another session", () => [version, method, name, param(other)]],
    ["the session twice", () => [version, method, name, param(handle), param(other)]],
    ["the same session twice", () => [version, method, name, param(handle), param(handle)]],
    ["no session", () => [version, method, name]],
    ["a session in other letters", () => [version, method, name, param(handle.toUpperCase())]],
    ["no version", () => [method, name, param(handle)]],
    ["the version twice", () => [version, version, method, name, param(handle)]],
    ["an earlier version", () => ["Mcp-Protocol-Version: 2025-11-25", method, name, param(handle)]],
  ])("%s", async (_what, headersOf) => {
    const answer = await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () =>
      send(headersOf(), files()),
    );
    expect(answer.json).toMatchObject({ id: 1, error: { code: -32020 } });
  });

  test("a session in the header that is not in the body", async () => {
    const answer = await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () =>
      send([version, method, name, param(handle)], call("list_files")),
    );
    expect(answer.json).toMatchObject({ error: { code: -32020 } });
  });

  test("an upstream's tool is not called for them", async () => {
    for (const headers of [
      [version, method, "Mcp-Name: list_files"],
      [version, "Mcp-Method: ping", "Mcp-Name: honest_act"],
      [version, method, "Mcp-Name: honest_act", "Mcp-Name: honest_act"],
    ]) {
      await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () =>
        send(headers, call("honest_act")),
      );
    }
  });

  test("a version of the future, or none of all", async () => {
    for (const asked of ["2026-07-29", "9999-12-31", "DROP TABLE", "2026-02-30"]) {
      const meta = { ...META, "io.modelcontextprotocol/protocolVersion": asked };
      const answer = await stage.refuses({ status: 400, code: "INVALID_ARGUMENT" }, () =>
        send([`Mcp-Protocol-Version: ${asked}`, method, name], call("list_files", {}, meta)),
      );
      expect(answer.json).toMatchObject({ error: { code: -32022 } });
    }
  });
});

test("a session id of the 2025 era on a request of 2026 is nobody's handle", async () => {
  const session = await RawSession.open(stage.url, stage.gateway.keys.windsurf);
  const before = await stage.operator.export(session.id);
  const ambient = ambientId("default", principalOf(stage.gateway.keys.windsurf));
  const growth = await stage.growthOf(async () => {
    const client = new Raw2026(stage.url, stage.gateway.keys.windsurf);
    const body = { name: "list_files", arguments: {} };
    const reply = await client.post("tools/call", body, { "mcp-session-id": session.id });
    expect(codeOf(reply)).toBe("SESSION_REQUIRED");
  });
  expect(Object.keys(growth.records)).toEqual([ambient]);
  expect(await stage.operator.export(session.id)).toBe(before);
});
