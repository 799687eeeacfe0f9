/**
 * @module
 * What an admin route is. The router, the checks of its input and its part of
 * the OpenAPI document all come from the one definition.
 */
import * as z from "zod";
import type { Archive } from "../archive/archive.ts";
import type { Config } from "../config.ts";
import type { Principal } from "../edge/principal.ts";
import { HttpRefusal, statusOf } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import type { Decision } from "../policy/errors.ts";
import { decodeCursor } from "../tools/cursor.ts";
import { describeIssues } from "../tools/tool.ts";

/** What a handler gets: its input as the schemas of its route made it. */
export type AdminCall<Params, Query, Body> = {
  readonly env: Env;
  readonly config: Config;
  readonly operator: Principal;
  readonly requestId: string;
  readonly now: number;
  /** The archive for reading, at least as new as the caller has seen it. */
  readonly archive: () => Archive;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** The body as sent, for the record. */
  readonly sent: JsonObject;
};

export type AdminRoute = {
  readonly method: "get" | "post" | "patch" | "delete";
  /** In Hono's form, below `/admin`. */
  readonly path: string;
  readonly summary: string;
  /** Whether `ADMIN_TOKEN` may call it; the handler narrows further. */
  readonly bootstrap: boolean;
  readonly params: z.ZodObject;
  readonly query: z.ZodObject;
  readonly body: z.ZodObject | null;
  readonly status: 200 | 201 | 204;
  readonly answer: z.ZodType | string | null;
  readonly handle: (
    call: Omit<AdminCall<unknown, unknown, unknown>, "params" | "query" | "body"> & {
      raw: { params: unknown; query: unknown; body: unknown };
    },
  ) => Promise<Response>;
};

const NOTHING = z.strictObject({});

/** Defines a route; `run` answers with a value for JSON, or with a whole response. */
export function defineRoute<
  Params extends z.ZodObject = typeof NOTHING,
  Query extends z.ZodObject = typeof NOTHING,
  Body extends z.ZodObject = typeof NOTHING,
>(route: {
  method: AdminRoute["method"];
  path: string;
  summary: string;
  bootstrap?: boolean;
  params?: Params;
  query?: Query;
  body?: Body;
  status?: AdminRoute["status"];
  /** The schema of a JSON answer, a media type for anything else, or nothing for 204. */
  answer?: z.ZodType | string;
  run: (
    call: AdminCall<z.output<Params>, z.output<Query>, z.output<Body>>,
  ) => Promise<JsonObject | Response | null>;
}): AdminRoute {
  const params: z.ZodObject = route.params ?? NOTHING;
  const query: z.ZodObject = route.query ?? NOTHING;
  const body: z.ZodObject | null = route.body ?? null;
  const status = route.status ?? 200;
  const parseParams = parser<Params>(route.params);
  const parseQuery = parser<Query>(route.query);
  const parseBody = parser<Body>(route.body);
  return {
    method: route.method,
    path: route.path,
    summary: route.summary,
    bootstrap: route.bootstrap ?? false,
    params,
    query,
    body,
    status,
    answer: route.answer ?? null,
    handle: async ({ raw, ...call }) => {
      const answer = await route.run({
        ...call,
        params: parseParams(raw.params),
        query: parseQuery(raw.query),
        body: parseBody(raw.body),
      });
      if (answer instanceof Response) return answer;
      return answer === null ? new Response(null, { status }) : Response.json(answer, { status });
    },
  };
}

/** Parses input or throws `HttpRefusal` 400, naming the field. A route without a schema takes no field at all. */
function parser<Schema extends z.ZodObject>(
  schema: Schema | undefined,
): (input: unknown) => z.output<Schema> {
  return (input) => {
    if (typeof input === "object" && input !== null && Object.hasOwn(input, "__proto__")) {
      throw new HttpRefusal(400, "INVALID_ARGUMENT", "Unknown field: __proto__.");
    }
    const parsed = (schema ?? NOTHING).safeParse(input);
    if (parsed.success) return parsed.data as z.output<Schema>;
    throw new HttpRefusal(400, "INVALID_ARGUMENT", describeIssues(parsed.error));
  };
}

/** The value of a decision, or its refusal as an HTTP error. */
export function unwrap<T>(decision: Decision<T>): T {
  if (decision.ok) return decision.value;
  const { code, message } = decision.refusal;
  throw new HttpRefusal(statusOf(code), code, message);
}

export const MAX_PAGE = 200;
const DEFAULT_PAGE = 50;

/** The two query parameters of every list. */
export const pageQuery = {
  cursor: z.string().optional().describe("next_cursor of the page before."),
  limit: z
    .string()
    .regex(/^\d{1,3}$/, "must be a whole number")
    .transform(Number)
    .refine((n) => n >= 1 && n <= MAX_PAGE, `must be from 1 to ${MAX_PAGE}`)
    .default(DEFAULT_PAGE),
};

/** The place that a cursor names, in the form that this list gives out; null at the beginning. */
export function placeOf(cursor: string | undefined, form: RegExp): RegExpExecArray | null {
  const place = unwrap(decodeCursor(cursor));
  if (place === "") return null;
  const match = form.exec(place);
  if (match !== null) return match;
  throw new HttpRefusal(
    400,
    "INVALID_ARGUMENT",
    "cursor: must be a next_cursor of an earlier answer.",
  );
}

export const nextCursor = z.string().nullable();

export { tenantName } from "../edge/principal.ts";
