/**
 * @module
 * The child process that holds one Miniflare, which holds one workerd: told
 * what to host by its first message, gone when its parent is.
 */
import { convertV4MiniflareOptions, type DevConfig, Miniflare } from "miniflare";
import { firstChild } from "./cpu.ts";
import type { HostMessage, HostPlan } from "./host.ts";

const HOST = "127.0.0.1";

process.once("message", (plan: HostPlan) => void host(plan));
// Ctrl-C reaches the whole group; the parent then stops this process in order.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit(1));
