/** Whose hand is up, in the order in which they came up, and who is called. */
import { button } from '../button.js';
import { h, name, reconcile } from '../dom.js';
import { attempt } from './page.js';

export class Hands {
  element;
  #page;
  #called = h('p', { class: 'class-called' });
  #list = h('ol', { class: 'class-hands' });
  #next;
  #done;

  constructor(page) {
    this.#page = page;
    const { room } = page;
    // What this page has seen goes along: of two teachers who call at once, one does.
    this.#next = button('Call next', () => attempt(() => room.do('call_next', { seen: room.state.offset })));
    this.#done = button('Done', () => attempt(() => room.do('dismiss')));
    this.element = h('section', { 'aria-label': 'Hands' }, h('h2', { text: 'Hands' }), this.#called, this.#list, this.#next, this.#done);
  }

  update() {
    const { room } = this.#page;
    const state = room.state;
    const called = state?.called;
    const text = called ? `Called: ${called.name}` : '';
    if (this.#called.textContent !== text) this.#called.textContent = text;
    this.#next.hidden = !room.isStaff || state?.phase !== 'live';
    this.#next.disabled = !Object.keys(state?.hands ?? {}).length;
    this.#done.hidden = !called || !(room.isStaff || called.user === room.me.id);
    reconcile(
      this.#list,
      Object.entries(state?.hands ?? {}).map(([user, hand]) => ({
        key: user,
        stamp: hand.name + hand.at,
        make: () => h('li', { 'data-user': user }, name(hand.name)),
      })),
    );
  }
}
