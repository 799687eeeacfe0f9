/**
 * @module
 * Holds a PostgreSQL server as its child, and ends it when the process that
 * started this one is gone, however that ended: the server would go on alone.
 */
import { spawn } from "node:child_process";

const [command = "", ...args] = process.argv.slice(2);
const server = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"], detached: true });

/** SIGKILL is for the whole group, as when the power fails; the others are for the first process. */
const signal = (name) => {
  try {
    const group = name === "SIGKILL" && process.platform !== "win32";
    if (server.pid !== undefined) process.kill(group ? -server.pid : server.pid, name);
  } catch {
    // It is gone already.
  }
};

server.once("exit", (code) => process.exit(code ?? 1));
server.once("error", () => process.exit(1));
process.on("message", signal);
process.once("disconnect", () => signal("SIGINT"));
// Ctrl-C reaches the whole process group; the parent then ends this one in order.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => undefined);
