/**
 * @module
 * Measures cases in turn, briefly and again and again, so that whatever else
 * the machine does meets all of them alike. Ratios are made within a round.
 */
import {
  type Case,
  type CaseName,
  floorCase,
  isTargeted,
  SETTINGS,
  type Setting,
  TRANSPORTS,
  type Transport,
} from "./cases.ts";
import type { Host } from "./host.ts";
import { driveFor } from "./load.ts";
import { median, percentile } from "./stats.ts";

/** Calls before the measured ones: objects wake, connections settle. */
const WARM_MS = 80;
/** A floor is measured again when the gateway used more than this share of the time: it was archiving. */
const QUIET_SHARE = 0.03;
const MAX_REPEATS = 8;

export type Slice = {
  readonly callsPerSecond: number;
  readonly calls: number;
  readonly p50: number;
  readonly p99: number;
  /** Processor time of workerd and of the load generator; null where it cannot be read. */
  readonly cpuMs: number | null;
  readonly generatorMs: number;
};

export type Hosts = { readonly floor: Host; readonly gateway: Host };

/** The slices of one setting: of each case one a round, in the order of rounds. */
export type Measured = { readonly setting: Setting; readonly slices: Map<CaseName, Slice[]> };

export type Pace = { readonly sliceMs: number; readonly rounds: (setting: Setting) => number };

/** Every setting after the other, in each the cases round by round. */
export async function measureAll(
  hosts: Hosts,
  cases: readonly Case[],
  pace: Pace,
  signal: AbortSignal,
  progress: (setting: Setting) => void,
): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const setting of SETTINGS) {
    progress(setting);
    const shown = cases.filter((item) => !item.targetedOnly || isTargeted(setting));
    const slices = new Map(shown.map(({ name }): [CaseName, Slice[]] => [name, []]));
    for (let round = 0; round < pace.rounds(setting); round++) {
      for (const item of rotated(shown, round)) {
        const slice = await measureCase(hosts, item, setting, pace.sliceMs, signal);
        slices.get(item.name)?.push(slice);
      }
    }
    measured.push({ setting, slices });
  }
  return measured;
}

/**
 * One slice of one case. The gateway archives in the background, also after its
 * own slices; that is not to make a floor look lower than it is.
 */
async function measureCase(
  hosts: Hosts,
  item: Case,
  setting: Setting,
  sliceMs: number,
  signal: AbortSignal,
): Promise<Slice> {
  for (let repeats = 0; ; repeats++) {
    const other = item.host === "floor" ? hosts.gateway : null;
    const before = other?.cpuMs() ?? null;
    const begun = performance.now();
    const slice = await measureSlice(hosts[item.host], item, setting, sliceMs, signal);
    const after = other?.cpuMs() ?? null;
    if (before === null || after === null || repeats === MAX_REPEATS) return slice;
    if (after - before <= (performance.now() - begun) * QUIET_SHARE) return slice;
  }
}

async function measureSlice(
  host: Host,
  item: Case,
  setting: Setting,
  sliceMs: number,
  signal: AbortSignal,
): Promise<Slice> {
  let cpu: number | null = null;
  let generator = process.cpuUsage();
  const time = { warmMs: WARM_MS, measureMs: sliceMs };
  const load = await driveFor(host.url, item.lanes(setting), time, signal, {
    start: () => {
      cpu = host.cpuMs();
      generator = process.cpuUsage();
    },
    end: () => {
      const now = host.cpuMs();
      cpu = cpu === null || now === null ? null : now - cpu;
      generator = process.cpuUsage(generator);
    },
  });
  return {
    callsPerSecond: load.calls / load.seconds,
    calls: load.calls,
    p50: percentile(load.latencies, 50),
    p99: percentile(load.latencies, 99),
    cpuMs: cpu,
    generatorMs: (generator.user + generator.system) / 1000,
  };
}

/** Which way of reaching an object is the faster here: that one is the floor. */
export async function fasterTransport(
  host: Host,
  setting: Setting,
  rounds: number,
  sliceMs: number,
  signal: AbortSignal,
): Promise<Record<Transport, number> & { faster: Transport }> {
  const found: Record<Transport, number[]> = { rpc: [], fetch: [] };
  for (let round = 0; round < rounds; round++) {
    for (const transport of rotated(TRANSPORTS, round)) {
      const item = floorCase(host.url, "floor", `/one/${transport}`);
      const slice = await measureSlice(host, item, setting, sliceMs, signal);
      found[transport].push(slice.callsPerSecond);
    }
  }
  const rpc = median(found.rpc);
  const fetch = median(found.fetch);
  return { rpc, fetch, faster: rpc > fetch ? "rpc" : "fetch" };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}
