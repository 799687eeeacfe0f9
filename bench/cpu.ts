/**
 * @module
 * Processor time and memory of processes, from Linux's /proc. Elsewhere there is none to
 * be had without further tools, and the benchmark says "n/a".
 */
import { readFileSync } from "node:fs";

/** USER_HZ: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Places after the command's name in /proc/<pid>/stat, which is in parentheses and may hold spaces. */
const UTIME = 11;
const STIME = 12;

/** User and system time of a process with all its threads, in ms; null where it cannot be read. */
export function cpuMs(pid: number | null): number | null {
  if (pid === null) return null;
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === null) return null;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[UTIME]) + Number(fields[STIME]);
  return Number.isFinite(ticks) ? (ticks * 1000) / TICKS_PER_SECOND : null;
}

/** Resident memory of a process, in bytes; null where it cannot be read. */
export function rssBytes(pid: number | null): number | null {
  const status = pid === null ? null : readProc(`/proc/${pid}/status`);
  const kib = status === null ? null : /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  return kib == null ? null : Number(kib) * 1024;
}

/** The first child of a process; null where it has none or nobody can say. */
export function firstChild(pid: number): number | null {
  const children = readProc(`/proc/${pid}/task/${pid}/children`);
  const [first = ""] = children?.trim().split(" ") ?? [];
  return first === "" ? null : Number(first);
}

function readProc(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    // Not Linux, or the process is gone.
    if (error instanceof Error && "code" in error) return null;
    throw error;
  }
}
