/**
 * @module
 * A request of 2026-07-28, as the benchmark sends it.
 */

/** The headers of a `tools/call` of 2026-07-28. */
export function headers2026(name: string): Record<string, string> {
  return {
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": name,
  };
}

/** The body of a request of 2026-07-28. */
export function body2026(method: string, params: object): string {
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": { name: "bench", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  return JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta } });
}
