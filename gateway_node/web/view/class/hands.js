/** Whose hand is up, in the order in which they came up, and who is called. */
import { button } from '../button.js';
import { h, name, reconcile } from '../dom.js';
import { attempt } from '../toast.js';

export class Hands {
  element;
  #room;
  #called = h('p', { class: 'class-called' });
  #list = h('ol', { class: 'class-hands', 'aria-label': 'Raised hands' });
  #hidden = h('p', { class: 'quiet' });
  #next;
  #done;
  #lower;

  constructor({ room }) {
    this.#room = room;
    // What this page has seen goes along: of two teachers who call at once, one does.
    this.#next = button('Call next', () => attempt(() => room.do('call_next', { seen: room.state.offset })));
    this.#done = button('Done', () => attempt(() => room.do('dismiss')));
    this.#lower = button('Lower all hands', () => attempt(() => room.do('lower_all')));
    this.element = h(
      'section',
      { 'aria-label': 'Hands' },
      h('h2', { text: 'Hands' }),
      this.#called,
      this.#next,
      this.#done,
      this.#list,
      this.#hidden,
      this.#lower,
    );
  }

  update() {
    const { state, isStaff, me, queue } = this.#room;
    const called = state?.called;
    const leads = isStaff && state?.phase === 'live';
    set(this.#called, called ? `Called: ${called.name}` : '');
    set(this.#hidden, queue.hidden ? `and ${queue.hidden} more` : '');
    this.#next.hidden = !leads;
    this.#next.setAttribute('aria-disabled', String(!queue.count)); // not `disabled`, which would take the focus away
    this.#lower.hidden = !leads || !queue.count;
    this.#done.hidden = !called || !(isStaff || called.user === me.id);
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

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
