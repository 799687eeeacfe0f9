/**
 * @module
 * A log as the command line reads it: below a URL (C2SP tlog-tiles), or in a
 * folder, such as a copy of the bucket.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type LogReader, LogUnreadable } from "../log/reader.ts";
import { tilePath } from "../log/tiles.ts";

/** Bytes of an answer: a full bundle of entries has at most 256 × 65,537. */
const MAX_ANSWER_BYTES = 17 * 1024 * 1024;
const TIMEOUT_MS = 30_000;
/** A whole log is thousands of requests: one that fails for a moment must not end the walk. */
const ATTEMPTS = 4;
const FIRST_PAUSE_MS = 250;

/** The log below a URL or in a folder. */
export async function openLog(place: string): Promise<LogReader> {
  const read = /^https?:\/\//.test(place) ? fromUrl(place) : await fromFolder(place);
  return {
    checkpoint: async () => {
      const bytes = await read("checkpoint");
      if (bytes === null) throw new LogUnreadable(`${place} has no checkpoint`);
      return new TextDecoder().decode(bytes);
    },
    tile: (tile) => read(tilePath(tile)),
  };
}

type Read = (name: string) => Promise<Uint8Array | null>;

function fromUrl(base: string): Read {
  const prefix = base.replace(/\/+$/, "");
  return async (name) => {
    for (let attempt = 1; ; attempt++) {
      const answer = await get(`${prefix}/${name}`);
      if (!(answer instanceof LogUnreadable)) return answer;
      if (attempt === ATTEMPTS) throw answer;
      await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** attempt));
    }
  };
}

/** The bytes, null for 404, or what went wrong and may pass. @throws LogUnreadable for what will not. */
async function get(url: string): Promise<Uint8Array | null | LogUnreadable> {
  let response: Response;
  let bytes: Uint8Array;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (Number(response.headers.get("content-length")) > MAX_ANSWER_BYTES) {
      throw new LogUnreadable(`${url} is too large`);
    }
    bytes = new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    if (error instanceof LogUnreadable) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return new LogUnreadable(`${url}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  if (response.ok) return bytes;
  if (response.status === 404) return null;
  const problem = new LogUnreadable(`${url} answered ${response.status}`);
  if (response.status === 429 || response.status >= 500) return problem;
  throw problem;
}

/** A folder with `checkpoint` and `tile/`, or one that holds them in `log/`, as the bucket does. */
async function fromFolder(folder: string): Promise<Read> {
  const inside = join(folder, "log");
  const root =
    (await isFile(join(folder, "checkpoint"))) || !(await isFile(join(inside, "checkpoint")))
      ? folder
      : inside;
  return async (name) => {
    try {
      return new Uint8Array(await readFile(join(root, name)));
    } catch (error) {
      if (isNotFound(error)) return null;
      throw new LogUnreadable(`${join(root, name)}: ${String(error)}`);
    }
  };
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (isNotFound(error)) return false;
    throw new LogUnreadable(`${path}: ${String(error)}`);
  }
}

function isNotFound(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : null;
  return code === "ENOENT" || code === "ENOTDIR";
}
