/**
 * @module
 * What the client of a call is told that was lost with the session's object:
 * on the stream of the call's response, should the client come back to it.
 */
import { INTERNAL_ERROR, rpcError } from "../mcp/jsonrpc.ts";
import type { Receipt } from "./ledger.ts";
import type { StreamRequest } from "./streams.ts";

/** The response to a lost request; `receipt` is of the record that settled it, if it had one open. */
export function lostAnswer({ id, request_id }: StreamRequest, receipt: Receipt | null): string {
  const message =
    "[OUTCOME_UNKNOWN] The gateway lost this call before its answer came. It may have been carried out: look before you repeat it.";
  return JSON.stringify(
    rpcError(id, INTERNAL_ERROR, message, {
      code: "OUTCOME_UNKNOWN",
      request_id,
      ...(receipt === null ? {} : { receipt: { ...receipt } }),
    }),
  );
}
