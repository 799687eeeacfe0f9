/**
 * @module
 * The command that the suite runs for its client scenarios, with the URL of its
 * server appended: does with the gateway's upstream client what the scenario
 * of that name watches for.
 */
import type { JsonObject } from "../../src/mcp/ijson.ts";
import {
  type Connection,
  connect,
  isOffered,
  listOf,
  objectOf,
  schemaOf,
} from "./upstream-connection.ts";

type Drive = (connection: Connection, context: JsonObject) => Promise<void>;

async function toolsOf(connection: Connection): Promise<JsonObject[]> {
  return listOf(await connection.request("tools/list"), "tools");
}

async function toolNamed(connection: Connection, name: string): Promise<JsonObject> {
  const found = (await toolsOf(connection)).find((tool) => tool.name === name);
  if (found === undefined) throw new Error(`The suite's server lists no ${name}.`);
  return found;
}

/** Anything of the right type for what a tool requires. */
function sampleArguments(tool: JsonObject): JsonObject {
  const { required, properties } = schemaOf(tool);
  const args: JsonObject = {};
  for (const name of Array.isArray(required) ? required : []) {
    const { type } = objectOf(objectOf(properties)[String(name)]);
    args[String(name)] = type === "number" || type === "integer" ? 5 : "value";
  }
  return args;
}

const list: Drive = async (connection) => {
  await toolsOf(connection);
};

/** Calls every tool that the gateway would offer. */
const callAll: Drive = async (connection) => {
  for (const tool of await toolsOf(connection)) {
    if (isOffered(tool)) await connection.call(tool, sampleArguments(tool));
  }
};

const readEverything: Drive = async (connection, context) => {
  await callAll(connection, context);
  for (const { uri = "" } of listOf(await connection.request("resources/list"), "resources")) {
    await connection.request("resources/read", { uri });
  }
  for (const { name = "" } of listOf(await connection.request("prompts/list"), "prompts")) {
    await connection.request("prompts/get", { name });
  }
};

const callAsTold: Drive = async (connection, context) => {
  const tools = await toolsOf(connection);
  for (const { name, arguments: args } of listOf(context, "toolCalls")) {
    const tool = tools.find((each) => each.name === name);
    if (tool === undefined) throw new Error(`The suite's server lists no ${name}.`);
    await connection.call(tool, objectOf(args));
  }
};

const echoSchema: Drive = async (connection) => {
  const { inputSchema = null } = await toolNamed(connection, "json_schema_2020_12_tool");
  const echo = await toolNamed(connection, "json_schema_echo");
  await connection.call(echo, { schema: inputSchema });
};

/** Answers what is asked, with the state that came along and none where none came. */
const answerRounds: Drive = async (connection) => {
  const tools = new Map((await toolsOf(connection)).map((tool) => [tool.name, tool]));
  const tool = (name: string) => objectOf(tools.get(name));
  for (const name of ["test_mrtr_echo_state", "test_mrtr_no_state"]) {
    const asked = await connection.call(tool(name), {});
    await connection.call(tool("test_mrtr_unrelated"), {});
    const inputResponses: JsonObject = {};
    for (const key of Object.keys(objectOf(asked.inputRequests))) {
      inputResponses[key] = { action: "accept", content: { confirmed: true } };
    }
    const { requestState } = asked;
    const more = { inputResponses, ...(requestState === undefined ? {} : { requestState }) };
    await connection.call(tool(name), {}, more);
  }
  const untyped = await connection.call(tool("test_mrtr_no_result_type"), {});
  if (untyped.content === undefined) throw new Error("A result without a type is complete.");
};

const SCENARIOS: Readonly<Record<string, Drive>> = {
  initialize: list,
  tools_call: callAll,
  "sse-retry": callAll,
  "json-schema-2020-12-preservation": echoSchema,
  "request-metadata": list,
  "http-standard-headers": readEverything,
  "http-custom-headers": callAsTold,
  "http-invalid-tool-headers": callAll,
  "json-schema-ref-no-deref": list,
  "sep-2322-client-request-state": answerRounds,
};

const {
  MCP_CONFORMANCE_SCENARIO: scenario = "",
  MCP_CONFORMANCE_PROTOCOL_VERSION: version,
  MCP_CONFORMANCE_CONTEXT: context = "{}",
} = process.env;
const url = process.argv.at(-1) ?? "";
const drive = SCENARIOS[scenario];
if (drive === undefined) throw new Error(`No driver for ${scenario}.`);
const connection = await connect(url, version === "2026-07-28" ? "2026" : "2025");
await drive(connection, JSON.parse(context));
await connection.close();
