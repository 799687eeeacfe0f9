/**
 * @module
 * This gateway as a witness, over HTTP (C2SP tlog-witness). Only logs that an
 * operator has registered are known: for any other, nothing is looked up
 * but its name, and nothing is stored.
 */
import { eq } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import type { Config } from "../config.ts";
import { witnessedLogs } from "../db/d1.ts";
import { admitAnybody } from "../edge/address-limit.ts";
import { readBody } from "../edge/body.ts";
import { witnessStub } from "../objects.ts";
import { checkpointOf } from "./checkpoint.ts";
import { witnessKey } from "./cosignature.ts";
import { witnessKeyOf, witnessName } from "./keys.ts";
import { formatVkey } from "./note.ts";
import type { WitnessVerdict } from "./witness-object.ts";
import { MAX_REQUEST_BYTES, parseAddCheckpoint, SIZE_TYPE } from "./witness-request.ts";

/** `POST /witness/add-checkpoint`. Throws `HttpRefusal` 429 where an address asks too often. */
export async function addCheckpoint(env: Env, request: Request): Promise<Response> {
  await admitAnybody(env, request);
  const bytes = await readBody(request, MAX_REQUEST_BYTES);
  const parsed = parseAddCheckpoint(textOf(bytes) ?? "");
  const origin = parsed === null ? undefined : checkpointOf(parsed.note)?.origin;
  if (parsed === null || origin === undefined) return said(400, "not an add-checkpoint request");
  const rows = await drizzle(env.ARCHIVE_DB)
    .select({ vkey: witnessedLogs.vkey })
    .from(witnessedLogs)
    .where(eq(witnessedLogs.origin, origin));
  if (rows.length === 0) return said(404, "this log is not watched here");
  const vkeys = rows.map(({ vkey }) => vkey);
  return answer(await witnessStub(env, origin).addCheckpoint(parsed, origin, vkeys));
}

/** `GET /witness/vkey`: a line for each key that cosigns, the current one first. */
export async function witnessVkeys({ logOrigin, logSeeds }: Config): Promise<Response> {
  const keys = await Promise.all(logSeeds.map(witnessKeyOf));
  const name = witnessName(logOrigin);
  return said(200, keys.map(({ publicKey }) => formatVkey(witnessKey(name, publicKey))).join("\n"));
}

function answer(verdict: WitnessVerdict): Response {
  switch (verdict.kind) {
    case "cosigned":
      return text(200, verdict.lines);
    case "malformed":
      return said(400, "not a checkpoint");
    case "untrusted":
      return said(403, "no trusted key has signed this checkpoint");
    case "old_size_above":
      return said(400, "the old size is larger than the checkpoint");
    case "conflict":
      return text(409, `${verdict.size}\n`, SIZE_TYPE);
    case "bad_proof":
      return said(422, "the proof does not lead from the old size to this checkpoint");
  }
}

function said(status: number, message: string): Response {
  return text(status, `${message}\n`);
}

function text(status: number, body: string, type = "text/plain; charset=utf-8"): Response {
  return new Response(body, { status, headers: { "content-type": type } });
}

function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}
