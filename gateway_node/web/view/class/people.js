/** Who is here, in which role; and what a teacher can do about somebody. */
import { button } from '../button.js';
import { confirmed } from '../dialog.js';
import { h, name, reconcile } from '../dom.js';
import { openMenu } from '../menu.js';
import { attempt } from '../toast.js';

const ROLES = ['student', 'speaker', 'observer', 'assistant'];

export class People {
  element;
  #room;
  #title = h('h2', { text: 'People' });
  #list = h('ul', { class: 'class-people', 'aria-label': 'People' });
  #lobby = h('ul', { class: 'class-lobby', 'aria-label': 'In the lobby' });
  #banned = h('ul', { class: 'class-banned', 'aria-label': 'Banned' });
  #all;
  #more;

  constructor({ room }) {
    this.#room = room;
    this.#all = button('Admit everybody', () => attempt(() => room.do('admit_all')));
    this.#more = button('More', () => attempt(() => room.morePeople()), { 'aria-label': 'More people' });
    this.element = h('section', { 'aria-label': 'People' }, this.#title, this.#lobby, this.#all, this.#list, this.#more, this.#banned);
  }

  update() {
    const room = this.#room;
    const title = `People (${room.crowd || room.people.size})`;
    if (this.#title.textContent !== title) this.#title.textContent = title;
    this.#more.hidden = !room.next;
    this.#all.hidden = !room.waiting.length;
    this.#lobby.hidden = !room.waiting.length;
    reconcile(
      this.#lobby,
      room.waiting.map(({ user, name: who }) => ({
        key: user,
        stamp: who,
        make: () => h('li', { 'data-user': user }, name(who), ' ', this.#button('Admit', who, () => room.do('admit', { user }))),
      })),
    );
    this.#banned.hidden = !room.banned.length;
    reconcile(
      this.#banned,
      room.banned.map(({ user, name: who }) => ({
        key: user,
        stamp: who,
        make: () => h('li', { 'data-user': user }, name(who), ' (banned) ', this.#button('Unban', who, () => room.do('unban', { user }))),
      })),
    );
    reconcile(
      this.#list,
      [...room.people].map(([user, { name: who, role }]) => {
        const present = room.roleOf(user, role);
        const muted = room.isMuted(user, role);
        return {
          key: user,
          stamp: [who, present, muted, room.isStaff].join(' '),
          make: () => this.#line(user, who, role, present, muted),
        };
      }),
    );
  }

  #line(user, who, role, present, muted) {
    const room = this.#room;
    const line = h('li', { 'data-user': user }, name(who), ` (${present}${muted ? ', muted' : ''}) `);
    if (!room.isStaff || user === room.me.id || ['teacher', 'assistant'].includes(role)) return line;
    const more = button('More', () => openMenu(more, this.#choices(user, who, present)), {
      'aria-label': `More about ${who}`,
      'aria-haspopup': 'menu',
    });
    line.append(
      this.#button(muted ? 'Unmute' : 'Mute', who, () => room.do(muted ? 'unmute' : 'mute', { user })),
      this.#button('Kick', who, () => room.do('kick', { user })),
      more,
    );
    return line;
  }

  #button(label, who, work) {
    return button(label, () => attempt(work), { 'aria-label': `${label} ${who}` });
  }

  #choices(user, who, present) {
    const room = this.#room;
    const roles = ROLES.filter((role) => role !== present);
    const ban = async () => {
      if (await confirmed(`Ban ${who} from this class?`, 'Ban')) await attempt(() => room.do('ban', { user }));
    };
    return [...roles.map((role) => [`Make ${role}`, () => attempt(() => room.do('role', { user, role }))]), ['Ban', ban]];
  }
}
