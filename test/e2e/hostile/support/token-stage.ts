/**
 * @module
 * A stage whose gateway trusts two issuers, and what tests of tokens do on it.
 */
import { expect } from "vitest";
import { AuthorizationServer } from "../../support/authorization-server.ts";
import type { Answer } from "../../support/http.ts";
import { initializeMessage, postMcp } from "../../support/mcp.ts";
import { Listener } from "./listener.ts";
import { Stage } from "./stage.ts";

type Changes = Record<string, unknown>;
type Code = "UNAUTHENTICATED" | "KEY_EXPIRED" | "FORBIDDEN";

export const seconds = () => Math.floor(Date.now() / 1000);

export class TokenStage {
  readonly stage: Stage;
  readonly issuer: AuthorizationServer;
  /** Trusted, too. */
  readonly other: AuthorizationServer;
  /** Where a token may say that its key is. */
  readonly inside: Listener;
  readonly resource: string;

  private constructor(
    stage: Stage,
    issuer: AuthorizationServer,
    other: AuthorizationServer,
    inside: Listener,
  ) {
    this.stage = stage;
    this.issuer = issuer;
    this.other = other;
    this.inside = inside;
    this.resource = `${stage.url}/mcp`;
  }

  static async start(): Promise<TokenStage> {
    const issuer = await AuthorizationServer.start();
    const other = await AuthorizationServer.start();
    const issuers = [{ issuer: issuer.url }, { issuer: other.url }];
    const stage = await Stage.start({ vars: { MCP_TOKEN_ISSUERS: JSON.stringify(issuers) } });
    return new TokenStage(stage, issuer, other, await Listener.start());
  }

  async dispose(): Promise<void> {
    await this.stage.dispose();
    await Promise.all([this.inside, this.other, this.issuer].map((server) => server.close()));
  }

  /** What a good token of the first issuer says, with changes; undefined leaves a claim out. */
  claims(changes: Changes = {}): Changes {
    return {
      iss: this.issuer.url,
      aud: this.resource,
      sub: "alice",
      iat: seconds(),
      exp: seconds() + 300,
      role: "windsurf",
      scope: "mcp:read mcp:write",
      ...changes,
    };
  }

  bearing(token: string): Promise<Answer> {
    return postMcp(this.stage.url, initializeMessage(), { key: token });
  }

  /** Refused, and the end of the token, which is its signature, is nowhere to be seen again. */
  async refused(token: string, code: Code = "UNAUTHENTICATED"): Promise<Answer> {
    const status = code === "FORBIDDEN" ? 403 : 401;
    const secrets = [token.slice(-30)].filter((end) => end.length === 30);
    const answer = await this.stage.refuses({ status, code, secrets }, () => this.bearing(token));
    if (status === 401) {
      expect(answer.headers["www-authenticate"]).toMatch(/^Bearer error="invalid_token", /);
    }
    return answer;
  }
}
