/**
 * @module
 * An S3 server for tests: checks signatures (SigV4, from its specification and
 * with nothing of the client's), checksums, conditional puts and Object Lock, and
 * lists in pages.
 */
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export const ACCESS_KEY = "AKIATEST";
export const SECRET_KEY = "a secret/of+tests";

export type Stored = { bytes: Buffer; mode: string | null; until: string | null };

const hex = (data: string | Buffer) => createHash("sha256").update(data).digest("hex");
const mac = (key: string | Buffer, data: string) => createHmac("sha256", key).update(data).digest();
const encode = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** Whether a request is signed as AWS Signature Version 4 demands, its body included. */
function isSigned(request: IncomingMessage, body: Buffer): boolean {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      request.headers.authorization ?? "",
    );
  if (match === null || match[1] !== ACCESS_KEY) return false;
  const [, , day = "", region = "", signed = "", signature] = match;
  const url = new URL(request.url ?? "/", "http://x");
  const query = [...url.searchParams]
    .map(([key, value]) => `${encode(key)}=${encode(value)}`)
    .sort()
    .join("&");
  const headers = signed
    .split(";")
    .map((name) => `${name}:${String(request.headers[name] ?? "").trim()}\n`)
    .join("");
  const payload = String(request.headers["x-amz-content-sha256"] ?? "");
  if (payload !== hex(body) && !(body.length === 0 && payload === "UNSIGNED-PAYLOAD")) return false;
  const canonical = [request.method, url.pathname, query, headers, signed, payload].join("\n");
  const date = String(request.headers["x-amz-date"] ?? "");
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", date, scope, hex(canonical)].join("\n");
  const key = [region, "s3", "aws4_request"].reduce(
    (at, part) => mac(at, part),
    mac(`AWS4${SECRET_KEY}`, day),
  );
  return mac(key, text).toString("hex") === signature && signed.split(";").includes("host");
}

export class S3Server implements AsyncDisposable {
  readonly objects = new Map<string, Stored>();
  readonly requests: string[] = [];
  /** Whether the bucket was made with Object Lock. */
  objectLock = true;
  /** Keys of one page of a list. */
  pageSize = 3;
  /** Puts after which the server answers 500 to everything; then it is well again. */
  failAfter = Number.POSITIVE_INFINITY;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<S3Server> {
    const server = createServer();
    const started = new S3Server(server);
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => started.#answer(request, response, Buffer.concat(chunks)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return started;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return `http://127.0.0.1:${address.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse, body: Buffer): ServerResponse {
    const url = new URL(request.url ?? "/", "http://x");
    const key = decodeURIComponent(url.pathname.replace(/^\/[^/]+\/?/, ""));
    this.requests.push(`${request.method} ${key}`);
    const refuse = (status: number, code: string) => {
      response.statusCode = status;
      return response.end(`<?xml version="1.0"?><Error><Code>${code}</Code></Error>`);
    };
    if (!isSigned(request, body)) return refuse(403, "SignatureDoesNotMatch");
    if (this.failAfter <= 0) return refuse(403, "SlowDown");
    if (request.method === "PUT") return this.#put(request, response, key, body, refuse);
    if (url.searchParams.get("list-type") === "2") return this.#list(url, response);
    const stored = this.objects.get(key);
    if (stored === undefined) return refuse(404, "NoSuchKey");
    if (stored.mode !== null) response.setHeader("x-amz-object-lock-mode", stored.mode);
    if (stored.until !== null) {
      response.setHeader("x-amz-object-lock-retain-until-date", stored.until);
    }
    return response.end(stored.bytes);
  }

  #put(
    request: IncomingMessage,
    response: ServerResponse,
    key: string,
    body: Buffer,
    refuse: (status: number, code: string) => ServerResponse,
  ): ServerResponse {
    const { headers } = request;
    const checksum = headers["x-amz-checksum-sha256"];
    const mode = headers["x-amz-object-lock-mode"];
    const until = headers["x-amz-object-lock-retain-until-date"];
    if (headers["if-none-match"] === "*" && this.objects.has(key)) {
      return refuse(412, "PreconditionFailed");
    }
    // With a lock, S3 demands a digest of the body.
    if (mode !== undefined && checksum === undefined && headers["content-md5"] === undefined) {
      return refuse(400, "InvalidRequest");
    }
    if (checksum !== undefined && createHash("sha256").update(body).digest("base64") !== checksum) {
      return refuse(400, "BadDigest");
    }
    if (mode !== undefined && !this.objectLock) return refuse(400, "InvalidRequest");
    if (until !== undefined && Date.parse(String(until)) <= Date.now()) {
      return refuse(400, "InvalidArgument");
    }
    this.failAfter -= 1;
    const lock = { mode: mode === undefined ? null : String(mode) };
    const end = { until: until === undefined ? null : String(until) };
    this.objects.set(key, { bytes: body, ...lock, ...end });
    return response.end();
  }

  #list(url: URL, response: ServerResponse): ServerResponse {
    const after = url.searchParams.get("continuation-token") ?? "";
    const prefix = url.searchParams.get("prefix") ?? "";
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after);
    const page = keys.sort().slice(0, this.pageSize);
    const more = keys.length > page.length;
    const items = page.map((key) => `<Contents><Key>${encodeURIComponent(key)}</Key></Contents>`);
    const token = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : "";
    return response.end(`<ListBucketResult>${items.join("")}${token}</ListBucketResult>`);
  }
}
