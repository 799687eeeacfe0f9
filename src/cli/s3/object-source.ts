/**
 * @module
 * Where objects are copied from: a bucket (R2 has an S3 endpoint), or a folder
 * that is a copy of one.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { S3Store } from "./s3-store.ts";

export type ObjectSource = {
  /** Every key below a prefix, in order. */
  keys(prefix: string): AsyncIterable<string>;
  get(key: string): Promise<Uint8Array>;
};

export function bucketSource(store: S3Store): ObjectSource {
  return { keys: (prefix) => store.keys(prefix), get: (key) => store.get(key) };
}

export function folderSource(folder: string): ObjectSource {
  return {
    keys: (prefix) => filesBelow(folder, prefix.replace(/\/$/, "")),
    get: async (key) => new Uint8Array(await readFile(join(folder, key))),
  };
}

async function* filesBelow(folder: string, path: string): AsyncGenerator<string> {
  let entries: { name: string; isDirectory(): boolean }[];
  try {
    entries = await readdir(join(folder, path), { withFileTypes: true });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return;
    throw error;
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const key = `${path}/${entry.name}`;
    if (entry.isDirectory()) yield* filesBelow(folder, key);
    else yield key;
  }
}
