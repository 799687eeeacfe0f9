/**
 * @module
 * Requests exactly as a test writes them, with any Host and any body, which
 * `fetch` does not allow.
 */
import { type IncomingHttpHeaders, request } from "node:http";

export type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; undefined when it is none. */
  readonly json: unknown;
};

export type Sent = {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
};

/** Sends one request and reads its answer whole. */
export function send(url: string, { method = "GET", headers = {}, body }: Sent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", reject);
      response.once("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: parsed(text),
        });
      });
    });
    // Once an answer is here, a connection that is cut under a body still being sent is no failure.
    sent.once("error", reject);
    sent.end(body);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What is at a dotted path of a JSON value; undefined where there is nothing. */
export function at(value: unknown, path: string): unknown {
  let found = value;
  for (const name of path.split(".")) {
    if (typeof found !== "object" || found === null) return undefined;
    found = Reflect.get(found, name);
  }
  return found;
}

/** The text at a dotted path; throws when there is none. */
export function textAt(value: unknown, path: string): string {
  const found = at(value, path);
  if (typeof found === "string") return found;
  throw new Error(`No text at ${path} of ${JSON.stringify(value)}`);
}
