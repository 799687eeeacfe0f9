import { describe, expect, it } from "vitest";
import { isAtLeast, isLogLevel, LOG_LEVELS } from "../../src/mcp/log-level.ts";

describe("the level of a log message", () => {
  it("is enough from the one that was asked for upwards", () => {
    const passed = LOG_LEVELS.filter((level) => isAtLeast(level, "warning"));
    expect(passed).toEqual(["warning", "error", "critical", "alert", "emergency"]);
    expect(LOG_LEVELS.every((level) => isAtLeast(level, "debug"))).toBe(true);
  });

  it("is one of eight; a message with another is not held back for it", () => {
    expect(["warn", "", null, 3, undefined].filter(isLogLevel)).toEqual([]);
    expect(isAtLeast("warn", "emergency")).toBe(true);
  });
});
