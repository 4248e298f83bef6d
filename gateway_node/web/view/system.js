/** The lines that say what happened to a room. */

import { steady } from './text.js';
import { dayOf, fullTime, timeOf } from './time.js';

const ROLES = { owner: 'owner', moderator: 'moderator', member: 'member' };

/** A sentence; `content` of the server where this page does not know the event. */
export function systemLine(line, people, myId) {
  const who = subject(line.from_user_id, people, myId);
  const self = line.user_id === line.from_user_id;
  const whom = line.user_id === myId ? 'you' : steady(people.name(line.user_id));
  switch (line.event) {
    case 'member_added':
      return self ? `${who} joined` : `${who} added ${whom}`;
    case 'member_removed':
      return self ? `${who} left` : `${who} removed ${whom}`;
    case 'member_role':
      return `${who} made ${whom} ${ROLES[line.role] ?? line.role}`;
    case 'member_muted':
      return `${who} muted ${whom}${line.until ? ` until ${moment(line.until)}` : ''}`;
    case 'member_unmuted':
      return `${who} unmuted ${whom}`;
    case 'room_updated':
      if (line.title !== undefined) return `${who} named the room “${steady(line.title)}”`;
      return line.open ? `${who} opened the room to everybody` : `${who} closed the room to newcomers`;
    case 'room_archived':
      return `${who} archived the room`;
    case 'room_restored':
      return `${who} restored the room`;
    default:
      return line.content;
  }
}

function subject(id, people, myId) {
  return id === myId ? 'You' : steady(people.name(id));
}

function moment(timestamp) {
  return dayOf(timestamp) === dayOf(Date.now()) ? timeOf(timestamp) : fullTime(timestamp);
}
