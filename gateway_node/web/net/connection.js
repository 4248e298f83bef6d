/**
 * A client of the Centrifuge protocol, version 2, in JSON over a WebSocket: just what the chat needs of it.
 *
 * It keeps the position in every durable channel, says it when it comes back, and gives each publication once and in
 * order. Where the server could not fill in what was missed, `lost` says that the channel is to be read anew.
 *
 * Events: `state` (the name of the state), `publication` ({channel, data, offset, info}), `joined`, `left`
 * ({channel, info}), `snapshot` ({channel, data}: what the server says of a channel with a subscription), `lost`,
 * `subscribed`, `unsubscribed` (the channel), `refused` ({channel, error}), `ended` (an error: sign in again).
 */
import { Emitter } from '../emitter.js';
import { Backoff, sleep } from './backoff.js';
import { SignedOut } from './session.js';

const SILENCE = 10_000; // ms after a ping was due in which the connection is given up
const TOKEN_EXPIRED = 109;
const TERMINAL = 3500; // disconnect codes from here on mean: not with this token, not so
const EXCUSED = 4000; // … up to here; the application's own codes follow
const RESUBSCRIBE = 2500;

/** The server refused a command. `temporary`: it may take it later. */
export class CommandError extends Error {
  constructor({ code, message, temporary = false }) {
    super(message);
    this.code = code;
    this.temporary = temporary;
  }
}

/** The connection went before the answer came: whether the command was done is not known. */
export class ConnectionLost extends Error {
  constructor() {
    super('The connection was lost.');
    this.temporary = true;
  }
}

export class Connection extends Emitter {
  state = 'closed'; // closed, connecting, connected, waiting
  #url;
  #token;
  #socket = null;
  #number = 0;
  #waiting = new Map(); // id -> {resolve, reject}
  #positions = new Map(); // channel -> {offset, epoch}
  #own = new Set(); // channels that this client subscribed to itself
  #backoff = new Backoff();
  #used = null; // the token of the last attempt
  #refused = null; // the token that the server did not take
  #retryTimer = 0;
  #silenceTimer = 0;
  #refreshTimer = 0;
  #pongs = false; // whether the server wants its pings answered
  #patience = 0; // ms of silence in which it is believed to be there; 0: for ever

  /** `token(refused)` gives an access token other than the refused one; it throws `SignedOut` when there is none. */
  constructor(url, token) {
    super();
    this.#url = url;
    this.#token = token;
    addEventListener('online', () => this.hurry());
    document.addEventListener('visibilitychange', () => document.hidden || this.hurry());
  }

  open() {
    if (this.state === 'closed') this.#attempt();
  }

  close() {
    this.#drop();
    this.#become('closed');
  }

  /** Do not wait for the next attempt. */
  hurry() {
    if (this.state !== 'waiting') return;
    clearTimeout(this.#retryTimer);
    this.#attempt();
  }

  isSubscribed(channel) {
    return this.state === 'connected' && this.#positions.has(channel);
  }

  /** Resolves when the connection is up. */
  async ready() {
    while (this.state !== 'connected') {
      await new Promise((resolve) => {
        const off = this.on('state', () => (off(), resolve()));
      });
    }
  }

  /** Call a method once. Throws `CommandError`, `ConnectionLost`. */
  async rpc(method, data = {}) {
    await this.ready();
    return (await this.#command({ rpc: { method, data } })).rpc.data;
  }

  /** Call a method that changes nothing, again and again until there is an answer. Throws `CommandError`. */
  async read(method, data = {}) {
    const backoff = new Backoff();
    for (;;) {
      try {
        return await this.rpc(method, data);
      } catch (error) {
        if (!error.temporary) throw error;
        await sleep(backoff.next());
      }
    }
  }

  /** Throws `CommandError`, `ConnectionLost`. When it returns the server has stored it. */
  async publish(channel, data) {
    await this.#command({ publish: { channel, data } });
  }

  /** Make the server's subscription to a channel one's own, so that joins and leaves come. */
  async take(channel) {
    if (this.#own.has(channel)) return;
    this.#own.add(channel);
    if (this.state === 'connected') await this.#subscribe(channel);
  }

  /** The newest publications of a channel, oldest first. Throws `CommandError`, `ConnectionLost`. */
  async history(channel, limit) {
    const { history } = await this.#command({ history: { channel, limit, reverse: true } });
    return (history.publications ?? []).reverse();
  }

  /** Who is in a channel, one of {user, client, conn_info, chan_info} each. Throws `CommandError`, `ConnectionLost`. */
  async presence(channel) {
    return Object.values((await this.#command({ presence: { channel } })).presence.presence);
  }

  // --- life ------------------------------------------------------------------------------------------------------

  async #attempt() {
    this.#become('connecting');
    try {
      this.#used = await this.#token(this.#refused);
    } catch (error) {
      if (error instanceof SignedOut) this.#end(error);
      else if (this.state === 'connecting') this.#retry();
      return;
    }
    if (this.state !== 'connecting' || this.#socket) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => socket === this.#socket && this.#handshake();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(data);
    socket.onclose = ({ code }) => socket === this.#socket && this.#closed(code);
  }

  async #handshake() {
    const subs = {};
    for (const [channel, { offset, epoch }] of this.#positions) subs[channel] = { recover: true, offset, epoch };
    try {
      await this.#command({ connect: { token: this.#used, name: 'page', subs } }, 'connecting');
    } catch (error) {
      if (error.code === TOKEN_EXPIRED) this.#refused = this.#used;
      if (error instanceof CommandError) this.#closed(0);
    }
  }

  /** In the same step as the reply, because publications follow it in the same frame. */
  #welcome(result) {
    this.#backoff.reset();
    this.#refused = null;
    this.#pongs = result.pong;
    this.#patience = result.ping ? result.ping * 1000 + SILENCE : 0;
    this.#heard();
    if (result.expires) this.#refreshLater(result.ttl);
    this.state = 'connected';
    const subs = result.subs ?? {};
    for (const channel of [...this.#positions.keys()]) {
      if (!(channel in subs) && !this.#own.has(channel)) this.#positions.delete(channel);
    }
    for (const [channel, sub] of Object.entries(subs)) this.#adopt(channel, sub);
    for (const channel of this.#own) this.#subscribe(channel);
    this.emit('state', this.state);
  }

  #heard() {
    clearTimeout(this.#silenceTimer);
    if (this.#patience) this.#silenceTimer = setTimeout(() => this.#closed(0), this.#patience);
  }

  #refreshLater(ttl) {
    clearTimeout(this.#refreshTimer);
    // Well before the end, and not at the same moment as all the others.
    this.#refreshTimer = setTimeout(() => this.#refresh(), ttl * 1000 * (0.7 + Math.random() * 0.2));
  }

  async #refresh() {
    try {
      this.#used = await this.#token(this.#used);
      const { refresh } = await this.#command({ refresh: { token: this.#used } });
      if (refresh.expires) this.#refreshLater(refresh.ttl);
    } catch (error) {
      if (error instanceof SignedOut) this.#end(error);
      else if (this.state === 'connected') this.#refreshLater(10); // the server gives 25 s of grace
    }
  }

  #closed(code) {
    this.#drop();
    if (this.state === 'closed') return;
    // Perhaps it is the token: the next attempt needs another one, and finds out when the login has ended.
    if (code >= TERMINAL && code < EXCUSED) this.#refused = this.#used;
    this.#retry();
  }

  #retry() {
    this.#become('waiting');
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#attempt(), this.#backoff.next());
  }

  #end(error) {
    this.close();
    this.emit('ended', error);
  }

  #drop() {
    for (const timer of [this.#retryTimer, this.#silenceTimer, this.#refreshTimer]) clearTimeout(timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(new ConnectionLost());
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit('state', state);
  }

  // --- commands and replies ----------------------------------------------------------------------------------------

  #command(body, state = 'connected') {
    if (this.state !== state || this.#socket?.readyState !== WebSocket.OPEN) return Promise.reject(new ConnectionLost());
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, ...body }));
    });
  }

  #receive(frame) {
    this.#heard();
    for (const line of frame.split('\n')) {
      if (!line) continue;
      const reply = JSON.parse(line);
      if (reply.push) this.#pushed(reply.push);
      else if (reply.id) this.#answered(reply);
      else if (this.#pongs) this.#socket?.send('{}');
    }
  }

  #answered(reply) {
    const { resolve, reject } = this.#waiting.get(reply.id) ?? {};
    this.#waiting.delete(reply.id);
    if (!resolve) return;
    if (reply.error) {
      reject(new CommandError(reply.error));
      return;
    }
    if (reply.connect) this.#welcome(reply.connect);
    resolve(reply);
  }

  #pushed(push) {
    const { channel } = push;
    if (push.pub) this.#deliver(channel, push.pub);
    else if (push.join) this.emit('joined', { channel, info: push.join.info });
    else if (push.leave) this.emit('left', { channel, info: push.leave.info });
    else if (push.subscribe) this.#adopt(channel, push.subscribe);
    else if (push.unsubscribe) this.#unsubscribed(channel, push.unsubscribe.code);
    else if (push.disconnect) this.#closed(push.disconnect.code);
  }

  // --- channels ----------------------------------------------------------------------------------------------------

  async #subscribe(channel) {
    const position = this.#positions.get(channel);
    const request = { channel, join_leave: true, ...(position && { recover: true, ...position }) };
    try {
      this.#adopt(channel, (await this.#command({ subscribe: request })).subscribe);
    } catch (error) {
      // The server's subscription stays as it is, and so do the messages; only joins and leaves are missing.
      if (!(error instanceof CommandError)) return;
      this.#own.delete(channel);
      this.emit('refused', { channel, error });
    }
  }

  #adopt(channel, sub) {
    const known = this.#positions.get(channel);
    const goesOn = known !== undefined && known.epoch === sub.epoch && (sub.recovered || known.offset >= sub.offset);
    if (!goesOn) this.#positions.set(channel, { offset: sub.offset ?? 0, epoch: sub.epoch ?? '' });
    if (sub.data) this.emit('snapshot', { channel, data: sub.data });
    if (!known) this.emit('subscribed', channel);
    else if (!goesOn) this.emit('lost', channel);
    for (const publication of (goesOn && sub.publications) || []) this.#deliver(channel, publication);
  }

  #deliver(channel, { data, offset = 0, info = null }) {
    if (offset) {
      const position = this.#positions.get(channel);
      if (!position || offset <= position.offset) return;
      const complete = offset === position.offset + 1;
      position.offset = offset;
      if (!complete) {
        this.emit('lost', channel);
        return;
      }
    }
    this.emit('publication', { channel, data, offset, info });
  }

  #unsubscribed(channel, code) {
    if (code >= RESUBSCRIBE && this.#own.has(channel)) {
      this.#subscribe(channel);
      return;
    }
    this.#positions.delete(channel);
    this.#own.delete(channel);
    this.emit('unsubscribed', channel);
  }
}
