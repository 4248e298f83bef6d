/** The list of rooms, and who one is. */
import { avatar } from './avatar.js';
import { iconButton } from './button.js';
import { h, name, reconcile } from './dom.js';
import { openMenu } from './menu.js';
import { editProfile, findGroup, newGroup, newTalk } from './new.js';
import { briefTime } from './time.js';
import { summary, typingLine } from './summary.js';
import { attempt } from './toast.js';

export class RoomList {
  element;
  #chat;
  #app;
  #list = h('ul', { class: 'room-list' });
  #empty = h('p', { class: 'quiet', hidden: true });
  #me = h('div', { class: 'me' });
  #filter = h('input', { type: 'search', placeholder: 'Filter rooms', 'aria-label': 'Filter rooms' });
  #archived = false;

  constructor(chat, app) {
    this.#chat = chat;
    this.#app = app;
    this.#filter.addEventListener('input', () => this.update());
    const begin = iconButton('plus', 'New conversation', () =>
      openMenu(begin, [
        ['Message somebody', () => newTalk(chat, app)],
        ['New group', () => newGroup(chat, app)],
        ['Join an open group', () => findGroup(chat, app)],
      ]),
    );
    this.element = h(
      'nav',
      { class: 'rooms', 'aria-label': 'Rooms' },
      h(
        'header',
        { class: 'rooms-head' },
        h('h1', {}, h('span', { class: 'logo', 'aria-hidden': 'true' }), 'Chalkwire'),
        iconButton('search', 'Search messages', () => app.showSearch()),
        begin,
      ),
      h('div', { class: 'rooms-filter' }, this.#filter),
      this.#empty,
      this.#list,
      h('footer', { class: 'rooms-foot' }, this.#me),
    );
  }

  update() {
    const { people } = this.#chat;
    const wanted = this.#filter.value.trim().toLocaleLowerCase();
    const rooms = this.#chat
      .sorted(this.#archived)
      .filter((room) => room.title.toLocaleLowerCase().includes(wanted));
    reconcile(
      this.#list,
      rooms.map((room) => {
        const { info } = room;
        const peer = info.peer && people.status(info.peer.id)?.online;
        const open = room === this.#app.open;
        const typing = typingLine(room, people);
        const line = typing || summary(room, this.#chat);
        const time = briefTime(room.latest);
        const stamp = [room.title, info.unread, info.mentions, peer, open, typing, line, time].join('\n');
        return { key: room.id, stamp, make: () => this.#item(room, { peer, open, typing, line, time }) };
      }),
    );
    this.#empty.hidden = rooms.length > 0 || !this.#chat.loaded;
    this.#empty.textContent = wanted || this.#archived ? 'Nothing here.' : 'No conversations yet. Begin one with +.';
    this.#drawMe();
  }

  #item(room, { peer, open, typing, line, time }) {
    const { unread, mentions } = room.info;
    const spoken = [room.title, unread && `${unread} unread`, mentions && 'you were mentioned', peer && 'online'];
    return h(
      'li',
      {},
      h(
        'a',
        {
          href: `#/room/${room.id}`,
          class: unread ? 'room unread' : 'room',
          'aria-current': open ? 'page' : null,
          'aria-label': spoken.filter(Boolean).join(', '),
        },
        avatar(room.info.peer?.id ?? room.id, room.title, room.direct ? Boolean(peer) : undefined),
        h(
          'span',
          { class: 'room-text' },
          h('span', { class: 'room-top' }, name(room.title, { class: 'room-title' }), h('time', { text: time })),
          h(
            'span',
            { class: 'room-bottom' },
            h('span', { class: typing ? 'room-last typing' : 'room-last', dir: 'auto', text: line }),
            mentions > 0 && h('span', { class: 'badge mention', text: '@' }),
            unread > 0 && h('span', { class: 'badge', text: unread > 999 ? '999+' : unread }),
          ),
        ),
      ),
    );
  }

  #drawMe() {
    const { me } = this.#chat;
    reconcile(this.#me, [
      {
        key: me.id,
        stamp: `${me.name}${this.#archived}`,
        make: () => {
          const more = iconButton('more', 'Account', () => this.#menu(more));
          return h(
            'div',
            { class: 'me-line' },
            avatar(me.id, me.name || me.email),
            h('span', { class: 'room-text' }, name(me.name || me.email, { class: 'room-title' }), name(me.email, { class: 'quiet' })),
            more,
          );
        },
      },
    ]);
  }

  #menu(anchor) {
    openMenu(anchor, [
      ['Change my name', () => editProfile(this.#chat)],
      [this.#archived ? 'Show current rooms' : 'Show archived rooms', () => this.#toggleArchived()],
      ['Sign out', () => this.#chat.session.signOut()],
    ]);
  }

  async #toggleArchived() {
    this.#archived = !this.#archived;
    this.update();
    if (this.#archived) await attempt(() => this.#chat.loadArchived());
  }
}
