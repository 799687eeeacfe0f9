/**
 * @module
 * The folder of a local gateway: generated secrets, the stores of wrangler,
 * and `local.json` with the keys to use it.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";

export const SECRETS = ["ADMIN_TOKEN", "LOG_SIGNING_KEY", "SECRETS_KEY"] as const;
const SECRET_FORM = /^[A-Za-z0-9+/]{43}=$/;

export const LOCAL_ROLES = ["operator", "antigravity", "windsurf", "auditor"] as const;

const localFileSchema = z.object({
  url: z.string(),
  admin_token: z.string(),
  keys: z.partialRecord(z.enum(LOCAL_ROLES), z.string()),
});

export type LocalFile = z.infer<typeof localFileSchema>;
export type Secrets = Readonly<Record<(typeof SECRETS)[number], string>>;

/** What keeps a gateway from starting, in one line. */
export class StartError extends Error {}

export function secretsPath(stateDir: string): string {
  return join(stateDir, "secrets.env");
}

/** Reads the secrets of a state folder, generating them with it. Throws `StartError`. */
export async function ensureSecrets(stateDir: string): Promise<Secrets> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const path = secretsPath(stateDir);
  if (!existsSync(path)) {
    if (existsSync(join(stateDir, "v3"))) {
      throw new StartError(
        `${path} is missing, but there is state that was written under its secrets. Restore it, or remove ${stateDir}.`,
      );
    }
    const lines = SECRETS.map((name) => `${name}=${randomBytes(32).toString("base64")}\n`);
    await writePrivate(path, lines.join(""));
  }
  const values = new Map(
    (await readFile(path, "utf8"))
      .split("\n")
      .filter((line) => line.trim() !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.indexOf("=");
        return [
          line.slice(0, at).trim(),
          line
            .slice(at + 1)
            .trim()
            .replace(/^"(.*)"$/, "$1"),
        ];
      }),
  );
  const secret = (name: (typeof SECRETS)[number]): string => {
    const value = values.get(name);
    if (value !== undefined && SECRET_FORM.test(value)) return value;
    throw new StartError(`${path} is broken: ${name} must be 32 bytes in base64.`);
  };
  await chmod(path, 0o600);
  return {
    ADMIN_TOKEN: secret("ADMIN_TOKEN"),
    LOG_SIGNING_KEY: secret("LOG_SIGNING_KEY"),
    SECRETS_KEY: secret("SECRETS_KEY"),
  };
}

/** The keys that an earlier start left; a file that cannot be read is as good as none. */
export async function readLocalKeys(stateDir: string): Promise<LocalFile["keys"]> {
  const path = join(stateDir, "local.json");
  if (!existsSync(path)) return {};
  try {
    return localFileSchema.parse(JSON.parse(await readFile(path, "utf8"))).keys;
  } catch {
    console.error(`${path} cannot be read; its keys are replaced.`);
    return {};
  }
}

export async function writeLocalFile(stateDir: string, file: LocalFile): Promise<void> {
  await writePrivate(join(stateDir, "local.json"), `${JSON.stringify(file, null, 2)}\n`);
}

/** Replaced as a whole, so that a crash leaves the old file or the new one. */
async function writePrivate(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text, { mode: 0o600 });
  await rename(temporary, path);
}
