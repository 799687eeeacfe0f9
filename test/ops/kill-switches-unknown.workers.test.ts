import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { initializeRequest, mintKey, postMcp } from "../support/gateway.ts";
import { advance, captureLogs, SECOND, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

// A file of its own: an isolate that has read the switches once never forgets them.
test("an isolate that never knew the switches lets nobody through", async () => {
  const key = await mintKey("windsurf");
  await env.ARCHIVE_DB.exec("ALTER TABLE kill_switch_version RENAME TO away");
  const refused = await postMcp(key.key, null, initializeRequest());
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).not.toBeNull();
  await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO kill_switch_version");
  advance(2 * SECOND);
  expect((await postMcp(key.key, null, initializeRequest())).status).toBe(200);
});
