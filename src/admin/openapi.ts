/**
 * @module
 * The OpenAPI 3.1 document of the admin API, made of the routes themselves.
 */
import * as z from "zod";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { VERSION } from "../version.ts";
import type { AdminRoute } from "./route.ts";

const ERROR_SCHEMA: JsonObject = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message", "request_id"],
      properties: {
        code: { type: "string" },
        message: { type: "string" },
        request_id: { type: "string" },
      },
    },
  },
};

/** Describes `routes`, all below `/admin`. */
export function openApiDocument(routes: readonly AdminRoute[]): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    const path = `/admin${route.path.replace(/:(\w+)/g, "{$1}")}`;
    paths[path] = { ...paths[path], [route.method]: operation(route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Atlas Gate admin API", version: VERSION, license: { name: "MIT" } },
    security: [{ bearer: [] }, { apiKey: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
      },
    },
  };
}

function operation(route: AdminRoute): JsonObject {
  return {
    summary: route.summary,
    parameters: [...parameters(route.params, "path"), ...parameters(route.query, "query")],
    ...(route.body === null
      ? {}
      : {
          requestBody: {
            content: { "application/json": { schema: schemaOf(route.body, "input") } },
          },
        }),
    responses: {
      [String(route.status)]: success(route),
      default: {
        description: "A refusal",
        content: { "application/json": { schema: ERROR_SCHEMA } },
      },
    },
  };
}

function success(route: AdminRoute): JsonObject {
  const { answer } = route;
  if (answer === null) return { description: "Done" };
  if (typeof answer === "string") return { description: "The answer", content: { [answer]: {} } };
  return {
    description: "The answer",
    content: { "application/json": { schema: schemaOf(answer, "output") } },
  };
}

function parameters(schema: z.ZodObject, place: "path" | "query"): JsonValue[] {
  const json = schemaOf(schema, "input");
  const { properties, required } = json;
  const needed: readonly JsonValue[] = Array.isArray(required) ? required : [];
  if (typeof properties !== "object" || properties === null || Array.isArray(properties)) return [];
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === "path" || needed.includes(name),
    schema: property,
  }));
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): JsonObject {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return JSON.parse(JSON.stringify(rest));
}
