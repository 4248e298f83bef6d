/**
 * The poll of a class: what it came to so far, and one's own answer. Which one is open is in the class's state; counts
 * come as they are made. The rest is asked for: by whoever comes in, when it is closed, and by the staff, who may know
 * what is right from the beginning, and who answered what.
 */
import { sleep } from '../net/backoff.js';

const SPREAD = 2000; // ms in which the pages of a class ask what came of it: all of them hear of its end at once

export class Poll {
  counts = [];
  mine = null; // the option that one chose
  correct = null; // the right option, as soon as one may know it
  voters = []; // [user, name, option], for the staff, of one that is not anonymous
  more = false; // whether there are more of them
  #room;
  #id = null;
  #closed = false;
  #pages = 1; // of voters that are shown
  #reading = false;
  #again = false;

  constructor(room) {
    this.#room = room;
  }

  /** As the class's state has it; `null`: nothing has been asked. */
  get asked() {
    return this.#room.state?.poll ?? null;
  }

  get open() {
    return this.asked !== null && !this.asked.closed;
  }

  /** What it means to whoever looks at it; empty while that is not known. */
  get outcome() {
    const { asked, correct, mine } = this;
    if (!asked?.closed || this.#room.isStaff) return '';
    if (correct === null) return '';
    if (mine === null) return `You did not answer. Right is: ${asked.options[correct]}.`;
    if (mine !== correct) return `Your answer is wrong. Right is: ${asked.options[correct]}.`;
    return asked.points ? `Your answer is right: ${asked.points} ${asked.points === 1 ? 'point' : 'points'}.` : 'Your answer is right.';
  }

  /** `fields`: question, options, anonymous, and of a quiz correct and points. Throws `CommandError`, `ConnectionLost`. */
  async ask(fields) {
    await this.#room.call('poll', fields);
  }

  async vote(option) {
    const id = this.#id;
    try {
      await this.#room.call('vote', { poll_id: id, option });
      if (id === this.#id) this.mine = option;
    } catch (error) {
      this.#read(); // perhaps another page of one's own was faster
      throw error;
    }
    this.#room.emit('changed');
  }

  /** The state has changed, or is another one (`anew`). */
  follow(anew) {
    const { asked } = this;
    const id = asked?.id ?? null;
    const fresh = id !== this.#id;
    if (fresh) {
      Object.assign(this, { counts: [], mine: null, correct: null, voters: [], more: false });
      this.#id = id;
      this.#pages = 1;
      this.#closed = Boolean(asked?.closed);
    }
    const ends = Boolean(asked?.closed) && !this.#closed;
    if (ends) this.#closed = true;
    if (asked && (anew || ends || (fresh && this.#room.isStaff))) this.#readLater(ends);
  }

  /** The server has counted. */
  heard({ poll_id: id, counts }) {
    if (id !== this.#id) return;
    this.counts = counts;
    if (this.#room.isStaff && !this.asked.anonymous) this.#read();
  }

  async moreVoters() {
    this.#pages += 1;
    await this.#read();
  }

  async #readLater(ends) {
    if (!this.#room.isStaff) await sleep(Math.random() * SPREAD);
    await this.#read();
    if (ends && this.outcome) this.#room.emit('told', this.outcome);
  }

  async #read() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    while (this.#again) {
      this.#again = false;
      await this.#readOnce().catch(() => {}); // not in the class any more
    }
    this.#reading = false;
    this.#room.emit('changed');
  }

  async #readOnce() {
    const id = this.#id;
    const voters = [];
    let page = {};
    for (let i = 0; id !== null && i < this.#pages; i += 1) {
      const request = { class_id: this.#room.id, poll_id: id, ...(page.next && { after: page.next }) };
      page = await this.#room.connection.read('class.results', request);
      if (id !== this.#id) return;
      voters.push(...(page.votes ?? []));
      if (!page.next) break;
    }
    if (page.counts) {
      const { counts, correct = null, mine = this.mine, next } = page;
      Object.assign(this, { counts, correct, mine, voters, more: Boolean(next) });
    }
  }
}
