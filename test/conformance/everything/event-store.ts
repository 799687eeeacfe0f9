/**
 * @module
 * The events of one session's streams, in memory and in order, so that a
 * client that comes back gets what it missed.
 */
import type { EventStore } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";

type Event = { readonly id: string; readonly streamId: string; readonly message: JSONRPCMessage };

export class MemoryEventStore implements EventStore {
  readonly #events: Event[] = [];

  async storeEvent(streamId: string, message: JSONRPCMessage): Promise<string> {
    const id = String(this.#events.length);
    this.#events.push({ id, streamId, message });
    return id;
  }

  async getStreamIdForEventId(id: string): Promise<string | undefined> {
    return this.#events[Number(id)]?.streamId;
  }

  async replayEventsAfter(
    lastId: string,
    { send }: { send: (id: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string> {
    const streamId = this.#events[Number(lastId)]?.streamId;
    if (streamId === undefined) throw new Error(`no such event: ${lastId}`);
    for (const event of this.#events.slice(Number(lastId) + 1)) {
      // A priming event is stored as an empty message, and is nothing to send again.
      const empty = Object.keys(event.message).length === 0;
      if (event.streamId === streamId && !empty) await send(event.id, event.message);
    }
    return streamId;
  }
}
