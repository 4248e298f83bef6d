/** A room in one line: what was said last. */
import { systemLine } from './system.js';
import { brief, steady } from './text.js';

export function summary(room, { people, me }) {
  const { last } = room.info;
  if (!last) return '';
  if (last.type === 'system') return systemLine(last, people, me.id);
  const own = last.from_user_id === me.id;
  const author = own ? 'You: ' : room.direct ? '' : `${steady(people.name(last.from_user_id))}: `;
  return author + content(last);
}

/** What a message says, without its form. */
export function content(message) {
  if (message.deleted_at) return 'Message deleted';
  const kind = { image: '🖼 ', file: '📎 ' }[message.type] ?? '';
  return kind + brief(message.content || message.file?.name || '');
}

/** "Ana is typing", "Ana and Bo are typing", "7 people are typing"; empty when nobody is. */
export function typingLine({ typing, direct }, people) {
  const { users, count } = typing;
  if (!count) return '';
  if (direct) return 'typing…';
  const names = users.slice(0, 2).map((id) => steady(people.name(id)));
  if (count === 1 && names.length) return `${names[0]} is typing…`;
  if (count === 2 && names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return `${count} people are typing…`;
}
