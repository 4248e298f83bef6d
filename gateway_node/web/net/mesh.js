/**
 * Video without a server in between: whoever sends makes a connection to each who watches, one way.
 *
 * The watcher asks (`want`), the sender offers, the watcher answers; candidates follow in small lists. What the sender
 * sends changes by a new call, never by changing one. The class says who may send what, and a watcher takes no more than
 * that: a track that the class has taken away is stopped here, whatever its sender does.
 *
 * Events: `changed`.
 */
import { Emitter } from '../emitter.js';

const PATIENCE = 5_000; // ms for an offer, or for a connection to come back, before it is asked for again
const ABSENT = 20_000; // ms after which nothing is sent any more to somebody who is gone: they may be back
const PAGES = 3; // of one person that are sent to: what names they give their pages is up to them
const GATHER = 50; // ms in which candidates are collected for one signal

export class Mesh extends Emitter {
  received = new Map(); // user -> Map(kind -> MediaStreamTrack)
  #room;
  #devices;
  #ice = [];
  #out = new Map(); // `user peer` -> {user, peer, call, pc}
  #in = new Map(); // user -> {peer, call, pc, kinds, timer}

  constructor(room, devices) {
    super();
    this.#room = room;
    this.#devices = devices;
    room.on('signal', (signal) => this.#signal(signal));
    room.on('changed', () => this.#watch());
    room.on('out', (user) => this.#hangUp(user));
    room.on('gone', (user) => setTimeout(() => room.people.has(user) || this.#hangUp(user), ABSENT));
    room.on('left', () => this.close());
    devices.on('changed', () => this.#callAll());
  }

  async begin() {
    this.#ice = (await this.#room.call('ice')).servers;
  }

  close() {
    for (const { pc } of this.#out.values()) pc?.close();
    this.#out.clear();
    for (const user of [...this.#in.keys()]) this.#forget(user);
  }

  /** What is received, by inbound kind: the tests count frames. */
  async stats(user) {
    const pc = this.#in.get(user)?.pc;
    return pc ? [...(await pc.getStats()).values()].filter((each) => each.type === 'inbound-rtp') : [];
  }

  // --- watching ----------------------------------------------------------------------------------------------------

  #watch() {
    const sending = this.#room.state?.sending ?? {};
    for (const user of [...this.#in.keys()]) if (!sending[user]) this.#forget(user);
    if (this.#room.connection.state !== 'connected') return;
    for (const [user, { peer, tracks }] of Object.entries(sending)) {
      if (peer === this.#devices.peer) continue;
      const link = this.#in.get(user);
      if (link?.peer === peer) this.#takeAway(user, link, tracks);
      else this.#want(user, peer);
    }
  }

  #want(user, peer) {
    this.#forget(user);
    const link = { peer, call: null, pc: null, kinds: {}, timer: 0 };
    this.#in.set(user, link);
    this.#ask(user, link);
  }

  #ask(user, link) {
    this.#send(user, link.peer, { want: true });
    clearTimeout(link.timer);
    link.timer = setTimeout(() => {
      const state = link.pc?.connectionState;
      if (this.#in.get(user) === link && state !== 'connected') this.#ask(user, link);
    }, PATIENCE);
  }

  #takeAway(user, link, tracks) {
    const received = this.received.get(user);
    for (const [kind, track] of received ?? []) {
      if (tracks.includes(kind)) continue;
      track.stop();
      received.delete(kind);
      this.emit('changed');
    }
  }

  #forget(user) {
    const link = this.#in.get(user);
    if (!link) return;
    clearTimeout(link.timer);
    link.pc?.close();
    this.#in.delete(user);
    this.received.delete(user);
    this.emit('changed');
  }

  async #offered(user, peer, { call, offer, kinds }) {
    const link = this.#in.get(user);
    if (link?.peer !== peer) return;
    link.pc?.close();
    this.received.delete(user);
    const pc = new RTCPeerConnection({ iceServers: this.#ice });
    Object.assign(link, { call, pc, kinds });
    pc.ontrack = ({ transceiver, track }) => this.#got(user, link, kinds[transceiver.mid], track);
    pc.onconnectionstatechange = () => {
      if (['failed', 'disconnected'].includes(pc.connectionState) && link.pc === pc) this.#ask(user, link);
    };
    this.#trickle(pc, user, peer, call, 'watcher');
    await pc.setRemoteDescription(offer);
    await pc.setLocalDescription();
    this.#send(user, peer, { call, answer: pc.localDescription });
    this.emit('changed');
  }

  #got(user, link, kind, track) {
    const allowed = this.#room.state?.sending[user];
    if (allowed?.peer !== link.peer || !allowed.tracks.includes(kind)) {
      track.stop();
      return;
    }
    if (!this.received.has(user)) this.received.set(user, new Map());
    this.received.get(user).set(kind, track);
    this.emit('changed');
  }

  // --- sending -------------------------------------------------------------------------------------------------------

  #callAll() {
    for (const link of [...this.#out.values()]) this.#call(link).catch(() => {}); // hung up meanwhile
  }

  /** Send nothing more to somebody, to all but their newest pages. */
  #hangUp(user, kept = 0) {
    const links = [...this.#out].filter(([, link]) => link.user === user);
    for (const [key, { pc }] of links.slice(0, Math.max(links.length - kept, 0))) {
      pc?.close();
      this.#out.delete(key);
    }
  }

  async #call(link) {
    link.pc?.close();
    link.pc = null;
    if (!this.#devices.tracks.size) return;
    const pc = new RTCPeerConnection({ iceServers: this.#ice });
    const call = crypto.randomUUID();
    Object.assign(link, { call, pc });
    this.#trickle(pc, link.user, link.peer, call, 'sender');
    const sent = [];
    for (const [kind, track] of this.#devices.tracks) {
      sent.push([pc.addTransceiver(track, { direction: 'sendonly', streams: [new MediaStream([track])] }), kind]);
    }
    await pc.setLocalDescription();
    const kinds = Object.fromEntries(sent.map(([transceiver, kind]) => [transceiver.mid, kind]));
    this.#send(link.user, link.peer, { call, offer: pc.localDescription, kinds });
  }

  // --- signals -------------------------------------------------------------------------------------------------------

  #trickle(pc, user, peer, call, side) {
    let candidates = [];
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      if (!candidates.length) {
        setTimeout(() => {
          if (pc.signalingState !== 'closed') this.#send(user, peer, { call, candidates, side });
          candidates = [];
        }, GATHER);
      }
      candidates.push(candidate);
    };
  }

  async #send(to, peer, data, tries = 3) {
    try {
      await this.#room.call('signal', { to, peer: this.#devices.peer, to_peer: peer, data });
    } catch (error) {
      if (error.temporary && tries) setTimeout(() => this.#send(to, peer, data, tries - 1), 1000);
    }
  }

  async #signal({ from, peer, to_peer: mine, data }) {
    if (mine !== this.#devices.peer) return; // another page of the same person is meant
    try {
      if (data.want) {
        const key = `${from} ${peer}`;
        if (!this.#out.has(key)) {
          this.#hangUp(from, PAGES - 1);
          this.#out.set(key, { user: from, peer, call: null, pc: null });
        }
        await this.#call(this.#out.get(key));
      } else if (data.offer) {
        await this.#offered(from, peer, data);
      } else {
        const link = data.side === 'sender' ? this.#in.get(from) : this.#out.get(`${from} ${peer}`);
        if (!link || link.call !== data.call) return;
        if (data.answer) await link.pc.setRemoteDescription(data.answer);
        for (const candidate of data.candidates ?? []) await addCandidate(link.pc, candidate);
      }
    } catch {
      // It belongs to a call that is over; whoever watches asks again.
    }
  }
}

/** A candidate may overtake the description that it belongs to. */
async function addCandidate(pc, candidate) {
  for (let i = 0; i < 50 && !pc.remoteDescription && pc.signalingState !== 'closed'; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await pc.addIceCandidate(candidate);
}
