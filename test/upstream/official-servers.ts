import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import {
  type EventStore,
  WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { createMcpHandler, McpServer as McpServer2 } from "@modelcontextprotocol/server";
import * as z from "zod";
import { webServer } from "./support.ts";

class MemoryEvents implements EventStore {
  readonly #events: { stream: string; message: JSONRPCMessage }[] = [];
  async storeEvent(stream: string, message: JSONRPCMessage): Promise<string> {
    return String(this.#events.push({ stream, message }) - 1);
  }
  async replayEventsAfter(
    last: string,
    { send }: { send: (id: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string> {
    const stream = this.#events[Number(last)]?.stream ?? "";
    for (const [index, event] of this.#events.entries()) {
      const isNext = index > Number(last) && event.stream === stream;
      if (isNext && "jsonrpc" in event.message) await send(String(index), event.message);
    }
    return stream;
  }
}

/** The official 1.x server with sessions and resumable streams. `cancelled` counts calls that it was told to stop. */
export async function officialServer1() {
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>();
  const state = { cancelled: 0, calls: 0, sessions: transports };
  const newServer = () => {
    const server = new McpServer(
      { name: "one", version: "1.0.0" },
      { instructions: "From one.", capabilities: { logging: {} } },
    );
    server.registerTool("echo", { inputSchema: { text: z.string() } }, async ({ text }) => ({
      content: [{ type: "text", text }],
    }));
    server.registerTool("cut", {}, async (extra) => {
      state.calls++;
      extra.closeSSEStream?.();
      await new Promise((resolve) => setTimeout(resolve, 60));
      await extra.sendNotification({
        method: "notifications/message",
        params: { level: "info", data: "while you were away" },
      });
      return { content: [{ type: "text", text: "after the cut" }] };
    });
    server.registerTool("ask", {}, async (extra) => {
      const answer = await extra.sendRequest(
        {
          method: "elicitation/create",
          params: { message: "Well?", requestedSchema: { type: "object", properties: {} } },
        },
        z.looseObject({ action: z.string() }),
      );
      return { content: [{ type: "text", text: answer.action }] };
    });
    server.registerTool("hang", {}, async (extra) => {
      await new Promise<void>((resolve) => extra.signal.addEventListener("abort", () => resolve()));
      state.cancelled++;
      return { content: [] };
    });
    server.registerTool("announce", {}, async () => {
      await server.sendLoggingMessage({ level: "info", data: "to all" });
      return { content: [] };
    });
    return server;
  };
  const web = await webServer(async (request) => {
    const id = request.headers.get("mcp-session-id");
    const known = id === null ? undefined : transports.get(id);
    if (known !== undefined) return known.handleRequest(request);
    if (id !== null) return new Response(null, { status: 404 });
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => crypto.randomUUID(),
      eventStore: new MemoryEvents(),
      retryInterval: 20,
      onsessioninitialized: (session) => void transports.set(session, transport),
      onsessionclosed: (session) => void transports.delete(session),
    });
    await newServer().connect(transport);
    return transport.handleRequest(request);
  });
  return { ...web, state };
}

/** The official 2.x server, which speaks 2026-07-28. */
export async function officialServer2(legacy: "stateless" | "reject" = "reject") {
  const state = { cancelled: 0, region: "" };
  const handler = createMcpHandler(
    () => {
      const server = new McpServer2(
        { name: "two", version: "2.0.0" },
        { instructions: "From two.", capabilities: { tools: { listChanged: true } } },
      );
      const region = z.string().meta({ "x-mcp-header": "Region" });
      const inputSchema = z.object({ region });
      server.registerTool("query", { inputSchema }, async ({ region }) => ({
        content: [{ type: "text", text: `in ${region}` }],
      }));
      server.registerTool("noisy", {}, async (context) => {
        const progressToken = context.mcpReq._meta?.progressToken ?? "none";
        await context.mcpReq.notify({
          method: "notifications/progress",
          params: { progressToken, progress: 1 },
        });
        return { content: [{ type: "text", text: "done" }] };
      });
      server.registerTool("hang", {}, async (context) => {
        const { signal } = context.mcpReq;
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        state.cancelled++;
        return { content: [] };
      });
      return server;
    },
    { legacy },
  );
  const web = await webServer((request) => handler.fetch(request));
  return {
    ...web,
    state,
    notify: handler.notify,
    close: async () => {
      await handler.close();
      await web.close();
    },
  };
}
