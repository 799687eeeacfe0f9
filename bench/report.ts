/**
 * @module
 * Turns what was measured into numbers, and numbers into the table.
 */
import { arch, cpus, platform } from "node:os";
import { ANCHORING_LIMIT_MS, type Anchoring } from "./anchoring.ts";
import { type CaseName, isTargeted, type Transport } from "./cases.ts";
import type { FederationRow } from "./federation.ts";
import type { FlushResults } from "./flush.ts";
import type { GuardRow } from "./guard.ts";
import type { LogGrowth } from "./log-growth.ts";
import type { LongSession } from "./long-session.ts";
import type { Measured, Slice } from "./measure.ts";
import { median, type Spread, spread } from "./stats.ts";
import type { TwelveClients } from "./twelve-clients.ts";

export type Row = {
  readonly case: CaseName;
  readonly clients: number;
  readonly sessions: number;
  readonly rounds: number;
  /** Medians over the rounds. */
  readonly calls_per_second: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  /** Over all rounds; null where processor time cannot be read. */
  readonly cpu_us_per_call: number | null;
  readonly generator_us_per_call: number;
  /** Calls per second over those of a floor in the same round; null for the floors themselves. */
  readonly to_floor: Spread | null;
  readonly to_two_object_floor: Spread | null;
};

export type Results = {
  readonly host: string;
  readonly machine: string;
  readonly quick: boolean;
  readonly transport: Record<Transport, number> & { readonly faster: Transport };
  readonly rows: readonly Row[];
  readonly long_session: LongSession;
  readonly twelve_clients: TwelveClients;
  readonly federation: readonly FederationRow[];
  readonly guard: readonly GuardRow[];
  readonly anchoring: Anchoring;
  readonly log_growth: LogGrowth;
  readonly flush: FlushResults;
};

/** What the ratios have to be, with 16 clients on 16 sessions. */
export const TARGETS: readonly {
  case: CaseName;
  ratio: "to_floor" | "to_two_object_floor";
  least: number;
}[] = [
  { case: "read_audit_log, limit 1", ratio: "to_floor", least: 0.6 },
  { case: "read_audit_log", ratio: "to_floor", least: 0.6 },
  { case: "read_file", ratio: "to_two_object_floor", least: 0.6 },
];
const LATENCY_TARGET_MS = 500;
/** Of the calls per second without a flush, so many must be left beside one. */
const LEAST_BESIDE_FLUSH = 0.8;
/** Of the calls per second without the guard, so many must be left with it. */
const LEAST_GUARDED = 0.9;
/** Writes no record: shown, and not held to the limit. */
const NO_HOT_PATH = "ping";
const MIB = 1024 * 1024;

export function machine(): string {
  const [first] = cpus();
  return `${cpus().length} × ${first?.model.trim() ?? arch()}, ${platform()}, Node ${process.versions.node}`;
}

export function rowsOf(measured: readonly Measured[]): Row[] {
  return measured.flatMap(({ setting, slices }) =>
    [...slices].map(([name, own]) => ({
      case: name,
      ...setting,
      rounds: own.length,
      calls_per_second: median(own.map((slice) => slice.callsPerSecond)),
      p50_ms: median(own.map((slice) => slice.p50)),
      p99_ms: median(own.map((slice) => slice.p99)),
      cpu_us_per_call: perCall(own, (slice) => slice.cpuMs),
      generator_us_per_call: perCall(own, (slice) => slice.generatorMs) ?? 0,
      to_floor: ratio(name, own, slices.get("floor")),
      to_two_object_floor:
        name === "floor" ? null : ratio(name, own, slices.get("two-object floor")),
    })),
  );
}

function perCall(slices: readonly Slice[], ms: (slice: Slice) => number | null): number | null {
  let sum = 0;
  let calls = 0;
  for (const slice of slices) {
    const value = ms(slice);
    if (value === null) return null;
    sum += value;
    calls += slice.calls;
  }
  return (sum * 1000) / calls;
}

function ratio(name: CaseName, own: readonly Slice[], floor: readonly Slice[] = []): Spread | null {
  if (name === "empty Worker" || own === floor || floor.length === 0) return null;
  return spread(
    own.map((slice, round) => slice.callsPerSecond / (floor[round]?.callsPerSecond ?? Number.NaN)),
  );
}

export function textOf(results: Results): string {
  const header = [
    "case",
    "clients",
    "sessions",
    "calls/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/call",
    "client µs/call",
    "of the floor",
    "of the two-object floor",
  ];
  const { rpc, fetch, faster } = results.transport;
  const long = results.long_session;
  const twelve = results.twelve_clients;
  return [
    "",
    table(header, results.rows.map(cells)),
    "",
    `Host: ${results.host}`,
    `Machine: ${results.machine}. Medians of rounds in which all cases took turns; ratios within a round (least to most).`,
    `The floor reaches its object by ${faster === "rpc" ? "RPC" : "fetch"}, the faster here: RPC ${whole(rpc)} calls/s, fetch ${whole(fetch)}.`,
    "",
    ...TARGETS.map((target) => targetLine(results.rows, target)),
    `Long session: ${whole(long.early)} calls/s at calls 100–600, ${whole(long.late)} at ${whole(long.calls - 500)}–${whole(long.calls)}: ` +
      `${fixed(long.late / long.early)} of it; a new session beside the latter made ${whole(long.beside)}: ${fixed(long.late / long.beside)} of that.` +
      (results.quick ? " (--quick: the full run goes to 20,000 calls.)" : ""),
    `Twelve clients at once, mixed calls: ${whole(twelve.callsPerSecond)} calls/s, p50 ${fixed(twelve.p50, 1)} ms, p99 ${fixed(twelve.p99, 1)} ms ` +
      `(${twelve.p99 < LATENCY_TARGET_MS ? "within" : "NOT within"} ${LATENCY_TARGET_MS} ms), max ${fixed(twelve.max, 1)} ms.`,
    ...flushLines(results.flush),
    ...results.guard.map(guardLine),
    anchoringLine(results.anchoring),
    growthLine(results.log_growth),
    "",
    "A call of an upstream, directly and through the gateway (open gate, intent and result recorded):",
    table(FEDERATION_HEADER, results.federation.map(federationCells)),
    "",
  ].join("\n");
}

const FEDERATION_HEADER = [
  "era",
  "clients",
  "direct calls/s",
  "through calls/s",
  "direct p50 ms",
  "through p50 ms",
  "direct p99 ms",
  "through p99 ms",
  "added ms",
];

function federationCells(row: FederationRow): string[] {
  return [
    row.era,
    String(row.clients),
    whole(row.direct_calls_per_second),
    whole(row.through_calls_per_second),
    fixed(row.direct_p50_ms),
    fixed(row.through_p50_ms),
    fixed(row.direct_p99_ms),
    fixed(row.through_p99_ms),
    spreadText(row.added_ms),
  ];
}

function anchoringLine({ p50_ms, max_ms }: Anchoring): string {
  const verdict = max_ms <= ANCHORING_LIMIT_MS ? "within" : "NOT within";
  return (
    `Anchoring, from a call's answer to its head under a published checkpoint: p50 ${whole(p50_ms)} ms, max ${whole(max_ms)} ms ` +
    `(${verdict} ${whole(ANCHORING_LIMIT_MS)} ms: twice the flush interval and 2 s).`
  );
}

export function guardLine({ call, ratio, ...rates }: GuardRow): string {
  const verdict =
    call === NO_HOT_PATH
      ? "for orientation"
      : `${ratio.median >= LEAST_GUARDED ? "meets" : "MISSES"} ${LEAST_GUARDED}`;
  return (
    `Behind the guard (host, address, key, limits, kill switches, metrics), ${call}: ${whole(rates.guarded_calls_per_second)} calls/s, ` +
    `${spreadText(ratio)} of those without it, ${verdict}; CPU ${micros(rates.guarded_cpu_us)} a call, ${micros(rates.open_cpu_us)} without.`
  );
}

export function growthLine(growth: LogGrowth): string {
  const { leaves, early_ms, late_ms, proof_p50_ms, proof_max_ms, held_bytes } = growth;
  return (
    `A log of ${whole(leaves)} leaves: a commit of 2,048 took ${fixed(early_ms, 1)} ms at the beginning and ${fixed(late_ms, 1)} ms at the end ` +
    `(${fixed(late_ms / early_ms)} of it); a proof p50 ${fixed(proof_p50_ms, 1)} ms, max ${fixed(proof_max_ms, 1)} ms; ` +
    `of the tree its object holds ${whole(held_bytes / 1024)} KiB.`
  );
}

function flushLines(flush: FlushResults): string[] {
  const verdict = flush.ratio >= LEAST_BESIDE_FLUSH ? "meets" : "MISSES";
  const grew = flush.grewBytes === null ? "n/a" : `${whole(flush.grewBytes / MIB)} MiB`;
  return [
    `Calls on a session that is flushed every second: ${fixed(flush.ratio)} of those without a flush, ${verdict} ${LEAST_BESIDE_FLUSH}.`,
    `Sinks, records/s: D1 ${whole(flush.d1)}, R2 segments ${whole(flush.segments)}, PostgreSQL ${whole(flush.postgres)}; ` +
      `a backlog of ${whole(flush.backlog)} records was flushed with ${grew} more memory.`,
  ];
}

function targetLine(rows: readonly Row[], target: (typeof TARGETS)[number]): string {
  const row = rows.find((each) => each.case === target.case && isTargeted(each));
  const found = row?.[target.ratio]?.median ?? Number.NaN;
  const floor = target.ratio === "to_floor" ? "floor" : "two-object floor";
  const verdict = found >= target.least ? "meets" : "MISSES";
  return `16 clients, ${target.case}: ${fixed(found)} of the ${floor}, ${verdict} ${target.least}.`;
}

function cells(row: Row): string[] {
  return [
    row.case,
    String(row.clients),
    String(row.sessions),
    whole(row.calls_per_second),
    fixed(row.p50_ms),
    fixed(row.p99_ms),
    row.cpu_us_per_call === null ? "n/a" : whole(row.cpu_us_per_call),
    whole(row.generator_us_per_call),
    spreadText(row.to_floor),
    spreadText(row.to_two_object_floor),
  ];
}

function micros(us: number | null): string {
  return us === null ? "n/a" : `${whole(us)} µs`;
}

function spreadText(ratio: Spread | null): string {
  if (ratio === null) return "";
  return `${fixed(ratio.median)} (${fixed(ratio.min)}–${fixed(ratio.max)})`;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function fixed(value: number, digits = 2): string {
  return value.toFixed(digits);
}

/** A Markdown table whose columns also line up in a terminal: text to the left, numbers to the right. */
function table(header: readonly string[], rows: readonly string[][]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (values: readonly string[]) =>
    `| ${widths.map((width, column) => pad(values[column] ?? "", width, column)).join(" | ")} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)).join(" | ")} |`;
  return [line(header), rule, ...rows.map(line)].join("\n");
}

function pad(text: string, width: number, column: number): string {
  return column === 0 ? text.padEnd(width) : text.padStart(width);
}
