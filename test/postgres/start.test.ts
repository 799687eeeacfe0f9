import { afterAll, beforeAll, expect, test } from "vitest";
import { startLocalPostgres } from "../../src/cli/postgres/local.ts";
import { parseConfig } from "../../src/config.ts";
import { exportLines } from "../e2e/support/chain.ts";
import { eventually } from "../e2e/support/eventually.ts";
import { Gateway } from "../e2e/support/gateway.ts";
import { RawSession } from "../e2e/support/mcp.ts";
import { Operator } from "../e2e/support/operator.ts";
import { isAlive } from "../e2e/support/processes.ts";
import { requireSums } from "./support/archive-sums.ts";

let gateway: Gateway;
beforeAll(async () => {
  gateway = await Gateway.start({
    vars: { FLUSH_INTERVAL_SECONDS: "1" },
    flags: ["--postgres"],
  });
});
afterAll(async () => {
  await gateway.kill();
  const server = await startLocalPostgres(gateway.stateDir);
  try {
    await requireSums(server.url);
  } finally {
    await server.stop();
    await gateway.dispose();
  }
});

test("npm start -- --postgres keeps its records, takes its server along, and finds them again", async () => {
  const operator = () => new Operator(gateway.url, gateway.keys.operator);
  const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
  await session.call("read_file", { path: "a" });
  await session.end();
  const text = await operator().export(session.id);
  await operator().auditUntil(
    `session_id=${session.id}`,
    (found) => found.length === exportLines(text).length,
  );
  const tree = gateway.command.tree();
  expect(await gateway.stop()).toBe(0);
  await eventually("everything is gone", () => (tree.some(isAlive) ? null : true));
  await gateway.restart();
  expect(await operator().export(session.id)).toBe(text);
  expect(await operator().audit(`session_id=${session.id}`)).toHaveLength(exportLines(text).length);
});

test("a gateway that is killed leaves no server behind that keeps the next one out", async () => {
  await gateway.kill();
  await gateway.restart();
  expect(await new Operator(gateway.url, gateway.keys.operator).audit("role=operator")).not.toEqual(
    [],
  );
});

test("ARCHIVE=postgres without the binding is one clear error", () => {
  const secret = Buffer.alloc(32, 1).toString("base64");
  const env = { ADMIN_TOKEN: secret, LOG_SIGNING_KEY: secret, SECRETS_KEY: secret };
  expect(parseConfig({ ...env, ARCHIVE: "postgres" })).toEqual({
    ok: false,
    message: "ARCHIVE is postgres, but there is no binding HYPERDRIVE",
  });
  const bound = { ...env, ARCHIVE: "postgres", HYPERDRIVE: { connectionString: "postgres://x" } };
  expect(parseConfig(bound)).toMatchObject({ ok: true, config: { archive: "postgres" } });
});
