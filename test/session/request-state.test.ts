import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sealText } from "../../src/crypto/aead.ts";
import {
  openState,
  paramsDigest,
  type RequestState,
  sealState,
  stateProblem,
} from "../../src/session/request-state.ts";

const KEY = new Uint8Array(32).fill(7);
const PARAMS = { name: "github_create", arguments: { repo: "acme/api" } };
const NOW = Date.UTC(2026, 10, 22);

const STATE: RequestState = {
  principal: "key:1",
  tenant: "default",
  role: "windsurf",
  session: "s",
  upstream: "github",
  method: "tools/call",
  digest: paramsDigest(PARAMS),
  expires_at: NOW + 1,
  nonce: "n",
  state: "the upstream's own",
  waiting: null,
};
const REQUEST = {
  principal: "key:1",
  tenant: "default",
  role: "windsurf",
  session: "s",
  method: "tools/call",
  upstream: "github",
  params: PARAMS,
  now: NOW,
};

describe("a sealed state", () => {
  it("opens to what was sealed, and shows nothing of it", () => {
    const sealed = sealState(KEY, STATE);
    expect(openState(KEY, sealed)).toEqual(STATE);
    expect(sealed).not.toBe(sealState(KEY, STATE));
    expect(Buffer.from(sealed, "base64").toString("latin1")).not.toContain("upstream");
  });

  it("does not open when any of it was changed, or under another key", () => {
    const sealed = sealState(KEY, STATE);
    expect(openState(new Uint8Array(32).fill(8), sealed)).toBeNull();
    fc.assert(
      fc.property(fc.nat(sealed.length - 1), fc.constantFrom(..."Ab0-_=!é"), (at, char) => {
        const changed = `${sealed.slice(0, at)}${char}${sealed.slice(at + 1)}`;
        fc.pre(changed !== sealed);
        expect(openState(KEY, changed)).toBeNull();
      }),
      { numRuns: 500 },
    );
  });

  it("is nothing that a client makes up", () => {
    fc.assert(fc.property(fc.string(), (text) => openState(KEY, text) === null));
  });
});

describe("a state that opened", () => {
  it("is good for the request that it was given for, until it expires", () => {
    expect(stateProblem(STATE, REQUEST)).toBeNull();
    const retried = { ...PARAMS, _meta: { x: 1 }, inputResponses: {}, requestState: "…" };
    expect(stateProblem(STATE, { ...REQUEST, params: retried })).toBeNull();
    expect(stateProblem(STATE, { ...REQUEST, now: NOW + 1 })).toMatch(/expired/);
  });

  it.each([
    [{ principal: "key:2" }, /someone else/],
    [{ tenant: "other" }, /someone else/],
    [{ role: "antigravity" }, /another role/],
    [{ session: "t" }, /another session/],
    [{ upstream: "gitlab" }, /another request/],
    [{ method: "prompts/get" }, /another request/],
    [{ params: { ...PARAMS, name: "github_delete" } }, /parameters/],
    [{ params: { ...PARAMS, arguments: { repo: "acme/other" } } }, /parameters/],
    [{ params: { ...PARAMS, more: 1 } }, /parameters/],
    [{ params: {} }, /parameters/],
  ])("is no good for another: %j", (change, problem) => {
    expect(stateProblem(STATE, { ...REQUEST, ...change })).toMatch(problem);
  });

  it("is no good for anybody where it does not say for which role it was given", () => {
    const { role: _role, ...older } = STATE;
    const opened = openState(KEY, sealText(KEY, "request-state", JSON.stringify(older), ""));
    expect(opened === null ? null : stateProblem(opened, REQUEST)).toMatch(/another role/);
  });
});
