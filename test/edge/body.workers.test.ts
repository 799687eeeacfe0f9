import { describe, expect, test } from "vitest";
import { readBody } from "../../src/edge/body.ts";

const MAX_BYTES = 1024;
const PATIENCE_MS = 50;

function streamed(source: UnderlyingSource<Uint8Array>, headers: HeadersInit = {}): Request {
  const body = new ReadableStream(source);
  return new Request("http://localhost/mcp", { method: "POST", body, headers });
}

const read = (request: Request) => readBody(request, MAX_BYTES, PATIENCE_MS);

describe("a body", () => {
  test("is read whole, in however many pieces it comes", async () => {
    const request = streamed({
      start(controller) {
        for (const text of ["one", "two", "three"]) {
          controller.enqueue(new TextEncoder().encode(text));
        }
        controller.close();
      },
    });
    expect(new TextDecoder().decode(await read(request))).toBe("onetwothree");
  });

  test("may be none at all", async () => {
    expect(await read(new Request("http://localhost/mcp", { method: "POST" }))).toHaveLength(0);
  });

  test.each([
    ["that never begins", () => {}],
    ["that never ends", (at: number) => (at === 0 ? new Uint8Array(10) : null)],
  ])("%s is given up", async (_, piece) => {
    let at = 0;
    const request = streamed({
      pull(controller) {
        const bytes = piece(at++);
        if (bytes instanceof Uint8Array) {
          controller.enqueue(bytes);
          return;
        }
        return new Promise(() => {});
      },
    });
    await expect(read(request)).rejects.toMatchObject({ status: 408, code: "CANCELLED" });
  });

  test("that is cut off is a bad request, not a failure of the gateway", async () => {
    const request = streamed({
      start(controller) {
        controller.enqueue(new Uint8Array(10));
        controller.error(new Error("connection reset"));
      },
    });
    await expect(read(request)).rejects.toMatchObject({ status: 400, code: "INVALID_ARGUMENT" });
  });

  test("is read no further than it may go", async () => {
    let pulled = 0;
    const request = streamed({
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(512));
      },
    });
    await expect(read(request)).rejects.toMatchObject({ status: 413 });
    expect(pulled).toBeLessThan(10);
  });
});
