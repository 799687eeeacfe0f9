/**
 * @module
 * Makes sure that a local gateway has one working key of each role.
 */
import * as z from "zod";
import { LOCAL_ROLES, type LocalFile, StartError } from "./local-state.ts";

type Keys = Record<(typeof LOCAL_ROLES)[number], string>;

const minted = z.object({ key: z.string() });

/** Keeps the keys that work and mints those that do not. The operator's comes first: it mints the rest. */
export async function ensureKeys(
  url: string,
  adminToken: string,
  known: LocalFile["keys"],
): Promise<Keys> {
  const operator = await ensureKey(url, adminToken, "operator", known.operator);
  const keys: Keys = { operator, antigravity: "", windsurf: "", auditor: "" };
  for (const role of LOCAL_ROLES) {
    if (role !== "operator") keys[role] = await ensureKey(url, operator, role, known[role]);
  }
  return keys;
}

async function ensureKey(
  url: string,
  minter: string,
  role: (typeof LOCAL_ROLES)[number],
  key: string | undefined,
): Promise<string> {
  if (key !== undefined && (await works(url, role, key))) return key;
  const response = await fetch(`${url}/admin/keys`, {
    method: "POST",
    headers: { authorization: `Bearer ${minter}`, "content-type": "application/json" },
    body: JSON.stringify({ name: `local ${role}`, role, expires_in_days: 365 }),
  });
  if (response.status !== 201) {
    throw new StartError(`No ${role} key could be made: the gateway answered ${response.status}.`);
  }
  return minted.parse(await response.json()).key;
}

/** A key works when it is not refused as such, from wherever it is used; DELETE without a session changes nothing. */
async function works(url: string, role: string, key: string): Promise<boolean> {
  const headers = { authorization: `Bearer ${key}` };
  const response =
    role === "operator"
      ? await fetch(`${url}/admin/keys?limit=1`, { headers })
      : await fetch(`${url}/mcp`, { method: "DELETE", headers });
  await response.body?.cancel();
  return response.status !== 401;
}
