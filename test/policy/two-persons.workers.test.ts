import { describe, expect, test } from "vitest";
import * as z from "zod";
import {
  admin,
  initializeRequest,
  type Key,
  keyOf,
  mintKey,
  newRoot,
  planOf,
} from "../support/gateway.ts";
import { gatewayWith } from "../support/gateway-with.ts";
import { captureLogs, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

const send = gatewayWith({ PLAN_APPROVALS_REQUIRED: "2" });
let certificates = 0;

/** A certificate that nobody is bound to yet, as the platform describes a verified one. */
function newCertificate() {
  certificates += 1;
  const fingerprint = certificates.toString(16).padStart(64, "0");
  return {
    fingerprint,
    tls: {
      certPresented: "1",
      certVerified: "SUCCESS",
      certRevoked: "0",
      certFingerprintSHA256: fingerprint,
      certSubjectDNRFC2253: "CN=planner",
    },
  };
}

async function bind(operator: Key, binding: Record<string, unknown>): Promise<string> {
  const body = { name: "a certificate", ...binding };
  const answer = await admin("POST", "/client-certificates", { as: operator.key, body });
  if (answer.status !== 201) throw new Error(answer.text);
  return z.object({ id: z.string() }).parse(answer.body).id;
}

/** Saves a plan with nothing but a client certificate; answers with its hash. */
async function savedBy(tls: object, root: string): Promise<string> {
  const opened = await send({ tls, body: initializeRequest() });
  const headers = { "mcp-session-id": opened.headers.get("mcp-session-id") ?? "" };
  const call = async (name: string, args: object) => {
    const params = { name, arguments: args };
    return send({ tls, headers, body: { jsonrpc: "2.0", id: name, method: "tools/call", params } });
  };
  await call("begin_session", { workspace_root: root });
  const saved = await call("save_plan", { plan: planOf() });
  const hash = /"plan_hash":"([0-9a-f]{64})"/.exec(saved.text)?.[1];
  if (hash === undefined) throw new Error(saved.text);
  return hash;
}

async function approve(operator: Key, hash: string, root: string): Promise<number> {
  const { status } = await send({
    path: `/admin/plans/${hash}/approve`,
    headers: { authorization: `Bearer ${operator.key}` },
    body: { workspace_root: root },
  });
  return status;
}

describe("with two operators for a plan, nobody approves one that was saved", () => {
  test("with a certificate that they bound to a role, also when they have unbound it", async () => {
    const [one, other] = [await mintKey("operator"), await mintKey("operator")];
    const root = newRoot();
    const { fingerprint, tls } = newCertificate();
    const id = await bind(one, { fingerprint_sha256: fingerprint, role: "antigravity" });
    const hash = await savedBy(tls, root);
    expect(await approve(one, hash, root)).toBe(403);
    await admin("DELETE", `/client-certificates/${id}`, { as: one.key });
    expect(await approve(one, hash, root)).toBe(403);
    expect(await approve(other, hash, root)).toBe(200);
  });

  test("with a certificate that they bound to somebody else's key", async () => {
    const [one, other] = [await mintKey("operator"), await mintKey("operator")];
    const body = { name: "a planner", role: "antigravity" };
    const planner = keyOf(await admin("POST", "/keys", { as: other.key, body }));
    const root = newRoot();
    const { fingerprint, tls } = newCertificate();
    await bind(one, { fingerprint_sha256: fingerprint, key_id: planner.id });
    const hash = await savedBy(tls, root);
    expect(await approve(one, hash, root)).toBe(403);
    expect(await approve(other, hash, root)).toBe(403);
    expect(await approve(await mintKey("operator"), hash, root)).toBe(200);
  });

  test("as a principal of an issuer for whom they bound a certificate", async () => {
    const [one, other] = [await mintKey("operator"), await mintKey("operator")];
    const root = newRoot();
    const principal = "oauth:https://login.example.com|frank";
    const [mine, theirs] = [newCertificate(), newCertificate()];
    const binding = { principal, role: "antigravity" };
    await bind(one, { ...binding, fingerprint_sha256: mine.fingerprint });
    await bind(other, { ...binding, principal: `${principal}-2`, subject: "CN=planner" });
    const hash = await savedBy(mine.tls, root);
    expect(await approve(one, hash, root)).toBe(403);
    expect(await approve(other, hash, root)).toBe(200);
    const another = newRoot();
    const unrelated = await savedBy(theirs.tls, another);
    expect(await approve(one, unrelated, another)).toBe(200);
    expect(await approve(other, unrelated, another)).toBe(403);
  });
});
