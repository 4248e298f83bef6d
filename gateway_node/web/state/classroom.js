/**
 * A live class, as the server says it is: a snapshot at each subscription, and the changes that follow it. The page never
 * decides what is allowed; it asks, and shows what became of it.
 *
 * Events: `changed` (anything), `told` (a line for everybody to hear), `entered`, `left`, `out` (somebody was thrown out),
 * `gone` (somebody is not here now); of the media `signal`
 * ({from, peer, data}), `feed` ({user, peer}: something can be watched), `restart` (the media server is another one).
 */
import { Emitter } from '../emitter.js';
import { Connection } from '../net/connection.js';
import { sleep } from '../net/backoff.js';

const LINES = 500; // of the chat that are kept
const ASK_AGAIN = 10_000; // ms between two looks from the lobby, should the word of admission be lost

const url = () => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`;

export class Classroom extends Emitter {
  id;
  me;
  status = 'joining'; // joining, waiting, in, refused
  reason = '';
  role = 'student';
  media = 'p2p';
  state = null;
  lines = []; // of the chat: {id, user, name, role, content, whisper}
  people = new Map(); // user -> {name, role, clients}
  crowd = 0; // how many there are, where they are too many to be listed
  reactions = new Map();
  votes = null; // {poll_id, counts}
  myVote = null;
  waiting = []; // who waits in the lobby, for the staff
  connection;
  #entering = false;

  constructor(session, id) {
    super();
    this.id = id;
    this.me = session.user;
    const connection = new Connection(url(), (refused) => session.token(refused));
    this.connection = connection;
    connection.on('state', (state) => {
      if (state === 'connected' && this.status !== 'in') this.enter();
      this.emit('changed');
    });
    connection.on('snapshot', ({ channel, data }) => channel === this.channel && this.#snapshot(data));
    connection.on('publication', (publication) => this.#publication(publication));
    connection.on('joined', ({ channel, info }) => channel === this.channel && this.#came(info));
    connection.on('left', ({ channel, info }) => channel === this.channel && this.#went(info));
    connection.on('lost', (channel) => channel === this.channel && this.#readChat());
    connection.on('unsubscribed', (channel) => channel === this.channel && this.#out());
    connection.on('refused', ({ channel }) => channel === this.channel && this.enter());
  }

  get channel() {
    return `class:${this.id}`;
  }

  get isStaff() {
    return ['teacher', 'assistant'].includes(this.roleOf(this.me.id, this.role));
  }

  roleOf(user, role) {
    return ['teacher', 'assistant'].includes(role) ? role : (this.state?.roles[user] ?? role);
  }

  name(user) {
    const state = this.state;
    return user === this.me.id
      ? this.me.name
      : (this.people.get(user)?.name ?? state?.hands[user]?.name ?? state?.sending[user]?.name ?? 'Somebody');
  }

  open() {
    this.connection.open();
  }

  /** Take a seat, and subscribe when it is one in the class. */
  async enter() {
    if (this.#entering) return;
    this.#entering = true;
    try {
      const joined = await this.connection.rpc('class.join', { class_id: this.id });
      this.role = joined.role;
      this.media = joined.media;
      this.status = joined.status;
      if (joined.status === 'in') await this.connection.take(this.channel);
      else this.#wait();
    } catch (error) {
      if (!error.temporary) {
        this.status = 'refused';
        this.reason = error.message;
        if (error.code === 1003 && !this.state) this.#askAgain(); // it has not begun
      } else if (this.connection.state === 'connected') {
        this.#askAgain(1000);
      }
    } finally {
      this.#entering = false;
    }
    this.emit('changed');
  }

  /** In the lobby, also of a class that this page was in. */
  #wait() {
    if (this.state) {
      this.state = null;
      this.emit('left');
    }
    this.#askAgain();
  }

  async #askAgain(milliseconds = ASK_AGAIN) {
    await sleep(milliseconds * (0.8 + Math.random() * 0.4));
    if (this.status !== 'in') this.enter();
  }

  /** A command. When it returns, `state` has what it changed. Throws `CommandError`, `ConnectionLost`. */
  async do(what, fields = {}) {
    const { offset } = await this.connection.rpc('class.do', { class_id: this.id, command: { do: what, ...fields } });
    while (this.state && this.state.offset < offset) {
      await new Promise((resolve) => {
        const off = this.on('changed', () => (off(), resolve()));
      });
    }
  }

  async call(method, fields = {}) {
    return this.connection.rpc(`class.${method}`, { class_id: this.id, ...fields });
  }

  async say(content) {
    await this.connection.publish(this.channel, { id: crypto.randomUUID(), type: 'text', content });
  }

  async vote(option) {
    await this.call('vote', { poll_id: this.state.poll.id, option });
    this.myVote = { poll: this.state.poll.id, option };
    this.emit('changed');
  }

  async lookAtLobby() {
    if (!this.isStaff || !this.state?.lobby) {
      this.waiting = [];
    } else {
      this.waiting = (await this.call('people', { waiting: true })).people;
    }
    this.emit('changed');
  }

  // --- what the server says ------------------------------------------------------------------------------------------

  #snapshot(state) {
    const first = this.state === null;
    this.state = state;
    this.status = 'in';
    if (first) this.#readChat();
    this.#readPeople();
    this.lookAtLobby().catch(() => {});
    this.emit('entered');
    this.emit('changed');
  }

  #out() {
    this.status = 'refused';
    this.reason = 'You were removed from this class.';
    this.state = null;
    this.emit('left');
    this.emit('changed');
  }

  #publication({ channel, data, offset, info }) {
    if (channel !== this.channel) {
      this.#personal(data);
      return;
    }
    if (data.type === 'command') {
      if (this.state && offset > this.state.offset) this.#changes(data, offset);
    } else if (data.type === 'reactions') {
      for (const [emoji, count] of Object.entries(data.counts)) {
        this.reactions.set(emoji, (this.reactions.get(emoji) ?? 0) + count);
      }
    } else if (data.type === 'votes') {
      this.votes = data;
    } else if (data.type === 'lobby') {
      this.lookAtLobby().catch(() => {});
    } else if (data.type === 'feed') {
      this.emit('feed', data);
    } else if (data.type === 'media') {
      this.emit('restart');
    } else if (data.type === 'presence') {
      this.crowd = data.num_users;
    } else if (data.content !== undefined) {
      this.#line({ id: data.id, user: data.from_user_id, name: info?.chan_info?.name, role: info?.chan_info?.role, content: data.content });
    }
    this.emit('changed');
  }

  #personal(data) {
    if (data.class_id !== this.id) return;
    if (data.type === 'class_signal') this.emit('signal', data);
    else if (data.type === 'class_admitted') this.enter();
    else if (data.type === 'class_whisper') {
      this.#line({ id: data.id, user: data.from, name: data.name, content: data.content, whisper: data.to ?? 'teachers' });
      this.emit('changed');
    }
  }

  #changes({ by, do: command, changes = [], out }, offset) {
    const state = this.state;
    state.offset = offset;
    for (const [op, field, key, value] of changes) {
      if (op === 'set') state[field] = key;
      else if (op === 'add') state[field][key] = value;
      else delete state[field][key];
    }
    if (out) this.emit('out', out);
    if (changes.length) this.#tell(command, by);
    if (['lobby', 'admit', 'admit_all'].includes(command)) this.lookAtLobby().catch(() => {});
    if (command === 'open_poll') this.votes = null;
  }

  #tell(command, by) {
    const { called } = this.state;
    const said = {
      start: 'The class has begun.',
      end: 'The class has ended.',
      raise_hand: `${this.name(by)} has raised a hand.`,
      call_next: called && `${called.user === this.me.id ? 'You are' : `${called.name} is`} called.`,
      mute_all: 'Everybody is muted.',
      open_poll: `A question: ${this.state.poll?.question}`,
      close_poll: 'The poll is closed.',
    }[command];
    if (said) this.emit('told', said);
  }

  #line(line) {
    if (this.lines.some((each) => each.id === line.id && each.whisper === line.whisper)) return;
    this.lines.push(line);
    if (this.lines.length > LINES) this.lines.shift();
  }

  async #readChat() {
    try {
      for (const { data, info } of await this.connection.history(this.channel, 200)) {
        if (data.content !== undefined) {
          this.#line({ id: data.id, user: data.from_user_id, name: info?.chan_info?.name, role: info?.chan_info?.role, content: data.content });
        }
      }
      this.emit('changed');
    } catch {
      // The next subscription reads it again.
    }
  }

  async #readPeople() {
    try {
      const present = await this.connection.presence(this.channel);
      this.people.clear();
      for (const info of present) this.#came(info);
      this.crowd = 0;
    } catch (error) {
      if (error.code === 106) await this.morePeople();
    }
    this.emit('changed');
  }

  /** The next page of a class that is too big to be listed. */
  async morePeople() {
    const page = await this.call('people', this.next ? { after: this.next } : {});
    for (const { user, name, role } of page.people) this.people.set(user, { name, role, clients: new Set() });
    this.next = page.next ?? null;
    this.crowd = page.count;
    this.emit('changed');
  }

  #came({ user, client, chan_info: info }) {
    const known = this.people.get(user) ?? { clients: new Set() };
    known.name = info?.name ?? known.name ?? 'Somebody';
    known.role = info?.role ?? known.role ?? 'student';
    known.clients.add(client);
    this.people.set(user, known);
    this.emit('changed');
  }

  #went({ user, client }) {
    const known = this.people.get(user);
    known?.clients.delete(client);
    if (known && !known.clients.size) {
      this.people.delete(user);
      this.emit('gone', user);
    }
    this.emit('changed');
  }
}
