/**
 * @module
 * Whom a local PostgreSQL runs as. It refuses to run as root, so there it runs as
 * an account of the system that has no rights of its own.
 */
import { chmod, chown, mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { StartError } from "../local-state.ts";

export type Account = { readonly uid: number; readonly gid: number };

/** In this order, whichever there is. */
const CANDIDATES = ["postgres", "nobody"];

/** The account to run as, or null for one's own. */
export async function postgresAccount(): Promise<Account | null> {
  if (process.getuid?.() !== 0) return null;
  const lines = (await readFile("/etc/passwd", "utf8")).split("\n");
  for (const name of CANDIDATES) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(":") ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new StartError("PostgreSQL does not run as root, and there is no account to run it as.");
}

/** Makes a folder that only the account reads; the one above lets it through, and nobody else. */
export async function ownFolder(path: string, account: Account | null): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (account === null) return;
  await chown(path, account.uid, account.gid);
  await chown(dirname(path), 0, account.gid);
  await chmod(dirname(path), 0o710);
}
