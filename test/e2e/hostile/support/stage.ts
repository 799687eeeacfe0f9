/**
 * @module
 * The gateway under attack, with an honest upstream behind it, and the four
 * things that hold after every attack: it was refused as the contract says,
 * nothing was stored, the upstream heard nothing, and no secret came out, not in
 * the answer and not in the log.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { eventually } from "../../support/eventually.ts";
import { register } from "../../support/federation.ts";
import { Gateway, type GatewayOptions } from "../../support/gateway.ts";
import { type Answer, at } from "../../support/http.ts";
import { Operator } from "../../support/operator.ts";
import { said, Upstream } from "../../support/upstream.ts";
import { footprintOf, type Growth, growth, NOTHING } from "./footprint.ts";

export type Expected = {
  readonly status: number;
  /** Of the gateway's own refusals; null for an answer that has none, such as a redirect. */
  readonly code: string | null;
  /** What the attack was made with and must not see again. */
  readonly secrets?: readonly string[];
  /** New records that the contract wants, by session; none if not given. */
  readonly records?: Growth["records"];
};

const LOG_TIMEOUT_MS = 30_000;
const LOG_POLL_MS = 2;

/** An answer, or several on one connection, or none at all. */
export type Outcome = Answer | null | readonly Answer[];

export class Stage {
  readonly gateway: Gateway;
  readonly operator: Operator;
  readonly upstream: Upstream;
  readonly #secrets: readonly string[];
  /** What `npm start` prints is for the operator's eyes. */
  readonly #bannerEnd: number;

  private constructor(gateway: Gateway, upstream: Upstream, secrets: readonly string[]) {
    this.gateway = gateway;
    this.operator = new Operator(gateway.url, gateway.keys.operator);
    this.upstream = upstream;
    this.#secrets = secrets;
    this.#bannerEnd = gateway.command.output.length;
  }

  /** A gateway with an upstream that anybody may call as `honest_act`. */
  static async start(options: GatewayOptions = {}): Promise<Stage> {
    const upstream = await Upstream.start("2026");
    upstream.tool("act", () => said("acted"));
    const vars = { ALLOW_PRIVATE_UPSTREAMS: "true", FLUSH_INTERVAL_SECONDS: "1", ...options.vars };
    const gateway = await Gateway.start({ ...options, vars });
    const stage = new Stage(gateway, upstream, await secretsOf(gateway));
    if (vars.ALLOW_PRIVATE_UPSTREAMS === "true" && !("PUBLIC_URL" in vars)) {
      await register(stage.operator, upstream, { name: "honest", prefix: "honest" });
    }
    return stage;
  }

  get url(): string {
    return this.gateway.url;
  }

  /** What the gateway and its tooling have printed since it was ready. */
  get log(): string {
    return this.gateway.command.output.slice(this.#bannerEnd);
  }

  async dispose(): Promise<void> {
    await this.gateway.dispose();
    await this.upstream.close();
  }

  /** Makes an attack and holds what came of it against what must. */
  async refuses(expected: Expected, attack: () => Promise<Outcome>): Promise<Answer> {
    const { answers } = await this.#watched(expected, attack);
    const [answer] = answers;
    if (answer === undefined || answers.length > 1) {
      throw new Error(`${answers.length} answers: ${answers.map(({ text }) => text).join(" | ")}`);
    }
    expect([answer.status, codeOf(answer)], answer.text).toEqual([expected.status, expected.code]);
    expect(answer.headers["x-content-type-options"]).toBe("nosniff");
    return answer;
  }

  /**
   * The same for what the local server may answer before the gateway does: no
   * answer, or refusals alone. Only what comes of it can be said.
   */
  async nothingComesOf(
    expected: Pick<Expected, "secrets">,
    attack: () => Promise<Outcome>,
  ): Promise<readonly Answer[]> {
    const { answers } = await this.#watched(expected, attack);
    for (const { status, text } of answers) expect(status, text).toBeGreaterThanOrEqual(400);
    return answers;
  }

  /** Does what is no attack's business, such as a victim's own work, and says what it left. */
  async growthOf(work: () => Promise<unknown>): Promise<Growth> {
    const before = footprintOf(this.gateway.stateDir);
    await work();
    return growth(before, footprintOf(this.gateway.stateDir));
  }

  async #watched(
    { secrets = [], records = {} }: Pick<Expected, "secrets" | "records">,
    attack: () => Promise<Outcome>,
  ): Promise<{ answers: readonly Answer[] }> {
    const heard = this.upstream.seen.length;
    const before = footprintOf(this.gateway.stateDir);
    const outcome = await attack();
    const answers = outcome === null ? [] : "status" in outcome ? [outcome] : outcome;
    const ids = answers.flatMap(({ headers }) => headers["x-request-id"] ?? []);
    await this.logged(ids);
    expect(growth(before, footprintOf(this.gateway.stateDir))).toEqual({ ...NOTHING, records });
    expect(this.upstream.seen.length, "requests of the upstream").toBe(heard);
    const said = answers.map(({ headers, text }) => `${JSON.stringify(headers)}\n${text}`);
    this.keepsSecret([...said, this.log].join("\n"), secrets);
    for (const { text, headers } of answers) {
      // What the local server answers in the gateway's place is its own.
      if (headers["x-request-id"] === undefined) continue;
      expect(text).not.toMatch(/<html|\bat .+\.(?:ts|js):\d+|SQLITE|D1_/i);
    }
    return { answers };
  }

  /** A request's line is written last of all that it does; there are many requests, and little to wait for. */
  async logged(requestIds: readonly unknown[]): Promise<void> {
    const isThere = () => (requestIds.every((id) => this.log.includes(String(id))) ? true : null);
    await eventually("the log has the requests", isThere, LOG_TIMEOUT_MS, LOG_POLL_MS);
  }

  /** No secret of the gateway's is in a text, and none of these. */
  keepsSecret(text: string, more: readonly string[] = []): void {
    for (const secret of [...this.#secrets, ...more]) {
      if (secret !== "" && text.includes(secret)) {
        throw new Error(`A secret came out: ${secret.slice(0, 6)}… in ${text.slice(-2_000)}`);
      }
    }
  }
}

/** The error code of a refusal: in a JSON-RPC error's data, of a plain error, or of a tool's. */
export function codeOf({ json }: Pick<Answer, "json">): unknown {
  const meta = at(json, "result._meta");
  const ofTool =
    typeof meta === "object" && meta !== null ? Reflect.get(meta, "dev.atlas-gate/error") : null;
  return at(json, "error.data.code") ?? at(json, "error.code") ?? at(ofTool, "code") ?? null;
}

/** Keys without their ids, which are no secret, and what the deployment is built on. */
async function secretsOf(gateway: Gateway): Promise<string[]> {
  const file = await readFile(join(gateway.stateDir, "secrets.env"), "utf8");
  const values = [...file.matchAll(/^[A-Z_]+="?([^"\n]+)"?$/gm)].map(([, value]) => value ?? "");
  const keys = Object.values(gateway.keys).map((key) => key.slice(key.lastIndexOf("_") + 1));
  return [...values, ...keys, gateway.adminToken];
}
