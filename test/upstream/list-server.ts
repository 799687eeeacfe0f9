/**
 * @module
 * A server of one era that only lists tools, over real HTTP.
 */
import { type FaultyServer, faultyServer } from "./support.ts";

export type ListedTool = { name: string; description?: string; inputSchema: { type: "object" } };

/** Serves `tools`, two to a page; what the caller changes in them is listed from then on. */
export async function listServer(era: "2025" | "2026", tools: ListedTool[]): Promise<FaultyServer> {
  const complete =
    era === "2026" ? { resultType: "complete", ttlMs: 4_000, cacheScope: "private" } : {};
  return faultyServer(({ method, body, json, result, response }) => {
    if (method === "DELETE") return void response.writeHead(204).end();
    switch (body.method) {
      case "server/discover":
        if (era === "2025")
          return json(400, { jsonrpc: "2.0", id: body.id, error: { code: -32601, message: "?" } });
        return result({
          ...complete,
          supportedVersions: ["2026-07-28"],
          capabilities: { tools: {} },
          instructions: "Be kind.",
          serverInfo: { name: "it", version: "1" },
          _meta: { "io.modelcontextprotocol/serverInfo": { name: "it", version: "1" } },
        });
      case "initialize":
        return json(
          200,
          {
            jsonrpc: "2.0",
            id: body.id,
            result: {
              protocolVersion: "2025-11-25",
              capabilities: { tools: {} },
              instructions: "Be kind.",
              serverInfo: { name: "it", version: "1" },
            },
          },
          { "mcp-session-id": "s1" },
        );
      case "notifications/initialized":
        return void response.writeHead(202).end();
      case "tools/list": {
        const from = Number(body.params?.cursor ?? 0);
        return result({
          ...complete,
          tools: tools.slice(from, from + 2),
          ...(from === 0 ? { nextCursor: "2" } : {}),
        });
      }
      default:
        return json(404, { jsonrpc: "2.0", id: body.id, error: { code: -32601, message: "?" } });
    }
  });
}
