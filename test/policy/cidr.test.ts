import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { holderOf, isLoopback, isWithin, parseCidr } from "../../src/policy/cidr.ts";

function within(blocks: string[], address: string): boolean {
  return isWithin(
    blocks.map((text) => {
      const cidr = parseCidr(text);
      if (cidr === null) throw new Error(`${text} is no CIDR`);
      return cidr;
    }),
    address,
  );
}

const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));

function numberOf([a, b, c, d]: readonly number[]): number {
  return (((a ?? 0) * 256 + (b ?? 0)) * 256 + (c ?? 0)) * 256 + (d ?? 0);
}

describe("an address list", () => {
  test.each([
    [["192.0.2.0/24"], "192.0.2.255", true],
    [["192.0.2.0/24"], "192.0.3.0", false],
    [["192.0.2.7"], "192.0.2.7", true],
    [["192.0.2.7"], "192.0.2.8", false],
    [["0.0.0.0/0"], "203.0.113.9", true],
    [["0.0.0.0/0"], "2001:db8::1", false],
    [["::/0"], "2001:db8::1", true],
    [["::/0"], "203.0.113.9", false],
    [["2001:db8::/32"], "2001:db8:ffff::1", true],
    [["2001:db8::/32"], "2001:db9::1", false],
    [["2001:DB8:0:0::/64"], "2001:db8::ffff:ffff:ffff:ffff", true],
    // The same address, written in two ways, on either side.
    [["192.0.2.0/24"], "::ffff:192.0.2.1", true],
    [["192.0.2.0/24"], "::ffff:c000:0201", true],
    // IPv4-compatible is another address than mapped.
    [["192.0.2.0/24"], "::192.0.2.1", false],
    [["::ffff:192.0.2.0/120"], "192.0.2.1", true],
    [["::ffff:192.0.2.0/120"], "192.0.3.1", false],
    [["10.0.0.0/8", "192.0.2.1"], "192.0.2.1", true],
    [[], "192.0.2.1", false],
  ])("%j holds %s: %s", (blocks, address, expected) => {
    expect(within(blocks, address)).toBe(expected);
  });

  test.each([
    "",
    "unknown",
    "192.0.2.1, 10.0.0.1",
    "192.0.2",
    "0300.0.2.1",
    "3221225985",
    "::1%eth0",
  ])("holds nothing that is no address: %j", (address) => {
    expect(within(["0.0.0.0/0", "::/0"], address)).toBe(false);
  });

  test.each([
    "192.0.2.1/24",
    "192.0.2.0/33",
    "192.0.2.0/-1",
    "192.0.2.0/",
    "192.0.2.0/24/24",
    "192.0.2",
    "0x7f.0.0.1",
    "2001:db8::1/32",
    "2001:db8::/129",
    "::ffff:0:0/95",
    "fe80::1%eth0",
    "example.com",
    "",
  ])("refuses %j rather than guess", (text) => {
    expect(parseCidr(text)).toBeNull();
  });

  test("agrees with arithmetic on 32 bits", () => {
    fc.assert(
      fc.property(octets, octets, fc.integer({ min: 0, max: 32 }), (network, address, bits) => {
        const size = 2 ** (32 - bits);
        const first = Math.floor(numberOf(network) / size) * size;
        const base = [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join(".");
        const at = numberOf(address);
        expect(within([`${base}/${bits}`], address.join("."))).toBe(
          at >= first && at < first + size,
        );
      }),
    );
  });
});

describe("who is counted together", () => {
  test("is one IPv4 address, however it is written, or one /64", () => {
    expect(holderOf("::ffff:192.0.2.1")).toBe("192.0.2.1");
    expect(holderOf("2001:db8:1:2:3::4")).toBe("2001:db8:1:2::/64");
    expect(holderOf("2001:db8:1:2:ffff::1")).toBe(holderOf("2001:db8:1:2::"));
    expect(holderOf("no address")).toBe("unknown");
  });

  test("knows this machine by every name of it", () => {
    expect(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"].every(isLoopback)).toBe(true);
    expect(["192.0.2.1", "10.0.0.1", "::2", "localhost"].some(isLoopback)).toBe(false);
  });
});
