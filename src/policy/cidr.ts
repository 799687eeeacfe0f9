/**
 * @module
 * Address lists: IPv4 and IPv6, single addresses and CIDR blocks. An IPv4
 * address that is written as IPv6 (`::ffff:…`) is the IPv4 address, on either
 * side.
 */
import ipaddr from "ipaddr.js";

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** A block of addresses. */
export type Cidr = { readonly network: Address; readonly bits: number };

/** Bits of the prefix in which IPv4 lies within IPv6. */
const MAPPED_BITS = 96;

/**
 * A block, a single address being one of its own; null for anything else. Bits
 * below the prefix must be zero: who writes 10.0.0.1/8 may have meant either.
 */
export function parseCidr(text: string): Cidr | null {
  const [host = "", length, ...more] = text.split("/");
  const address = parse(host);
  if (address === null || more.length > 0) return null;
  const width = address.kind() === "ipv4" ? 32 : 128;
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return null;
  const bits = length === undefined ? width : Number(length);
  if (bits > width || !isNetwork(address, bits)) return null;
  if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()) {
    return bits < MAPPED_BITS
      ? null
      : { network: address.toIPv4Address(), bits: bits - MAPPED_BITS };
  }
  return { network: address, bits };
}

/** An address in its plainest form, or null for what is none. */
export function parseAddress(text: string): Address | null {
  const address = parse(text);
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()
    ? address.toIPv4Address()
    : address;
}

/** Whether an address lies in one of the blocks. What is no address lies in none. */
export function isWithin(cidrs: readonly Cidr[], text: string): boolean {
  const address = parseAddress(text);
  if (address === null) return false;
  return cidrs.some(({ network, bits }) => {
    if (address instanceof ipaddr.IPv4) {
      return network instanceof ipaddr.IPv4 && address.match(network, bits);
    }
    return network instanceof ipaddr.IPv6 && address.match(network, bits);
  });
}

/**
 * What stands for the holder of an address where requests are counted: an IPv4
 * address, or the /64 that an IPv6 address is taken from, for whoever has one
 * address of it has them all.
 */
export function holderOf(text: string): string {
  const address = parseAddress(text);
  if (address === null) return "unknown";
  if (address instanceof ipaddr.IPv4) return address.toString();
  return `${address.parts
    .slice(0, 4)
    .map((part) => part.toString(16))
    .join(":")}::/64`;
}

/** Whether an address never leaves its machine. */
export function isLoopback(text: string): boolean {
  return parseAddress(text)?.range() === "loopback";
}

/** IPv4 in IPv6 without a mark of it, which was given up (RFC 4291, section 2.5.5.1). */
const IPV4_COMPATIBLE = /^::\d+\.\d+\.\d+\.\d+$/;

/**
 * Only the usual spellings: the library also reads octal and shortened IPv4, and zones, and takes
 * an IPv4-compatible address for the mapped one, which is another.
 */
function parse(text: string): Address | null {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  if (!text.includes(":") || text.includes("%") || IPV4_COMPATIBLE.test(text)) return null;
  return ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text) : null;
}

function isNetwork(address: Address, bits: number): boolean {
  return address.toByteArray().every((byte, at) => {
    const kept = Math.min(8, Math.max(0, bits - at * 8));
    return (byte & (0xff >> kept)) === 0;
  });
}
