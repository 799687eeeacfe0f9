/**
 * @module
 * An authorization server on this machine: metadata, keys that can be rotated,
 * client credentials, introspection and token exchange. It keeps what it was
 * asked, for tests to look at.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

type PrivateKey = Awaited<ReturnType<typeof generateKeyPair>>["privateKey"];

/** Members put in place of the usual ones; undefined leaves one out. */
type Changes = Record<string, unknown>;

export const RESOURCE_SERVER = { client_id: "atlas-gate", client_secret: "the gateway's own" };

export class AuthorizationServer {
  readonly url: string;
  /** Paths of all requests, and the forms that were sent to the token endpoint. */
  readonly asked: string[] = [];
  readonly forms: URLSearchParams[] = [];
  /** What introspection says of a token. */
  readonly opaque = new Map<string, object>();
  /** Claims of the tokens that it gives for client credentials. */
  claims: Changes = {};
  isDown = false;
  readonly #server: Server;
  #keys: JWK[] = [];
  #kid = "";
  #privateKey: PrivateKey | null = null;
  #rotations = 0;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async start(): Promise<AuthorizationServer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("no port");
    const started = new AuthorizationServer(server, `http://127.0.0.1:${address.port}`);
    await started.rotate();
    server.on("request", (request, response) => {
      started.#answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
    return started;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Signs with a new key from now on; the old one is no longer published. */
  async rotate(): Promise<void> {
    this.#rotations += 1;
    this.#kid = `key-${this.#rotations}`;
    const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
    this.#keys = [{ ...(await exportJWK(publicKey)), kid: this.#kid, alg: "RS256", use: "sig" }];
    this.#privateKey = privateKey;
  }

  /** An access token, as RFC 9068 has it unless the changes say otherwise. */
  async token(audience: string, claims: Changes = {}, header: Changes = {}): Promise<string> {
    if (this.#privateKey === null) throw new Error("no key");
    const seconds = Math.floor(Date.now() / 1000);
    return new SignJWT({
      iss: this.url,
      aud: audience,
      sub: "alice",
      client_id: "a-client",
      iat: seconds,
      exp: seconds + 300,
      jti: crypto.randomUUID(),
      role: "windsurf",
      scope: "mcp:read mcp:write",
      ...claims,
    })
      .setProtectedHeader({ alg: "RS256", ...{ typ: "at+jwt", kid: this.#kid, ...header } })
      .sign(this.#privateKey);
  }

  /** A token of exactly this header and this payload, genuinely signed. */
  async signed(header: object, payload: string | object): Promise<string> {
    if (this.#privateKey === null) throw new Error("no key");
    const part = (value: string | object) =>
      Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
    const input = `${part({ alg: "RS256", typ: "at+jwt", kid: this.#kid, ...header })}.${part(payload)}`;
    const signature = await crypto.subtle.sign(
      "RSASSA-PKCS1-v1_5",
      this.#privateKey as CryptoKey,
      Buffer.from(input),
    );
    return `${input}.${Buffer.from(signature).toString("base64url")}`;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", this.url);
    this.asked.push(pathname);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const form = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
    const [status, body] = this.isDown ? [503, {}] : await this.#route(pathname, form);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  }

  async #route(pathname: string, form: URLSearchParams): Promise<[number, object]> {
    switch (pathname) {
      case "/.well-known/oauth-authorization-server":
        return [
          200,
          {
            issuer: this.url,
            jwks_uri: `${this.url}/jwks`,
            token_endpoint: `${this.url}/token`,
            authorization_endpoint: `${this.url}/authorize`,
            response_types_supported: ["code"],
            grant_types_supported: ["client_credentials"],
            token_endpoint_auth_methods_supported: ["client_secret_basic"],
            code_challenge_methods_supported: ["S256"],
          },
        ];
      case "/jwks":
        return [200, { keys: this.#keys }];
      case "/introspect":
        return [200, this.opaque.get(form.get("token") ?? "") ?? { active: false }];
      case "/token":
        this.forms.push(form);
        return [200, await this.#grant(form)];
      default:
        return [404, {}];
    }
  }

  async #grant(form: URLSearchParams): Promise<object> {
    const resource = form.get("resource") ?? "";
    const subject = form.get("subject_token");
    const access_token =
      subject === null
        ? await this.token(resource, this.claims)
        : // Whom the exchanged token is for can be read in it, as an upstream would.
          await this.token(resource, { sub: subOf(subject), act: { sub: "atlas-gate" } });
    return {
      access_token,
      token_type: "Bearer",
      expires_in: 300,
      ...(subject === null
        ? {}
        : { issued_token_type: "urn:ietf:params:oauth:token-type:access_token" }),
    };
  }
}

/** The subject of a token, unverified. */
export function subOf(token: string): string {
  const payload = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
  const sub: unknown = JSON.parse(payload).sub;
  if (typeof sub !== "string") throw new Error("no subject");
  return sub;
}
