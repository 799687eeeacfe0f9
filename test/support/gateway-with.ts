/**
 * @module
 * The gateway with other variables than the tests' own, and with what only the platform can say of a
 * request: its client certificate.
 */
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { createApp } from "../../src/app.ts";
import { type Answer, BASE } from "./gateway.ts";

const app = createApp();

export type Sent = {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly tls?: object;
};

/** The gateway with other variables than the tests' own. */
export function gatewayWith(vars: Readonly<Record<string, string>>) {
  const bindings = { ...env, ...vars };
  return async ({ method = "POST", path = "/mcp", headers = {}, body, tls }: Sent) => {
    const context = createExecutionContext();
    const request = new Request(`${BASE}${path}`, {
      method,
      headers: {
        accept: "application/json, text/event-stream",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(tls === undefined ? {} : { cf: { tlsClientAuth: tls } }),
    });
    const response = await app.fetch(request, bindings, context);
    const text = await response.text();
    // What goes on after the answer is paced, a second at a time, and none of these tests waits for it.
    void waitOnExecutionContext(context);
    const answer: Answer = {
      status: response.status,
      headers: response.headers,
      text,
      body: text.startsWith("{") ? JSON.parse(text) : null,
    };
    return answer;
  };
}
