/**
 * @module
 * What is beyond the gateway, in the place of `fetch`: an issuer of access
 * tokens, a token endpoint that exchanges them, and an upstream of the 2026 era
 * with a tool, a slow one and one whose calls become tasks. And clients that come
 * with such a token, or with a certificate.
 */
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { vi } from "vitest";
import * as z from "zod";
import { createApp } from "../../src/app.ts";
import { BASE } from "./gateway.ts";

const ISSUER = "https://login.example.com";
const UPSTREAM = "https://tools.example.com/mcp";
const VERSION = "2026-07-28";
const TASKS = "io.modelcontextprotocol/tasks";

/** The principal of a subject. */
export const principalOfSub = (sub: string): string => `oauth:${ISSUER}|${sub}`;

/** A registration of the upstream; its tools are `tools_echo`, `tools_slow` and `tools_job`. */
export const REGISTRATION = {
  name: "tools",
  url: UPSTREAM,
  gate: "open",
  roles: ["windsurf", "antigravity"],
} as const;

/** A registration's `auth` that has callers' tokens exchanged. */
export const EXCHANGE = {
  kind: "token_exchange",
  token_url: `${ISSUER}/token`,
  client_id: "gate",
  client_secret: "hush",
} as const;

const messageSchema = z.object({
  id: z.union([z.string(), z.number()]),
  method: z.string(),
  params: z.looseObject({ name: z.string().optional(), taskId: z.string().optional() }),
});

/** A request as the upstream got it. */
export type Seen = {
  readonly method: string;
  /** The tool's or the task's name. */
  readonly name: string | null;
  readonly authorization: string | null;
};

export type Internet = {
  /** What the upstream was asked, lists and discovery left out. */
  readonly seen: Seen[];
  /** Called before the upstream answers a request; an answer of its own goes instead. */
  before: ((seen: Seen) => Promise<Response | null>) | null;
  readonly sign: (claims?: JWTPayload) => Promise<string>;
};

/** Stands in the place of `fetch` from now on. */
export async function internet(): Promise<Internet> {
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: "k" }] };
  const net: Internet = {
    seen: [],
    before: null,
    sign: (claims = {}) =>
      new SignJWT({
        iss: ISSUER,
        aud: `${BASE}/mcp`,
        sub: "alice",
        exp: Date.now() / 1000 + 300,
        role: "windsurf",
        scope: "mcp:read mcp:write mcp:audit",
        ...claims,
      })
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "k" })
        .sign(privateKey),
  };
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input, init);
    if (request.url === `${ISSUER}/jwks`) return Response.json(jwks);
    if (request.url === `${ISSUER}/token`) return exchanged(await request.formData());
    if (request.url === UPSTREAM) return upstream(net, request);
    return new Response(null, { status: 404 });
  });
  return net;
}

/** A token that says whose it was exchanged for, and with which scope. */
function exchanged(form: FormData): Response {
  const subject = form.get("subject_token");
  const claims = typeof subject === "string" ? claimsOf(subject) : null;
  return Response.json({
    access_token: claims === null ? "the-gateway" : `${claims.sub}/${claims.scope}`,
    token_type: "Bearer",
    expires_in: 300,
    ...(claims === null
      ? {}
      : { issued_token_type: "urn:ietf:params:oauth:token-type:access_token" }),
  });
}

function claimsOf(token: string): { sub: string; scope: string } {
  const payload = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
  const { sub, scope } = z
    .object({ sub: z.string(), scope: z.string() })
    .parse(JSON.parse(payload));
  return { sub, scope: scope.replaceAll(" ", "+") };
}

const TOOLS = ["echo", "slow", "job"].map((name) => ({ name, inputSchema: { type: "object" } }));

async function upstream(net: Internet, request: Request): Promise<Response> {
  const { id, method, params } = messageSchema.parse(await request.json());
  const answer = (result: object) =>
    Response.json({ jsonrpc: "2.0", id, result: { resultType: "complete", ...result } });
  if (method === "server/discover") {
    return answer({
      supportedVersions: [VERSION],
      capabilities: { tools: {}, extensions: { [TASKS]: {} } },
    });
  }
  if (method === "tools/list") return answer({ tools: TOOLS });
  const seen: Seen = {
    method,
    name: params.name ?? params.taskId ?? null,
    authorization: request.headers.get("authorization"),
  };
  net.seen.push(seen);
  const instead = (await net.before?.(seen)) ?? null;
  if (instead !== null) return instead;
  if (params.name === "job") return answer({ ...TASK, resultType: "task" });
  if (method === "tasks/get") return answer(TASK);
  if (method.startsWith("tasks/")) return answer({});
  return answer({ content: [{ type: "text", text: "heard" }] });
}

const TASK = {
  taskId: "task-1",
  status: "working",
  createdAt: "2100-01-01T00:00:00Z",
  lastUpdatedAt: "2100-01-01T00:00:00Z",
  ttlMs: 600_000,
};

// ── clients ─────────────────────────────────────────────────────────────────

const app = createApp();

/** Who a request comes from: an access token or a key, or a certificate's fingerprint. */
export type From = { readonly token: string } | { readonly fingerprint: string };

/** One POST to `/mcp`; the response as it comes, its body unread. */
export async function post(
  from: From,
  message: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  const context = createExecutionContext();
  const request = new Request(`${BASE}/mcp`, {
    method: "POST",
    headers: {
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
      ...("token" in from ? { authorization: `Bearer ${from.token}` } : {}),
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }),
    ...("fingerprint" in from ? { cf: { tlsClientAuth: handshake(from.fingerprint) } } : {}),
  });
  const bindings = {
    ...env,
    MCP_TOKEN_ISSUERS: JSON.stringify([{ issuer: ISSUER, jwks_uri: `${ISSUER}/jwks` }]),
  };
  const response = await app.fetch(request, bindings, context);
  // What goes on after the answer is paced, a second at a time, and no test waits for it.
  void waitOnExecutionContext(context);
  return response;
}

function handshake(fingerprint: string): object {
  return {
    certPresented: "1",
    certVerified: "SUCCESS",
    certRevoked: "0",
    certFingerprintSHA256: fingerprint,
    certSubjectDNRFC2253: "CN=a client",
  };
}

/** One request of the 2026 era from a client that takes tasks. */
export function post2026(
  from: From,
  method: string,
  params: Readonly<Record<string, unknown>>,
): Promise<Response> {
  const name = params.name ?? params.taskId;
  const message = {
    method,
    params: {
      ...params,
      _meta: {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": { extensions: { [TASKS]: {} } },
      },
    },
  };
  return post(from, message, {
    "mcp-protocol-version": VERSION,
    "mcp-method": method,
    ...(typeof name === "string" ? { "mcp-name": name } : {}),
  });
}

const repliedSchema = z.object({
  result: z
    .looseObject({ _meta: z.record(z.string(), z.unknown()).default({}) })
    .default({ _meta: {} }),
  error: z
    .looseObject({ code: z.int(), data: z.looseObject({ code: z.string().optional() }).optional() })
    .optional(),
});

export type Replied = {
  readonly status: number;
  /** The refusal's code, or null for what went well. */
  readonly code: string | null;
  readonly result: Readonly<Record<string, unknown>>;
  readonly headers: Headers;
};

/** Reads an answer, whichever way it came. */
export async function replied(response: Response): Promise<Replied> {
  const text = await response.text();
  const data = text.split("\n").findLast((line) => line.startsWith("data: {"));
  const { result, error } = repliedSchema.parse(JSON.parse(data?.slice("data: ".length) ?? text));
  const refusal = z
    .object({ code: z.string() })
    .optional()
    .parse(result._meta["dev.atlas-gate/error"]);
  const code =
    error === undefined ? (refusal?.code ?? null) : (error.data?.code ?? String(error.code));
  return { status: response.status, code, result, headers: response.headers };
}

/** A `tools/call` of the 2026 era without a handle, on the caller's ambient session. */
export async function call(
  from: From,
  name: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<Replied> {
  return replied(await post2026(from, "tools/call", { name, arguments: args }));
}
