import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Listener } from "./support/listener.ts";
import { Stage } from "./support/stage.ts";

let stage: Stage;
let open: Stage;
let inside: Listener;
/** Sends whoever comes on to the listener inside. */
let doorway: Listener;

beforeAll(async () => {
  inside = await Listener.start();
  doorway = await Listener.start(`${inside.url}/latest/meta-data`);
  [stage, open] = await Promise.all([
    Stage.start({ vars: { ALLOW_PRIVATE_UPSTREAMS: "false" } }),
    Stage.start(),
  ]);
});

afterAll(async () => {
  await Promise.all([stage?.dispose(), open?.dispose()]);
  await Promise.all([inside?.close(), doorway?.close()]);
});

const INVALID = { status: 400, code: "INVALID_ARGUMENT" };
const SECRET = "client secret that nobody may see";

/** Every way in which an operator's call can name an address. */
async function refusedEverywhere(url: string): Promise<void> {
  const secrets = [SECRET];
  const before = inside.connections;
  await stage.refuses({ ...INVALID, secrets }, () =>
    stage.operator.send("POST", "/upstreams?approve=all", { name: "inside", url }),
  );
  for (const kind of ["oauth_client_credentials", "token_exchange"]) {
    const auth = { kind, token_url: url, client_id: "c", client_secret: SECRET };
    await stage.refuses({ ...INVALID, secrets }, () =>
      stage.operator.send("POST", "/upstreams", {
        name: "inside",
        url: "https://mcp.example.com/mcp",
        auth,
      }),
    );
  }
  expect(inside.connections).toBe(before);
}

/** The port of the listener: were an address let through, it would be counted there. */
const at = (host: string, scheme = "http") => `${scheme}://${host}:${inside.port}/mcp`;

describe("an upstream or a token endpoint inside", () => {
  test.each([
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "１２７.０.０.１",
    "⑫⑦.0.0.1",
    "127。0。0。1",
    "%31%32%37.0.0.1",
  ])("as %s", async (host) => {
    await refusedEverywhere(at(host));
    await refusedEverywhere(at(host, "https"));
  });

  test.each([
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
  ])("in the range of %s", async (host) => {
    await refusedEverywhere(at(host, "https"));
  });

  test.each([
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fd00:ec2::254]",
  ])("as %s", async (host) => {
    await refusedEverywhere(at(host));
    await refusedEverywhere(at(host, "https"));
  });

  test.each([
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "broadcasthost",
    "router.lan",
    "db.internal",
    "metadata.google.internal",
    "metadata.goog",
    "printer.local",
    "nas.home.arpa",
    "intranet",
    "kubernetes.default.svc.cluster.local",
    "host.docker.internal",
    "ｌｏｃａｌｈｏｓｔ",
  ])("named %s", async (host) => {
    await refusedEverywhere(at(host));
    await refusedEverywhere(at(host, "https"));
  });

  test.each([
    "file:///etc/passwd",
    "ftp://example.com/mcp",
    "gopher://127.0.0.1:6379/_INFO",
    "data:application/json,{}",
    "javascript:alert(1)",
    "unix:/var/run/docker.sock",
    "ws://example.com/mcp",
    "http://example.com/mcp",
    "//127.0.0.1/mcp",
    "http:127.0.0.1",
    "https:///127.0.0.1/mcp",
    "https:\\\\127.0.0.1\\mcp",
    " https://127.0.0.1/mcp",
    "ht\ntps://127.0.0.1/mcp",
    "https://user@127.0.0.1/mcp",
    "https://example.com@127.0.0.1/mcp",
    "https://user:word@example.com/mcp",
    "https://example.com#@127.0.0.1/mcp",
    "https://",
    "",
    "not a url",
    `https://${"a".repeat(3_000)}.example.com/`,
  ])("written as %j", async (url) => {
    await refusedEverywhere(url);
  });
});

describe("an upstream that was registered", () => {
  test("is not moved inside, nor is its token endpoint", async () => {
    // A name that nobody has (RFC 2606): registered as one that could not be asked.
    const url = "https://nowhere.example/mcp";
    await stage.operator.ok("POST", "/upstreams", { name: "outside", url, timeout_ms: 100 });
    for (const inside of [
      at("127.0.0.1"),
      at("[::ffff:7f00:1]", "https"),
      at("localhost"),
      "file:///x",
    ]) {
      const auth = {
        kind: "token_exchange",
        token_url: inside,
        client_id: "c",
        client_secret: SECRET,
      };
      for (const change of [{ url: inside }, { auth }, { url: inside, auth }]) {
        await stage.refuses({ ...INVALID, secrets: [SECRET] }, () =>
          stage.operator.send("PATCH", "/upstreams/outside", change),
        );
      }
    }
  });

  test("and answers with a redirect to another place is not followed there", async () => {
    const before = inside.connections;
    const { records, tables } = await open.growthOf(async () => {
      const answer = await open.operator.send("POST", "/upstreams?approve=all", {
        name: "doorway",
        url: `${doorway.url}/mcp`,
      });
      expect(answer.text).not.toContain("meta-data");
      open.keepsSecret(answer.text);
    });
    // Registered as one that could not be asked, with an operator's record of it and nothing of what was inside.
    expect(Object.values(records)).toEqual([2]);
    expect(tables).toEqual(["upstreams"]);
    expect(doorway.connections).toBeGreaterThan(0);
    expect(inside.connections).toBe(before);
  });

  test("and whose token endpoint redirects is not followed with its secret", async () => {
    const before = inside.connections;
    const auth = {
      kind: "oauth_client_credentials",
      token_url: `${doorway.url}/token`,
      client_id: "c",
      client_secret: SECRET,
    };
    const heard = open.upstream.seen.length;
    const answer = await open.operator.send("POST", "/upstreams?approve=all", {
      name: "tokens",
      url: open.upstream.url,
      prefix: "tokens",
      auth,
    });
    expect(answer.text).not.toContain(SECRET);
    open.keepsSecret(open.log, [SECRET]);
    expect(inside.connections).toBe(before);
    expect(open.upstream.seen.length).toBe(heard);
  });
});

test("the listener inside was never reached", () => {
  expect(inside.connections).toBe(0);
});
