/**
 * @module
 * The work of an archive's keeper, for tests: sessions that have ended, the daily
 * tasks, holds and erasures, and what the gateway says of them.
 */
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import * as z from "zod";
import { genesis } from "../../src/audit/chain.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { logStub } from "../../src/objects.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { admin, type Client, executor, newRoot, recordsOf } from "../support/gateway.ts";
import { ring, ringUntilReleased, session } from "../support/objects.ts";

const progress = z.object({
  next: z.string().nullable(),
  problems: z.array(z.object({ session_id: z.string(), seq: z.int(), message: z.string() })),
});

/** What verifying the whole archive finds. */
export async function verifiedArchive(): Promise<z.infer<typeof progress>["problems"]> {
  const problems: z.infer<typeof progress>["problems"] = [];
  let after: string | null = null;
  do {
    const answer = await admin("GET", `/archive/verify${after === null ? "" : `?after=${after}`}`);
    const step = progress.parse(answer.body);
    problems.push(...step.problems);
    after = step.next;
  } while (after !== null);
  return problems;
}

/** A session that has ended, and whose storage is free. */
export async function releasedSession(tenant = "default"): Promise<Client> {
  const { client } = await executor(newRoot(), { tenant });
  await client.must("write_file", { path: "src/a.txt", content: "personal" });
  await client.call("read_file", { path: "src/personal \u0000" });
  expect(await client.end()).toBe(204);
  await ringUntilReleased(client.id);
  return client;
}

export async function run(task: string): Promise<void> {
  for (;;) {
    const answer = await admin("POST", "/archive/run", { body: { task } });
    expect(answer.status).toBe(200);
    if (z.object({ done: z.boolean() }).parse(answer.body).done) return;
  }
}

export async function hold(body: Record<string, unknown>): Promise<string> {
  const answer = await admin("POST", "/legal-holds", { body: { reason: "a lawsuit", ...body } });
  expect(answer.status).toBe(201);
  return z.object({ id: z.string() }).parse(answer.body).id;
}

export function erase(id: string) {
  return admin("POST", `/audit/sessions/${id}/erase`, { body: { reason: "asked for" } });
}

export async function systemRecords(action: string): Promise<Record<string, unknown>[]> {
  const answer = await admin("GET", "/sessions?limit=200");
  const { sessions } = z
    .object({ sessions: z.array(z.object({ session_id: z.string(), principal: z.string() })) })
    .parse(answer.body);
  const own = sessions.filter(({ principal }) => principal === "system:gateway");
  const records = await Promise.all(own.map(({ session_id }) => recordsOf(session_id)));
  return records
    .flat()
    .flatMap(({ context, result }) => (context?.action === action ? [{ ...context, result }] : []));
}

/** What the transparency log says of a session's retirement. */
export async function retirementsOf(id: string): Promise<unknown[]> {
  const leaves = await logStub(env).leavesOf(genesis(sha256Hex, "default", id));
  return leaves.filter(({ kind }) => kind.startsWith("retire"));
}

export async function ringSystem(): Promise<void> {
  const owner = { tenant: "default", principal: "system:gateway" };
  await ring(session(ambientSessionId(sha256Hex, owner, Date.now())));
}

/** The archive as R2's segments give it, in all its steps; answers what did not hold. */
export async function rebuild(): Promise<z.infer<typeof progress>["problems"]> {
  const problems: z.infer<typeof progress>["problems"] = [];
  let after: string | null = null;
  do {
    const answer = await admin("POST", "/archive/rebuild", {
      body: after === null ? {} : { after },
    });
    const step = progress.parse(answer.body);
    problems.push(...step.problems);
    after = step.next;
  } while (after !== null);
  return problems;
}
