/**
 * @module
 * A gateway's admin API, for commands: a deployed one by `--url` and `--key` (or
 * `ATLAS_GATE_URL` and `ATLAS_GATE_KEY`, which no list of processes shows), a
 * local one by its state folder.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { UsageError } from "../command.ts";
import { ROOT } from "../wrangler.ts";
import { linesIn } from "./lines.ts";

export const GATEWAY_FLAGS = {
  url: { type: "string" },
  key: { type: "string" },
  "state-dir": { type: "string" },
} as const;

export type GatewayFlags = {
  readonly url?: string | undefined;
  readonly key?: string | undefined;
  readonly "state-dir"?: string | undefined;
};

const errorSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** What a refusal of the gateway says; the whole text where it is none. */
function messageIn(text: string): string {
  try {
    const { code, message } = errorSchema.parse(JSON.parse(text)).error;
    return `[${code}] ${message}`;
  } catch {
    return text;
  }
}

const localFile = z.object({ url: z.string(), keys: z.object({ operator: z.string() }) });

export class AdminClient {
  readonly #url: string;
  readonly #key: string;

  constructor(url: string, key: string) {
    this.#url = url.replace(/\/$/, "");
    this.#key = key;
  }

  static async open(flags: GatewayFlags): Promise<AdminClient> {
    const url = flags.url ?? process.env.ATLAS_GATE_URL;
    const key = flags.key ?? process.env.ATLAS_GATE_KEY;
    if (url !== undefined && key !== undefined) return new AdminClient(url, key);
    const path = join(flags["state-dir"] ?? join(ROOT, ".atlas-gate"), "local.json");
    if (!existsSync(path)) {
      throw new UsageError(`Which gateway? Give --url and --key; there is no ${path}.`);
    }
    const local = localFile.parse(JSON.parse(await readFile(path, "utf8")));
    return new AdminClient(url ?? local.url, key ?? local.keys.operator);
  }

  async get<T>(path: string, answer: z.ZodType<T>): Promise<T> {
    return answer.parse(await (await this.#send("GET", path)).json());
  }

  async post<T>(path: string, body: object, answer: z.ZodType<T>): Promise<T> {
    return answer.parse(await (await this.#send("POST", path, body)).json());
  }

  /** The lines of a streamed answer, without their ends. */
  async *lines(path: string): AsyncGenerator<string> {
    const { body } = await this.#send("GET", path);
    if (body !== null) yield* linesIn(body.pipeThrough(new TextDecoderStream()));
  }

  async #send(method: string, path: string, body?: object): Promise<Response> {
    const response = await reach(`${this.#url}/admin${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    throw new UsageError(
      `${method} ${path} answered ${response.status}: ${messageIn(await response.text())}`,
    );
  }
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new UsageError(`The gateway at ${new URL(url).origin} does not answer: ${cause}`);
  }
}
