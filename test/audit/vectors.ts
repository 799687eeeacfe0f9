/**
 * @module
 * Two records of one session and their hashes, computed by another program
 * (Python's json, hashlib and cryptography).
 */
import type { RecordInput, StoredRecord } from "../../src/audit/record.ts";

export const GENESIS = "6d5a5791135083b55e68e37aad90285c8fa94ed568f28bf9af66e0287e6c802b";

export const OPEN_INPUT: RecordInput = {
  principal: "key:k1",
  role: "windsurf",
  event: "session_open",
  tool: null,
  workspace_root: null,
  plan_hash: null,
  result: "ok",
  error_code: null,
  args_hash: null,
  args_stored_hash: null,
  result_hash: null,
  intent_seq: null,
  request_id: "r-1",
  notes: null,
  context: { era: "2026", client: { version: "1.2", name: 'ü\n"x"' }, colo: null },
};
export const OPEN_MS = Date.UTC(2026, 10, 22, 10, 0, 0, 123);
export const OPEN_LINE =
  '{"args_hash":null,"args_stored_hash":null,"context":{"client":{"name":"ü\\n\\"x\\"","version":"1.2"},' +
  '"colo":null,"era":"2026"},"error_code":null,"event":"session_open","intent_seq":null,"notes":null,' +
  '"plan_hash":null,"prev_hash":"6d5a5791135083b55e68e37aad90285c8fa94ed568f28bf9af66e0287e6c802b",' +
  '"principal":"key:k1","request_id":"r-1","result":"ok","result_hash":null,"role":"windsurf","seq":1,' +
  '"session_id":"0199a3c2-7b1f-8abc-9def-0123456789ab","tenant":"default",' +
  '"timestamp":"2026-11-22T10:00:00.123Z","tool":null,"v":1,"workspace_root":null}';
export const OPEN_HASH = "59baa2c29d420305e030417850a56903be5343fcb8d0cdb356af054910d1c00d";

export const ARGS = '{"content":{"bytes":5},"path":"src/ä.ts"}';
export const SALT = "000102030405060708090a0b0c0d0e0f";
export const ARGS_STORED_HASH = "869a30c10929c4edcc4a0ead276acde5b921604c24b2ff39ec7377b3949b7cae";

export const INTENT_INPUT: RecordInput = {
  ...OPEN_INPUT,
  event: "tool_intent",
  tool: "write_file",
  workspace_root: "/w",
  plan_hash: "ab".repeat(32),
  result: "pending",
  args_hash: "cd".repeat(32),
  args_stored_hash: ARGS_STORED_HASH,
  request_id: "r-2",
  notes: 'a,"seq":9',
  context: null,
};
export const INTENT_MS = Date.UTC(2026, 10, 22, 10, 0, 1);

const BEFORE_CHAIN =
  '"args_hash":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",' +
  '"args_stored_hash":"869a30c10929c4edcc4a0ead276acde5b921604c24b2ff39ec7377b3949b7cae",' +
  '"context":null,"error_code":null,"event":"tool_intent"';
const BEFORE_SALT =
  '"intent_seq":null,"notes":"a,\\"seq\\":9",' +
  '"plan_hash":"abababababababababababababababababababababababababababababababab",' +
  '"prev_hash":"59baa2c29d420305e030417850a56903be5343fcb8d0cdb356af054910d1c00d","principal":"key:k1",' +
  '"request_id":"r-2","result":"pending","result_hash":null,"role":"windsurf"';
const TO_END =
  '"seq":2,"session_id":"0199a3c2-7b1f-8abc-9def-0123456789ab","tenant":"default",' +
  '"timestamp":"2026-11-22T10:00:01.000Z","tool":"write_file","v":1,"workspace_root":"/w"}';

export const INTENT_HASH = "72935bbeb555140a797068338fbf729b4063ed00dce3eaae004e84e4ad7fe9b1";
export const INTENT_LINE = `{${BEFORE_CHAIN},${BEFORE_SALT},${TO_END}`;
export const INTENT_EXPORT = `{"args":${ARGS},${BEFORE_CHAIN},"hash_chain":"${INTENT_HASH}",${BEFORE_SALT},"salt":"${SALT}",${TO_END}`;

/** Keys and sealed arguments for the session key 00 01 … 1f. */
export const SESSION_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
export const HASH_KEY = "96241e1f3b87035f269daeb9c56a706847083a24945d97f8f34c8ea50c83b048";
export const SEAL_KEY = "b3a671aa05974d8353f843675e699afcb6b7108ebede1758c5fbb2e04f89c77c";
export const INTENT_SEALED =
  "osYxwxcBmhzl8yHK2ck9RThmInMLuCSt/DSsO+6hmS8BTcMo7l1oVqhCBM7xc4sAZa2o0tEIdOwAubCR3a1kQN63L9VguXaPkijEspHpdU+O78vZUhC8t0bTnebTUvPee1c7xFy4sqkkDhaMBWM9br/ci0zKBivonQ==";
export const INTENT_SEGMENT = `{${BEFORE_CHAIN},"hash_chain":"${INTENT_HASH}",${BEFORE_SALT},"sealed":"${INTENT_SEALED}",${TO_END}`;

export const INTENT: StoredRecord = {
  seq: 2,
  line: INTENT_LINE,
  hash_chain: INTENT_HASH,
  args: ARGS,
  salt: SALT,
};
