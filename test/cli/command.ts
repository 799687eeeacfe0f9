/**
 * @module
 * Runs the package's command as a user does, and writes what it reads.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseTilePath, partialTiles, tilePath, tileWidth } from "../../src/log/tiles.ts";
import type { TestLog } from "../verify/gateway.ts";

const BIN = join(import.meta.dirname, "..", "..", "src", "cli", "atlas-gate.mjs");

export type Ran = {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
};

export function atlasGate(...args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [BIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** A folder that is removed with `await using`. */
export class Folder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), "atlas-gate-cli-")));
  }

  async write(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.path, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}

/** Every file of a log by its name: full tiles, and the partial ones of its size. */
export function filesOf(log: TestLog): Map<string, string | Uint8Array> {
  const files = new Map<string, string | Uint8Array>([["checkpoint", log.checkpoint]]);
  const add = (level: number | "entries", index: number) => {
    const tile = { level, index, width: tileWidth(level, index, log.size) };
    const bytes = tile.width === 0 ? null : log.tile(tile);
    if (bytes !== null) files.set(tilePath(tile), bytes);
  };
  for (let level = 0; level < 3; level++) {
    for (let index = 0; tileWidth(level, index, log.size) > 0; index++) add(level, index);
  }
  for (let index = 0; index * 256 < log.size; index++) add("entries", index);
  for (const tile of partialTiles(log.size)) if (!files.has(tilePath(tile))) throw new Error();
  return files;
}

export async function writeLog(folder: Folder, log: TestLog, prefix = ""): Promise<void> {
  for (const [name, content] of filesOf(log)) await folder.write(`${prefix}${name}`, content);
}

/** Serves a log below `/log` as a gateway does; `fail` answers first, to be unhealthy. */
export async function serveLog(
  logOf: () => TestLog,
  fail: (path: string) => number | null = () => null,
): Promise<{ url: string; close: () => void; asked: string[] }> {
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    const path = (request.url ?? "").replace("/log/", "");
    asked.push(path);
    const status = fail(path);
    const tile = parseTilePath(path);
    const log = logOf();
    const bytes = path === "checkpoint" ? log.checkpoint : tile === null ? null : log.tile(tile);
    response.statusCode = status ?? (bytes === null ? 404 : 200);
    response.end(response.statusCode === 200 ? bytes : "no");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/log`, close: () => server.close(), asked };
}
