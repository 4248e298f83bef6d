/** A room: what the server says of it, and what has come through its channel since. */
import { Emitter } from '../emitter.js';
import { Timeline, change } from './timeline.js';

export const SMALL = 100; // members up to which names are shown, as the server's own default (chat.small_room)
const READ_PAUSE = 400; // ms between two "I have read up to here"
const RELOAD_PAUSE = 150; // ms in which several changes become one question
const TYPING_PAUSE = 3000; // ms between two "I am typing"

export class Room extends Emitter {
  info;
  timeline;
  cursors = {}; // small rooms: how far whom has read
  readers = null; // big rooms: {offset, readers}
  typing = { users: [], count: 0 };
  pins = []; // messages
  members = null; // id -> member, once asked for; `null` in big rooms until the panel asks
  online = null; // big rooms: how many are here
  #chat;
  #readTimer = 0;
  #readUpTo = 0;
  #typingTimer = 0;
  #typed = 0; // when we last said that we type
  #reloadTimer = 0;
  #strangers = new Set(); // whose name was asked for

  constructor(info, chat) {
    super();
    this.info = info;
    this.#chat = chat;
    this.timeline = new Timeline(info.id, async (method, data) => {
      const page = await chat.connection.read(method, data);
      chat.people.learn(page.users);
      return page;
    });
    this.timeline.on('changed', () => this.emit('changed'));
    this.#learn();
  }

  get id() {
    return this.info.id;
  }

  get channel() {
    return `room:${this.id}`;
  }

  get title() {
    return this.info.peer ? this.info.peer.name || 'Somebody' : this.info.title;
  }

  get direct() {
    return this.info.kind === 'direct';
  }

  get small() {
    return this.info.members <= SMALL;
  }

  /** The moment of the last talk, to sort by. */
  get latest() {
    return this.info.last?.timestamp ?? this.info.created_at;
  }

  /** Whether one may rename, invite, pin and so on. */
  get leading() {
    return !this.direct && this.info.role !== 'member';
  }

  get mayPin() {
    return this.direct || this.leading;
  }

  /** Why one cannot write here now; empty when one can. */
  get closed() {
    if (this.info.archived_at) return 'This room is archived. It can be read only.';
    const until = this.info.muted_until;
    if (until && new Date(until) > new Date()) return 'You are muted in this room. You can read, but not write.';
    return '';
  }

  // --- news ------------------------------------------------------------------------------------------------------

  /** The server's present description. What came live after it was made stays. */
  update(info) {
    const newer = this.info.offset > info.offset;
    const { offset, unread, mentions, last, cursor } = this.info;
    this.info = newer ? { ...info, offset, unread, mentions, last, cursor } : info;
    this.#learn();
    this.emit('changed');
  }

  /** Ask the server for it again, soon. */
  reload() {
    this.#reloadTimer ||= setTimeout(async () => {
      this.#reloadTimer = 0;
      try {
        this.update(await this.#chat.connection.read('room.get', { room_id: this.id }));
        if (this.members) await this.loadMembers();
      } catch {
        // No member any more: the personal channel says so.
      }
    }, RELOAD_PAUSE);
  }

  /** Somebody looks at the room: what only the open room needs. */
  async enter(around = null) {
    await this.timeline.open(around);
    this.#chat.outbox.settle(this.id);
    this.refresh();
    // A big room's joins and leaves are numbers that come anyway; but the server gives no more than so many channels.
    const { connection } = this.#chat;
    if (this.small || !connection.isSubscribed(this.channel)) connection.take(this.channel);
  }

  /** Read anew what does not come through the log. */
  async refresh() {
    const { connection } = this.#chat;
    const room_id = this.id;
    const asked = [
      connection.read('room.receipts', { room_id }).then((answer) => this.#receipts(answer)),
      connection.read('message.pins', { room_id }).then((answer) => this.#pinned(answer)),
    ];
    if (this.small) asked.push(this.loadMembers());
    await Promise.allSettled(asked);
    this.emit('changed');
  }

  async loadMembers() {
    const members = new Map();
    let after;
    do {
      const page = await this.#chat.connection.read('room.members', { room_id: this.id, ...(after && { after }) });
      for (const member of page.members) members.set(member.user_id, member);
      after = page.next;
    } while (after && members.size < 1000);
    this.members = members;
    this.#chat.people.learn(Object.fromEntries([...members.values()].map(({ user_id, name }) => [user_id, name])));
    this.emit('changed');
  }

  /** A publication of the room's channel. */
  receive({ data, offset, info }) {
    if (info?.conn_info?.name) this.#chat.people.learn({ [info.user]: info.conn_info.name });
    if (offset) this.#log({ ...data, offset });
    else if (data.type === 'read') this.#receipts(data);
    else if (data.type === 'typing') this.#types(data);
    else if (data.type === 'presence') this.online = data.num_users;
    this.emit('changed');
  }

  /** Another device of one's own has read on. */
  readElsewhere(offset) {
    if (offset <= this.info.cursor) return; // it was this one
    this.info.cursor = offset;
    if (offset >= this.info.offset) this.#nothingUnread();
    else this.reload();
    this.emit('changed');
  }

  #learn() {
    const { peer } = this.info;
    if (!peer) return;
    this.#chat.people.learn({ [peer.id]: peer.name });
    this.#chat.people.watch([peer.id]);
  }

  #log(row) {
    this.info.offset = Math.max(this.info.offset, row.offset);
    if (row.type === 'event') this.#event(row);
    else {
      this.info.last = row;
      if (row.type === 'system') this.reload();
      else this.#count(row);
      if (!this.#chat.people.knows(row.from_user_id)) this.#introduce(row.from_user_id);
      this.#stopsTyping(row.from_user_id);
    }
    this.timeline.receive(row);
    this.#chat.outbox.discard(row.id);
  }

  #event(row) {
    if (this.info.last?.id === row.message_id) this.info.last = change(this.info.last, row);
    if (row.event === 'message_pinned' || row.event === 'message_unpinned' || row.event === 'message_deleted') {
      this.#reloadPins();
    }
  }

  #count(row) {
    if (row.from_user_id === this.#chat.me.id) {
      this.info.cursor = row.offset;
      this.#nothingUnread();
      return;
    }
    this.info.unread += 1;
    if (row.mentions?.includes(this.#chat.me.id)) this.info.mentions += 1;
  }

  #nothingUnread() {
    this.info.unread = 0;
    this.info.mentions = 0;
  }

  async #reloadPins() {
    if (!this.timeline.loaded) return;
    this.#pinned(await this.#chat.connection.read('message.pins', { room_id: this.id }).catch(() => ({ pins: [] })));
    this.emit('changed');
  }

  #pinned({ pins, users }) {
    this.#chat.people.learn(users);
    this.pins = pins.map(({ message }) => message);
  }

  /** Somebody spoke whose name we do not know: a page of the newest messages names its authors. */
  async #introduce(userId) {
    if (this.#strangers.has(userId)) return;
    this.#strangers.add(userId);
    const page = await this.#chat.connection
      .read('message.list', { room_id: this.id, limit: 20 })
      .catch(() => ({ users: {} }));
    this.#chat.people.learn(page.users);
  }

  #receipts({ cursors, offset, readers }) {
    if (cursors) {
      for (const [user, read] of Object.entries(cursors)) {
        this.cursors[user] = Math.max(this.cursors[user] ?? 0, read);
      }
    } else if (readers !== undefined) this.readers = { offset, readers };
  }

  #types({ users, count, ttl }) {
    const others = users.filter((id) => id !== this.#chat.me.id);
    this.typing = { users: others, count: Math.max(others.length, count - (users.length - others.length)) };
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => {
      this.typing = { users: [], count: 0 };
      this.emit('changed');
    }, ttl * 1000);
  }

  #stopsTyping(userId) {
    if (!this.typing.users.includes(userId)) return;
    const users = this.typing.users.filter((id) => id !== userId);
    this.typing = { users, count: Math.max(users.length, this.typing.count - 1) };
  }

  // --- what one does ---------------------------------------------------------------------------------------------

  /** Everything that is here has been seen. */
  read() {
    if (this.info.cursor >= this.info.offset) return;
    this.info.cursor = this.info.offset;
    this.#nothingUnread();
    this.emit('changed');
    this.#readTimer ||= setTimeout(async () => {
      this.#readTimer = 0;
      const offset = this.info.cursor;
      if (offset <= this.#readUpTo) return;
      this.#readUpTo = offset;
      try {
        await this.#chat.connection.read('room.read', { room_id: this.id, offset }); // moves forward only
      } catch {
        // No member any more.
      }
    }, READ_PAUSE);
  }

  typingNow() {
    if (Date.now() - this.#typed < TYPING_PAUSE || this.#chat.connection.state !== 'connected') return;
    this.#typed = Date.now();
    this.#chat.connection.rpc('room.typing', { room_id: this.id }).catch(() => {});
  }

  /** `message` has content, and perhaps type, reply_to, mentions, file. */
  send(message) {
    this.#typed = 0;
    this.#chat.outbox.add({
      ...message,
      id: crypto.randomUUID ? crypto.randomUUID() : uuid(),
      room_id: this.id,
      from_user_id: this.#chat.me.id,
      timestamp: new Date().toISOString(),
    });
  }

  /** Big rooms: how many others have surely read up to an offset. Its author is counted by the server as well. */
  otherReaders(offset) {
    return offset <= this.readers.offset ? Math.max(0, this.readers.readers - 1) : 0;
  }

  /** Those who have read up to an offset, without oneself. */
  readersOf(offset) {
    return Object.keys(this.cursors).filter((id) => id !== this.#chat.me.id && this.cursors[id] >= offset);
  }
}

/** A random UUID where `crypto.randomUUID` is missing: pages that came over plain HTTP from another machine. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
