/** Who is here, in which role; and what a teacher can do about somebody. */
import { button } from '../button.js';
import { h, name, reconcile } from '../dom.js';
import { attempt } from './page.js';

const ROLES = ['student', 'speaker', 'observer', 'assistant'];

export class People {
  element;
  #page;
  #title = h('h2', { text: 'People' });
  #list = h('ul', { class: 'class-people' });
  #lobby = h('ul', { class: 'class-lobby', 'aria-label': 'In the lobby' });
  #all;
  #more;

  constructor(page) {
    this.#page = page;
    const { room } = page;
    this.#all = button('Admit everybody', () => attempt(() => room.do('admit_all')));
    this.#more = button('More', () => attempt(() => room.morePeople()));
    this.element = h('section', { 'aria-label': 'People' }, this.#title, this.#lobby, this.#all, this.#list, this.#more);
  }

  update() {
    const { room } = this.#page;
    const state = room.state;
    const title = `People (${room.crowd || room.people.size})`;
    if (this.#title.textContent !== title) this.#title.textContent = title;
    this.#more.hidden = !room.next;
    this.#all.hidden = !room.waiting.length;
    reconcile(
      this.#lobby,
      room.waiting.map(({ user, name: who }) => ({
        key: user,
        stamp: who,
        make: () =>
          h('li', { 'data-user': user }, name(who), button('Admit', () => attempt(() => room.do('admit', { user })), { 'aria-label': `Admit ${who}` })),
      })),
    );
    reconcile(
      this.#list,
      [...room.people].map(([user, { name: who, role }]) => {
        const present = room.roleOf(user, role);
        const muted = Boolean(state?.muted[user]);
        return {
          key: user,
          stamp: [who, present, muted, room.isStaff].join(' '),
          make: () => this.#line(user, who, role, present, muted),
        };
      }),
    );
  }

  #line(user, who, role, present, muted) {
    const { room } = this.#page;
    const line = h('li', { 'data-user': user }, name(who), ` (${present}${muted ? ', muted' : ''}) `);
    if (!room.isStaff || user === room.me.id || ['teacher', 'assistant'].includes(role)) return line;
    const act = (label, what, fields = {}) =>
      button(label, () => attempt(() => room.do(what, { user, ...fields })), { 'aria-label': `${label} ${who}` });
    const choice = h(
      'select',
      { 'aria-label': `Role of ${who}` },
      ROLES.map((each) => h('option', { value: each, text: each, selected: each === present })),
    );
    choice.addEventListener('change', () => attempt(() => room.do('role', { user, role: choice.value })));
    line.append(act(muted ? 'Unmute' : 'Mute', muted ? 'unmute' : 'mute'), act('Kick', 'kick'), act('Ban', 'ban'), choice);
    return line;
  }
}
