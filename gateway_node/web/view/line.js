/** A message in a list of found or pinned ones. */
import { avatar } from './avatar.js';
import { h, name } from './dom.js';
import { content } from './summary.js';
import { marked } from './text.js';
import { briefTime } from './time.js';

export function messageLine(chat, message, { open, where = '', query = '' }) {
  const author = chat.people.name(message.from_user_id);
  return h(
    'button',
    { type: 'button', class: 'line', on: { click: open } },
    avatar(message.from_user_id, author),
    h(
      'span',
      { class: 'room-text' },
      h('span', { class: 'room-top' }, name(author, { class: 'room-title' }), h('time', { text: briefTime(message.timestamp) })),
      where && name(where, { class: 'quiet' }),
      h('span', { class: 'line-text', dir: 'auto' }, marked(content(message), query)),
    ),
  );
}
