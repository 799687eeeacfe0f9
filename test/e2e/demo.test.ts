import { spawn } from "node:child_process";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { removeFolder, temporaryFolder } from "./support/gateway.ts";
import { commandOf, descendantsOf, isAlive } from "./support/processes.ts";

const ROOT = join(import.meta.dirname, "..", "..");

/** `npm run demo`, without npm, with temporary files in a folder that can be looked into. */
class Demo {
  readonly #child;
  readonly exited: Promise<number | null>;
  output = "";

  constructor(temporary: string) {
    this.#child = spawn(
      process.execPath,
      ["--import", join(ROOT, "src/cli/require-node.mjs"), join(ROOT, "src/cli/demo.ts")],
      {
        cwd: ROOT,
        env: { ...process.env, TMPDIR: temporary },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        this.output += chunk;
      });
    }
    this.exited = new Promise((resolve) => this.#child.once("close", resolve));
  }

  tree(): number[] {
    return descendantsOf(this.#child.pid ?? 0);
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }
}

describe("npm run demo", () => {
  let temporary: string;

  beforeAll(async () => {
    temporary = join(await temporaryFolder(), "tmp");
    await mkdir(temporary);
  });

  afterAll(async () => {
    await removeFolder(join(temporary, ".."));
  });

  it("tells the whole story, and leaves nothing behind", async () => {
    const demo = new Demo(temporary);
    const code = await demo.exited;
    expect([code, demo.output]).toEqual([0, expect.stringContaining("9. ")]);
    for (const part of [
      "PLAN_NOT_APPROVED",
      "PLAN_SCOPE_VIOLATION",
      "HASH_MISMATCH at seq 8",
      "Every step was as it should be.",
    ]) {
      expect(demo.output).toContain(part);
    }
    expect(demo.output.match(/receipt: seq \d+, [0-9a-f]{64}/g)?.length).toBeGreaterThanOrEqual(9);
    expect(await foldersOfDemo(temporary)).toEqual([]);
  });

  it("cleans up after itself when it is interrupted", async () => {
    const demo = new Demo(temporary);
    const tree = await eventually("the gateway of the demo runs", () => {
      const pids = demo.tree();
      return pids.map(commandOf).includes("workerd") ? pids : null;
    });
    demo.interrupt();
    expect(await demo.exited).toBe(130);
    expect(tree.filter(isAlive)).toEqual([]);
    expect(await foldersOfDemo(temporary)).toEqual([]);
  });
});

async function foldersOfDemo(temporary: string): Promise<string[]> {
  return (await readdir(temporary)).filter((name) => name.startsWith("atlas-gate-"));
}
