/**
 * A live class, as the server says it is: a snapshot at each subscription, and the changes that follow it. The page never
 * decides what is allowed; it asks, and shows what became of it.
 *
 * Events: `changed` (anything), `told` (a sentence to be heard), `entered`, `left`, `out` (somebody was thrown out), `gone`
 * (somebody is not here now); of the media `signal` ({from, peer, data}), `feed` ({user, peer}: something can be watched),
 * `restart` (the media server is another one).
 */
import { Emitter } from '../emitter.js';
import { Api } from '../net/api.js';
import { Connection } from '../net/connection.js';
import { sleep } from '../net/backoff.js';
import { digest, news } from './news.js';
import { Poll } from './poll.js';
import { Queue } from './queue.js';

const LINES = 500; // of the chat that are kept
const FEW_HANDS = 10; // up to which each that is raised is told
const ASK_AGAIN = 10_000; // ms between two looks from the lobby, should the word of admission be lost

const url = () => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`;

export class Classroom extends Emitter {
  id;
  me;
  status = 'joining'; // joining, waiting, in, refused
  reason = '';
  asksAgain = false; // whether a refused page goes on trying
  title = '';
  role = 'student';
  media = 'p2p';
  state = null;
  queue = new Queue(this);
  poll = new Poll(this);
  lines = []; // of the chat: {id, offset, user, name, role, content, whisper}
  people = new Map(); // user -> {name, role, clients}
  crowd = 0; // how many there are, where they are too many to be listed
  reactions = new Map();
  waiting = []; // who waits in the lobby, for the staff
  banned = []; // who is, the first 200, for the staff
  connection;
  next = null; // where the following page of people begins
  #api;
  #entering = false;
  #away = false; // whether the connection is lost, and that was told
  #known = null; // the digest of what was told
  #meanwhile = null; // who came and went while it is asked who is there

  constructor(session, id) {
    super();
    this.id = id;
    this.me = session.user;
    this.#api = new Api(session);
    const connection = new Connection(url(), (refused) => session.token(refused));
    this.connection = connection;
    connection.on('state', (state) => {
      if (state === 'connected' && this.status !== 'in' && this.status !== 'refused') this.enter();
      if (state !== 'connected' && this.state && !this.#away) {
        this.#away = true;
        this.emit('told', 'The connection is lost.');
      }
      this.emit('changed');
    });
    connection.on('snapshot', ({ channel, data }) => channel === this.channel && this.#snapshot(data));
    connection.on('publication', (publication) => this.#publication(publication));
    connection.on('joined', ({ channel, info }) => channel === this.channel && this.#moved('came', info));
    connection.on('left', ({ channel, info }) => channel === this.channel && this.#moved('went', info));
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

  roleOf = (user, role) => (['teacher', 'assistant'].includes(role) ? role : (this.state?.roles[user] ?? role));

  /** Whether the staff would have to unmute somebody: by themselves, or as an exception when all are muted. */
  isMuted(user, role) {
    const state = this.state;
    const withAll = state?.all_muted && !state.unmuted[user] && this.roleOf(user, role) === 'student';
    return Boolean(state?.muted[user] || withAll);
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
      if (!this.title) this.#ask(joined.course_id);
      if (joined.status === 'waiting' && this.status !== 'waiting') this.emit('told', 'You are in the lobby: a teacher lets you in.');
      if (joined.status === 'in' && this.status === 'waiting') this.emit('told', 'You have been let in.');
      this.status = joined.status;
      if (joined.status === 'in') await this.connection.take(this.channel);
      else this.#wait();
    } catch (error) {
      if (!error.temporary) {
        this.status = 'refused';
        this.reason = error.message;
        this.asksAgain = error.code === 1003 && !this.state; // it has not begun
        if (this.asksAgain) this.#askAgain();
      } else if (this.connection.state === 'connected') {
        this.#askAgain(1000);
      }
    } finally {
      this.#entering = false;
    }
    this.emit('changed');
  }

  /** What it is called. A page without it is one all the same. */
  async #ask(course) {
    try {
      this.title = (await this.#api.json(`/v1/courses/${course}/classes/${this.id}`)).title;
      this.emit('changed');
    } catch {}
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

  async lookAtLobby() {
    if (!this.isStaff || !this.state?.lobby) {
      this.waiting = [];
    } else {
      const { people } = await this.call('people', { waiting: true });
      const news = people.filter(({ user }) => !this.waiting.some((each) => each.user === user));
      if (news.length) this.emit('told', news.length > 1 ? `${people.length} people wait in the lobby.` : `${news[0].name} waits in the lobby.`);
      this.waiting = people;
    }
    this.emit('changed');
  }

  async lookAtBanned() {
    this.banned = this.isStaff ? (await this.call('banned')).people : [];
    this.emit('changed');
  }

  // --- what the server says ------------------------------------------------------------------------------------------

  #snapshot(state) {
    const first = this.state === null;
    this.state = state;
    this.status = 'in';
    if (this.#away) this.emit('told', 'The connection is back.');
    this.#away = false;
    this.queue.reset();
    this.poll.follow(true);
    this.#tell();
    if (first) this.#readChat();
    this.emit('entered');
    this.#readPeople();
    this.lookAtLobby().catch(() => {});
    this.lookAtBanned().catch(() => {});
    this.emit('changed');
  }

  #out() {
    this.status = 'refused';
    this.asksAgain = false;
    this.reason = 'You were removed from this class.';
    this.state = null;
    this.#known = null;
    this.people.clear();
    this.waiting = [];
    this.banned = [];
    this.queue.reset();
    this.poll.follow(false);
    this.emit('told', this.reason);
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
      this.poll.heard(data);
    } else if (data.type === 'lobby') {
      this.lookAtLobby().catch(() => {});
    } else if (data.type === 'feed') {
      this.emit('feed', data);
    } else if (data.type === 'media') {
      this.emit('restart');
    } else if (data.type === 'presence') {
      this.crowd = data.num_users;
    } else if (data.content !== undefined) {
      this.#said(data, info, offset);
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
    for (const change of changes) {
      const [op, field, key, value] = change;
      if (field === 'hands') this.queue.apply(change, offset);
      else if (op === 'set') state[field] = key;
      else if (op === 'add') state[field][key] = value;
      else delete state[field][key];
    }
    if (out) this.emit('out', out);
    if (changes.length) {
      this.poll.follow(false);
      this.#tell();
    }
    if (command === 'raise_hand' && this.isStaff && this.queue.count <= FEW_HANDS) {
      this.emit('told', `${this.name(by)} has raised a hand.`);
    }
    if (['lobby', 'admit', 'admit_all'].includes(command)) this.lookAtLobby().catch(() => {});
    if (['ban', 'unban'].includes(command)) this.lookAtBanned().catch(() => {});
  }

  #tell() {
    const now = digest(this);
    for (const each of news(this.#known, now, this)) this.emit('told', each);
    this.#known = now;
  }

  #said({ id, from_user_id: user, content }, info, offset) {
    const { name, role } = info?.chan_info ?? {};
    this.#line({ id, offset, user, name, role, content });
  }

  /** In the order of the log, also where it is read after what came later; private words stay where they came. */
  #line(line) {
    if (this.lines.some((each) => each.id === line.id && each.whisper === line.whisper)) return;
    const after = line.offset ? this.lines.findIndex(({ offset }) => offset > line.offset) : -1;
    this.lines.splice(after < 0 ? this.lines.length : after, 0, line);
    if (this.lines.length > LINES) this.lines.shift();
  }

  async #readChat() {
    try {
      for (const { data, info, offset } of await this.connection.history(this.channel, 200)) {
        if (data.content !== undefined) this.#said(data, info, offset);
      }
      this.emit('changed');
    } catch {
      // The next subscription reads it again.
    }
  }

  async #readPeople() {
    const meanwhile = (this.#meanwhile = []);
    const before = [...this.people.keys()];
    try {
      const present = await this.connection.presence(this.channel);
      this.people.clear();
      for (const info of present) this.#came(info);
      for (const [how, info] of meanwhile) (how === 'came' ? this.#came(info) : this.#went(info));
      this.crowd = 0;
      this.next = null;
      for (const user of before) if (!this.people.has(user)) this.emit('gone', user);
    } catch (error) {
      if (error.code === 106) await this.#beginPeople();
    } finally {
      if (this.#meanwhile === meanwhile) this.#meanwhile = null;
    }
    this.emit('changed');
  }

  async #beginPeople() {
    this.people.clear();
    this.next = null;
    await this.morePeople().catch(() => {}); // the next subscription reads them again
  }

  /** The next page of a class that is too big to be listed. */
  async morePeople() {
    const page = await this.call('people', this.next ? { after: this.next } : {});
    for (const { user, name, role } of page.people) this.people.set(user, { name, role, clients: new Set() });
    this.next = page.next ?? null;
    this.crowd = page.count;
    this.emit('changed');
  }

  #moved(how, info) {
    this.#meanwhile?.push([how, info]);
    if (how === 'came') this.#came(info);
    else this.#went(info);
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
