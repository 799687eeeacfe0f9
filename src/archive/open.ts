/**
 * @module
 * The archive of a deployment, as its configuration names it.
 */
import { requireConfig } from "../config.ts";
import type { Archive } from "./archive.ts";
import { connectionStringOf } from "./bindings.ts";
import { D1Archive } from "./d1.ts";
import { PostgresArchive } from "./postgres.ts";

/** The archive that records go to. Cheap: nothing is connected before it is used. */
export function openArchive(env: Env): Archive {
  return openNamed(env, requireConfig(env).archive);
}

/** Either archive of a deployment, for moving from one to the other. Throws where PostgreSQL is not bound. */
export function openNamed(env: Env, kind: Archive["kind"]): Archive {
  if (kind === "d1") return new D1Archive(env.ARCHIVE_DB);
  const url = connectionStringOf(env, "HYPERDRIVE");
  if (url === null) throw new Error("There is no binding HYPERDRIVE");
  return new PostgresArchive(url, connectionStringOf(env, "HYPERDRIVE_MAINTENANCE") ?? url);
}
