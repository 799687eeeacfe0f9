import { expect, test } from "vitest";
import { ConnectionBuffer, type ConnectionRow } from "../../src/ops/connections/buffer.ts";
import { type Connection, originOf, refusalReason } from "../../src/ops/connections/connection.ts";

function refusedAt(reason: string, n: number): Connection {
  return {
    at: new Date(n).toISOString(),
    outcome: "refused",
    reason,
    status: 401,
    principal: null,
    address: `203.0.113.${n % 256}`,
    colo: "ZRH",
    tls_version: "TLSv1.3",
    user_agent: null,
    request_id: `r-${n}`,
  };
}

function newBuffer(): ConnectionBuffer {
  let ids = 0;
  return new ConnectionBuffer(() => `id-${++ids}`);
}

/** What the table holds after a sequence of writes: a row replaces the one with its id. */
function stored(writes: readonly ConnectionRow[][]): ConnectionRow[] {
  return [...new Map(writes.flat().map((row) => [row.id, row])).values()];
}

test("a flood leaves a bounded number of rows, whose counts add up to what there was", () => {
  const buffer = newBuffer();
  const writes: ConnectionRow[][] = [];
  for (let n = 0; n < 10_000; n++) {
    buffer.add(refusedAt(n % 10 === 0 ? "KEY_EXPIRED" : "UNAUTHENTICATED", n), n);
    if (n % 700 === 0) writes.push(buffer.take());
  }
  writes.push(buffer.take());
  const rows = stored(writes);
  expect(rows.length).toBeLessThanOrEqual(2 * 21);
  const total = (reason: string) =>
    rows.filter((row) => row.reason === reason).reduce((sum, { count }) => sum + count, 0);
  expect(total("KEY_EXPIRED")).toBe(1_000);
  expect(total("UNAUTHENTICATED")).toBe(9_000);
});

test("each minute keeps the first of a kind whole again", () => {
  const buffer = newBuffer();
  for (let minute = 0; minute < 3; minute++) {
    for (let n = 0; n < 30; n++) buffer.add(refusedAt("FORBIDDEN", n), minute * 60_000);
  }
  const rows = buffer.take();
  expect(rows.filter(({ count }) => count === 1)).toHaveLength(60);
  expect(rows.filter(({ count }) => count === 10)).toHaveLength(3);
});

test("what could not be written waits, and a newer state of a row is not undone", () => {
  const buffer = newBuffer();
  for (let n = 0; n < 22; n++) buffer.add(refusedAt("FORBIDDEN", n), 0);
  const failed = buffer.take();
  buffer.add(refusedAt("FORBIDDEN", 23), 1);
  buffer.putBack(failed);
  const rows = buffer.take();
  expect(rows).toHaveLength(21);
  expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(23);
});

test("an address is what the platform says, in one spelling; a user agent is bounded and holds no credential", () => {
  const request = new Request("https://gate.example/mcp", {
    headers: {
      "cf-connecting-ip": "::ffff:203.0.113.7",
      "x-forwarded-for": "198.51.100.1",
      "user-agent": `bot ag_${"a".repeat(16)}_${"B".repeat(43)} ${"x".repeat(1000)}`,
    },
  });
  const origin = originOf(request);
  expect(origin.address).toBe("203.0.113.7");
  expect(origin.user_agent).not.toContain("B".repeat(43));
  expect(origin.user_agent?.length).toBeLessThanOrEqual(300);
  for (const text of ["<script>", "203.0.113.7, 203.0.113.8", "fe80::1%eth0", "127.1", "0x7f.1"]) {
    const headers = { "cf-connecting-ip": text };
    const forged = new Request("https://gate.example/mcp", { headers });
    expect(originOf(forged).address).toBeNull();
  }
});

test("reasons are of a closed list", () => {
  expect(refusalReason("KEY_EXPIRED", 401)).toBe("KEY_EXPIRED");
  expect(refusalReason("whatever\nelse", 403)).toBe("HTTP_403");
});
