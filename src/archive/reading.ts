/**
 * @module
 * The archive as one request of an operator reads it. D1 answers from replicas
 * where it has them; a bookmark sees to it that the answer is at least as new
 * as what the operator has seen before, their own writes included.
 */
import { requireConfig } from "../config.ts";
import type { Archive } from "./archive.ts";
import { D1Archive } from "./d1.ts";
import { openArchive } from "./open.ts";

/** In an answer: how new it was. In a request: how new the answer must be. */
export const BOOKMARK_HEADER = "x-d1-bookmark";
const BOOKMARK = /^[0-9a-zA-Z-]{1,128}$/;

export type ArchiveReading = {
  readonly archive: () => Archive;
  /** What the next request may send along; null when nothing was read from D1. */
  readonly bookmark: () => string | null;
};

/** Without a bookmark the first query goes to the primary, which has everything. */
export function readingArchive(env: Env, bookmark: string | null): ArchiveReading {
  let session: D1DatabaseSession | null = null;
  return {
    archive: () => {
      if (requireConfig(env).archive !== "d1") return openArchive(env);
      const known = bookmark !== null && BOOKMARK.test(bookmark) ? bookmark : "first-primary";
      session ??= env.ARCHIVE_DB.withSession(known);
      return new D1Archive(session);
    },
    bookmark: () => session?.getBookmark() ?? null,
  };
}
