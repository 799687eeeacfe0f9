/**
 * @module
 * The official clients of both eras, each with everything that an upstream may
 * ask of it, behind one face: what a pairing's tests need.
 */
import {
  Client as Client2,
  StreamableHTTPClientTransport as Transport2,
} from "@modelcontextprotocol/client";
import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import * as z from "zod";
import { receiptSchema } from "./mcp.ts";

export type Era = "2025" | "2026";
type Empty = Record<string, never>;
export type Capabilities = {
  sampling?: Empty;
  elicitation?: { form?: Empty; url?: Empty };
  roots?: Empty;
};

/** What the client was asked, with the name of the upstream that the question came with. */
export type Asked = { readonly method: string; readonly params: unknown };

export const ALL: Capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };

export const ROOTS = { roots: [{ uri: "file:///srv/project", name: "project" }] };
export const FORM = { action: "accept" as const, content: { name: "Ada" } };
export const SAMPLED = {
  model: "a-model",
  role: "assistant" as const,
  content: { type: "text" as const, text: "sampled" },
};

const resultSchema = z.looseObject({
  isError: z.boolean().optional(),
  content: z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
  _meta: z.looseObject({
    "dev.atlas-gate/receipt": receiptSchema,
    "dev.atlas-gate/error": z.object({ code: z.string() }).optional(),
  }),
});

export type CallOptions = {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: { progress: number }) => void;
};

export type OfficialClient = {
  readonly era: Era;
  readonly asked: Asked[];
  readonly call: (
    name: string,
    args?: Record<string, unknown>,
    options?: CallOptions,
  ) => Promise<{
    text: string;
    code: string | null;
    receipt: z.infer<typeof receiptSchema>;
    result: z.infer<typeof resultSchema>;
  }>;
  readonly close: () => Promise<void>;
};

export async function officialClient(
  era: Era,
  url: string,
  key: string,
  capabilities: Capabilities = ALL,
): Promise<OfficialClient> {
  const asked: Asked[] = [];
  const endpoint = new URL(`${url}/mcp`);
  const requestInit = { headers: { authorization: `Bearer ${key}` } };
  const call = era === "2025" ? await one() : await two();
  return { era, asked, ...call };

  async function one(): Promise<Pick<OfficialClient, "call" | "close">> {
    const client = new Client1({ name: "official 1", version: "1" }, { capabilities });
    if (capabilities.elicitation !== undefined) {
      client.setRequestHandler(ElicitRequestSchema, async ({ method, params }) => {
        asked.push({ method, params });
        return params.mode === "url" ? { action: "accept" } : FORM;
      });
    }
    if (capabilities.sampling !== undefined) {
      client.setRequestHandler(CreateMessageRequestSchema, async ({ method, params }) => {
        asked.push({ method, params });
        return SAMPLED;
      });
    }
    if (capabilities.roots !== undefined) {
      client.setRequestHandler(ListRootsRequestSchema, async ({ method, params }) => {
        asked.push({ method, params });
        return ROOTS;
      });
    }
    const transport = new Transport1(endpoint, { requestInit });
    // The SDK's own types disagree on optional members under exactOptionalPropertyTypes.
    await client.connect(transport as Parameters<Client1["connect"]>[0]);
    return {
      call: async (name, args = {}, options = {}) =>
        read(await client.callTool({ name, arguments: args }, undefined, options)),
      close: async () => {
        await transport.terminateSession();
        await client.close();
      },
    };
  }

  async function two(): Promise<Pick<OfficialClient, "call" | "close">> {
    const client = new Client2(
      { name: "official 2", version: "2" },
      { capabilities, versionNegotiation: { mode: { pin: "2026-07-28" } } },
    );
    if (capabilities.elicitation !== undefined) {
      client.setRequestHandler("elicitation/create", async ({ method, params }) => {
        asked.push({ method, params });
        return params.mode === "url" ? { action: "accept" } : FORM;
      });
    }
    if (capabilities.sampling !== undefined) {
      client.setRequestHandler("sampling/createMessage", async ({ method, params }) => {
        asked.push({ method, params });
        return SAMPLED;
      });
    }
    if (capabilities.roots !== undefined) {
      client.setRequestHandler("roots/list", async ({ method, params }) => {
        asked.push({ method, params });
        return ROOTS;
      });
    }
    await client.connect(new Transport2(endpoint, { requestInit }));
    return {
      call: async (name, args = {}, options = {}) =>
        read(await client.callTool({ name, arguments: args }, options)),
      close: () => client.close(),
    };
  }
}

function read(given: unknown): Awaited<ReturnType<OfficialClient["call"]>> {
  const result = resultSchema.parse(given);
  return {
    text: result.content.map(({ text }) => text ?? "").join(""),
    code: result._meta["dev.atlas-gate/error"]?.code ?? null,
    receipt: result._meta["dev.atlas-gate/receipt"],
    result,
  };
}
