import { describe, expect, it } from "vitest";
import { cannotBeAsked, errorStatus, errorTo2026 } from "../../src/session/relay-words.ts";

const codeOf = (code: number, data?: { own: number }) => {
  const known = errorTo2026({ code, message: "as it was", ...(data && { data }) }, {});
  return "error" in known ? known.error : known;
};

describe("an upstream's error for a client of 2026-07-28", () => {
  it.each([-32700, -32600, -32603, -32000, -32019, -32021, -32100, 4050])(
    "has the code %i as it was",
    (code) => expect(codeOf(code)).toEqual({ code, message: "as it was" }),
  );

  it.each([-32020, -32022, -32023, -32042, -32050, -32099])(
    "never has the reserved code %i, which is kept beside",
    (code) =>
      expect(codeOf(code, { own: 1 })).toEqual({
        code: -32603,
        message: "as it was",
        data: { own: 1, upstream_code: code },
      }),
  );

  it("has a missing resource as parameters that do not fit", () => {
    const known = errorTo2026({ code: -32002, message: "gone" }, { uri: "docs://a" });
    expect(known).toEqual({
      error: { code: -32602, message: "gone", data: { uri: "docs://a" } },
    });
  });

  it("names the capability that a client lacks, and no other reason", () => {
    expect(cannotBeAsked("github", false)).toMatchObject({
      code: -32021,
      data: { requiredCapabilities: { elicitation: { url: {} } } },
    });
    expect(cannotBeAsked("github", true)).toMatchObject({ code: -32603 });
    expect([-32021, -32602, -32601, -32603].map(errorStatus)).toEqual([400, 400, 404, 200]);
  });
});
