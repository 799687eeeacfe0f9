#!/usr/bin/env node
// Plain JavaScript that every Node can read: it finds a way to run the command.
// An installed package holds one built file. A checkout runs its sources: by this
// Node where it reads TypeScript, else by the one that `npm ci` brought along.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const path = (name) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const source = path("src/cli/atlas-gate.ts");
const built = path("dist/atlas-gate.mjs");
const ownNode = path(
  process.platform === "win32" ? "node_modules/node/bin/node.exe" : "node_modules/node/bin/node",
);
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

if (major < 20) {
  console.error(`atlas-gate needs Node 20 or later; this is ${process.versions.node}.`);
  process.exitCode = 2;
} else if (!existsSync(source)) {
  await import(pathToFileURL(built).href);
} else if (major > 22 || (major === 22 && minor >= 18)) {
  await import(pathToFileURL(source).href);
} else if (existsSync(ownNode)) {
  const child = spawn(ownNode, [source, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  child.once("close", (code, signal) => {
    process.exitCode = code ?? (signal === null ? 2 : 128);
  });
} else {
  console.error("This Node does not read TypeScript. Run `npm ci` in the checkout first.");
  process.exitCode = 2;
}
