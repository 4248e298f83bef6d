/** The whole page: the rooms on the left, a conversation in the middle, a panel on the right; on a phone one of them. */
import { Conversation } from './conversation.js';
import { h, soon } from './dom.js';
import { MembersPanel } from './members.js';
import { PinsPanel } from './pins.js';
import { RoomList } from './rooms.js';
import { SearchPanel } from './search.js';
import { steady } from './text.js';
import { toast } from './toast.js';

const TITLE = 'Chalkwire';

export class App {
  element;
  #chat;
  #rooms;
  #conversation = null;
  #panel = null;
  #banner = h('div', { class: 'banner', role: 'status' });
  #middle = h('main', { class: 'middle' });
  #side = h('aside', { class: 'side', 'aria-label': 'Details' });
  #wasConnected = false;
  #pressed = false; // a button that is drawn anew between press and release is never clicked
  #jump = null; // the offset that the next room is opened at

  constructor(chat) {
    this.#chat = chat;
    this.#rooms = new RoomList(chat, this);
    this.element = h('div', { class: 'shell' }, this.#banner, this.#rooms.element, this.#middle, this.#side);
    const update = soon(() => this.#update());
    addEventListener('pointerdown', () => (this.#pressed = true), true);
    for (const end of ['pointerup', 'pointercancel', 'contextmenu', 'blur'])
      addEventListener(end, () => ((this.#pressed = false), update()));
    chat.on('changed', update);
    chat.on('removed', (room) => this.#removed(room));
    chat.connection.on('state', update);
    addEventListener('hashchange', () => this.#route());
    addEventListener('keydown', (event) => {
      const taken = event.defaultPrevented || document.querySelector('dialog[open]');
      if (event.key === 'Escape' && !taken) this.closePanel();
    });
    setInterval(update, 60_000); // "5 minutes ago" grows old
    this.#route();
    this.#update();
  }

  get open() {
    return this.#conversation?.room ?? null;
  }

  /** Go to a room, and to one of its messages. */
  show(room, offset = null) {
    this.#jump = offset;
    if (this.open === room) {
      if (offset !== null) this.#conversation.jump(offset);
      this.#jump = null;
      if (matchMedia('(max-width: 760px)').matches) this.closePanel();
    } else location.hash = `#/room/${room.id}`;
  }

  showMembers() {
    this.#toggle(MembersPanel);
  }

  showPins() {
    this.#toggle(PinsPanel);
  }

  showSearch(room = null) {
    this.#toggle(SearchPanel, room);
  }

  closePanel() {
    this.#panel = null;
    this.#side.replaceChildren();
    this.#mark();
  }

  #toggle(kind, ...more) {
    if (this.#panel instanceof kind) {
      this.closePanel();
      return;
    }
    this.#panel = new kind(this.#chat, this, ...more);
    this.#side.replaceChildren(this.#panel.element);
    this.#panel.element.querySelector('input')?.focus();
    this.#mark();
    this.#panel.update();
  }

  async #route() {
    const id = location.hash.match(/^#\/room\/([0-9a-f-]{36})$/)?.[1];
    if (!id) {
      this.#leave();
      return;
    }
    try {
      const room = await this.#chat.room(id);
      if (location.hash !== `#/room/${id}` || this.open === room) return;
      this.#leave();
      this.#conversation = new Conversation(this.#chat, this, room, this.#jump);
      this.#jump = null;
      this.#middle.replaceChildren(this.#conversation.element);
      this.#mark();
      this.#conversation.begin();
      this.#update();
    } catch {
      toast('There is no such room, or you are not in it.');
      location.hash = '';
    }
  }

  #leave() {
    this.#conversation?.end();
    this.#conversation = null;
    this.closePanel();
    this.#middle.replaceChildren(
      h('div', { class: 'nothing' }, h('span', { class: 'logo big' }), h('p', { text: 'Choose a conversation, or begin one.' })),
    );
    this.#mark();
  }

  #removed(room) {
    if (this.open !== room) return;
    toast(`You are not in “${steady(room.title)}” any more.`);
    location.hash = '';
  }

  #update() {
    if (this.#pressed) return;
    this.#announce();
    this.#rooms.update();
    this.#conversation?.update();
    this.#panel?.update();
    const { unread } = this.#chat;
    document.title = unread ? `(${unread}) ${TITLE}` : TITLE;
  }

  #announce() {
    const { state } = this.#chat.connection;
    if (state === 'connected') this.#wasConnected = true;
    const text = state === 'connected' ? '' : this.#wasConnected ? 'Reconnecting…' : 'Connecting…';
    if (this.#banner.textContent !== text) this.#banner.textContent = text;
    this.element.dataset.connection = state;
  }

  #mark() {
    this.element.dataset.view = this.#panel ? 'panel' : this.#conversation ? 'conversation' : 'rooms';
  }
}
