/** The pictures of those who send: one's own first, screens large. */
import { h } from '../dom.js';

export class Tiles {
  element = h('ul', { class: 'class-tiles', 'aria-label': 'Video' });
  #page;
  #tiles = new Map(); // `user kind` -> {element, media, track}

  constructor(page) {
    this.#page = page;
  }

  update() {
    const { room, devices, media } = this.#page;
    const wanted = new Map();
    for (const [kind, track] of devices.tracks) wanted.set(`${room.me.id} ${kind}`, { user: room.me.id, kind, track, own: true });
    for (const [user, tracks] of media?.received ?? []) {
      for (const [kind, track] of tracks) wanted.set(`${user} ${kind}`, { user, kind, track, own: false });
    }
    for (const [key, tile] of this.#tiles) {
      if (wanted.get(key)?.track === tile.track) continue;
      tile.media.srcObject = null;
      tile.element.remove();
      this.#tiles.delete(key);
    }
    for (const [key, each] of wanted) if (!this.#tiles.has(key)) this.#add(key, each);
  }

  #add(key, { user, kind, track, own }) {
    const who = own ? 'You' : this.#page.room.name(user);
    const what = { microphone: 'voice', camera: 'camera', screen: 'screen' }[kind];
    const media = h(kind === 'microphone' ? 'audio' : 'video', { autoplay: true, playsinline: true, 'aria-label': `${who}: ${what}` });
    media.muted = own || kind !== 'microphone';
    media.srcObject = new MediaStream([track]);
    media.play?.().catch(() => {});
    const element = h(
      'li',
      { class: `class-tile is-${kind}`, 'data-user': user, 'data-kind': kind },
      media,
      h('span', { class: 'class-caption', text: `${who} (${what})` }),
    );
    if (own && kind === 'microphone') element.hidden = true;
    this.#tiles.set(key, { element, media, track });
    this.element.append(element);
  }
}
