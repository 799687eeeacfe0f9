/**
 * @module
 * An upstream whose only tool says which Authorization its call came with.
 */
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

export type WhoamiUpstream = {
  readonly url: string;
  /** Authorization headers of all requests, by JSON-RPC method. */
  readonly seen: { readonly method: string; readonly authorization: string | undefined }[];
  readonly close: () => Promise<void>;
};

export async function startWhoamiUpstream(): Promise<WhoamiUpstream> {
  const seen: { method: string; authorization: string | undefined }[] = [];
  const http = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString("utf8");
    const body = text === "" ? undefined : JSON.parse(text);
    const { authorization } = request.headers;
    seen.push({ method: String(body?.method), authorization });
    const server = new McpServer({ name: "whoami", version: "1.0.0" });
    server.registerTool("whoami", {}, async () => ({
      content: [{ type: "text", text: "heard" }],
    }));
    const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
    // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
    await server.connect(transport as Parameters<McpServer["connect"]>[0]);
    await transport.handleRequest(request, response, body);
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const address = http.address();
  if (typeof address !== "object" || address === null) throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}/mcp`,
    seen,
    close: async () => {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}
