/**
 * @module
 * One line of the connection log: who came from where, and was let in or not.
 */
import { parseAddress } from "../../policy/cidr.ts";
import { ERROR_CODES } from "../../policy/errors.ts";
import { callerText } from "../caller-text.ts";

/** Bytes of a user agent that are kept: it comes from outside. */
const MAX_USER_AGENT = 256;

export const OUTCOMES = ["accepted", "refused"] as const;

export type Connection = {
  /** RFC 3339. */
  readonly at: string;
  readonly outcome: (typeof OUTCOMES)[number];
  /** Why it was refused, an error code; or what made it a new connection. */
  readonly reason: string;
  readonly status: number;
  readonly principal: string | null;
  readonly address: string | null;
  readonly colo: string | null;
  readonly tls_version: string | null;
  readonly user_agent: string | null;
  readonly request_id: string;
};

/** Where a request comes from, as the platform says; nothing of it is taken from what a client can set, but for the user agent. */
export function originOf(
  request: Request,
): Pick<Connection, "address" | "colo" | "tls_version" | "user_agent"> {
  const agent = request.headers.get("user-agent");
  return {
    address: addressOf(request.headers.get("cf-connecting-ip")),
    colo: coloOf(request),
    tls_version: textOf(request.cf?.tlsVersion),
    user_agent: agent === null ? null : callerText(agent, MAX_USER_AGENT),
  };
}

/** Which of the platform's locations took the request. */
export function coloOf(request: Request): string | null {
  return textOf(request.cf?.colo);
}

/** The one spelling of an address, mapped IPv4 being IPv4; null for what is none, a list included. */
function addressOf(text: string | null): string | null {
  return text === null ? null : (parseAddress(text)?.toString() ?? null);
}

function textOf(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value.slice(0, 64) : null;
}

const KNOWN_REASONS: ReadonlySet<string> = new Set(ERROR_CODES);

/** Why a request was refused, of a closed list. */
export function refusalReason(code: string | null, status: number): string {
  return code !== null && KNOWN_REASONS.has(code) ? code : `HTTP_${status}`;
}
