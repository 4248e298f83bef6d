/** In the room of a course: the way to its class, when one is planned or goes on. */
import { h, name, reconcile } from '../dom.js';

const LOOK = 60_000; // ms between two looks, about, while a class is due or goes on: nothing in the room says so
const SOON = 15 * 60_000; // ms before its time from which a class may be started
const when = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit' });

export class Door {
  element = h('div', { class: 'pin-bar', role: 'status' });
  #chat;
  #room;
  #class = null;
  #timer = 0;
  #ends;

  constructor(chat, room) {
    this.#chat = chat;
    this.#room = room;
    const look = () => this.#look();
    this.#ends = [
      chat.connection.on('state', (state) => state === 'connected' && look()),
      chat.on('notified', ({ kind }) => kind.startsWith('class.') && look()),
    ];
    look();
  }

  end() {
    clearTimeout(this.#timer);
    for (const end of this.#ends) end();
    this.#room = null;
  }

  async #look() {
    clearTimeout(this.#timer);
    const room = this.#room;
    const unseen = document.hidden;
    if (!unseen) this.#class = await this.#chat.classes.next(room.id).catch(() => this.#class);
    if (this.#room !== room) return;
    const found = this.#class;
    this.#draw(found);
    clearTimeout(this.#timer);
    const until = unseen ? 0 : found ? new Date(found.starts_at) - SOON - Date.now() : Infinity;
    const wait = Math.max(until, LOOK * (0.5 + Math.random()));
    if (wait < 2 ** 31) this.#timer = setTimeout(() => this.#look(), wait); // a browser takes no longer one
  }

  #draw(found) {
    const running = Boolean(found?.started_at);
    const items = found && {
      key: found.id,
      stamp: `${found.title} ${found.starts_at} ${running}`,
      make: () =>
        h(
          'a',
          { class: 'pinned', href: `#/class/${found.id}` },
          h('span', { class: 'quiet', text: running ? 'Class running: join' : `Class, ${when.format(new Date(found.starts_at))}` }),
          name(found.title, { class: 'pinned-text' }),
        ),
    };
    reconcile(this.element, items ? [items] : []);
  }
}
