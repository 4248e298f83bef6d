/** The pinned messages of a room. */
import { iconButton } from './button.js';
import { h, reconcile, version } from './dom.js';
import { messageLine } from './line.js';
import { panel } from './panel.js';
import { attempt } from './toast.js';

export class PinsPanel {
  element;
  #chat;
  #app;
  #room;
  #list = h('ul', { class: 'line-list' });

  constructor(chat, app) {
    this.#chat = chat;
    this.#app = app;
    this.#room = app.open;
    this.element = panel('Pinned', app, this.#list);
  }

  update() {
    reconcile(
      this.#list,
      this.#room.pins.map((message) => ({
        key: message.id,
        stamp: `${version(message)} ${this.#chat.people.name(message.from_user_id)}`,
        make: () =>
          h(
            'li',
            {},
            messageLine(this.#chat, message, { open: () => this.#app.show(this.#room, message.offset) }),
            this.#room.mayPin && iconButton('close', 'Unpin', () => this.#unpin(message)),
          ),
      })),
    );
  }

  #unpin({ id }) {
    attempt(() => this.#chat.connection.rpc('message.unpin', { room_id: this.#room.id, message_id: id }));
  }
}
