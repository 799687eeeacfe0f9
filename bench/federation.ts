/**
 * @module
 * What the way through the gateway adds to a call of an upstream: the same
 * upstream asked directly and through the gateway (open gate, both records
 * written), in turns, in both eras, by one client and by sixteen.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { range } from "./cases.ts";
import type { GatewayClient } from "./client.ts";
import { driveFor, type Lane, type Load, postBytes } from "./load.ts";
import { median, percentile, type Spread, spread } from "./stats.ts";
import { ECHO } from "./upstream-tool.ts";
import { body2026, headers2026 } from "./wire-2026.ts";

const PROCESS = join(import.meta.dirname, "upstream-process.ts");
const START_TIMEOUT_MS = 10_000;
const WARM_MS = 100;
const CLIENTS = [1, 16] as const;
export const ERAS = ["2025", "2026"] as const;

type Era = (typeof ERAS)[number];

export type FederationRow = {
  readonly era: Era;
  readonly clients: number;
  readonly direct_calls_per_second: number;
  readonly through_calls_per_second: number;
  readonly direct_p50_ms: number;
  readonly through_p50_ms: number;
  readonly direct_p99_ms: number;
  readonly through_p99_ms: number;
  /** Median latency through the gateway less that of the direct call, in the same round. */
  readonly added_ms: Spread;
};

export async function measureFederation(
  client: GatewayClient,
  pace: { readonly rounds: number; readonly sliceMs: number },
  signal: AbortSignal,
): Promise<FederationRow[]> {
  const rows: FederationRow[] = [];
  for (const era of ERAS) {
    const upstream = await startUpstream(era, signal);
    try {
      const name = `bench${era}`;
      await client.registerUpstream(name, upstream.url.href);
      for (const clients of CLIENTS) {
        const direct = range(clients).map(() => repeat(directBytes(era, upstream.url)));
        const through = await throughLanes(client, era, `${name}_${ECHO}`, clients);
        rows.push(
          await measure(era, { upstream: upstream.url, client, direct, through }, pace, signal),
        );
      }
    } finally {
      upstream.stop();
    }
  }
  return rows;
}

async function measure(
  era: Era,
  what: {
    readonly upstream: URL;
    readonly client: GatewayClient;
    readonly direct: readonly Lane[];
    readonly through: readonly Lane[];
  },
  { rounds, sliceMs }: { readonly rounds: number; readonly sliceMs: number },
  signal: AbortSignal,
): Promise<FederationRow> {
  const time = { warmMs: WARM_MS, measureMs: sliceMs };
  const directs: Load[] = [];
  const throughs: Load[] = [];
  for (let round = 0; round < rounds; round++) {
    const ways = [
      async () => directs.push(await driveFor(what.upstream, what.direct, time, signal)),
      async () => throughs.push(await driveFor(what.client.url, what.through, time, signal)),
    ];
    // Each goes first in turn: the machine may slow down within a round.
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) await way();
  }
  const p50s = (loads: readonly Load[]) => loads.map(({ latencies }) => percentile(latencies, 50));
  const p99s = (loads: readonly Load[]) => loads.map(({ latencies }) => percentile(latencies, 99));
  const rates = (loads: readonly Load[]) => loads.map(({ calls, seconds }) => calls / seconds);
  const directP50s = p50s(directs);
  return {
    era,
    clients: what.direct.length,
    direct_calls_per_second: median(rates(directs)),
    through_calls_per_second: median(rates(throughs)),
    direct_p50_ms: median(directP50s),
    through_p50_ms: median(p50s(throughs)),
    direct_p99_ms: median(p99s(directs)),
    through_p99_ms: median(p99s(throughs)),
    added_ms: spread(p50s(throughs).map((p50, round) => p50 - (directP50s[round] ?? Number.NaN))),
  };
}

/** In the 2025 era each client has a session; in the other all calls are on the caller's ambient session. */
async function throughLanes(
  client: GatewayClient,
  era: Era,
  tool: string,
  clients: number,
): Promise<Lane[]> {
  const params = { name: tool, arguments: { text: "hello" } };
  if (era === "2026") {
    const bytes = client.request2026("tools/call", params);
    return range(clients).map(() => repeat(bytes));
  }
  return Promise.all(
    range(clients).map(async (at) => {
      const session = await client.openSession(`/srv/bench/federation-${at}`);
      return client.repeat(session, "tools/call", params);
    }),
  );
}

function directBytes(era: Era, url: URL): Buffer {
  const params = { name: ECHO, arguments: { text: "hello" } };
  return era === "2026"
    ? postBytes(url, url.pathname, headers2026(ECHO), body2026("tools/call", params))
    : postBytes(
        url,
        url.pathname,
        { accept: "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25" },
        JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params }),
      );
}

function repeat(bytes: Buffer): Lane {
  return () => bytes;
}

async function startUpstream(
  era: Era,
  signal: AbortSignal,
): Promise<{ readonly url: URL; readonly stop: () => void }> {
  signal.throwIfAborted();
  const child = fork(PROCESS, { execArgv: ["--no-warnings"], stdio: "ignore" });
  child.send(era);
  const port = await firstMessage(child, signal);
  return {
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    stop: () => {
      if (child.connected) child.disconnect();
    },
  };
}

function firstMessage(child: ChildProcess, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(
      () => reject(new Error("The upstream did not start.")),
      START_TIMEOUT_MS,
    );
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    child.once("error", reject);
    child.once("exit", () => reject(new Error("The upstream ended before it was ready.")));
    child.once("message", (port) => {
      clearTimeout(timeout);
      resolve(Number(port));
    });
  });
}
