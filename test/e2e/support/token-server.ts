/**
 * @module
 * A token endpoint (RFC 6749, section 4.4) that gives out one token after the
 * other and keeps what it was asked with.
 */
import { createServer, type IncomingHttpHeaders } from "node:http";
import { at } from "./http.ts";

export type TokenServer = {
  readonly url: string;
  readonly requests: { readonly headers: IncomingHttpHeaders; readonly form: URLSearchParams }[];
  /** The token given out last. */
  readonly token: () => string;
  readonly close: () => Promise<void>;
};

export async function startTokenServer(life: { seconds: number }): Promise<TokenServer> {
  const requests: TokenServer["requests"] = [];
  const token = () => `token-${requests.length}-of-the-fake-server`;
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const form = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
    requests.push({ headers: request.headers, form });
    response.writeHead(200, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ access_token: token(), token_type: "Bearer", expires_in: life.seconds }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${at(server.address(), "port")}/token`,
    requests,
    token,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
