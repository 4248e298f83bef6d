/**
 * What was written and is not in the log yet, room by room in its order.
 *
 * Each message has its id from the beginning: it is sent again after a lost connection, and the server stores it once.
 * sessionStorage keeps them, so that a reload of the page loses none.
 */
import { Emitter } from '../emitter.js';
import { Backoff, sleep } from '../net/backoff.js';

export class Outbox extends Emitter {
  #key;
  #send;
  #entries = new Map(); // id -> entry; `state`: waiting, sent (stored, but not come back yet) or failed
  #busy = new Set(); // rooms that are being worked on

  /** `send(entry)` resolves when the server has stored the message; it throws an error that may be `temporary`. */
  constructor(userId, send) {
    super();
    this.#key = `chalkwire.outbox.${userId}`;
    this.#send = send;
    for (const entry of this.#stored()) {
      this.#entries.set(entry.id, entry.state === 'failed' ? entry : { ...entry, state: 'waiting' });
    }
    for (const entry of this.#entries.values()) this.#work(entry.room_id);
  }

  /** In the order of writing. */
  of(roomId) {
    return [...this.#entries.values()].filter((entry) => entry.room_id === roomId);
  }

  add(message) {
    this.#entries.set(message.id, { ...message, state: 'waiting' });
    this.#changed(message.room_id);
    this.#work(message.room_id);
  }

  retry(id) {
    const entry = this.#entries.get(id);
    if (entry?.state !== 'failed') return;
    this.#update(entry, { state: 'waiting', error: undefined });
    this.#work(entry.room_id);
  }

  /** Throw it away; gives the entry. */
  discard(id) {
    const entry = this.#entries.get(id);
    if (entry && this.#entries.delete(id)) this.#changed(entry.room_id);
    return entry;
  }

  /** The room's window was read anew, or nobody looks at it: what is stored is in the log. */
  settle(roomId) {
    for (const entry of this.of(roomId)) if (entry.state === 'sent') this.discard(entry.id);
  }

  async #work(roomId) {
    if (this.#busy.has(roomId)) return;
    this.#busy.add(roomId);
    const backoff = new Backoff();
    try {
      for (;;) {
        const entry = this.of(roomId).find((each) => each.state === 'waiting');
        if (!entry) return;
        try {
          await this.#send(entry);
          this.#update(entry, { state: 'sent' });
          backoff.reset();
        } catch (error) {
          if (error.temporary) await sleep(backoff.next());
          else this.#update(entry, { state: 'failed', error: error.message });
        }
      }
    } finally {
      this.#busy.delete(roomId);
    }
  }

  #update(entry, changes) {
    if (!this.#entries.has(entry.id)) return; // it came back before the answer did, or was thrown away
    this.#entries.set(entry.id, { ...this.#entries.get(entry.id), ...changes });
    this.#changed(entry.room_id);
  }

  #changed(roomId) {
    const entries = [...this.#entries.values()];
    if (entries.length) sessionStorage.setItem(this.#key, JSON.stringify(entries));
    else sessionStorage.removeItem(this.#key);
    this.emit('changed', roomId);
  }

  #stored() {
    try {
      return JSON.parse(sessionStorage.getItem(this.#key)) ?? [];
    } catch {
      return [];
    }
  }
}
