/**
 * @module
 * What is measured: the floors and the gateway's calls, each as a maker of
 * lanes. A lane is one connection; lanes share the sessions there are, in turn.
 */
import { FILE, type GatewayClient, type Session } from "./client.ts";
import { type Lane, postBytes } from "./load.ts";

export type Transport = "rpc" | "fetch";
export const TRANSPORTS: readonly Transport[] = ["rpc", "fetch"];

/** So many connections at once, over so many sessions (or objects, for the floors). */
export type Setting = { readonly clients: number; readonly sessions: number };

/** The setting that the ratios are promised for. */
export const TARGETED: Setting = { clients: 16, sessions: 16 };

/** From few sessions to many: what one leaves to be archived is then little beside the next. */
export const SETTINGS: readonly Setting[] = [
  { clients: 1, sessions: 1 },
  { clients: 16, sessions: 1 },
  TARGETED,
  { clients: 64, sessions: 64 },
];

export function isTargeted({ clients, sessions }: Setting): boolean {
  return clients === TARGETED.clients && sessions === TARGETED.sessions;
}

export const MAX_SESSIONS = Math.max(...SETTINGS.map(({ sessions }) => sessions));

export type CaseName =
  | "empty Worker"
  | "floor"
  | "two-object floor"
  | "ping"
  | "read_audit_log, limit 1"
  | "read_audit_log"
  | "read_file"
  | "write_file";

export type Case = {
  readonly name: CaseName;
  readonly host: "floor" | "gateway";
  /** For orientation: measured in the targeted setting alone. */
  readonly targetedOnly: boolean;
  readonly lanes: (setting: Setting) => Lane[];
};

const WRITTEN_BYTES = 1024;

/** Requests to the floors carry the same message as those to the gateway. */
const FLOOR_BODY = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "tools/call",
  params: { name: "read_file", arguments: { path: FILE.path } },
});

export function floorCase(url: URL, name: CaseName, path: string): Case {
  return {
    name,
    host: "floor",
    targetedOnly: false,
    lanes: ({ clients, sessions }) =>
      range(clients).map((at) => {
        const bytes = postBytes(url, `${path}?object-${at % sessions}`, {}, FLOOR_BODY);
        return () => bytes;
      }),
  };
}

/** The floors in the given transport, and the gateway's calls on the given sessions. */
export function allCases(
  floorUrl: URL,
  transport: Transport,
  client: GatewayClient,
  sessions: readonly Session[],
): Case[] {
  const gatewayCase = (name: CaseName, lane: (session: Session, at: number) => Lane): Case => ({
    name,
    host: "gateway",
    targetedOnly: name === "ping",
    lanes: (setting) =>
      range(setting.clients).map((at) => lane(pick(sessions, at % setting.sessions), at)),
  });
  const tool = (name: string, args: object) => (session: Session) =>
    client.repeat(session, "tools/call", { name, arguments: args });
  return [
    floorCase(floorUrl, "empty Worker", "/empty"),
    floorCase(floorUrl, "floor", `/one/${transport}`),
    floorCase(floorUrl, "two-object floor", `/two/${transport}`),
    gatewayCase("ping", (session) => client.repeat(session, "ping")),
    gatewayCase("read_audit_log, limit 1", tool("read_audit_log", { limit: 1 })),
    gatewayCase("read_audit_log", tool("read_audit_log", {})),
    gatewayCase("read_file", tool("read_file", { path: FILE.path })),
    gatewayCase("write_file", (session, at) => writeLane(client, session, at)),
  ];
}

let written = 0;

/** Writes a file of its own, with other content each time: what is there already is not written again. */
export function writeLane(client: GatewayClient, session: Session, at: number): Lane {
  return () => {
    written += 1;
    return client.request(session, "tools/call", {
      name: "write_file",
      arguments: { path: `src/lane-${at}.txt`, content: `${written} `.padEnd(WRITTEN_BYTES, "x") },
    });
  };
}

export function range(length: number): number[] {
  return Array.from({ length }, (_, at) => at);
}

export function pick<T>(list: readonly T[], at: number): T {
  const item = list[at];
  if (item === undefined) throw new RangeError(`there is no item ${at}`);
  return item;
}
