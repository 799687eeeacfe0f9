/**
 * @module
 * The upstream of the federation benchmark, in a process of its own: an MCP
 * server that speaks one era and has one tool, which answers at once. As little
 * as such a server can be, so that what is measured is the way to it.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { ECHO } from "./upstream-tool.ts";

const ADDRESS = "127.0.0.1";

const TOOL = {
  name: ECHO,
  description: "Answers with what it was sent.",
  inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
};

type Message = { id?: unknown; method?: string; params?: { arguments?: { text?: unknown } } };

function answer(era: string, { method, params }: Message): object {
  const common = era === "2026" ? { resultType: "complete" } : {};
  const cacheable = era === "2026" ? { ttlMs: 60_000, cacheScope: "public" } : {};
  const introduction = { capabilities: { tools: {} }, serverInfo: { name: "bench", version: "1" } };
  switch (method) {
    case "initialize":
      return { ...introduction, protocolVersion: "2025-11-25" };
    case "server/discover":
      return { ...introduction, ...common, ...cacheable, supportedVersions: ["2026-07-28"] };
    case "tools/list":
      return { tools: [TOOL], ...common, ...cacheable };
    default:
      return { content: [{ type: "text", text: params?.arguments?.text }], ...common };
  }
}

function handle(era: string, request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const send = (status: number, body: object | null): void => {
      const text = body === null ? "" : JSON.stringify(body);
      response.writeHead(status, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
      });
      response.end(text);
    };
    if (request.method !== "POST") return send(405, null);
    const message: Message = JSON.parse(Buffer.concat(chunks).toString());
    if (message.id === undefined) return send(202, null);
    if (era === "2025" && message.method === "server/discover") {
      const error = { code: -32601, message: "Method not found" };
      return send(404, { jsonrpc: "2.0", id: message.id, error });
    }
    send(200, { jsonrpc: "2.0", id: message.id, result: answer(era, message) });
  });
}

process.once("message", (era: string) => {
  const server = createServer((request, response) => handle(era, request, response));
  server.listen(0, ADDRESS, () => {
    const address = server.address();
    if (address !== null && typeof address === "object") process.send?.(address.port);
  });
});
process.once("disconnect", () => process.exit());
