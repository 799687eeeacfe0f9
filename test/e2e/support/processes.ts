/**
 * @module
 * The tree of processes below one, so that a test ends exactly what it started
 * and sees what was left behind.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

type Process = { pid: number; parent: number; command: string };

/** Every process below `pid`, nearest first. */
export function descendantsOf(pid: number): number[] {
  const processes = listProcesses();
  const found: number[] = [];
  const pending = [pid];
  while (pending.length > 0) {
    const parent = pending.shift();
    for (const child of processes) {
      if (child.parent !== parent) continue;
      found.push(child.pid);
      pending.push(child.pid);
    }
  }
  return found;
}

/** What a process is called; null when it is gone. One that is dead but not yet reaped is gone. */
export function commandOf(pid: number): string | null {
  return listProcesses().find((process) => process.pid === pid)?.command ?? null;
}

export function isAlive(pid: number): boolean {
  return commandOf(pid) !== null;
}

/** Ends processes at once; those that are gone already are passed over. */
export function killNow(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  }
}

function listProcesses(): Process[] {
  return existsSync("/proc/self/stat") ? fromProc() : fromPs();
}

/** Small systems have no `ps`. */
function fromProc(): Process[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const stat = readIfThere(`/proc/${name}/stat`);
    // The name in parentheses may hold anything; state and parent come after it.
    const [, command, state, parent] = /^\d+ \((.*)\) (\S) (\d+) /s.exec(stat) ?? [];
    if (command === undefined || state === "Z" || state === "X") return [];
    return [{ pid: Number(name), parent: Number(parent), command }];
  });
}

/** A process may end between the listing and the reading. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function fromPs(): Process[] {
  return execFileSync("ps", ["-A", "-o", "pid=,ppid=,state=,comm="], { encoding: "utf8" })
    .split("\n")
    .flatMap((line) => {
      const [, pid, parent, state, command] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
      if (command === undefined || state?.startsWith("Z")) return [];
      return [{ pid: Number(pid), parent: Number(parent), command }];
    });
}
