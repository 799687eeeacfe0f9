/**
 * @module
 * Upstreams as an operator manages them: registering, changing, refreshing, and
 * approving what they offer. Credentials come in here and never go out again.
 * What upstreams say of themselves is data in the answers, bounded by what a
 * refresh takes in.
 */
import * as z from "zod";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { recordChange } from "../session/ambient.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { builtInToolNames } from "../tools/index.ts";
import { checkAddress, checkName } from "../upstream/address.ts";

import { announcing } from "../upstream/announce.ts";

import { MAX_ATTEMPTS, namesOf, refreshUpstream } from "../upstream/catalogue.ts";
import {
  changeBody,
  changed,
  openAuth,
  parseConfig,
  type Registration,
  registrationBody,
  registrationOf,
  shownAuth,
  withoutSecrets,
} from "../upstream/config.ts";
import { conflictOf } from "../upstream/conflicts.ts";
import { wire } from "../upstream/connect.ts";
import { forgetDirectory } from "../upstream/directory.ts";
import { exposedName } from "../upstream/naming.ts";
import { type Observation, observe } from "../upstream/observe.ts";
import { difference } from "../upstream/pins.ts";
import {
  claimsBeside,
  type DefinitionHead,
  type DefinitionRow,
  definitionHeads,
  definitionPage,
  hasResources,
  parseLeftOut,
  parseObject,
  readUpstream,
  listUpstreams as readUpstreams,
  type UpstreamRow,
  type UpstreamSummary,
} from "../upstream/registry.ts";
import {
  approveDefinition,
  deleteUpstream,
  insertUpstream,
  updateUpstream,
  type Written,
} from "../upstream/registry-changes.ts";
import { openTarget } from "../upstream/target.ts";
import { type AdminCall, defineRoute, nextCursor, pageQuery, placeOf, unwrap } from "./route.ts";

const KINDS = ["tool", "prompt", "resource_template", "instructions"] as const;

const anyObject = z.record(z.string(), z.unknown());
const status = z.enum(["pending", "approved", "changed", "gone"]);

const registrationFields = {
  name: z.string(),
  url: z.string(),
  prefix: z.string(),
  gate: z.enum(["plan", "read_only", "open"]),
  auth: z.looseObject({ kind: z.string() }).describe("Without its secrets."),
  tenants: z.array(z.string()),
  roles: z.array(z.string()),
  timeout_ms: z.int(),
  session_param: z.boolean(),
  sampling: z.boolean(),
  elicitation: z.boolean(),
  resource_prefixes: z.array(z.string()),
  created_at: z.string(),
  created_by: z.string(),
  updated_at: z.string(),
  state: z.object({
    available: z.boolean(),
    era: z.enum(["2025", "2026"]).nullable(),
    protocol_version: z.string().nullable(),
    server_info: anyObject.nullable(),
    capabilities: anyObject,
    ttl_ms: z.number().nullable(),
    resources: z.int().describe("How many it lists."),
    refreshed_at: z.string().nullable().describe("The last refresh that went well."),
    checked_at: z.string().nullable(),
    failure: z.string().nullable(),
  }),
};

const definitionFields = {
  kind: z.enum(KINDS),
  name: z.string(),
  exposed: z.string().nullable().describe("The name that clients see."),
  status,
  reads: z.boolean().describe("Marked by an operator as reading only."),
};

const detail = z.object({
  ...registrationFields,
  approved: z.boolean().describe("Whether all that it offers is approved as it is now."),
  definitions: z.array(
    z.object({
      ...definitionFields,
      approved: z.boolean(),
      pin: z.string().nullable().describe("Of what it offers now; what an approval may name."),
      approved_pin: z.string().nullable(),
    }),
  ),
  left_out: z
    .array(z.object({ kind: z.string(), name: z.string(), reason: z.string() }))
    .describe("Found, and not offered to anyone."),
});

export const listUpstreams = defineRoute({
  method: "get",
  path: "/upstreams",
  summary: "List upstreams by name, with the state of each",
  query: z.strictObject(pageQuery),
  answer: z.object({ upstreams: z.array(z.object(registrationFields)), next_cursor: nextCursor }),
  run: async ({ env, config, query }) => {
    const [after = ""] = placeOf(query.cursor, /^[a-z0-9_-]{1,63}$/) ?? [];
    const rows = await readUpstreams(env.ARCHIVE_DB, after, query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      upstreams: page.map((row) => shownRow(row, config.secretsKey)),
      next_cursor: last === undefined ? null : encodeCursor(last.name),
    };
  },
});

export const createUpstream = defineRoute({
  method: "post",
  path: "/upstreams",
  summary: "Register an upstream, ask it what it offers, and show that",
  query: z.strictObject({
    approve: z.enum(["all"]).optional().describe("Approves all that is found, unseen."),
  }),
  body: registrationBody,
  status: 201,
  answer: detail,
  run: async (call) => {
    const registration = unwrap(registrationOf(call.body));
    const { name } = registration.config;
    unwrap(await checkAddresses(call, registration));
    await recorded(call, "upstream.create", facts(registration), () =>
      create(call, registration, call.query.approve === "all"),
    );
    return shownDetail(call, await mustRead(call, name), call.query.approve === "all");
  },
});

const nameParams = z.strictObject({ name: z.string() });

export const showUpstream = defineRoute({
  method: "get",
  path: "/upstreams/:name",
  summary: "Show an upstream, its state, and the status of all that it offers",
  params: nameParams,
  answer: detail,
  run: async (call) => shownDetail(call, await mustRead(call, call.params.name)),
});

export const changeUpstream = defineRoute({
  method: "patch",
  path: "/upstreams/:name",
  summary: "Change a registration; another url, auth or session_param has the upstream asked anew",
  params: nameParams,
  body: changeBody,
  answer: detail,
  run: async (call) => {
    const row = await mustRead(call, call.params.name);
    const before = registrationOfRow(row, call.config.secretsKey);
    const after = changed(before, call.body);
    unwrap(await checkAddresses(call, after));
    await recorded(call, "upstream.change", facts(after), () => change(call, row.revision, after));
    return shownDetail(call, await mustRead(call, row.name));
  },
});

export const removeUpstream = defineRoute({
  method: "delete",
  path: "/upstreams/:name",
  summary: "Remove an upstream, with all approvals of what it offers",
  params: nameParams,
  status: 204,
  run: async (call) => {
    const row = await mustRead(call, call.params.name);
    await recorded(call, "upstream.remove", { name: row.name }, async () =>
      settled(await deleteUpstream(call.env.ARCHIVE_DB, row)),
    );
    return null;
  },
});

export const refresh = defineRoute({
  method: "post",
  path: "/upstreams/:name/refresh",
  summary: "Ask an upstream what it offers now",
  params: nameParams,
  body: z.strictObject({}),
  answer: detail,
  run: async (call) => {
    const { env, config, now } = call;
    const { name } = await mustRead(call, call.params.name);
    await recorded(call, "upstream.refresh", { name }, async () => {
      const outcome = await refreshUpstream(env, config, name, now);
      if (outcome === "absent") return refuse("NOT_FOUND", noSuchUpstream(name));
      return outcome === "superseded" ? outdated() : allow();
    });
    return shownDetail(call, await mustRead(call, name));
  },
});

const copy = z
  .object({
    definition: z.unknown(),
    pin: z.string(),
    by: z.string().optional(),
    at: z.string(),
  })
  .nullable();

export const listDefinitions = defineRoute({
  method: "get",
  path: "/upstreams/:name/tools",
  summary:
    "Everything that an upstream offers: the approved copy, the one last seen, the difference",
  params: nameParams,
  query: z.strictObject({
    ...pageQuery,
    kind: z.enum(KINDS).optional(),
    status: status.optional(),
  }),
  answer: z.object({
    tools: z.array(
      z.object({
        ...definitionFields,
        approved: copy,
        observed: copy,
        difference: z
          .object({
            changes: z.array(
              z.object({
                path: z.string(),
                before: z.string().nullable(),
                after: z.string().nullable(),
              }),
            ),
            more: z.int(),
          })
          .nullable()
          .describe("From the approved copy to the one last seen; null where they are the same."),
      }),
    ),
    next_cursor: nextCursor,
  }),
  run: async (call) => {
    const { env, params, query } = call;
    const { prefix } = parseConfig((await mustRead(call, params.name)).config);
    const [, kind = "", name = ""] =
      placeOf(query.cursor, /^([a-z_]{1,32})\n([^\n]{1,1024})$/) ?? [];
    const rows = await definitionPage(env.ARCHIVE_DB, params.name, [kind, name], {
      kind: query.kind ?? null,
      status: query.status ?? null,
      limit: query.limit + 1,
    });
    const page = withinBytes(rows.slice(0, query.limit));
    const last = rows.length > page.length ? page.at(-1) : undefined;
    return {
      tools: page.map((row) => shownCopies(row, prefix)),
      next_cursor: last === undefined ? null : encodeCursor(`${last.kind}\n${last.name}`),
    };
  },
});

export const approveTool = defineRoute({
  method: "post",
  path: "/upstreams/:name/tools/:tool/approve",
  summary: "Approve the copy last seen of something that an upstream offers",
  params: z.strictObject({ name: z.string(), tool: z.string() }),
  body: z.strictObject({
    pin: z
      .string()
      .regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits")
      .optional()
      .describe("Of the copy that was looked at: another one is not approved."),
    reads: z.boolean().optional().describe("Whether it only reads; as it was when left out."),
    kind: z.enum(KINDS).default("tool"),
  }),
  answer: z.object({
    ...definitionFields,
    approved_pin: z.string(),
    approved_by: z.string(),
    approved_at: z.string(),
  }),
  run: async (call) => {
    const { params, body } = call;
    const row = await mustRead(call, params.name);
    const { prefix } = parseConfig(row.config);
    const head = await mustFind(call, row, prefix);
    const what = { name: row.name, kind: head.kind, tool: head.name, pin: head.observed_pin };
    await recorded(call, "upstream.approve", what, () => approve(call, row, head));
    const after = await mustFind(call, row, prefix);
    return {
      ...shownHead(after, prefix),
      approved_pin: after.approved_pin,
      approved_by: after.approved_by,
      approved_at: after.approved_at,
      ...(body.reads === undefined ? {} : { reads: body.reads }),
    };
  },
});

// ── the changes ─────────────────────────────────────────────────────────────

type Call = Pick<
  AdminCall<unknown, unknown, unknown>,
  "env" | "config" | "operator" | "requestId" | "now" | "sent"
>;

async function create(
  call: Call,
  registration: Registration,
  approveAll: boolean,
): Promise<Decision> {
  const { env, config, operator, now } = call;
  const db = env.ARCHIVE_DB;
  const { name } = registration.config;
  if ((await readUpstream(db, name)) !== null) return refuse("CONFLICT", nameTaken(name));
  const observation = await look(call, registration);
  return attempts(async () => {
    const { version, others } = await claimsBeside(db, name);
    const conflict = conflictOf(
      {
        config: registration.config,
        hasResources: observation.ok && hasResources(observation.found.capabilities),
        names: observation.ok ? namesOf(observation.found.definitions) : [],
      },
      others,
      builtInToolNames(),
    );
    if (conflict !== null) return refuse("CONFLICT", conflict);
    if ((await readUpstream(db, name)) !== null) return refuse("CONFLICT", nameTaken(name));
    const input = { registration, version, observation, by: operator.id, now, approveAll };
    return insertUpstream(db, config.secretsKey, input);
  });
}

async function change(call: Call, revision: string, after: Registration): Promise<Decision> {
  const { env, config, now } = call;
  const db = env.ARCHIVE_DB;
  const { name } = after.config;
  let observation: Observation | null = null;
  return attempts(async () => {
    const row = await readUpstream(db, name);
    // What the operator changed was another registration than the one that is there now.
    if (row === null || row.revision !== revision) return outdated();
    const before = registrationOfRow(row, config.secretsKey);
    const isElsewhere = before.config.url !== after.config.url;
    // With session_param, tools that have an argument of that name are not offered.
    const isAskedAnew =
      isElsewhere ||
      JSON.stringify(before.auth) !== JSON.stringify(after.auth) ||
      before.config.session_param !== after.config.session_param;
    if (isAskedAnew) observation ??= await look(call, after);
    const found = observation?.ok === true ? observation.found : null;
    const stored = await definitionHeads(db, name);
    const { version, others } = await claimsBeside(db, name);
    const conflict = conflictOf(
      {
        config: after.config,
        hasResources: hasResources(found?.capabilities ?? parseObject(row.capabilities)),
        names: namesOf([...stored, ...(found?.definitions ?? [])]),
      },
      others,
      builtInToolNames(),
    );
    if (conflict !== null) return refuse("CONFLICT", conflict);
    const input = { row, registration: after, version, observation, stored, isElsewhere, now };
    return updateUpstream(db, config.secretsKey, input);
  });
}

async function approve(
  call: AdminCall<unknown, unknown, { pin?: string | undefined; reads?: boolean | undefined }>,
  row: UpstreamRow,
  head: DefinitionHead,
): Promise<Decision> {
  const { env, body, operator, now } = call;
  if (head.observed_pin === null) {
    return refuse("CONFLICT", `The upstream ${row.name} no longer offers ${head.name}.`);
  }
  if (body.pin !== undefined && body.pin !== head.observed_pin) {
    return refuse(
      "CONFLICT",
      `The copy last seen of ${head.name} has the pin ${head.observed_pin}. Look at it, then approve that one.`,
    );
  }
  const written = await approveDefinition(env.ARCHIVE_DB, row, head, {
    pin: head.observed_pin,
    reads: body.reads ?? null,
    by: operator.id,
    now,
  });
  return settled(written);
}

/** Asks an upstream as it is to be registered. */
function look({ config }: Call, { config: upstream, auth }: Registration): Promise<Observation> {
  return observe(wire.connect, openTarget(config, upstream, auth), upstream);
}

/** Decides and writes, and decides anew when the registry has moved on in between. */
async function attempts(attempt: () => Promise<Decision | Written>): Promise<Decision> {
  for (let count = 1; count <= MAX_ATTEMPTS; count++) {
    const outcome = await attempt();
    if (typeof outcome === "object") return outcome;
    if (outcome === "written") return settled(outcome);
  }
  return outdated();
}

function settled(written: Written): Decision {
  if (written === "outdated") return outdated();
  forgetDirectory();
  return allow();
}

function outdated(): Decision<never> {
  return refuse("CONFLICT", "The registration was changed meanwhile. Look at it and try again.");
}

/** Makes a change, recorded before and after, or throws its refusal. Secrets never reach the record. */
async function recorded(
  call: Call,
  action: string,
  upstream: JsonObject,
  make: () => Promise<Decision>,
): Promise<void> {
  const context = { action, upstream };
  const { name } = upstream;
  const outcome = await recordChange<Decision>(
    call.env,
    call.operator,
    { event: "admin", request_id: call.requestId, args: withoutSecrets(call.sent), context },
    () => announcing(call.env, typeof name === "string" ? name : null, make),
    (decided) =>
      decided.ok
        ? { result: "ok", context }
        : { result: "error", error_code: decided.refusal.code, context },
  );
  unwrap(outcome);
}

/** What of a registration is in the record of its change beside the call's own body. */
function facts({ config, auth }: Registration): JsonObject {
  const { name, url, prefix, gate, tenants, roles } = config;
  return {
    name,
    url,
    prefix,
    gate,
    tenants: [...tenants],
    roles: [...roles],
    auth: { kind: auth.kind },
  };
}

async function checkAddresses(
  { config: { allowPrivateUpstreams } }: Call,
  { config: upstream, auth }: Registration,
): Promise<Decision> {
  const places: [string, string][] = [["url", upstream.url]];
  if ("token_url" in auth) places.push(["auth.token_url", auth.token_url]);
  for (const [field, url] of places) {
    const problem =
      checkAddress(url, allowPrivateUpstreams) ??
      (await checkName(new URL(url), allowPrivateUpstreams));
    if (problem !== null) {
      return refuse(
        "INVALID_ARGUMENT",
        `${field}: ${problem} Only public https addresses are allowed unless ALLOW_PRIVATE_UPSTREAMS is set.`,
      );
    }
  }
  return allow();
}

// ── what answers show ───────────────────────────────────────────────────────

async function mustRead({ env }: Pick<Call, "env">, name: string): Promise<UpstreamRow> {
  const row = await readUpstream(env.ARCHIVE_DB, name);
  return row === null ? unwrap<UpstreamRow>(refuse("NOT_FOUND", noSuchUpstream(name))) : row;
}

/** By the upstream's own name of it, else by the name that clients see. */
async function mustFind(
  call: AdminCall<{ name: string; tool: string }, unknown, { kind: DefinitionRow["kind"] }>,
  row: UpstreamRow,
  prefix: string,
): Promise<DefinitionHead> {
  const { tool } = call.params;
  const heads = (await definitionHeads(call.env.ARCHIVE_DB, row.name)).filter(
    ({ kind }) => kind === call.body.kind,
  );
  const found =
    heads.find(({ name }) => name === tool) ??
    heads.find((head) => exposedOf(head, prefix) === tool);
  if (found !== undefined) return found;
  return unwrap<DefinitionHead>(
    refuse("NOT_FOUND", `The upstream ${row.name} has no ${call.body.kind} of this name.`),
  );
}

function registrationOfRow(row: UpstreamSummary, secretsKey: Uint8Array): Registration {
  return { config: parseConfig(row.config), auth: openAuth(secretsKey, row.name, row.auth) };
}

function shownRow(row: UpstreamSummary, secretsKey: Uint8Array): JsonObject {
  const { config, auth } = registrationOfRow(row, secretsKey);
  const { tenants, roles, resource_prefixes, ...rest } = config;
  return {
    ...rest,
    auth: shownAuth(auth),
    tenants: [...tenants],
    roles: [...roles],
    resource_prefixes: [...resource_prefixes],
    created_at: row.created_at,
    created_by: row.created_by,
    updated_at: row.updated_at,
    state: {
      available: row.refreshed_at !== null && row.failure === null,
      era: row.era,
      protocol_version: row.protocol_version,
      server_info: row.server_info === null ? null : parseObject(row.server_info),
      capabilities: parseObject(row.capabilities),
      ttl_ms: row.ttl_ms,
      resources: row.resource_count,
      refreshed_at: row.refreshed_at,
      checked_at: row.checked_at,
      failure: row.failure,
    },
  };
}

/** One that offers nothing to approve is approved by `approve=all` alone. */
async function shownDetail(
  { env, config }: Call,
  row: UpstreamRow,
  approvedAll = false,
): Promise<JsonObject> {
  const heads = await definitionHeads(env.ARCHIVE_DB, row.name);
  const { prefix } = parseConfig(row.config);
  return {
    ...shownRow(row, config.secretsKey),
    approved:
      row.refreshed_at !== null &&
      (approvedAll || heads.length > 0) &&
      heads.every((head) => head.status === "approved"),
    definitions: heads.map((head) => ({
      ...shownHead(head, prefix),
      approved: head.status === "approved",
      pin: head.observed_pin,
      approved_pin: head.approved_pin,
    })),
    left_out: parseLeftOut(row.left_out),
  };
}

function shownHead(head: Omit<DefinitionHead, "upstream">, prefix: string) {
  const { kind, name, status: now, reads } = head;
  return { kind, name, exposed: exposedOf(head, prefix), status: now, reads: reads === 1 };
}

function exposedOf({ kind, name }: { kind: string; name: string }, prefix: string): string | null {
  if (kind === "instructions") return null;
  return kind === "resource_template" ? name : exposedName(prefix, name);
}

function shownCopies(row: DefinitionRow, prefix: string): JsonObject {
  const approved = copyOf(row.approved, row.approved_pin, row.approved_at, row.approved_by);
  const observed = copyOf(row.observed, row.observed_pin, row.observed_at, null);
  const isSame = approved === null || observed === null || approved.pin === observed.pin;
  return {
    ...shownHead(row, prefix),
    approved,
    observed,
    difference: isSame ? null : shownDifference(approved.definition, observed.definition),
  };
}

function shownDifference(approved: JsonValue, observed: JsonValue): JsonObject {
  const { changes, more } = difference(approved, observed);
  return { changes: changes.map((each) => ({ ...each })), more };
}

function copyOf(
  text: string | null,
  pin: string | null,
  at: string | null,
  by: string | null,
): { definition: JsonValue; pin: string; at: string; by?: string } | null {
  if (text === null || pin === null || at === null) return null;
  return { definition: JSON.parse(text), pin, at, ...(by === null ? {} : { by }) };
}

/** Of definitions in one answer, beyond the first; each may be large. */
const MAX_ANSWER_CHARS = 4 * 1024 * 1024;

/** The rows that fit into one answer, at least one. */
function withinBytes(rows: readonly DefinitionRow[]): DefinitionRow[] {
  let chars = 0;
  const page: DefinitionRow[] = [];
  for (const row of rows) {
    chars += (row.approved?.length ?? 0) + (row.observed?.length ?? 0);
    if (page.length > 0 && chars > MAX_ANSWER_CHARS) break;
    page.push(row);
  }
  return page;
}

function nameTaken(name: string): string {
  return `There is an upstream ${name} already. Change that one, or take another name.`;
}

function noSuchUpstream(name: string): string {
  return `There is no upstream ${name.slice(0, 63)}.`;
}
