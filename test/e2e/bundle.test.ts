import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseBundle } from "../../src/verify/bundle.ts";
import { atlasGate, Folder } from "../cli/command.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { RawSession, type Receipt } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";

let gateway: Gateway;
let operator: Operator;
let vkey: string;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1" } });
  operator = new Operator(gateway.url, gateway.keys.operator);
  vkey = (await (await fetch(`${gateway.url}/log/vkey`)).text()).trimEnd();
});

afterAll(async () => {
  await gateway?.dispose();
});

/** A session of some calls, and its bundle once the log covers all of them. */
async function anchoredSession(): Promise<{ id: string; bundle: string; receipts: Receipt[] }> {
  const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
  const receipts: Receipt[] = [];
  for (const args of [{ path: "a" }, { path: "b", deep: { "10": [1e21, -0] } }, {}]) {
    receipts.push((await session.call("read_file", args)).receipt);
  }
  const last = receipts.at(-1)?.seq ?? 0;
  const bundle = await eventually("the log covers the session", async () => {
    const answer = await operator.get(`/audit/sessions/${session.id}/bundle?leaves=all`);
    const parsed = parseBundle(answer.text);
    const leaves = parsed.ok ? (parsed.bundle.log?.leaves ?? []) : [];
    return leaves.some(({ entry }) => JSON.parse(entry).seq >= last) ? answer.text : null;
  });
  return { id: session.id, bundle, receipts };
}

describe("the bundle of a running gateway", () => {
  it("is verified by the command against the gateway's log, with receipts and an old checkpoint", async () => {
    await using folder = await Folder.create();
    await anchoredSession();
    const since = await (await fetch(`${gateway.url}/log/checkpoint`)).text();
    const { bundle, receipts } = await anchoredSession();
    const path = await folder.write("bundle.json", bundle);
    const options = ["--vkey", vkey, "--log", `${gateway.url}/log`];
    const ran = await atlasGate(
      ...["verify", path, ...options, "--json"],
      ...["--since", await folder.write("since", since)],
      ...["--receipts", await folder.write("receipts", JSON.stringify(receipts))],
    );
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    const { verdicts, unanchored } = JSON.parse(ran.stdout);
    expect(unanchored).toBe(0);
    expect(verdicts).toMatchObject({
      integrity: { ok: true },
      anchored: { ok: true },
      completeness: { ok: true },
      independence: { ok: true },
    });

    // One byte of a record, and a tail that was cut.
    const edited = await folder.write("edited.json", bundle.replace('"path":"a"', '"path":"c"'));
    expect((await atlasGate("verify", edited)).code).toBe(1);
    const { records, ...rest } = JSON.parse(bundle);
    const cut = JSON.stringify({ ...rest, records: records.slice(0, -1) });
    const cutPath = await folder.write("cut.json", cut);
    expect((await atlasGate("verify", cutPath)).code).toBe(0);
    expect((await atlasGate("verify", cutPath, "--vkey", vkey)).code).toBe(1);
    const noLog = await folder.write(
      "nolog.json",
      JSON.stringify({ ...JSON.parse(cut), log: null }),
    );
    const complete = await atlasGate("verify", noLog, ...options, "--json");
    expect(complete.code).toBe(1);
    expect(JSON.parse(complete.stdout).verdicts.completeness.ok).toBe(false);
  });

  it("is what the gateway's own verdicts say, and its whole log holds together", async () => {
    const { id } = await anchoredSession();
    const own = await operator.ok("GET", `/audit/sessions/${id}/verify`);
    expect(own).toMatchObject({
      session_id: id,
      unanchored: 0,
      verdicts: { integrity: { ok: true }, anchored: { ok: true }, completeness: { ok: true } },
    });
    const audit = await atlasGate("log", "audit", `${gateway.url}/log`, "--vkey", vkey, "--json");
    expect([audit.code, JSON.parse(audit.stdout).ok]).toEqual([0, true]);
  });
});
