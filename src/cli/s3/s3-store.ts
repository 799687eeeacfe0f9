/**
 * @module
 * A bucket of any S3-compatible store, path-style, requests signed by SigV4. An
 * object is written once, under Object Lock, and read back before it counts.
 */
import { AwsClient } from "aws4fetch";
import { encodeBase64, equalBytes } from "../../log/bytes.ts";
import { sha256Bytes } from "../node-hash.ts";

const RETRIES = 4;

/** `COMPLIANCE`: nobody can shorten it, the account's root included. */
export type LockMode = "COMPLIANCE" | "GOVERNANCE";

export type Lock = { readonly mode: LockMode; readonly until: Date };

export type S3Place = {
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
};

/** The store refused, or holds something else than it should. */
export class S3Error extends Error {}

export class S3Store {
  readonly #client: AwsClient;
  readonly #base: string;

  constructor({ endpoint, region, bucket, accessKeyId, secretAccessKey }: S3Place) {
    const credentials = { accessKeyId, secretAccessKey };
    this.#client = new AwsClient({ ...credentials, region, service: "s3", retries: RETRIES });
    this.#base = `${endpoint.replace(/\/+$/, "")}/${encodeURIComponent(bucket)}`;
  }

  /** Every key below a prefix, in order. */
  async *keys(prefix: string): AsyncGenerator<string> {
    let token: string | null = null;
    do {
      const query = new URLSearchParams({ "list-type": "2", "encoding-type": "url", prefix });
      if (token !== null) query.set("continuation-token", token);
      const response = await this.#ok(`?${query}`, { method: "GET" });
      const xml = await response.text();
      for (const [, key = ""] of xml.matchAll(/<Key>([^<]*)<\/Key>/g)) {
        yield decodeURIComponent(key.replaceAll("+", "%20"));
      }
      token = unescapeXml(/<NextContinuationToken>([^<]*)</.exec(xml)?.[1]);
    } while (token !== null);
  }

  async get(key: string): Promise<Uint8Array> {
    const response = await this.#ok(pathOf(key), { method: "GET" });
    return new Uint8Array(await response.arrayBuffer());
  }

  /** Puts an object where nothing is yet. False: something is there. */
  async putOnce(key: string, bytes: Uint8Array, lock: Lock): Promise<boolean> {
    const response = await this.#send(pathOf(key), {
      method: "PUT",
      body: Uint8Array.from(bytes),
      headers: {
        "content-length": String(bytes.length),
        "if-none-match": "*",
        "x-amz-checksum-sha256": encodeBase64(sha256Bytes(bytes)),
        // Signed with the request: nobody on the way can change what is stored.
        "x-amz-content-sha256": hex(sha256Bytes(bytes)),
        "x-amz-object-lock-mode": lock.mode,
        "x-amz-object-lock-retain-until-date": lock.until.toISOString(),
      },
    });
    if (response.ok) return true;
    if (response.status === 412) return false;
    throw await errorOf(`PUT ${key}`, response);
  }

  /**
   * Whether the object is there with these bytes, and still locked; one that was
   * stored before keeps the date it was given then. False when it is not there. The bytes are read back: a checksum of the store's
   * own would only say what the store says.
   *
   * @throws S3Error when something else is there, or it is not locked.
   */
  async holds(key: string, bytes: Uint8Array, lock: Lock): Promise<boolean> {
    const response = await this.#send(pathOf(key), { method: "GET" });
    if (response.status === 404) {
      await response.body?.cancel();
      return false;
    }
    if (!response.ok) throw await errorOf(`GET ${key}`, response);
    if (!equalBytes(new Uint8Array(await response.arrayBuffer()), bytes)) {
      throw new S3Error(`${key} is there already, with other bytes`);
    }
    const mode = response.headers.get("x-amz-object-lock-mode");
    const until = Date.parse(response.headers.get("x-amz-object-lock-retain-until-date") ?? "");
    if (mode !== lock.mode && mode !== "COMPLIANCE") {
      throw new S3Error(`${key} is not locked: is Object Lock enabled on the bucket?`);
    }
    if (Number.isNaN(until) || until <= Date.now()) {
      throw new S3Error(`${key} is not locked any more`);
    }
    return true;
  }

  async #ok(path: string, init: RequestInit): Promise<Response> {
    const response = await this.#send(path, init);
    if (!response.ok) throw await errorOf(`${init.method} ${path}`, response);
    return response;
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.#client.fetch(`${this.#base}${path}`, init);
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      throw new S3Error(`${this.#base}: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
  }
}

function pathOf(key: string): string {
  return `/${key.split("/").map(encodeURIComponent).join("/")}`;
}

async function errorOf(what: string, response: Response): Promise<S3Error> {
  const code = /<Code>([A-Za-z0-9]{1,64})<\/Code>/.exec(await response.text())?.[1] ?? "";
  return new S3Error(`${what}: ${response.status} ${code}`);
}

function unescapeXml(text: string | undefined): string | null {
  return text === undefined ? null : text.replaceAll("&amp;", "&").replaceAll("&quot;", '"');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
