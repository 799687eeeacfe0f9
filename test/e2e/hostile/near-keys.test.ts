import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { send } from "../support/http.ts";
import { initializeMessage, postMcp } from "../support/mcp.ts";
import { Stage } from "./support/stage.ts";

const METRICS_TOKEN = "metrics-token-of-a-test-0123456789";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.start({ vars: { METRICS_TOKEN } });
});

afterAll(() => stage?.dispose());

/** Everything that shares much with a secret, and is not it. */
function near(secret: string): string[] {
  const flipped = (at: number) => {
    const character = secret.at(at) ?? "";
    const other = /[a-z]/.test(character) ? character.toUpperCase() : character === "x" ? "y" : "x";
    const place = at < 0 ? secret.length + at : at;
    return `${secret.slice(0, place)}${other}${secret.slice(place + 1)}`;
  };
  const digest = createHash("sha256").update(secret);
  return [
    secret.slice(0, -1),
    secret.slice(1),
    `${secret}x`,
    `x${secret}`,
    `${secret}${secret}`,
    flipped(-1),
    flipped(Math.floor(secret.length / 2)),
    flipped(0),
    secret.split("").reverse().join(""),
    secret.replaceAll("=", ""),
    `${secret}%00`,
    encodeURIComponent(`${secret} `),
    Buffer.from(secret).toString("base64"),
    Buffer.from(secret).toString("hex"),
    // What is stored is no credential.
    digest.copy().digest("hex"),
    digest.copy().digest("base64"),
    digest.copy().digest("base64url"),
  ].filter((each) => each !== secret && each !== "");
}

const UNAUTHENTICATED = { status: 401, code: "UNAUTHENTICATED" };

/** Whoever has nearly the secret has nothing, wherever it opens something. */
async function opensNothing(candidate: string): Promise<void> {
  const secrets = candidate.length >= 20 ? [candidate.slice(-20)] : [];
  const bearer = { authorization: `Bearer ${candidate}` };
  const apiKey = { "x-api-key": candidate };
  const ways = [
    () => send(`${stage.url}/admin/keys`, { headers: bearer }),
    () => send(`${stage.url}/metrics`, { headers: apiKey }),
    () => postMcp(stage.url, initializeMessage(), { headers: apiKey }),
    () => postMcp(stage.url, initializeMessage(), { headers: bearer }),
  ];
  for (const way of ways) await stage.refuses({ ...UNAUTHENTICATED, secrets }, way);
}

describe("what is nearly", () => {
  test("an operator's key", async () => {
    for (const candidate of near(stage.gateway.keys.operator)) await opensNothing(candidate);
  });

  test("an agent's key", async () => {
    const { windsurf, auditor } = stage.gateway.keys;
    const [, id] = auditor.split("_");
    const [, , secret] = windsurf.split("_");
    for (const candidate of [...near(windsurf), `ag_${id}_${secret}`])
      await opensNothing(candidate);
  });

  test("ADMIN_TOKEN", async () => {
    for (const candidate of near(stage.gateway.adminToken)) await opensNothing(candidate);
  });

  test("METRICS_TOKEN", async () => {
    for (const candidate of near(METRICS_TOKEN)) await opensNothing(candidate);
  });
});

test("the secrets themselves open what they are for, and nothing else", async () => {
  const as = (token: string, path: string) =>
    send(`${stage.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
  expect((await as(METRICS_TOKEN, "/metrics")).status).toBe(200);
  expect((await as(METRICS_TOKEN, "/admin/keys")).status).toBe(401);
  expect((await as(stage.gateway.adminToken, "/admin/keys")).status).toBe(200);
  expect((await as(stage.gateway.adminToken, "/admin/audit")).status).toBe(403);
  stage.keepsSecret(stage.log, [METRICS_TOKEN]);
});
