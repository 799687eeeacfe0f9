import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { exportLines, readLine } from "./support/chain.ts";
import { eventually } from "./support/eventually.ts";
import {
  freePort,
  Gateway,
  type LocalFile,
  plainEnv,
  readLocalFile,
  removeFolder,
  StartCommand,
  temporaryFolder,
} from "./support/gateway.ts";
import { send } from "./support/http.ts";
import { Agent, initializeMessage, postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { commandOf, descendantsOf, isAlive, killNow } from "./support/processes.ts";

const DAY_MS = 86_400_000;

const clientConfiguration = z.strictObject({
  mcpServers: z.strictObject({
    "atlas-gate": z.strictObject({
      type: z.literal("http"),
      url: z.string(),
      headers: z.record(z.string(), z.string()),
    }),
  }),
});

/** Runs the start command to its end. */
async function startAndEnd(
  flags: readonly string[],
): Promise<{ code: number | null; output: string }> {
  const command = new StartCommand(flags);
  const code = await command.exited;
  return { code, output: command.output };
}

function lines(output: string): string[] {
  return output.split("\n").filter((line) => line.trim() !== "");
}

async function permissions(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

// One story on one state folder: each step leaves the state that the next begins with.
describe("npm start", () => {
  let stateDir: string;
  let gateway: Gateway;
  let first: LocalFile;

  beforeAll(async () => {
    stateDir = await temporaryFolder();
    gateway = await Gateway.start({
      stateDir,
      vars: { KEY_LIFETIME_DAYS: "3", SESSION_TTL_SECONDS: "3" },
    });
    first = await readLocalFile(stateDir);
  });

  afterAll(async () => {
    await gateway?.dispose();
    await removeFolder(stateDir);
  });

  it("listens where --port says, and says so in local.json", async () => {
    expect(first.url).toBe(`http://127.0.0.1:${gateway.port}`);
    const health = await send(`${first.url}/health`, {});
    expect(health.status).toBe(200);
    expect(health.json).toEqual({
      status: "healthy",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      uptime: expect.any(Number),
      version: expect.any(String),
    });
    const ready = await send(`${first.url}/health/ready`, {});
    expect(ready.status).toBe(200);
    expect(ready.json).toMatchObject({
      status: "ready",
      checks: { archive: { ok: true, latency_ms: expect.any(Number) } },
    });
  });

  it("prints a client configuration that works as it is pasted", async () => {
    const banner = gateway.command.output;
    const json = banner.slice(banner.indexOf("{"), banner.lastIndexOf("\n  }") + 4);
    const { url, headers } = clientConfiguration.parse(JSON.parse(json)).mcpServers["atlas-gate"];
    const answer = await send(url, {
      method: "POST",
      headers: {
        ...headers,
        accept: "application/json, text/event-stream",
        "content-type": "application/json",
      },
      body: JSON.stringify(initializeMessage()),
    });
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({ result: { serverInfo: { name: "atlas-gate" } } });
  });

  it("mints a working key of each role", async () => {
    for (const role of ["antigravity", "windsurf", "auditor"] as const) {
      const agent = await Agent.connect(first.url, first.keys[role]);
      const begun = await agent.ok("begin_session", { workspace_root: "/srv/start" });
      expect(begun).toMatchObject({ role });
      await agent.close();
    }
    const keys = await new Operator(first.url, first.keys.operator).get("/keys");
    expect(keys.status).toBe(200);
  });

  it("passes variables on with --var", async () => {
    const minted = await new Operator(first.url, first.keys.operator).mintKey({ role: "auditor" });
    const life = Date.parse(minted.expires_at) - Date.parse(minted.created_at);
    expect(life).toBe(3 * DAY_MS);
  });

  it("ends a session that nobody uses any more, after SESSION_TTL_SECONDS", async () => {
    const operator = new Operator(first.url, first.keys.operator);
    const session = await RawSession.open(first.url, first.keys.windsurf);
    const records = await eventually("the session has ended", async () => {
      const found = exportLines(await operator.export(session.id)).map(readLine);
      return found.length > 1 ? found : null;
    });
    expect(records.map((record) => record.event)).toEqual(["session_open", "session_close"]);
    const idle =
      Date.parse(String(records[1]?.timestamp)) - Date.parse(String(records[0]?.timestamp));
    expect(idle).toBeGreaterThanOrEqual(3_000);
    expect((await session.request("ping")).status).toBe(404);
  });

  it("keeps its secrets and keys readable by their owner alone", async () => {
    expect(await permissions(join(stateDir, "secrets.env"))).toBe(0o600);
    expect(await permissions(join(stateDir, "local.json"))).toBe(0o600);
  });

  it("stores no key, only what it can be recognised by", async () => {
    const state = join(stateDir, "v3", "d1", "miniflare-D1DatabaseObject");
    for (const file of await readdir(state)) {
      const bytes = await readFile(join(state, file), "latin1");
      for (const key of Object.values(first.keys)) {
        expect(bytes.includes(key.split("_")[2] ?? key)).toBe(false);
      }
    }
  });

  it("refuses a port that is taken, in one line", async () => {
    const other = await temporaryFolder();
    const { code, output } = await startAndEnd([
      ...["--port", String(gateway.port), "--persist-to", other],
    ]);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining(`${gateway.port} is taken`)]);
    await removeFolder(other);
  });

  it.each([
    { flags: ["--port", "0"], names: "--port" },
    { flags: ["--port", "http"], names: "--port" },
    { flags: ["--port", "65536"], names: "--port" },
    { flags: ["--var", "novalue"], names: "--var" },
    { flags: ["--bogus"], names: "--bogus" },
    { flags: ["stray"], names: "stray" },
  ])("refuses $flags in one line", async ({ flags, names }) => {
    const { code, output } = await startAndEnd(flags);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining(names)]);
  });

  it("runs beside another gateway with other state and other keys", async () => {
    const second = await Gateway.start();
    try {
      expect(second.url).not.toBe(first.url);
      const own = await postMcp(second.url, initializeMessage(), { key: second.keys.windsurf });
      expect(own.status).toBe(200);
      const foreign = await postMcp(second.url, initializeMessage(), { key: first.keys.windsurf });
      expect(foreign.status).toBe(401);
      const still = await postMcp(first.url, initializeMessage(), { key: first.keys.windsurf });
      expect(still.status).toBe(200);
    } finally {
      await second.dispose();
    }
  });

  it("stops on SIGTERM with everything it started", async () => {
    const tree = gateway.command.tree();
    expect(tree.map(commandOf)).toContain("workerd");
    expect(await gateway.stop()).toBe(0);
    expect(tree.filter(isAlive)).toEqual([]);
  });

  it("stops with npm, whose shell passes no signal on", async () => {
    const dir = await temporaryFolder();
    const flags = ["--port", String(await freePort()), "--persist-to", dir];
    const npm = spawn("npm", ["start", "--", ...flags], {
      cwd: join(import.meta.dirname, "..", ".."),
      env: plainEnv(),
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    npm.stdout.on("data", (chunk: Buffer) => {
      output += chunk;
    });
    await eventually("it is ready", () => (output.includes("Atlas Gate is ready.") ? true : null));
    const tree = [npm.pid ?? 0, ...descendantsOf(npm.pid ?? 0)];
    try {
      npm.kill("SIGTERM");
      await eventually("all of it is gone", () => (tree.some(isAlive) ? null : true));
    } finally {
      killNow(tree);
      await removeFolder(dir);
    }
  });

  it("stops on SIGTERM while it is still starting", async () => {
    const command = new StartCommand([
      ...["--port", String(await freePort()), "--persist-to", stateDir],
    ]);
    const tree = await eventually("it has started something", () => {
      const pids = command.tree();
      return pids.map(commandOf).includes("workerd") ? pids : null;
    });
    command.signal("SIGTERM");
    let ended: { code: number | null } | null = null;
    void command.exited.then((code) => {
      ended = { code };
    });
    // Only against hanging on: what it waited for will never come now.
    await eventually("the command has ended", () => ended, 20_000).finally(() =>
      command.killTree(),
    );
    expect(ended).toEqual({ code: 0 });
    expect(tree.filter(isAlive)).toEqual([]);
  });

  it("keeps its keys over a restart", async () => {
    await gateway.restart();
    expect(await readLocalFile(stateDir)).toEqual(first);
  });

  it("ends with an error, and with all it started, when what it runs is killed under it", async () => {
    // For the next start, which has to replace this key.
    const operator = new Operator(first.url, first.keys.operator);
    const windsurf = first.keys.windsurf.split("_")[1];
    expect((await operator.send("DELETE", `/keys/${windsurf}`)).status).toBe(204);

    const [starter, wrangler = 0, ...rest] = gateway.command.tree();
    expect(starter).toBe(gateway.command.pid);
    killNow([wrangler]);
    try {
      expect(await gateway.command.exited).toBeGreaterThan(0);
      await eventually("the rest has gone too", () => (rest.some(isAlive) ? null : true), 20_000);
    } finally {
      killNow(rest);
    }
  });

  it("replaces a key that no longer works, and no other", async () => {
    await gateway.restart();
    const { keys } = await readLocalFile(stateDir);
    expect(keys).toEqual({ ...first.keys, windsurf: keys.windsurf });
    expect(keys.windsurf).not.toBe(first.keys.windsurf);
    const answer = await postMcp(gateway.url, initializeMessage(), { key: keys.windsurf });
    expect(answer.status).toBe(200);
  });

  it("leaves nothing on the port when the start command itself is killed", async () => {
    const tree = gateway.command.tree();
    gateway.command.signal("SIGKILL");
    await gateway.command.exited;
    await eventually("the rest has gone too", () => (tree.some(isAlive) ? null : true));
    // The system takes back the sockets of a dead process a moment after it.
    await eventually("the port refuses connections", () =>
      send(`${first.url}/health`, {}).then(
        () => null,
        (error: unknown) => (String(error).includes("ECONNREFUSED") ? true : null),
      ),
    );
  });

  it("refuses a bad value of a variable, in one line that names it", async () => {
    const { code, output } = await startAndEnd([
      ...["--port", String(await freePort()), "--persist-to", stateDir],
      ...["--var", "SESSION_TTL_SECONDS:abc"],
    ]);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining("SESSION_TTL_SECONDS")]);
  });

  it("refuses secrets that are not those of the state, in one line", async () => {
    const path = join(stateDir, "secrets.env");
    const secrets = readFileSync(path, "utf8");
    await writeFile(path, secrets.replace(/SECRETS_KEY=.*/, `SECRETS_KEY=${"A".repeat(43)}=`));
    const { code, output } = await startAndEnd([
      ...["--port", String(await freePort()), "--persist-to", stateDir],
    ]);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining("SECRETS_KEY")]);
    await writeFile(path, secrets);
  });

  it("refuses secrets that are broken, in one line", async () => {
    const path = join(stateDir, "secrets.env");
    const secrets = readFileSync(path, "utf8");
    await writeFile(path, secrets.replace(/LOG_SIGNING_KEY=.*/, "LOG_SIGNING_KEY=short"));
    const { code, output } = await startAndEnd([
      ...["--port", String(await freePort()), "--persist-to", stateDir],
    ]);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining("LOG_SIGNING_KEY")]);
    expect(output).not.toContain(secrets.split("=")[1]);
    await writeFile(path, secrets);
  });

  it("refuses state whose secrets are missing, in one line, and makes no others", async () => {
    const path = join(stateDir, "secrets.env");
    const secrets = readFileSync(path, "utf8");
    await removeFolder(path);
    const { code, output } = await startAndEnd([
      ...["--port", String(await freePort()), "--persist-to", stateDir],
    ]);
    expect(code).toBe(1);
    expect(lines(output)).toEqual([expect.stringContaining("secrets.env")]);
    await expect(stat(path)).rejects.toThrow("ENOENT");
    await writeFile(path, secrets);
    await chmod(path, 0o600);
  });
});
