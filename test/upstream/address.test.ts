import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AddressRefused, checkAddress, guardedFetch } from "../../src/upstream/address.ts";
import { remembering } from "../../src/upstream/resolve.ts";

describe("addresses that are not public", () => {
  it.each([
    "https://127.0.0.1/mcp",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://①②⑦.0.0.1/",
    "https://127.0.0.1./",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:4136:e378::1]/",
    "https://[2001:db8::1]/",
    "https://[100::1]/",
    "https://[5f00::1]/",
    "https://[4000::1]/",
    "https://localhost/",
    "https://LOCALHOST:8443/",
    "https://localhost./",
    "https://a.localhost/",
    "https://printer.local/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://metadata.goog/",
    "https://instance-data/",
    "https://router.home.arpa/",
    "https://intranet/",
    "https://db.corp/",
    "http://mcp.acme.com/",
    "ftp://mcp.acme.com/",
    "file:///etc/passwd",
    "https://user:pass@mcp.acme.com/",
    "https://user@mcp.acme.com/",
    "mcp.acme.com",
    "",
  ])("%s is refused", (url) => {
    expect(checkAddress(url, false)).toMatch(
      /^It |is not a public address|name of a local network/,
    );
  });

  it.each([
    "https://mcp.acme.com/mcp",
    "https://mcp.acme.com:8443/",
    "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://xn--bcher-kva.ch/",
    "https://internal.acme.com/",
  ])("%s is let through", (url) => {
    expect(checkAddress(url, false)).toBeNull();
  });

  it("are let through where the deployment says so, as long as they are http", () => {
    for (const url of ["http://127.0.0.1:9000/mcp", "http://[::1]/", "http://db.local/"]) {
      expect(checkAddress(url, true)).toBeNull();
    }
    expect(checkAddress("ftp://127.0.0.1/", true)).not.toBeNull();
    expect(checkAddress("http://a:b@127.0.0.1/", true)).not.toBeNull();
    expect(checkAddress("nonsense", true)).not.toBeNull();
  });

  it("are refused in every IPv4 private range and in every form that carries one", () => {
    const octet = fc.nat({ max: 255 });
    const privates = fc.oneof(
      fc.tuple(fc.constant(10), octet, octet, octet),
      fc.tuple(fc.constant(127), octet, octet, octet),
      fc.tuple(fc.constant(172), fc.integer({ min: 16, max: 31 }), octet, octet),
      fc.tuple(fc.constant(192), fc.constant(168), octet, octet),
      fc.tuple(fc.constant(169), fc.constant(254), octet, octet),
      fc.tuple(fc.constant(100), fc.integer({ min: 64, max: 127 }), octet, octet),
      fc.tuple(fc.integer({ min: 224, max: 255 }), octet, octet, octet),
      fc.tuple(fc.constant(0), octet, octet, octet),
    );
    fc.assert(
      fc.property(privates, ([a, b, c, d]) => {
        const dotted = `${a}.${b}.${c}.${d}`;
        const number = ((a * 256 + b) * 256 + c) * 256 + d;
        for (const host of [
          dotted,
          String(number),
          `0x${number.toString(16)}`,
          `0${number.toString(8)}`,
          `[::ffff:${dotted}]`,
          `[64:ff9b::${dotted}]`,
          `[::${dotted}]`,
        ]) {
          expect([host, checkAddress(`https://${host}/`, false)]).not.toEqual([host, null]);
        }
      }),
    );
  });
});

type Hop = { url: string; init: RequestInit };

/** A `fetch` that answers by URL and notes what it was asked. */
function network(answers: Record<string, [status: number, location?: string]>) {
  const hops: Hop[] = [];
  const send = async (url: string, init: RequestInit): Promise<Response> => {
    hops.push({ url, init });
    const [status, location] = answers[url] ?? [200];
    return new Response(status === 200 ? "ok" : null, {
      status,
      ...(location === undefined ? {} : { headers: { location } }),
    });
  };
  return { hops, send };
}

/** A resolver that knows no name. */
const unknown = async () => [];

const POST: RequestInit = { method: "POST", body: "{}", headers: { authorization: "Bearer x" } };

describe("a guarded fetch", () => {
  it("sends nothing to an address that is not public", async () => {
    const { hops, send } = network({});
    const guarded = guardedFetch(false, send, unknown);
    await expect(guarded("https://127.0.0.1/", POST)).rejects.toThrow(AddressRefused);
    await expect(guarded("http://localhost/", POST)).rejects.toMatchObject({
      name: "AddressRefused",
    });
    expect(hops).toEqual([]);
    await guardedFetch(true, send, unknown)("http://localhost/", POST);
    expect(hops).toHaveLength(1);
  });

  it("follows a redirect that keeps the method within the origin, with the same request", async () => {
    const { hops, send } = network({
      "https://mcp.acme.com/mcp": [307, "/v2/mcp"],
      "https://mcp.acme.com/v2/mcp": [308, "https://mcp.acme.com/v3"],
    });
    const answer = await guardedFetch(false, send, unknown)("https://mcp.acme.com/mcp", POST);
    expect(await answer.text()).toBe("ok");
    expect(hops.map((hop) => hop.url)).toEqual([
      "https://mcp.acme.com/mcp",
      "https://mcp.acme.com/v2/mcp",
      "https://mcp.acme.com/v3",
    ]);
    for (const { init } of hops) expect(init).toEqual({ ...POST, redirect: "manual" });
  });

  it.each([
    ["https://mcp.other.com/mcp", "another host"],
    ["http://mcp.acme.com/mcp", "another scheme"],
    ["https://mcp.acme.com:8443/mcp", "another port"],
    ["https://127.0.0.1/mcp", "a private address"],
    ["//169.254.169.254/", "a metadata address"],
    ["https://user:pass@mcp.acme.com/", "credentials"],
    ["https://", "no URL"],
  ])("is refused at a redirect to %s, %s", async (location) => {
    for (const allowPrivate of [false, true]) {
      for (const status of [301, 302, 303, 307, 308]) {
        const { hops, send } = network({ "https://mcp.acme.com/": [status, location] });
        const going = guardedFetch(
          allowPrivate,
          send,
          unknown,
        )("https://mcp.acme.com/", { method: "GET" });
        await expect(going).rejects.toThrow(AddressRefused);
        expect(hops).toHaveLength(1);
      }
    }
  });

  it("is refused at a redirect that would turn a POST into a GET", async () => {
    for (const status of [301, 302, 303]) {
      const { send } = network({ "https://mcp.acme.com/": [status, "/next"] });
      await expect(
        guardedFetch(false, send, unknown)("https://mcp.acme.com/", POST),
      ).rejects.toThrow(`redirect ${status}`);
      const get = await guardedFetch(false, send, unknown)("https://mcp.acme.com/", {});
      expect(get.status).toBe(200);
    }
  });

  it("gives up after three redirects", async () => {
    const { hops, send } = network({ "https://mcp.acme.com/": [307, "/"] });
    await expect(guardedFetch(false, send, unknown)("https://mcp.acme.com/", POST)).rejects.toThrow(
      "more than 3 times",
    );
    expect(hops).toHaveLength(4);
  });

  it("hands on what is no redirect, 304 and a 302 without a place included", async () => {
    const { send } = network({
      "https://mcp.acme.com/a": [304],
      "https://mcp.acme.com/b": [302],
      "https://mcp.acme.com/c": [401],
    });
    for (const [path, status] of [
      ["a", 304],
      ["b", 302],
      ["c", 401],
    ]) {
      const answer = await guardedFetch(false, send, unknown)(`https://mcp.acme.com/${path}`, {});
      expect(answer.status).toBe(status);
    }
  });
});

describe("a name", () => {
  const zone: Record<string, string[]> = {
    "inside.acme.com": ["10.0.0.7"],
    "half.acme.com": ["93.184.216.34", "169.254.169.254"],
    "six.acme.com": ["2606:4700:4700::1111", "fd00::1"],
    "mapped.acme.com": ["::ffff:127.0.0.1"],
    "public.acme.com": ["93.184.216.34", "2606:4700:4700::1111"],
  };
  const resolve = async (name: string) => zone[name] ?? [];

  it.each(["inside", "half", "six", "mapped"])(
    "that leads inside is refused, whatever else it leads to: %s",
    async (label) => {
      const { hops, send } = network({});
      for (const url of [`https://${label}.acme.com/mcp`, `https://${label}.acme.com./mcp`]) {
        await expect(guardedFetch(false, send, resolve)(url, POST)).rejects.toThrow("leads to");
      }
      expect(hops).toEqual([]);
      await guardedFetch(true, send, resolve)(`https://${label}.acme.com/`, POST);
      expect(hops).toHaveLength(1);
    },
  );

  it("that leads outside, or nowhere, is let through", async () => {
    const { hops, send } = network({});
    await guardedFetch(false, send, resolve)("https://public.acme.com/", POST);
    await guardedFetch(false, send, resolve)("https://nowhere.acme.com/", POST);
    expect(hops).toHaveLength(2);
  });

  it("is looked up at every redirect too", async () => {
    let asked = 0;
    const { hops, send } = network({ "https://moves.acme.com/": [307, "/next"] });
    const moving = async () => (asked++ === 0 ? ["93.184.216.34"] : ["127.0.0.1"]);
    await expect(
      guardedFetch(false, send, moving)("https://moves.acme.com/", POST),
    ).rejects.toThrow("leads to");
    expect(hops).toHaveLength(1);
  });

  it("is looked up once a minute, and a resolver that fails is nobody's failure", async () => {
    let now = 0;
    let asked = 0;
    const own = remembering(
      async () => {
        asked += 1;
        if (asked === 2) throw new Error("SERVFAIL");
        return ["192.0.2.1"];
      },
      () => now,
    );
    for (const at of [0, 59_999]) {
      now = at;
      expect(await own("a.example")).toEqual(["192.0.2.1"]);
    }
    expect(asked).toBe(1);
    now = 60_000;
    expect(await own("a.example")).toEqual([]);
    expect(asked).toBe(2);
  });
});
