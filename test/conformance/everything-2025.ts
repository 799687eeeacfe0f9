/**
 * @module
 * A server of the 2025 era, on the official SDK 1.x, that has everything the
 * conformance suite asks a server for. It stands behind the gateway.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import {
  CallToolRequestSchema,
  type CallToolResult,
  CompleteRequestSchema,
  ErrorCode,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  McpError,
  ReadResourceRequestSchema,
  ResultSchema,
  type ServerNotification,
  type ServerRequest,
  SubscribeRequestSchema,
  type Tool,
  UnsubscribeRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
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
import { MemoryEventStore } from "./everything/event-store.ts";
import {
  type Answers,
  INTERACTIVE_PROMPT,
  INTERACTIVE_TOOLS,
  type Interactive,
  type Round,
  roundsFor,
} from "./everything/interactive.ts";
import { type Listening, listen } from "./everything/listen.ts";

/** How long a client waits before it comes back to a stream that was closed under it. */
const RETRY_MS = 200;
/** Longer than it takes to come back, so that the result finds the new stream open. */
const RECONNECTION_MS = 700;
/** The specification's code before 2026 for a resource that does not exist. */
const RESOURCE_NOT_FOUND = -32002;

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;
type Args = Readonly<Record<string, unknown>>;
type Running = { definition: Tool; call: (args: Args, extra: Extra) => Promise<CallToolResult> };

const said = (value: string): CallToolResult => ({ content: [text(value)] });

/** Asks everything of a round at once, on the stream of the call that it is asked for. */
async function ask(round: Round, extra: Extra): Promise<Answers> {
  const asked = Object.entries(round).map(async ([key, request]) => {
    return [key, await extra.sendRequest(request as ServerRequest, ResultSchema)] as const;
  });
  return Object.fromEntries(await Promise.all(asked));
}

async function interact(
  server: Server,
  interactive: Interactive,
  args: Args,
  extra: Extra,
): Promise<string> {
  let answers: Answers = {};
  for (const round of roundsFor(interactive, args, server.getClientCapabilities() ?? {})) {
    answers = { ...answers, ...(await ask(round, extra)) };
  }
  return interactive.answer(answers);
}

/** What may change while the server runs, for all its sessions. */
type Changing = { readonly sessions: Set<Server>; tool: boolean; prompt: boolean };

function toolsOf(server: Server, changing: Changing): Running[] {
  const plain = (name: string, description: string): Tool => ({
    name,
    description,
    inputSchema: stringsSchema([]),
  });
  return [
    ...CONTENT_TOOLS.map(({ name, description, isError, content }) => ({
      definition: plain(name, description),
      call: async () => ({ content, ...(isError === true ? { isError } : {}) }),
    })),
    {
      definition: JSON_SCHEMA_TOOL,
      call: async (args: Args) => said(JSON.stringify(args)),
    },
    {
      definition: plain("test_tool_with_progress", "Reports how far it is"),
      call: async (_args: Args, extra: Extra) => {
        const progressToken = extra._meta?.progressToken;
        for (const progress of PROGRESS_STEPS) {
          if (progress > 0) await sleep(STEP_MS);
          if (progressToken === undefined) continue;
          const params = { progressToken, progress, total: 100 };
          await extra.sendNotification({ method: "notifications/progress", params });
        }
        return said("Done.");
      },
    },
    ...["test_tool_with_logging", "test_logging_tool"].map((name) => ({
      definition: plain(name, "Logs what it does"),
      call: async (_args: Args, extra: Extra) => {
        for (const [index, data] of LOG_MESSAGES.entries()) {
          if (index > 0) await sleep(STEP_MS);
          // Through the server, which keeps to the level that the client set.
          await server.sendLoggingMessage({ level: "info", data }, extra.sessionId);
        }
        return said("Logged.");
      },
    })),
    {
      definition: plain("test_reconnection", "Closes its stream and answers on the next one"),
      call: async (_args: Args, extra: Extra) => {
        extra.closeSSEStream?.();
        await sleep(RECONNECTION_MS);
        return said("Reconnected.");
      },
    },
    ...(["tool", "prompt"] as const).map((kind) => ({
      definition: plain(`test_trigger_${kind}_change`, `Adds or removes a ${kind}`),
      call: async () => {
        changing[kind] = !changing[kind];
        for (const each of changing.sessions) {
          await (kind === "tool" ? each.sendToolListChanged() : each.sendPromptListChanged());
        }
        return said(changing[kind] ? "Added." : "Removed.");
      },
    })),
    ...(changing.tool
      ? [
          {
            definition: plain("test_dynamic_tool", "Comes and goes"),
            call: async () => said("Here."),
          },
        ]
      : []),
    ...INTERACTIVE_TOOLS.map((interactive) => ({
      definition: {
        name: interactive.name,
        description: interactive.description,
        inputSchema: stringsSchema(interactive.arguments),
      },
      call: async (args: Args, extra: Extra) =>
        said(await interact(server, interactive, args, extra)),
    })),
  ];
}

function serveTools(server: Server, changing: Changing): void {
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: toolsOf(server, changing).map(({ definition }) => definition),
  }));
  server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) => {
    const tool = toolsOf(server, changing).find(
      ({ definition }) => definition.name === params.name,
    );
    if (tool === undefined) throw new McpError(ErrorCode.InvalidParams, `No tool ${params.name}`);
    return tool.call(params.arguments ?? {}, extra);
  });
}

function servePrompts(server: Server, changing: Changing): void {
  const prompts = () => [
    ...PROMPTS,
    ...(changing.prompt
      ? [
          {
            name: "test_dynamic_prompt",
            description: "Comes and goes",
            arguments: [],
            messages: () => [user(text("Here."))],
          },
        ]
      : []),
  ];
  server.setRequestHandler(ListPromptsRequestSchema, () => ({
    prompts: [
      ...prompts().map(({ name, description, arguments: names }) => ({
        name,
        description,
        arguments: names.map((argument) => ({ name: argument, required: true })),
      })),
      { name: INTERACTIVE_PROMPT.name, description: INTERACTIVE_PROMPT.description },
    ],
  }));
  server.setRequestHandler(GetPromptRequestSchema, async ({ params }, extra) => {
    if (params.name === INTERACTIVE_PROMPT.name) {
      const answer = await interact(server, INTERACTIVE_PROMPT, {}, extra);
      return { messages: [user(text(answer))] };
    }
    const prompt = prompts().find(({ name }) => name === params.name);
    if (prompt === undefined) {
      throw new McpError(ErrorCode.InvalidParams, `No prompt ${params.name}`);
    }
    return { messages: prompt.messages(params.arguments ?? {}) };
  });
  server.setRequestHandler(CompleteRequestSchema, ({ params }) => ({
    completion: { values: completionsOf(params.argument.value) },
  }));
}

function serveResources(server: Server): void {
  server.setRequestHandler(ListResourcesRequestSchema, () => ({
    resources: RESOURCES.map(({ uri, name, description, mimeType }) => ({
      uri,
      name,
      description,
      mimeType,
    })),
  }));
  server.setRequestHandler(ListResourceTemplatesRequestSchema, () => ({
    resourceTemplates: [TEMPLATE],
  }));
  server.setRequestHandler(ReadResourceRequestSchema, ({ params: { uri } }) => {
    const contents = readResource(uri);
    if (contents === null) throw new McpError(RESOURCE_NOT_FOUND, "Resource not found", { uri });
    return { contents: [contents] };
  });
  server.setRequestHandler(SubscribeRequestSchema, () => ({}));
  server.setRequestHandler(UnsubscribeRequestSchema, () => ({}));
}

function newServer(changing: Changing): Server {
  const server = new Server(
    { name: "everything-2025", version: "1.0.0" },
    {
      capabilities: {
        tools: { listChanged: true },
        prompts: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        completions: {},
        logging: {},
      },
    },
  );
  serveTools(server, changing);
  servePrompts(server, changing);
  serveResources(server);
  return server;
}

export async function startEverything2025(): Promise<Listening> {
  const changing: Changing = { sessions: new Set(), tool: true, prompt: true };
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();

  const open = async () => {
    const server = newServer(changing);
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      eventStore: new MemoryEventStore(),
      retryInterval: RETRY_MS,
      onsessioninitialized: (id) => {
        transports.set(id, transport);
        changing.sessions.add(server);
      },
      onsessionclosed: (id) => {
        transports.delete(id);
        changing.sessions.delete(server);
      },
    });
    await server.connect(transport);
    return transport;
  };

  const listening = await listen(async (request) => {
    const id = request.headers.get("mcp-session-id");
    const transport = id === null ? await open() : transports.get(id);
    // 404 is what tells a client that its session has ended.
    if (transport === undefined) return new Response(null, { status: 404 });
    return transport.handleRequest(request);
  });
  return {
    url: listening.url,
    close: async () => {
      await Promise.all([...transports.values()].map((transport) => transport.close()));
      await listening.close();
    },
  };
}
