/**
 * @module
 * A `text/event-stream` response as a test reads it: its bytes, and its events
 * one after the other as they come.
 */
import { type ClientRequest, type IncomingHttpHeaders, request } from "node:http";
import { eventually } from "./eventually.ts";

export type ServerEvent = {
  readonly id: string | null;
  readonly retry: string | null;
  /** Null where there is no data field. */
  readonly data: string | null;
};

export class EventStream {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly #request: ClientRequest;
  #raw = "";
  #ended = false;
  #read = 0;

  private constructor(sent: ClientRequest, status: number, headers: IncomingHttpHeaders) {
    this.#request = sent;
    this.status = status;
    this.headers = headers;
  }

  /** Sends a request and answers as soon as the head of the response is there. */
  static open(
    url: string,
    options: { method: string; headers: Readonly<Record<string, string>>; body?: string },
  ): Promise<EventStream> {
    const { method, headers, body } = options;
    return new Promise((resolve, reject) => {
      const sent = request(url, { method, headers, agent: false }, (response) => {
        const stream = new EventStream(sent, response.statusCode ?? 0, response.headers);
        response.setEncoding("utf8");
        response.on("data", (text: string) => {
          stream.#raw += text;
        });
        const end = () => {
          stream.#ended = true;
        };
        response.once("end", end);
        response.once("error", end);
        response.once("close", end);
        resolve(stream);
      });
      sent.once("error", reject);
      sent.end(body);
    });
  }

  /** Everything that has come so far. */
  get raw(): string {
    return this.#raw;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The events that have come so far, comments left out. */
  get events(): ServerEvent[] {
    return this.#raw
      .split("\n\n")
      .slice(0, -1)
      .filter((block) => !block.startsWith(":"))
      .map(parse);
  }

  /** The JSON of the events so far that carry any. */
  get messages(): unknown[] {
    return this.events.flatMap(({ data }) =>
      data === null || data === "" ? [] : [JSON.parse(data)],
    );
  }

  /** The next event that was not taken yet. */
  async next(): Promise<ServerEvent> {
    return eventually("another event", () => {
      const event = this.events[this.#read];
      if (event === undefined) {
        if (this.#ended) throw new Error(`The stream ended: ${this.#raw}`);
        return null;
      }
      this.#read += 1;
      return event;
    });
  }

  /** The next message, events without data passed over. */
  async message(): Promise<unknown> {
    for (;;) {
      const { data } = await this.next();
      if (data !== null && data !== "") return JSON.parse(data);
    }
  }

  async untilEnded(): Promise<void> {
    await eventually("the stream has ended", () => (this.#ended ? true : null));
  }

  /** Leaves, as a client that loses its connection does. */
  leave(): void {
    this.#request.destroy();
  }
}

function parse(block: string): ServerEvent {
  const fields = block.split("\n").map((line) => /^([^:]*): ?(.*)$/.exec(line));
  const valuesOf = (name: string) =>
    fields.flatMap((field) => (field?.[1] === name ? [field[2] ?? ""] : []));
  const data = valuesOf("data");
  return {
    id: valuesOf("id")[0] ?? null,
    retry: valuesOf("retry")[0] ?? null,
    data: data.length === 0 ? null : data.join("\n"),
  };
}
