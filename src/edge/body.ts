/**
 * @module
 * Request bodies: counted while they are read, for Content-Length may be
 * missing or wrong, and parsed as I-JSON.
 */
import { type JsonValue, parseIJson } from "../mcp/ijson.ts";
import { INVALID_PARAMS, PARSE_ERROR } from "../mcp/jsonrpc.ts";
import { isJsonContentType } from "../mcp/negotiate.ts";
import { HttpRefusal } from "./refusal.ts";

/**
 * Reads a body of at most `maxBytes`; more is 413, and the rest is never read. One that breaks off
 * is 400, for whoever reads the log: a client that leaves is no failure of the gateway's.
 */
export function readBody(request: Request, maxBytes: number): Promise<Uint8Array> {
  return bytesOf(request, maxBytes).catch((error: unknown) => {
    if (error instanceof HttpRefusal) throw error;
    throw new HttpRefusal(400, "INVALID_ARGUMENT", "The body ended before it was whole.");
  });
}

/**
 * Where HTTP frames the body by its length, no more than that ever arrives, and
 * it is read in one piece.
 */
async function bytesOf(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () =>
    new HttpRefusal(413, "PAYLOAD_TOO_LARGE", `The body is larger than ${maxBytes} bytes.`);
  const length = request.headers.get("content-length");
  if (length !== null) {
    if (Number(length) > maxBytes) throw tooLarge();
    const bytes = new Uint8Array(await request.arrayBuffer());
    if (bytes.byteLength > maxBytes) throw tooLarge();
    return bytes;
  }
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (bytes > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, bytes);
}

/** Reads and parses a JSON body: 415, 413 and 400 as the error says. */
export async function readJson(request: Request, maxBytes: number): Promise<JsonValue> {
  requireJson(request);
  return parseJsonBody(request, await readBody(request, maxBytes));
}

function requireJson(request: Request): void {
  if (!isJsonContentType(request.headers.get("content-type"))) {
    throw new HttpRefusal(
      415,
      "INVALID_ARGUMENT",
      "The body must be JSON: send Content-Type: application/json.",
    );
  }
}

/** Parses the bytes of a JSON body: 415 and 400 as the error says. */
export function parseJsonBody(request: Request, bytes: Uint8Array): JsonValue {
  requireJson(request);
  const parsed = parseIJson(bytes);
  if (parsed.ok) return parsed.value;
  throw new HttpRefusal(400, "INVALID_ARGUMENT", parsed.message, {
    rpcCode: parsed.kind === "syntax" ? PARSE_ERROR : INVALID_PARAMS,
  });
}
