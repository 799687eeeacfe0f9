/**
 * @module
 * A refusal of the gateway itself, mapped once to what the wire may say: a JSON
 * error on plain routes, a JSON-RPC error on `/mcp`.
 */
import { gatewayErrorCode, type RequestId, rpcError } from "../mcp/jsonrpc.ts";
import type { ErrorCode } from "../policy/errors.ts";

export type HttpStatus =
  | 400
  | 401
  | 403
  | 404
  | 405
  | 406
  | 408
  | 409
  | 413
  | 415
  | 421
  | 429
  | 500
  | 503;

/** Thrown by guards and routes; `app.onError` turns it into an answer. */
export class HttpRefusal extends Error {
  readonly status: HttpStatus;
  readonly code: ErrorCode;
  readonly headers: Readonly<Record<string, string>>;
  /** A code of JSON-RPC or MCP that goes before the gateway's own. */
  readonly rpcCode: number | null;
  /** The id of the request that is refused, where one was read. */
  rpcId: RequestId | null = null;
  readonly data: Readonly<Record<string, string | string[]>>;

  constructor(
    status: HttpStatus,
    code: ErrorCode,
    message: string,
    options: {
      headers?: Record<string, string>;
      rpcCode?: number;
      data?: Record<string, string | string[]>;
    } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = options.headers ?? {};
    this.rpcCode = options.rpcCode ?? null;
    this.data = options.data ?? {};
  }
}

/** The HTTP status of a refusal that a policy or an object gave, for plain routes. */
export function statusOf(code: ErrorCode): HttpStatus {
  switch (code) {
    case "INVALID_ARGUMENT":
    case "PATH_ESCAPE":
      return 400;
    case "UNAUTHENTICATED":
    case "KEY_EXPIRED":
      return 401;
    case "NOT_FOUND":
    case "PLAN_NOT_FOUND":
    case "SESSION_NOT_FOUND":
      return 404;
    case "CONFLICT":
    case "PLAN_EXPIRED":
    case "PLAN_NOT_APPROVED":
      return 409;
    case "OVERLOADED":
      return 503;
    case "INTERNAL_ERROR":
    case "OUTCOME_UNKNOWN":
      return 500;
    default:
      return 403;
  }
}

/** When to come back where nothing better is known. */
const DEFAULT_RETRY_SECONDS = "5";

/** The answer to a refusal: JSON-RPC on `/mcp`, plain JSON elsewhere. */
export function refusalResponse(refusal: HttpRefusal, onMcp: boolean, requestId: string): Response {
  const { status, code, message } = refusal;
  const headers: Record<string, string> =
    status === 503 ? { "retry-after": DEFAULT_RETRY_SECONDS, ...refusal.headers } : refusal.headers;
  const body = onMcp
    ? rpcError(refusal.rpcId, refusal.rpcCode ?? gatewayErrorCode(status), message, {
        code,
        request_id: requestId,
        ...refusal.data,
      })
    : { error: { code, message, request_id: requestId } };
  return Response.json(body, { status, headers });
}
