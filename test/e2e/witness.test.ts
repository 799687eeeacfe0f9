import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { openCheckpoint } from "../../src/log/checkpoint.ts";
import { parseVkey, type VerifierKey } from "../../src/log/note.ts";
import { judgeCheckpoint, parsePolicy } from "../../src/log/witness-policy.ts";
import { eventually } from "./support/eventually.ts";
import { freePort, Gateway, removeFolder, temporaryFolder } from "./support/gateway.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";

/** One of the two deployments: its folder, port and names stay over restarts. */
type Side = {
  readonly name: string;
  readonly stateDir: string;
  readonly port: number;
  logVkey: string;
  witnessVkey: string;
  gateway: Gateway;
};

const sides: Side[] = [];

async function text(gateway: Gateway, path: string): Promise<string> {
  const response = await fetch(`${gateway.url}${path}`);
  return response.status === 200 ? response.text() : "";
}

function vars(name: string, witnesses: unknown[]): Record<string, string> {
  return {
    LOG_ORIGIN: `${name}.example/log`,
    FLUSH_INTERVAL_SECONDS: "1",
    WITNESSES: JSON.stringify(witnesses),
  };
}

async function firstStart(name: string): Promise<Side> {
  const [stateDir, port] = [await temporaryFolder(), await freePort()];
  const gateway = await Gateway.start({ stateDir, port, vars: vars(name, []) });
  const logVkey = (await text(gateway, "/log/vkey")).trimEnd();
  const witnessVkey = (await text(gateway, "/witness/vkey")).trimEnd();
  return { name, stateDir, port, logVkey, witnessVkey, gateway };
}

/** Starts a side again, with the other as its witness. */
async function startWatched(side: Side, other: Side): Promise<void> {
  await new Operator(side.gateway.url, side.gateway.keys.operator).ok("POST", "/witnessed-logs", {
    origin: `${other.name}.example/log`,
    vkey: other.logVkey,
  });
  await side.gateway.stop();
  const witness = {
    name: other.name,
    vkey: other.witnessVkey,
    url: `http://127.0.0.1:${other.port}/witness`,
  };
  const { stateDir, port, name } = side;
  side.gateway = await Gateway.start({ stateDir, port, vars: vars(name, [witness]) });
}

beforeAll(async () => {
  const [one, two] = [await firstStart("one"), await firstStart("two")];
  sides.push(one, two);
  await startWatched(one, two);
  await startWatched(two, one);
}, 240_000);

afterAll(async () => {
  for (const { gateway, stateDir } of sides) {
    await gateway.dispose();
    await removeFolder(stateDir);
  }
});

function side(i: number): Side {
  const found = sides[i];
  if (found === undefined) throw new Error("not started");
  return found;
}

function key(vkey: string): VerifierKey {
  const parsed = parseVkey(vkey);
  if (parsed === null) throw new Error(`no vkey: ${vkey}`);
  return parsed;
}

/** The size of a side's checkpoint once the other has cosigned it, above the given size. */
async function witnessedAbove(size: number, own: Side, other: Side): Promise<number> {
  const policy = parsePolicy(
    `log ${own.logVkey}\nwitness other ${other.witnessVkey}\nquorum other\n`,
  );
  if (!policy.ok) throw new Error(policy.message);
  return eventually(`a checkpoint of ${own.name} that ${other.name} has cosigned`, async () => {
    const judged = await judgeCheckpoint(policy.policy, await text(own.gateway, "/log/checkpoint"));
    return judged.ok && judged.checkpoint.size > size ? judged.checkpoint.size : null;
  });
}

async function sizeOf({ gateway, logVkey }: Side): Promise<number> {
  const opened = await openCheckpoint(await text(gateway, "/log/checkpoint"), [key(logVkey)]);
  return opened.ok ? opened.checkpoint.size : 0;
}

const readiness = z.object({
  status: z.string(),
  checks: z.record(z.string(), z.object({ ok: z.boolean() })),
});

async function ready({ gateway }: Side) {
  const response = await fetch(`${gateway.url}/health/ready`);
  return readiness.parse(await response.json());
}

describe("two gateways that watch each other", () => {
  it("have every checkpoint cosigned by the other, as their logs grow", async () => {
    for (const [own, other] of [
      [side(0), side(1)],
      [side(1), side(0)],
    ] as const) {
      let size = 0;
      for (let i = 0; i < 2; i++) {
        const session = await RawSession.open(own.gateway.url, own.gateway.keys.windsurf);
        await session.call("read_file", { path: "a" });
        size = await witnessedAbove(size, own, other);
      }
      expect((await ready(own)).checks.witnesses?.ok).toBe(true);
    }
  });

  it("go on without the other, say so, and catch up when it is back", async () => {
    const [own, other] = [side(0), side(1)];
    const before = await sizeOf(own);
    await other.gateway.stop();
    await RawSession.open(own.gateway.url, own.gateway.keys.windsurf);
    await eventually("the log grows", async () => ((await sizeOf(own)) > before ? true : null));
    const state = await eventually("readiness shows the witness", async () => {
      const { status, checks } = await ready(own);
      return checks.witnesses?.ok === false ? status : null;
    });
    expect(state).toBe("ready");
    await other.gateway.restart();
    await witnessedAbove(before, own, other);
  });
});
