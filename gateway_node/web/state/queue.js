/**
 * The hands of a class, in their order. The server shows the first 200; when most of them have been called, the queue is
 * read again: the answer is as of an offset, and the changes that came above it are applied to it.
 */

const FEW = 50; // hands in sight at which there are to be more of them
const SPREAD = 100; // not all pages of a big class ask at the same call

export class Queue {
  count = 0; // of all hands
  mine = false; // whether one's own is up, in sight or not
  #room;
  #offset = 0; // up to which changes are in it
  #since = null; // the changes that come while the server is asked
  #few = FEW + Math.floor(Math.random() * SPREAD);

  constructor(room) {
    this.#room = room;
  }

  /** How many come after those in sight. */
  get hidden() {
    return this.count - Object.keys(this.#room.state?.hands ?? {}).length;
  }

  /** The state is another one. */
  reset() {
    const { hands, counts, offset } = this.#room.state ?? { hands: {}, counts: {}, offset: 0 };
    this.#since = null;
    this.#offset = offset;
    this.count = counts.hands ?? Object.keys(hands).length;
    this.mine = this.#room.me.id in hands;
    if (this.hidden) this.#read(); // one's own may be beyond what is in sight
  }

  apply(change, offset) {
    if (offset <= this.#offset) return;
    this.#since?.push([change, offset]);
    const [op, , key, hand] = change;
    const { state, me } = this.#room;
    if (op === 'set') {
      state.hands = key;
      this.count = Object.keys(key).length;
      this.mine = me.id in key;
    } else {
      if (op === 'remove') delete state.hands[key];
      else if (!this.hidden) state.hands[key] = hand;
      this.count += op === 'add' ? 1 : -1;
      if (key === me.id) this.mine = op === 'add';
    }
    if (this.hidden && Object.keys(state.hands).length < this.#few) this.#read();
  }

  async #read() {
    if (this.#since) return;
    const since = (this.#since = []);
    const room = this.#room;
    try {
      const { hands, count, mine = false, offset } = await room.connection.read('class.hands', { class_id: room.id });
      if (this.#since !== since) return; // there is a new snapshot
      room.state.hands = Object.fromEntries(hands.map(({ user, name, at }) => [user, { name, at }]));
      Object.assign(this, { count, mine });
      this.#offset = offset;
      this.#since = null;
      for (const each of since) this.apply(...each);
      room.emit('changed');
    } catch {
      if (this.#since === since) this.#since = null; // the next change asks again
    }
  }
}
