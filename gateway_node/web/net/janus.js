/**
 * Video by way of the media server: one connection for all that this page sends, and one for each whom it watches. Their
 * descriptions go through the gateway; the media server speaks with nobody else.
 *
 * Candidates are part of the descriptions. What is sent changes by a new connection. Events: `changed`.
 */
import { Emitter } from '../emitter.js';

const GATHERING = 1500; // ms for candidates
const AGAIN = 1000; // ms between two attempts to watch what does not come yet

export class JanusLink extends Emitter {
  received = new Map(); // user -> Map(kind -> MediaStreamTrack)
  #room;
  #devices;
  #ice = [];
  #out = null; // what this page sends by
  #in = new Map(); // user -> {peer, pc, timer}

  constructor(room, devices) {
    super();
    this.#room = room;
    this.#devices = devices;
    room.on('changed', () => this.#watch());
    room.on('feed', ({ user, peer }) => this.#in.get(user)?.peer === peer && this.#begin(user, peer));
    room.on('restart', () => this.#restart());
    room.on('entered', () => this.#restart());
    room.on('left', () => this.close());
    devices.on('changed', () => this.#send());
  }

  async begin() {
    this.#ice = (await this.#room.call('ice')).servers;
  }

  close() {
    this.#out?.close();
    this.#out = null;
    for (const user of [...this.#in.keys()]) this.#forget(user);
  }

  async stats(user) {
    const pc = this.#in.get(user)?.pc;
    return pc ? [...(await pc.getStats()).values()].filter((each) => each.type === 'inbound-rtp') : [];
  }

  #restart() {
    for (const user of [...this.#in.keys()]) this.#forget(user);
    this.#send();
    this.#watch();
  }

  // --- sending -------------------------------------------------------------------------------------------------------

  async #send() {
    this.#out?.close();
    this.#out = null;
    const tracks = [...this.#devices.tracks];
    if (!tracks.length) return;
    const pc = new RTCPeerConnection({ iceServers: this.#ice });
    this.#out = pc;
    try {
      const sent = tracks.map(([kind, track]) => [pc.addTransceiver(track, { direction: 'sendonly' }), kind]);
      await pc.setLocalDescription();
      await gathered(pc);
      const kinds = Object.fromEntries(sent.map(([transceiver, kind]) => [transceiver.mid, kind]));
      const answer = await this.#room.call('offer', { peer: this.#devices.peer, sdp: pc.localDescription.sdp, kinds });
      if (this.#out === pc) await pc.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
    } catch {
      setTimeout(() => this.#out === pc && this.#send(), AGAIN);
    }
  }

  // --- watching ------------------------------------------------------------------------------------------------------

  #watch() {
    const sending = this.#room.state?.sending ?? {};
    for (const user of [...this.#in.keys()]) if (!sending[user]) this.#forget(user);
    if (this.#room.connection.state !== 'connected') return;
    for (const [user, { peer, tracks }] of Object.entries(sending)) {
      if (peer === this.#devices.peer) continue;
      if (this.#in.get(user)?.peer !== peer) this.#begin(user, peer);
      for (const [kind, track] of this.received.get(user) ?? []) {
        if (tracks.includes(kind)) continue;
        track.stop();
        this.received.get(user).delete(kind);
        this.emit('changed');
      }
    }
  }

  async #begin(user, peer) {
    this.#forget(user);
    const link = { peer, pc: null, timer: 0 };
    this.#in.set(user, link);
    try {
      const request = { peer: this.#devices.peer, user };
      const { type, sdp, kinds } = await this.#room.call('watch', request);
      if (this.#in.get(user) !== link) return;
      const pc = new RTCPeerConnection({ iceServers: this.#ice });
      link.pc = pc;
      pc.ontrack = ({ transceiver, track }) => this.#got(user, link, kinds[transceiver.mid], track);
      pc.onconnectionstatechange = () => pc.connectionState === 'failed' && this.#later(user, link);
      await pc.setRemoteDescription({ type, sdp });
      await pc.setLocalDescription();
      await gathered(pc);
      if (this.#in.get(user) === link) await this.#room.call('answer', { ...request, sdp: pc.localDescription.sdp });
    } catch {
      this.#later(user, link);
    }
  }

  #later(user, link) {
    clearTimeout(link.timer);
    link.timer = setTimeout(() => this.#in.get(user) === link && this.#begin(user, link.peer), AGAIN);
  }

  #got(user, link, kind, track) {
    if (this.#in.get(user) !== link || !this.#room.state?.sending[user]?.tracks.includes(kind)) return;
    if (!this.received.has(user)) this.received.set(user, new Map());
    this.received.get(user).set(kind, track);
    this.emit('changed');
  }

  #forget(user) {
    const link = this.#in.get(user);
    if (!link) return;
    clearTimeout(link.timer);
    link.pc?.close();
    this.#in.delete(user);
    if (this.received.delete(user)) this.emit('changed');
  }
}

/** All candidates, or those of a second and a half: a STUN server that is away holds nobody up for longer. */
function gathered(pc) {
  return new Promise((resolve) => {
    const done = () => pc.iceGatheringState === 'complete' && resolve();
    pc.addEventListener('icegatheringstatechange', done);
    setTimeout(resolve, GATHERING);
    done();
  });
}
