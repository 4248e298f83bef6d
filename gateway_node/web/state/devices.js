/** What this page sends: its microphone, camera and screen, as far as the class lets it. Events: `changed`,
 * `stopped` (kinds that the class has ended). */
import { Emitter } from '../emitter.js';

const KINDS = ['microphone', 'camera', 'screen'];

export class Devices extends Emitter {
  tracks = new Map(); // kind -> MediaStreamTrack
  peer = sessionStorage.getItem('chalkwire.peer') ?? crypto.randomUUID();
  #room;
  #resuming = false;

  constructor(room) {
    super();
    this.#room = room;
    sessionStorage.setItem('chalkwire.peer', this.peer);
    room.on('changed', () => this.#obey());
    room.on('left', () => this.#stop());
    room.on('entered', () => this.#recall());
    addEventListener('pagehide', () => this.tracks.size && room.do('unpublish').catch(() => {}));
  }

  /** What the class says that this page sends. */
  get allowed() {
    const mine = this.#room.state?.sending[this.#room.me.id];
    return mine?.peer === this.peer ? mine.tracks : [];
  }

  /** Begin or end to send something. Throws what hinders it. */
  async toggle(kind) {
    if (this.tracks.has(kind)) {
      await this.#announce([...this.tracks.keys()].filter((each) => each !== kind));
      this.#end(kind);
    } else {
      const track = await open(kind);
      track.addEventListener('ended', () => this.tracks.get(kind) === track && this.toggle(kind).catch(() => {}));
      try {
        await this.#announce([...this.tracks.keys(), kind]);
      } catch (error) {
        track.stop();
        throw error;
      }
      this.tracks.set(kind, track);
      this.#obey();
    }
    this.emit('changed');
  }

  async #announce(kinds) {
    if (kinds.length) await this.#room.do('publish', { peer: this.peer, tracks: KINDS.filter((each) => kinds.includes(each)) });
    else await this.#room.do('unpublish');
  }

  /** Whatever was taken away is not sent any more: the others do not take it, either. */
  #obey() {
    if (this.#resuming || !this.#room.state || this.#room.connection.state !== 'connected') return;
    const gone = [...this.tracks.keys()].filter((kind) => !this.allowed.includes(kind));
    for (const kind of gone) this.#end(kind);
    if (gone.length) {
      this.emit('stopped', gone);
      this.emit('changed');
    }
  }

  /** After a reload nothing is sent, whatever the class believes; after a lost connection all goes on, also where it was
   * away for so long that the class gave the place to others, if there still is one. A place goes with its connection:
   * within 15 s the new one takes it over. */
  #recall() {
    const { allowed } = this;
    if (allowed.length && !this.tracks.size) this.#room.do('unpublish').catch(() => {});
    else if (allowed.length) this.#announce(allowed).catch(() => {}); // something was taken away meanwhile, or it is cut off
    else if (this.tracks.size) this.#resume();
  }

  async #resume() {
    this.#resuming = true;
    await this.#announce([...this.tracks.keys()]).catch(() => {}); // then it ends
    this.#resuming = false;
    this.#obey();
  }

  #end(kind) {
    this.tracks.get(kind)?.stop();
    this.tracks.delete(kind);
  }

  #stop() {
    for (const kind of [...this.tracks.keys()]) this.#end(kind);
    this.emit('changed');
  }
}

async function open(kind) {
  const devices = navigator.mediaDevices;
  if (!devices) throw new Error('This browser has no access to cameras here.');
  if (kind === 'screen') return (await devices.getDisplayMedia({ video: true })).getVideoTracks()[0];
  if (kind === 'camera') return (await devices.getUserMedia({ video: { width: 640, height: 480 } })).getVideoTracks()[0];
  return (await devices.getUserMedia({ audio: true })).getAudioTracks()[0];
}
