/**
 * @module
 * A server of the 2026 era, on the official SDK 2.x, that has everything the
 * conformance suite asks a server for. It stands behind the gateway.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  createRequestStateCodec,
  fromJsonSchema,
  type InputRequiredResult,
  inputRequired,
  McpServer,
  type RequestStateCodec,
  ResourceNotFoundError,
  ResourceTemplate,
  type ServerContext,
} from "@modelcontextprotocol/server";
import {
  CONTENT_TOOLS,
  completionsOf,
  JSON_SCHEMA_TOOL,
  LOG_MESSAGES,
  PROGRESS_STEPS,
  PROMPTS,
  RESOURCES,
  readResource,
  STEP_MS,
  stringsSchema,
  TEMPLATE,
  text,
  user,
} from "./everything/catalogue.ts";
import {
  type Answers,
  INTERACTIVE_PROMPT,
  INTERACTIVE_TOOLS,
  type Interactive,
  type Round,
  roundsFor,
} from "./everything/interactive.ts";
import { type Listening, listen } from "./everything/listen.ts";
import { TASK_TOOLS, TASKS_EXTENSION, Tasks } from "./everything/tasks.ts";

/** Short enough that no test waits for it, and not 0, which would say "never keep". */
const TTL_MS = 1000;
const CACHE = { ttlMs: TTL_MS, cacheScope: "public" as const };
const STATE_LIFE_SECONDS = 600;
/** Longer than a gateway waits before it opens a stream. */
const SLOW_MS = 700;

type Args = Readonly<Record<string, unknown>>;
/** How far an interactive call has come: sealed into `requestState`. */
type Progress = { round: number; answers: Record<string, unknown> };

/** What may change while the server runs, and the key of its states. */
type Shared = {
  readonly codec: RequestStateCodec<Progress>;
  readonly toggle: (kind: "tool" | "prompt") => boolean;
  readonly has: (kind: "tool" | "prompt") => boolean;
};

/** `x-mcp-header` is no keyword of JSON Schema's types, so it is not written in place. */
const REGION_SCHEMA = {
  type: "object" as const,
  properties: { region: { type: "string" as const, "x-mcp-header": "Region" } },
};

const said = (value: string): CallToolResult => ({ content: [text(value)] });

/** The answer of an interactive call, or what is still to be asked. */
async function interact(
  interactive: Interactive,
  args: Args,
  ctx: ServerContext,
  { codec }: Shared,
): Promise<{ readonly answer: string } | { readonly more: InputRequiredResult }> {
  const capabilities = Reflect.get(ctx.mcpReq.envelope ?? {}, CLIENT_CAPABILITIES_META_KEY) ?? {};
  const rounds = roundsFor(interactive, args, capabilities);
  const { round, answers } = ctx.mcpReq.requestState<Progress>() ?? { round: 0, answers: {} };
  const asked = rounds[round] ?? {};
  const given = answersTo(asked, ctx.mcpReq.inputResponses ?? {});
  const complete = given !== null;
  const next = complete ? round + 1 : round;
  const due = rounds[next];
  const progress = { round: next, answers: { ...answers, ...given } };
  if (due === undefined) return { answer: interactive.answer(progress.answers) };
  const stateful = interactive.sealed || next > 0;
  return {
    more: inputRequired({
      inputRequests: due,
      ...(stateful ? { requestState: await codec.mint(progress, ctx) } : {}),
    }),
  };
}

/** The answers to all that was asked; null when one is missing. What was not asked is ignored. */
function answersTo(asked: Round, responses: Answers): Record<string, unknown> | null {
  const given: Record<string, unknown> = {};
  for (const key of Object.keys(asked)) {
    const response = responses[key];
    if (typeof response !== "object" || response === null) return null;
    given[key] = response;
  }
  return given;
}

function registerTools(server: McpServer, shared: Shared): void {
  for (const { name, description, isError, content } of CONTENT_TOOLS) {
    server.registerTool(name, { description }, async () => ({
      content,
      ...(isError === true ? { isError } : {}),
    }));
  }
  server.registerTool(
    JSON_SCHEMA_TOOL.name,
    {
      description: JSON_SCHEMA_TOOL.description,
      inputSchema: fromJsonSchema<Args>(JSON_SCHEMA_TOOL.inputSchema),
    },
    async (args) => said(JSON.stringify(args)),
  );
  // Its name sorts before every other, so that the suite takes it for its checks of headers.
  server.registerTool(
    "a_custom_header_tool",
    {
      description: "Takes an argument that is mirrored in a header",
      inputSchema: fromJsonSchema<{ region?: string }>(REGION_SCHEMA),
    },
    async ({ region }) => said(`The region is ${region ?? "not given"}.`),
  );
  server.registerTool(
    "test_tool_with_progress",
    { description: "Reports how far it is" },
    async (ctx) => {
      const progressToken = ctx.mcpReq._meta?.progressToken;
      for (const progress of PROGRESS_STEPS) {
        if (progress > 0) await sleep(STEP_MS);
        if (progressToken === undefined) continue;
        const params = { progressToken, progress, total: 100 };
        await ctx.mcpReq.notify({ method: "notifications/progress", params });
      }
      return said("Done.");
    },
  );
  for (const name of ["test_tool_with_logging", "test_logging_tool"]) {
    server.registerTool(name, { description: "Logs what it does" }, async (ctx) => {
      for (const [index, data] of LOG_MESSAGES.entries()) {
        if (index > 0) await sleep(STEP_MS);
        await ctx.mcpReq.log("info", data);
      }
      return said("Logged.");
    });
  }
  // A 2026 server has no stream to close under a client: this one only takes as long.
  server.registerTool("test_reconnection", { description: "Takes a while" }, async () => {
    await sleep(SLOW_MS);
    return said("Reconnected.");
  });
  for (const kind of ["tool", "prompt"] as const) {
    const name = `test_trigger_${kind}_change`;
    server.registerTool(name, { description: `Adds or removes a ${kind}` }, async () =>
      said(shared.toggle(kind) ? "Added." : "Removed."),
    );
  }
  if (shared.has("tool")) {
    server.registerTool("test_dynamic_tool", { description: "Comes and goes" }, async () =>
      said("Here."),
    );
  }
  for (const interactive of INTERACTIVE_TOOLS) {
    server.registerTool(
      interactive.name,
      {
        description: interactive.description,
        inputSchema: fromJsonSchema<Args>(stringsSchema(interactive.arguments)),
      },
      async (args, ctx) => {
        const outcome = await interact(interactive, args, ctx, shared);
        return "answer" in outcome ? said(outcome.answer) : outcome.more;
      },
    );
  }
}

/** For the list, and for clients that have no tasks; see `Tasks` for the others. */
function registerTaskTools(server: McpServer): void {
  server.registerTool(
    "greet",
    {
      description: "Greets at once, never as a task",
      inputSchema: fromJsonSchema<{ name: string }>(stringsSchema(["name"])),
    },
    async ({ name }) => said(`Hello, ${name}!`),
  );
  for (const { name, description, properties, seconds, end } of TASK_TOOLS) {
    const inputSchema = fromJsonSchema<Args>({ type: "object", properties });
    server.registerTool(name, { description, inputSchema }, async (args) => {
      await sleep(seconds(args) * 1000);
      const ended = end(args, {});
      if ("error" in ended) throw new Error(ended.error.message);
      return ended.result;
    });
  }
}

function registerPrompts(server: McpServer, shared: Shared): void {
  for (const { name, description, arguments: names, messages } of PROMPTS) {
    if (names.length === 0) {
      server.registerPrompt(name, { description }, () => ({ messages: messages({}) }));
      continue;
    }
    const argsSchema = fromJsonSchema<Record<string, string>>(stringsSchema(names));
    server.registerPrompt(name, { description, argsSchema }, (args) => ({
      messages: messages(args),
    }));
  }
  if (shared.has("prompt")) {
    server.registerPrompt("test_dynamic_prompt", { description: "Comes and goes" }, () => ({
      messages: [user(text("Here."))],
    }));
  }
  const { name, description } = INTERACTIVE_PROMPT;
  server.registerPrompt(name, { description }, async (ctx) => {
    const outcome = await interact(INTERACTIVE_PROMPT, {}, ctx, shared);
    return "answer" in outcome ? { messages: [user(text(outcome.answer))] } : outcome.more;
  });
  server.server.setRequestHandler("completion/complete", ({ params }) => ({
    completion: { values: completionsOf(params.argument.value) },
  }));
}

function registerResources(server: McpServer): void {
  const read = (uri: string) => {
    const contents = readResource(uri);
    if (contents === null) throw new ResourceNotFoundError(uri);
    return { contents: [contents] };
  };
  for (const { uri, name, description, mimeType } of RESOURCES) {
    server.registerResource(name, uri, { description, mimeType }, () => read(uri));
  }
  const { uriTemplate, name, description, mimeType } = TEMPLATE;
  server.registerResource(
    name,
    new ResourceTemplate(uriTemplate, { list: undefined }),
    { description, mimeType },
    ({ href }) => read(href),
  );
}

function newServer(shared: Shared): McpServer {
  const server = new McpServer(
    { name: "everything-2026", version: "1.0.0" },
    {
      capabilities: {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        completions: {},
        logging: {},
        extensions: { [TASKS_EXTENSION]: {} },
      },
      cacheHints: {
        "tools/list": CACHE,
        "prompts/list": CACHE,
        "resources/list": CACHE,
        "resources/templates/list": CACHE,
        "resources/read": CACHE,
        "server/discover": CACHE,
      },
      requestState: { verify: (state, ctx) => shared.codec.verify(state, ctx) },
    },
  );
  registerTools(server, shared);
  registerTaskTools(server);
  registerPrompts(server, shared);
  registerResources(server);
  return server;
}

export async function startEverything2026(): Promise<Listening> {
  const there = { tool: true, prompt: true };
  const shared: Shared = {
    codec: createRequestStateCodec<Progress>({
      key: randomBytes(32),
      ttlSeconds: STATE_LIFE_SECONDS,
    }),
    has: (kind) => there[kind],
    toggle: (kind) => {
      there[kind] = !there[kind];
      if (kind === "tool") handler.notify.toolsChanged();
      else handler.notify.promptsChanged();
      return there[kind];
    },
  };
  const handler = createMcpHandler(() => newServer(shared), { legacy: "reject" });
  const tasks = new Tasks();
  const listening = await listen(
    async (request) => (await tasks.answer(request)) ?? handler.fetch(request),
  );
  return {
    url: listening.url,
    close: async () => {
      await handler.close();
      await listening.close();
    },
  };
}
