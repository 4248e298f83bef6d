/** Search in one's rooms. */
import { button } from './button.js';
import { h, soon } from './dom.js';
import { messageLine } from './line.js';
import { panel } from './panel.js';
import { attempt } from './toast.js';

const PAUSE = 300; // ms after a key before the server is asked

export class SearchPanel {
  element;
  #chat;
  #app;
  #room; // only in this one
  #input = h('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search messages', autocomplete: 'off' });
  #list = h('ul', { class: 'line-list' });
  #note = h('p', { class: 'quiet', 'aria-live': 'polite' });
  #more = button('More', () => this.#page(), { class: 'button', hidden: true });
  #query = '';
  #before = null;

  constructor(chat, app, room) {
    this.#chat = chat;
    this.#app = app;
    this.#room = room;
    const scope = room ? `Search in ${room.title}` : 'Search in all rooms';
    const begin = soon(() => this.#begin(), PAUSE);
    this.#input.addEventListener('input', begin);
    this.element = panel(scope, app, this.#input, this.#note, this.#list, this.#more);
  }

  update() {} // results stay as they were found

  #begin() {
    const query = this.#input.value.trim();
    if (query === this.#query) return;
    this.#query = query;
    this.#before = null;
    this.#list.replaceChildren();
    this.#note.textContent = '';
    this.#more.hidden = true;
    if (query) this.#page();
  }

  async #page() {
    const query = this.#query;
    const asked = { query, ...(this.#room && { room_id: this.#room.id }), ...(this.#before && { before: this.#before }) };
    const page = await attempt(() => this.#chat.connection.rpc('message.search', asked));
    if (!page || query !== this.#query) return;
    this.#chat.people.learn(page.users);
    for (const message of page.messages) this.#list.append(h('li', {}, this.#line(message, query)));
    this.#before = page.next ?? null;
    this.#more.hidden = !this.#before;
    if (!this.#list.children.length) this.#note.textContent = 'Nothing found.';
  }

  #line(message, query) {
    const where = this.#room ? '' : this.#chat.rooms.get(message.room_id)?.title ?? '';
    const open = async () => {
      const room = await attempt(() => this.#chat.room(message.room_id));
      if (room) this.#app.show(room, message.offset);
    };
    return messageLine(this.#chat, message, { open, where, query });
  }
}
