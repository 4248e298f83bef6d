/** An open room: its head, its messages, and the place to write. */
import { avatar } from './avatar.js';
import { iconButton } from './button.js';
import { Door } from './class/door.js';
import { Composer } from './composer.js';
import { h, name, reconcile, version } from './dom.js';
import { icon } from './icons.js';
import { MessageView } from './message.js';
import { content, typingLine } from './summary.js';
import { systemLine } from './system.js';
import { agoOf, dayName, dayOf } from './time.js';
import { steady, textNodes } from './text.js';
import { attempt } from './toast.js';

const TOGETHER = 5 * 60_000; // ms between two messages of one person that stand together
const NEAR = 600; // px from the edge at which more is loaded
const BOTTOM = 60; // px from the end that still count as the end
const SHOWN_READERS = 5; // names under the last message

export class Conversation {
  element;
  room;
  expanded = new Set(); // ids of long messages that are shown whole
  #chat;
  #app;
  #head = h('header', { class: 'head' });
  #pin = h('div', { class: 'pin-bar' });
  #list = h('div', { class: 'messages' });
  #scroller = h('div', { class: 'scroller', role: 'log', 'aria-label': 'Messages', 'aria-live': 'polite', tabindex: 0 });
  #typing = h('div', { class: 'typing-line', 'aria-live': 'polite' });
  #toEnd = iconButton('down', 'Go to the newest message', () => this.toEnd(), { class: 'to-end', hidden: true });
  #composer;
  #door = null;
  #jump;
  #atEnd = true; // whether the newest message is in sight, and is to stay so
  #unreadFrom = null; // the offset that was read when the room was opened
  #quoted = new Map(); // id -> message that is answered and lies outside of the window
  #ends = [];

  constructor(chat, app, room, jump) {
    this.#chat = chat;
    this.#app = app;
    this.room = room;
    this.#jump = jump;
    this.#unreadFrom = room.info.unread ? room.info.cursor ?? 0 : null;
    this.#composer = new Composer(chat, room);
    if (room.info.kind === 'course') this.#door = new Door(chat, room);
    this.#scroller.append(this.#list);
    this.element = h(
      'section',
      { class: 'conversation', 'aria-label': room.title },
      this.#head,
      this.#door?.element ?? [],
      this.#pin,
      h('div', { class: 'scroll-frame' }, this.#scroller, this.#toEnd),
      this.#typing,
      this.#composer.element,
    );
  }

  async begin() {
    this.#listen();
    this.#composer.focus();
    await attempt(() => this.room.enter(this.#jump));
  }

  end() {
    for (const end of this.#ends) end();
    this.#composer.end();
    this.#door?.end();
    this.room.timeline.trim();
  }

  /** Show a message, wherever it is. */
  async jump(offset) {
    this.#atEnd = false;
    if (!this.#flash(offset)) {
      this.#jump = offset;
      await attempt(() => this.room.timeline.open(offset));
    }
  }

  toEnd() {
    this.#atEnd = true;
    if (this.room.timeline.atEnd) this.#scrollToEnd();
    else attempt(() => this.room.timeline.open());
  }

  reply(message) {
    this.#composer.reply(message);
  }

  edit(message) {
    this.#composer.edit(message);
  }

  update() {
    this.#drawHead();
    this.#drawPin();
    this.#drawMessages();
    const typing = typingLine(this.room, this.#chat.people);
    if (this.#typing.textContent !== typing) this.#typing.textContent = typing;
    this.#composer.update();
    this.#read();
  }

  // --- scrolling -------------------------------------------------------------------------------------------------

  #listen() {
    const scroller = this.#scroller;
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    scroller.addEventListener('keydown', (event) => this.#keys(event));
    const resized = new ResizeObserver(() => this.#atEnd && this.#scrollToEnd()); // images, the keyboard of a phone
    resized.observe(scroller);
    resized.observe(this.#list);
    const look = () => this.#read();
    addEventListener('focus', look);
    document.addEventListener('visibilitychange', look);
    const opened = this.room.timeline.on('changed', (why) => why === 'opened' && this.#opened());
    this.#ends = [
      opened,
      () => resized.disconnect(),
      () => removeEventListener('focus', look),
      () => document.removeEventListener('visibilitychange', look),
    ];
  }

  #opened() {
    const jump = this.#jump;
    this.#jump = null;
    this.#atEnd = jump === null;
    this.#drawMessages();
    if (jump !== null) {
      this.#flash(jump);
      return;
    }
    const divider = this.#list.querySelector('.unread-line');
    if (divider) divider.scrollIntoView({ block: 'center' });
    else this.#scrollToEnd();
    this.#scrolled();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const left = scrollHeight - clientHeight - scrollTop;
    const { timeline } = this.room;
    this.#atEnd = timeline.atEnd && left < BOTTOM;
    this.#toEnd.hidden = this.#atEnd || !timeline.loaded;
    this.#more();
    this.#read();
  }

  /** Near an edge of the window there is to be more of it; also where it is too short to be scrolled. */
  #more() {
    const { timeline } = this.room;
    if (!timeline.loaded) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollTop < NEAR) attempt(() => timeline.older());
    if (scrollHeight - clientHeight - scrollTop < NEAR) attempt(() => timeline.newer());
  }

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #read() {
    const { timeline } = this.room;
    const seen = timeline.loaded && this.#atEnd && !document.hidden && document.hasFocus();
    if (seen && this.#chat.connection.state === 'connected') this.room.read();
  }

  #flash(offset) {
    const element = this.#list.querySelector(`[data-offset="${offset}"]`);
    if (!element) return false;
    element.scrollIntoView({ block: 'center' });
    element.classList.add('flash');
    element.addEventListener('animationend', () => element.classList.remove('flash'), { once: true });
    element.focus({ preventScroll: true });
    return true;
  }

  /** Arrow keys go from message to message. */
  #keys(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || event.target.closest('button, a, input')) return;
    const messages = [...this.#list.querySelectorAll('article')];
    const at = messages.indexOf(document.activeElement.closest('article'));
    const next = at < 0 ? messages.at(-1) : messages[at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  // --- drawing ---------------------------------------------------------------------------------------------------

  #drawHead() {
    const { room } = this;
    const { peer, members } = room.info;
    const status = peer && this.#chat.people.status(peer.id);
    let line = room.direct ? presence(status) : `${members} ${members === 1 ? 'member' : 'members'}`;
    if (room.online && !room.small) line += `, ${room.online} online`;
    if (room.info.archived_at) line += ', archived';
    reconcile(this.#head, [
      {
        key: room.id,
        stamp: [room.title, line, status?.online].join('\n'),
        make: () =>
          h(
            'div',
            { class: 'head-line' },
            h('a', { class: 'icon-button back', href: '#', 'aria-label': 'Back to the rooms' }, icon('back')),
            avatar(peer?.id ?? room.id, room.title, peer ? Boolean(status?.online) : undefined),
            h('div', { class: 'head-text' }, h('h2', {}, name(room.title)), h('p', { class: 'quiet', text: line })),
            iconButton('search', 'Search in this room', () => this.#app.showSearch(room)),
            iconButton(room.direct ? 'user' : 'group', room.direct ? 'Details' : 'Members', () => this.#app.showMembers()),
          ),
      },
    ]);
  }

  #drawPin() {
    const { pins } = this.room;
    const pinned = pins[0];
    const items = pinned
      ? [
          {
            key: 'pin',
            stamp: `${version(pinned)} ${pins.length}`,
            make: () =>
              h(
                'button',
                { type: 'button', class: 'pinned', on: { click: () => this.#app.showPins() } },
                icon('pin'),
                h('span', { class: 'quiet', text: pins.length > 1 ? `${pins.length} pinned` : 'Pinned' }),
                h('span', { class: 'pinned-text', dir: 'auto', text: content(pinned) }),
              ),
          },
        ]
      : [];
    reconcile(this.#pin, items);
  }

  #drawMessages() {
    const anchor = this.#atEnd ? null : this.#anchor();
    this.#scroller.setAttribute('aria-busy', String(!this.room.timeline.loaded));
    reconcile(this.#list, this.#items());
    if (this.#atEnd) this.#scrollToEnd();
    else if (anchor) {
      const element = this.#list.querySelector(`[data-id="${anchor.id}"]`);
      if (element) this.#scroller.scrollTop += element.getBoundingClientRect().top - anchor.top;
    }
    this.#more();
  }

  /** A message in sight, so that it stays where it is when something above it changes. */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const element of this.#list.children) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top && element.dataset.id) return { id: element.dataset.id, top: box.top };
    }
    return null;
  }

  #items() {
    const { timeline } = this.room;
    if (!timeline.loaded && !timeline.items.length) return [plain('loading', 'Loading…', 'loading')];
    const waiting = timeline.atEnd
      ? this.#chat.outbox.of(this.room.id).filter(({ id }) => !timeline.find(id))
      : [];
    const items = [];
    if (timeline.atStart) items.push(plain('start', `This is the beginning of ${this.room.direct ? 'your conversation' : 'the room'}.`, 'day start'));
    let before = null;
    let divided = this.#hasAnswered(timeline.items, waiting);
    for (const message of [...timeline.items, ...waiting]) {
      const day = dayOf(message.timestamp);
      const newDay = !before || dayOf(before.timestamp) !== day;
      if (newDay) items.push(plain(`day ${day}`, dayName(message.timestamp), 'day'));
      const unread = !divided && this.#isUnread(message);
      if (unread) {
        divided = true;
        items.push(plain('unread', 'New messages', 'unread-line'));
      }
      items.push(message.type === 'system' ? this.#systemItem(message) : this.#messageItem(message, before, newDay || unread));
      before = message;
    }
    const seen = this.#seenBy(timeline.items);
    if (seen && timeline.atEnd) items.push(plain('seen', seen, 'seen'));
    return items;
  }

  /** Whoever has said something since has seen what was new. */
  #hasAnswered(items, waiting) {
    const own = items.findLast(({ from_user_id }) => from_user_id === this.#chat.me.id);
    return waiting.length > 0 || own?.offset > this.#unreadFrom;
  }

  #isUnread({ offset, from_user_id, type }) {
    return this.#unreadFrom !== null && type !== 'system' && offset > this.#unreadFrom && from_user_id !== this.#chat.me.id;
  }

  #systemItem(line) {
    const text = systemLine(line, this.#chat.people, this.#chat.me.id);
    return {
      key: line.id,
      stamp: text,
      make: () => h('div', { class: 'system', 'data-offset': line.offset, 'data-id': line.id, tabindex: -1 }, textNodes(text)),
    };
  }

  #messageItem(message, before, first) {
    const { people, me } = this.#chat;
    const together =
      !first &&
      before.type !== 'system' &&
      before.from_user_id === message.from_user_id &&
      new Date(message.timestamp) - new Date(before.timestamp) < TOGETHER;
    const own = message.from_user_id === me.id;
    const quoted = message.reply_to ? this.#find(message.reply_to) : null;
    const view = {
      together,
      own,
      quoted,
      author: people.name(message.from_user_id),
      read: own && message.offset ? this.#readState(message.offset) : '',
      pinned: this.room.pins.some(({ id }) => id === message.id),
      whole: this.expanded.has(message.id),
      mentions: (message.mentions ?? []).map((id) => people.name(id)),
      reactors: Object.values(message.reactions ?? {}).map(({ users }) => users.map((id) => (id === me.id ? 'You' : people.name(id)))),
    };
    const { quoted: _, ...plainView } = view;
    const stamp = `${version(message)} ${version(quoted)} ${quoted ? people.name(quoted.from_user_id) : ''} ${JSON.stringify(plainView)} ${this.room.mayPin}`;
    return { key: message.id, stamp, make: () => new MessageView(this.#chat, this, message, view).element };
  }

  /** `all`, `some` or nothing of the others have read up to an offset. */
  #readState(offset) {
    const { room } = this;
    const readers = room.readers ? room.otherReaders(offset) : room.readersOf(offset).length;
    if (!readers) return '';
    return readers >= room.info.members - 1 ? 'all' : 'some';
  }

  /** Who has seen one's own last message, when it is the last one. */
  #seenBy(items) {
    const last = items.findLast(({ type }) => type !== 'system');
    if (!last || last.from_user_id !== this.#chat.me.id || last.deleted_at) return '';
    const { room } = this;
    if (room.readers) {
      const others = room.otherReaders(last.offset);
      return others > 0 ? `Seen by ${others}` : '';
    }
    const readers = room.readersOf(last.offset);
    if (!readers.length) return '';
    if (room.direct) return 'Seen';
    const names = readers.slice(0, SHOWN_READERS).map((id) => steady(this.#chat.people.name(id)));
    const more = readers.length - names.length;
    return `Seen by ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  }

  /** A message that another one answers; fetched when it is not in the window. */
  #find(id) {
    const known = this.room.timeline.find(id) ?? this.#quoted.get(id);
    if (known === undefined) {
      this.#quoted.set(id, null);
      this.#chat.connection.read('message.get', { room_id: this.room.id, message_id: id }).then(
        (message) => {
          this.#quoted.set(id, message);
          this.room.emit('changed');
        },
        () => {}, // it is gone: the quote says nothing
      );
    }
    return known ?? null;
  }
}

function plain(key, text, kind) {
  return { key, stamp: text, make: () => h('div', { class: kind }, h('span', { text })) };
}

function presence(status) {
  if (!status || status.online === null) return ''; // the server does not know
  if (status.online) return 'online';
  return status.last_seen ? `last seen ${agoOf(status.last_seen)}` : 'offline';
}
