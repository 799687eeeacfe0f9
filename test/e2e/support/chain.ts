/**
 * @module
 * The chain as its definition says, in code that shares nothing with the
 * gateway: RFC 8785 text, SHA-256, genesis, links and stored arguments.
 */
import { createHash } from "node:crypto";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const RECORD_KEYS = [
  ..."v tenant session_id seq timestamp principal role event tool workspace_root".split(" "),
  ..."plan_hash result error_code args_hash args_stored_hash result_hash intent_seq".split(" "),
  ..."request_id notes context prev_hash".split(" "),
].sort();

export type ExportedRecord = { [key: string]: Json };

/** RFC 8785: members by UTF-16 units; numbers and strings as ECMAScript writes them. */
export function canonicalText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalText(value[key] ?? null)}`);
  return `{${members.join(",")}}`;
}

export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

export function genesisOf(tenant: string, sessionId: string): string {
  return sha256(`atlas-gate/chain/v1\n${tenant}\n${sessionId}\n`);
}

export function exportLines(text: string): string[] {
  if (text === "") return [];
  if (!text.endsWith("\n")) throw new Error("The last line of an export is not ended");
  return text.slice(0, -1).split("\n");
}

export function readLine(line: string): ExportedRecord {
  const value: Json = JSON.parse(line);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new Error(`Not a record: ${line}`);
}

/** Everything that does not hold in an export, in words; none for a good one. */
export function problemsOf(text: string, session: { tenant: string; id: string }): string[] {
  const problems: string[] = [];
  let previous = genesisOf(session.tenant, session.id);
  let time = "";
  const intents = new Map<number, number>();
  let closed = false;
  exportLines(text).forEach((line, index) => {
    const seq = index + 1;
    const wrong = (what: string) => problems.push(`record ${seq}: ${what}`);
    const { hash_chain, args, salt, ...record } = readLine(line);
    if (canonicalText(readLine(line)) !== line) wrong("not canonical");
    if (Object.keys(record).sort().join() !== RECORD_KEYS.join()) wrong("other keys");
    if (sha256(canonicalText(record)) !== hash_chain) wrong("hash_chain");
    if (record.prev_hash !== previous) wrong("prev_hash");
    if (record.seq !== seq || record.v !== 1) wrong("seq or version");
    if (record.session_id !== session.id || record.tenant !== session.tenant) wrong("session");
    if (typeof record.timestamp !== "string" || record.timestamp < time) wrong("timestamp");
    if (!fitsStoredArgs(args ?? null, salt ?? null, record.args_stored_hash ?? null)) {
      wrong("stored arguments");
    }
    if (closed) wrong("after the close");
    closed = record.event === "session_close";
    if (record.event === "tool_intent") intents.set(seq, 0);
    if (record.event === "tool_result") {
      const intent = Number(record.intent_seq);
      if (!intents.has(intent)) wrong("a result without an intent");
      intents.set(intent, (intents.get(intent) ?? 0) + 1);
    }
    previous = String(hash_chain);
    time = String(record.timestamp);
  });
  for (const [seq, results] of intents) {
    if (results !== 1) problems.push(`intent ${seq}: ${results} results`);
  }
  return problems;
}

function fitsStoredArgs(args: Json, salt: Json, declared: Json): boolean {
  if (args === null) return salt === null && declared === null;
  if (typeof salt !== "string" || !/^[0-9a-f]{32}$/.test(salt)) return false;
  const text = Buffer.from(canonicalText(args), "utf8");
  return sha256(Buffer.concat([Buffer.from(salt, "hex"), text])) === declared;
}
