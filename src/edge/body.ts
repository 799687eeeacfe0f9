/**
 * @module
 * Request bodies: counted while they are read, for Content-Length may be
 * missing or wrong, and parsed as I-JSON.
 */
import { type JsonValue, parseIJson } from "../mcp/ijson.ts";
import { INVALID_PARAMS, PARSE_ERROR } from "../mcp/jsonrpc.ts";
import { isJsonContentType } from "../mcp/negotiate.ts";
import { withPatience } from "../upstream/single-flight.ts";
import { HttpRefusal } from "./refusal.ts";

/** How long a body may take to arrive, in ms: `MAX_BODY_BYTES` at a megabit a second. */
const PATIENCE_MS = 30_000;

/**
 * Reads a body of at most `maxBytes`; more is 413, and the rest is never read. One that has not
 * arrived in time is 408, and one that was cut off 400.
 */
export async function readBody(
  request: Request,
  maxBytes: number,
  patienceMs = PATIENCE_MS,
): Promise<Uint8Array> {
  const read = await withPatience(wholeBody(request, maxBytes), patienceMs);
  if (read.ok) return read.value;
  throw new HttpRefusal(
    408,
    "CANCELLED",
    `The body did not arrive within ${patienceMs / 1000} s. Nothing was done.`,
  );
}

/** Where HTTP frames a body by its length, no more than that ever arrives, and it is read in one piece. */
async function wholeBody(request: Request, maxBytes: number): Promise<Uint8Array> {
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > maxBytes) throw tooLarge(maxBytes);
  if (request.body === null) return new Uint8Array();
  try {
    const bytes =
      length === null
        ? await counted(request.body, maxBytes)
        : new Uint8Array(await request.arrayBuffer());
    if (bytes.byteLength > maxBytes) throw tooLarge(maxBytes);
    return bytes;
  } catch (error) {
    if (error instanceof HttpRefusal) throw error;
    throw new HttpRefusal(400, "INVALID_ARGUMENT", "The body was cut off. Nothing was done.");
  }
}

async function counted(body: ReadableStream<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (bytes > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, bytes);
}

function tooLarge(maxBytes: number): HttpRefusal {
  return new HttpRefusal(413, "PAYLOAD_TOO_LARGE", `The body is larger than ${maxBytes} bytes.`);
}

/** Reads and parses a JSON body: 415, 413, 408 and 400 as the error says. */
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
