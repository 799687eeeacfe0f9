/**
 * @module
 * The text of a `tools/call` result, put together from text that is canonical
 * already. An answer may be megabytes of a file: parsing it again to hash it
 * and once more to send it would cost more than the call.
 */
import type { RequestId } from "./jsonrpc.ts";

export type ToolResultText = {
  /** The RFC 8785 form of the result without `_meta`: what its record's hash covers. */
  hashed: string;
  /** The text to send: the same with `"_meta"`, the JSON text given, as its first member; canonical if that is. */
  withMeta(metaJson: string): string;
};

/** 2026-07-28 has every result say of which type it is; earlier revisions know no such member. */
export type ResultType = "complete" | null;

/**
 * The result of a call that went well: `structuredContent` and, for clients
 * that cannot read it, the same as text. `structuredText` must be the RFC 8785
 * form of an object; it is not checked.
 */
export function okResult(structuredText: string, resultType: ResultType = null): ToolResultText {
  const text = JSON.stringify(structuredText);
  return composed(
    `{"content":[{"text":${text},"type":"text"}],${typeMember(resultType)}"structuredContent":${structuredText}}`,
  );
}

/**
 * The result of a refused or failed call: `[CODE] message`, marked as an
 * error. Half surrogate pairs in the message become U+FFFD, for RFC 8785 has
 * no form for them. The caller's `_meta` names the error once more, for
 * programs.
 */
export function refusalResult(
  code: string,
  message: string,
  resultType: ResultType = null,
): ToolResultText {
  const text = JSON.stringify(`[${code}] ${message}`.toWellFormed());
  const type = typeMember(resultType);
  const last = type === "" ? "" : `,${type.slice(0, -1)}`;
  return composed(`{"content":[{"text":${text},"type":"text"}],"isError":true${last}}`);
}

/** The member with its comma, in the place that RFC 8785 gives it. */
function typeMember(resultType: ResultType): string {
  return resultType === null ? "" : `"resultType":"${resultType}",`;
}

/** The text of a JSON-RPC response around a result that is text already. */
export function rpcResultBody(id: RequestId, resultText: string): string {
  return `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${resultText}}`;
}

function composed(hashed: string): ToolResultText {
  return {
    hashed,
    withMeta: (metaJson) => `{"_meta":${metaJson},${hashed.slice(1)}`,
  };
}
