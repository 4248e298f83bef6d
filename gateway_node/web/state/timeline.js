/**
 * A window of a room's history: messages and system lines by offset, without a hole between the first and the last.
 *
 * What comes live while a page is on its way is kept, and applied again to the page: a page is of the moment `offset`
 * at which the server read it.
 */
import { Emitter } from '../emitter.js';

const PAGE = 50; // rows
const MOST = 500; // rows in the window; more would only make the page slow

export class Timeline extends Emitter {
  items = [];
  loaded = false;
  atStart = false; // whether the window begins where the room does
  atEnd = false; // whether the window ends with the newest message
  #read; // (method, parameters) => answer
  #roomId;
  #byId = new Map();
  #late = []; // rows that came while something was being loaded
  #loading = 0;
  #generation = 0; // of the window: what was asked for an older one is thrown away

  constructor(roomId, read) {
    super();
    this.#roomId = roomId;
    this.#read = read;
  }

  find(id) {
    return this.#byId.get(id);
  }

  /** Begin a new window: the newest messages, or those around an offset. */
  async open(around = null) {
    this.#generation += 1;
    this.loaded = false;
    await this.#load('opened', around === null ? {} : { around }, (rows, head) => {
      this.items = [];
      this.#byId.clear();
      this.#add(rows, 'push');
      this.loaded = true;
      this.atStart = this.#isStart(rows);
      this.atEnd = around === null || (rows.at(-1)?.offset ?? 0) >= head;
    });
  }

  async older() {
    if (!this.loaded || this.atStart || this.#loading) return;
    await this.#load('older', { before: this.items[0].offset }, (rows) => {
      this.atStart = this.#isStart(rows);
      this.#add(rows, 'unshift');
      if (this.items.length <= MOST) return;
      for (const item of this.items.splice(MOST)) this.#byId.delete(item.id);
      this.atEnd = false;
    });
  }

  async newer() {
    if (!this.loaded || this.atEnd || this.#loading) return;
    await this.#load('newer', { after: this.items.at(-1)?.offset ?? 0 }, (rows) => {
      this.#add(rows, 'push');
      this.#trimStart();
      if (!rows.length) this.atEnd = true;
    });
  }

  /** Only the newest are wanted any more: whoever reads the end of a room for hours keeps no more than a page of it. */
  trim() {
    if (this.atEnd && this.items.length > MOST) {
      this.#trimStart();
      this.emit('changed', 'trimmed');
    }
  }

  /** A row of the log that came live. */
  receive(row) {
    if (this.#loading) this.#late.push(row);
    if (!this.loaded) return;
    this.#apply(row);
    this.emit('changed', row.type === 'event' ? 'event' : 'message');
  }

  #apply(row) {
    if (row.type === 'event') {
      const message = this.#byId.get(row.message_id);
      if (message) this.#replace(change(message, row));
      return;
    }
    if (this.atEnd && !this.#byId.has(row.id)) this.#add([row], 'push');
  }

  #replace(message) {
    this.#byId.set(message.id, message);
    this.items[this.items.findIndex((each) => each.id === message.id)] = message;
  }

  /** `use(rows, head)` puts a page into the window; all that follows its arrival is one step. */
  async #load(why, place, use) {
    const generation = this.#generation;
    this.#loading += 1;
    try {
      const page = await this.#read('message.list', { room_id: this.#roomId, limit: PAGE, ...place });
      if (generation !== this.#generation) return;
      use(page.messages, page.offset);
      for (const row of this.#late) if (row.offset > page.offset) this.#apply(row);
      this.emit('changed', why);
    } finally {
      this.#loading -= 1;
      if (!this.#loading) this.#late = [];
    }
  }

  #add(rows, where) {
    const unknown = rows.filter((row) => !this.#byId.has(row.id));
    for (const row of unknown) this.#byId.set(row.id, row);
    this.items[where](...unknown);
  }

  #trimStart() {
    const surplus = this.items.length - MOST;
    if (surplus <= 0) return;
    for (const item of this.items.splice(0, surplus)) this.#byId.delete(item.id);
    this.atStart = false;
  }

  #isStart(rows) {
    return !rows.length || rows[0].offset === 1;
  }
}

/** The message as it is after an event about it. Applying an event twice changes nothing. */
export function change(message, row) {
  switch (row.event) {
    case 'message_edited':
      return { ...message, content: row.content, edited_at: row.edited_at };
    case 'message_deleted': {
      const { id, offset, from_user_id, room_id, type, timestamp } = message;
      return { id, offset, from_user_id, room_id, type, timestamp, content: '', deleted_at: row.timestamp };
    }
    case 'reaction_added':
    case 'reaction_removed': {
      const reactions = { ...message.reactions };
      const users = new Set(reactions[row.emoji]?.users);
      if (row.event === 'reaction_added') users.add(row.from_user_id);
      else users.delete(row.from_user_id);
      if (row.count) reactions[row.emoji] = { count: row.count, users: [...users] };
      else delete reactions[row.emoji];
      return { ...message, reactions };
    }
    default:
      return message;
  }
}
