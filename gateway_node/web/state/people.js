/** What is known of people: their names, and whether they are here. */
import { Emitter } from '../emitter.js';

const LATER = 400; // ms in which questions about several people become one
const AGAIN = 60_000; // ms after which those who are watched are asked for again
const MOST = 100; // people in one question

export class People extends Emitter {
  #connection;
  #names = new Map();
  #status = new Map(); // id -> {online, last_seen?}
  #watched = new Set();
  #asking = new Set();
  #timer = 0;

  constructor(connection) {
    super();
    this.#connection = connection;
    connection.on('state', (state) => {
      if (state === 'connected') this.#ask(this.#watched);
      else this.#forget();
    });
    setInterval(() => document.hidden || this.#ask(this.#watched), AGAIN);
  }

  /** `users` is an object of names by id. */
  learn(users) {
    let news = false;
    for (const [id, name] of Object.entries(users ?? {})) {
      if (name && this.#names.get(id) !== name) {
        this.#names.set(id, name);
        news = true;
      }
    }
    if (news) this.emit('changed');
  }

  knows(id) {
    return this.#names.has(id);
  }

  name(id) {
    return this.#names.get(id) || 'Somebody';
  }

  /** `{online, last_seen?}`, or `undefined` when it is not known. */
  status(id) {
    return this.#status.get(id);
  }

  /** Keep the status of these people up to date as well. */
  watch(ids) {
    const unknown = ids.filter((id) => !this.#watched.has(id));
    for (const id of unknown) this.#watched.add(id);
    this.#ask(unknown);
  }

  came(id) {
    this.#status.set(id, { online: true });
    this.emit('changed');
  }

  /** One connection of somebody went; another one may be there. */
  went(id) {
    if (this.#watched.has(id)) this.#ask([id]);
  }

  #forget() {
    if (!this.#status.size) return;
    this.#status.clear();
    this.emit('changed');
  }

  #ask(ids) {
    for (const id of ids) this.#asking.add(id);
    if (!this.#timer && this.#asking.size) this.#timer = setTimeout(() => this.#answer(), LATER);
  }

  async #answer() {
    this.#timer = 0;
    const ids = [...this.#asking].slice(0, MOST);
    for (const id of ids) this.#asking.delete(id);
    this.#ask([]);
    if (this.#connection.state !== 'connected') return;
    const { users } = await this.#connection.rpc('user.status', { user_ids: ids }).catch(() => ({ users: {} }));
    for (const id of ids) {
      if (users[id]) this.#status.set(id, users[id]);
      else this.#status.delete(id);
    }
    this.emit('changed');
  }
}
