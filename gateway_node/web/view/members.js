/** Who is in a room, and what may be done with it and with them. */
import { avatar } from './avatar.js';
import { button, iconButton } from './button.js';
import { confirmed, openDialog } from './dialog.js';
import { h, name, reconcile } from './dom.js';
import { openMenu } from './menu.js';
import { findPeople, finder } from './new.js';
import { panel } from './panel.js';
import { agoOf } from './time.js';
import { attempt } from './toast.js';

const RANK = { member: 0, moderator: 1, owner: 2 };
const MUTES = [
  ['10 minutes', 600],
  ['an hour', 3600],
  ['a day', 86_400],
];

export class MembersPanel {
  element;
  #chat;
  #room;
  #list = h('ul', { class: 'member-list' });
  #tools = h('div', { class: 'room-tools' });

  constructor(chat, app) {
    this.#chat = chat;
    this.#room = app.open;
    this.element = panel(this.#room.direct ? 'Details' : 'Members', app, this.#tools, this.#list);
    if (!this.#room.members) attempt(() => this.#room.loadMembers());
  }

  update() {
    const room = this.#room;
    const { info, members } = room;
    reconcile(this.#tools, [
      {
        key: 'tools',
        stamp: [info.title, info.open, info.archived_at, info.role].join('\n'),
        make: () => h('div', { class: 'tools' }, room.direct ? null : this.#buttons()),
      },
    ]);
    const { people } = this.#chat;
    if (members) people.watch([...members.keys()].slice(0, 200));
    const sorted = [...(members?.values() ?? [])].sort(
      (one, other) => RANK[other.role] - RANK[one.role] || one.name.localeCompare(other.name),
    );
    reconcile(
      this.#list,
      sorted.map((member) => {
        const status = people.status(member.user_id);
        const muted = isMuted(member);
        const stamp = [member.name, member.role, muted, status?.online, status?.last_seen, info.role].join('\n');
        return { key: member.user_id, stamp, make: () => this.#member(member, status, muted) };
      }),
    );
  }

  #buttons() {
    const { info, leading } = this.#room;
    return [
      leading && button('Invite', () => this.#invite(), { class: 'button primary' }),
      leading && button('Rename', () => this.#rename()),
      leading && button(info.open ? 'Close to newcomers' : 'Open to everybody', () => this.#do('room.update', { open: !info.open })),
      info.role === 'owner' &&
        (info.archived_at
          ? button('Restore', () => this.#do('room.restore'))
          : button('Archive', () => this.#archive())),
      button('Leave', () => this.#leave(), { class: 'button danger' }),
    ].filter(Boolean);
  }

  #member(member, status, muted) {
    const own = member.user_id === this.#chat.me.id;
    const facts = [
      this.#room.direct ? null : member.role,
      muted && 'muted',
      status && (status.online ? 'online' : status.last_seen && `last seen ${agoOf(status.last_seen)}`),
    ];
    const more = iconButton('more', `What to do with ${member.name}`, () => openMenu(more, this.#choices(member, muted)));
    return h(
      'li',
      { class: 'member' },
      avatar(member.user_id, member.name, Boolean(status?.online)),
      h(
        'span',
        { class: 'room-text' },
        name(own ? `${member.name} (you)` : member.name, { class: 'room-title' }),
        h('span', { class: 'quiet', text: facts.filter(Boolean).join(', ') }),
      ),
      !own && this.#choices(member, muted).length > 0 && more,
    );
  }

  #choices(member, muted) {
    const { info, direct } = this.#room;
    if (direct) return [];
    const { user_id } = member;
    const above = RANK[info.role] > RANK[member.role];
    const owner = info.role === 'owner';
    const roles = owner ? ['owner', 'moderator', 'member'].filter((role) => role !== member.role) : [];
    return [
      ...roles.map((role) => [`Make ${role}`, () => this.#do('room.role', { user_id, role })]),
      ...(above && !muted ? MUTES.map(([label, seconds]) => [`Mute for ${label}`, () => this.#do('room.mute', { user_id, seconds })]) : []),
      above && !muted && ['Mute until further notice', () => this.#do('room.mute', { user_id })],
      above && muted && ['Unmute', () => this.#do('room.unmute', { user_id })],
      above && ['Remove', () => this.#remove(member)],
    ].filter(Boolean);
  }

  #invite() {
    const dialog = openDialog('Invite', [
      finder(
        { label: 'Name or email address', find: (query) => this.#strangers(query), nothing: 'Nobody found who is not here.' },
        async (person) => {
          await this.#do('room.invite', { user_id: person.id });
          dialog.close();
        },
      ),
    ]);
  }

  async #strangers(query) {
    const found = await findPeople(this.#chat, query);
    return found.filter(({ id }) => !this.#room.members?.has(id));
  }

  #rename() {
    const input = h('input', { id: 'room-title', maxlength: 255, value: this.#room.info.title });
    const save = async () => {
      const title = input.value.trim();
      if (title && (await this.#do('room.update', { title }))) dialog.close();
    };
    input.addEventListener('keydown', (event) => event.key === 'Enter' && save());
    const dialog = openDialog('Rename', [
      h('div', { class: 'field' }, h('label', { for: 'room-title', text: 'Title' }), input),
      h('div', { class: 'dialog-buttons' }, button('Save', save, { class: 'button primary' })),
    ]);
    input.select();
  }

  async #archive() {
    if (await confirmed('Archive this room? Nobody can write in it then.', 'Archive')) this.#do('room.archive');
  }

  async #leave() {
    if (await confirmed('Leave this room?', 'Leave')) this.#do('room.leave');
  }

  async #remove({ user_id, name: whom }) {
    if (await confirmed(`Remove ${whom} from the room?`, 'Remove')) this.#do('room.remove', { user_id });
  }

  /** The room's log tells everybody, also us, what came of it. */
  #do(method, more = {}) {
    return attempt(async () => {
      await this.#chat.connection.rpc(method, { room_id: this.#room.id, ...more });
      this.#room.reload();
      return true;
    });
  }
}

function isMuted({ muted_until }) {
  return Boolean(muted_until) && new Date(muted_until) > new Date();
}
