/** The chat of whoever is signed in: the connection, the rooms, the people, and what is still to be sent. */
import { Emitter } from '../emitter.js';
import { Api } from '../net/api.js';
import { Connection } from '../net/connection.js';
import { Classes } from './classes.js';
import { Outbox } from './outbox.js';
import { People } from './people.js';
import { Pictures } from './pictures.js';
import { Room } from './room.js';

const MAX_ROOMS = 2000; // in the list; whoever has more finds the others by search

export class Chat extends Emitter {
  rooms = new Map();
  loaded = false;
  #loading = null;

  constructor(session) {
    super();
    this.session = session;
    this.api = new Api(session);
    this.classes = new Classes(this.api);
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    this.connection = new Connection(`${scheme}//${location.host}/connection/websocket`, (refused) =>
      session.token(refused),
    );
    this.people = new People(this.connection);
    this.people.learn({ [this.me.id]: this.me.name });
    this.pictures = new Pictures(this.api);
    this.outbox = new Outbox(this.me.id, (entry) => this.#send(entry));
    this.#listen();
  }

  get me() {
    return this.session.user;
  }

  open() {
    this.connection.open();
  }

  close() {
    this.connection.close();
  }

  /** Newest talk first. */
  sorted(archived = false) {
    return [...this.rooms.values()]
      .filter((room) => Boolean(room.info.archived_at) === archived)
      .sort((one, other) => (one.latest < other.latest ? 1 : -1));
  }

  get unread() {
    let sum = 0;
    for (const room of this.rooms.values()) if (!room.info.archived_at) sum += room.info.unread;
    return sum;
  }

  /** A room that one is in, asked for when it is not known yet. Throws `CommandError`. */
  async room(id) {
    return this.rooms.get(id) ?? this.#put(await this.connection.read('room.get', { room_id: id }));
  }

  async direct(userId) {
    return this.#put(await this.connection.rpc('room.direct', { user_id: userId }));
  }

  async createGroup(title, open, members) {
    return this.#put(await this.connection.rpc('room.create', { title, open, members }));
  }

  async join(roomId) {
    return this.#put(await this.connection.rpc('room.join', { room_id: roomId }));
  }

  async loadArchived() {
    await this.#pages('room.list', { archived: true }, (page) => page.rooms.forEach((info) => this.#put(info)));
  }

  async rename(name) {
    await this.connection.rpc('user.update', { name });
    this.session.rename(name);
    this.people.learn({ [this.me.id]: name });
    this.emit('changed');
  }

  // --- inside ----------------------------------------------------------------------------------------------------

  #listen() {
    const { connection } = this;
    connection.on('state', (state) => state === 'connected' && this.#load());
    connection.on('publication', (publication) => this.#receive(publication));
    connection.on('joined', ({ info }) => this.#presence(info, 'came'));
    connection.on('left', ({ info }) => this.#presence(info, 'went'));
    connection.on('lost', (channel) => this.#lost(channel));
    this.people.on('changed', () => this.emit('changed'));
    this.outbox.on('changed', (roomId) => this.rooms.get(roomId)?.emit('changed'));
  }

  /** Also after each reconnection: what does not come through the logs (counts of other devices) is read anew. */
  #load() {
    this.#loading ??= this.#loadRooms().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #loadRooms() {
    const found = new Set();
    const complete = await this.#pages('room.list', {}, (page) => {
      for (const info of page.rooms) found.add(this.#put(info, false).id);
    });
    for (const room of this.rooms.values()) {
      if (complete && !found.has(room.id) && !room.info.archived_at) this.#check(room);
      if (room.timeline.loaded) room.refresh();
    }
    this.loaded = true;
    this.emit('changed');
  }

  /** Whether all pages were read. */
  async #pages(method, data, each) {
    let after;
    for (let count = 0; count < MAX_ROOMS; ) {
      const page = await this.connection.read(method, { ...data, ...(after && { after }) });
      this.people.learn(page.users);
      each(page);
      count += page.rooms.length;
      after = page.next;
      if (!after) return true;
    }
    return false;
  }

  /** A room that is in the list no more: archived, or not one's own any more. */
  async #check(room) {
    try {
      room.update(await this.connection.read('room.get', { room_id: room.id }));
    } catch {
      this.#remove(room.id);
    }
    this.emit('changed');
  }

  #put(info, announce = true) {
    let room = this.rooms.get(info.id);
    if (room) room.update(info);
    else {
      room = new Room(info, this);
      room.on('changed', () => this.emit('changed', room.id));
      this.rooms.set(info.id, room);
    }
    if (announce) this.emit('changed');
    return room;
  }

  #remove(roomId) {
    const room = this.rooms.get(roomId);
    if (!room || !this.rooms.delete(roomId)) return;
    this.emit('changed');
    this.emit('removed', room);
  }

  #receive(publication) {
    const [kind, id] = publication.channel.split(':');
    if (kind === 'room') this.rooms.get(id)?.receive(publication);
    else if (kind === 'user') this.#personal(publication.data);
  }

  #personal(data) {
    const { type, event, room_id, offset } = data;
    if (type === 'read') this.rooms.get(room_id)?.readElsewhere(offset);
    else if (event === 'room_added') this.room(room_id).then((room) => room.reload(), () => {});
    else if (event === 'room_removed') this.#remove(room_id);
    else if (event === 'notification') this.emit('notified', data);
  }

  #presence(info, how) {
    if (info.user === this.me.id) return;
    if (info.conn_info?.name) this.people.learn({ [info.user]: info.conn_info.name });
    this.people[how](info.user);
  }

  #lost(channel) {
    const [kind, id] = channel.split(':');
    if (kind === 'user') this.#load();
    const room = this.rooms.get(id);
    if (!room) return;
    room.reload();
    if (room.timeline.loaded && room.timeline.atEnd) room.timeline.open();
  }

  async #send({ room_id, id, content, type, reply_to, mentions, file }) {
    const message = { id, type: type ?? 'text', content };
    if (reply_to) message.reply_to = reply_to;
    if (mentions?.length) message.mentions = mentions;
    if (file) message.file_id = file.id;
    await this.connection.ready();
    const channel = `room:${room_id}`;
    if (this.connection.isSubscribed(channel)) await this.connection.publish(channel, message);
    else await this.connection.rpc('message.send', { room_id, ...message });
    if (!this.rooms.get(room_id)?.timeline.loaded) this.outbox.discard(id);
  }
}
