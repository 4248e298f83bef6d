/** Dialogs that begin something: a talk with somebody, a group, joining one, another name for oneself. */
import { avatar } from './avatar.js';
import { button } from './button.js';
import { openDialog } from './dialog.js';
import { h, name, soon } from './dom.js';
import { attempt, sentence } from './toast.js';

const PAUSE = 250; // ms after a key before the server is asked

export function newTalk(chat, app) {
  const dialog = openDialog('Message somebody', [
    finder(
      { label: 'Name or email address', find: (query) => findPeople(chat, query), nothing: 'Nobody found.' },
      async (person) => {
        const room = await attempt(() => chat.direct(person.id));
        if (room) (dialog.close(), app.show(room));
      },
    ),
  ]);
}

export function newGroup(chat, app) {
  const members = new Map();
  const title = h('input', { id: 'group-title', maxlength: 255, required: true, autocomplete: 'off' });
  const open = h('input', { type: 'checkbox', id: 'group-open' });
  const chosen = h('div', { class: 'chips', 'aria-label': 'Members' });
  const draw = () =>
    chosen.replaceChildren(
      ...[...members.values()].map((person) =>
        h('button', {
          type: 'button',
          class: 'chip',
          text: `${person.name} ✕`,
          'aria-label': `Leave out ${person.name}`,
          on: { click: () => (members.delete(person.id), draw()) },
        }),
      ),
    );
  const create = async () => {
    if (!title.value.trim()) {
      title.focus();
      return;
    }
    const room = await attempt(() => chat.createGroup(title.value.trim(), open.checked, [...members.keys()]));
    if (room) (dialog.close(), app.show(room));
  };
  title.addEventListener('keydown', (event) => event.key === 'Enter' && create());
  const dialog = openDialog('New group', [
    h('div', { class: 'field' }, h('label', { for: 'group-title', text: 'Title' }), title),
    h('label', { class: 'check', for: 'group-open' }, open, 'Everybody may find and join it'),
    chosen,
    finder(
      { label: 'Add people', find: (query) => findPeople(chat, query), nothing: 'Nobody found.' },
      (person) => (members.set(person.id, person), draw()),
    ),
    h('div', { class: 'dialog-buttons' }, button('Create group', create, { class: 'button primary' })),
  ]);
  title.focus();
}

export function findGroup(chat, app) {
  const find = async (query) => (await chat.connection.rpc('room.find', { query })).rooms;
  const dialog = openDialog('Join an open group', [
    finder({ label: 'Title', find, nothing: 'No open group begins like this.', always: true }, async (found) => {
      const room = await attempt(() => chat.join(found.id));
      if (room) (dialog.close(), app.show(room));
    }),
  ]);
}

export function editProfile(chat) {
  const input = h('input', { id: 'my-name', maxlength: 100, value: chat.me.name });
  const error = h('p', { class: 'form-error', role: 'alert' });
  const save = async () => {
    try {
      await chat.rename(input.value.trim());
      dialog.close();
    } catch (problem) {
      error.textContent = sentence(problem.message);
    }
  };
  input.addEventListener('keydown', (event) => event.key === 'Enter' && save());
  const dialog = openDialog('Change my name', [
    h('div', { class: 'field' }, h('label', { for: 'my-name', text: 'Name' }), input),
    error,
    h('div', { class: 'dialog-buttons' }, button('Save', save, { class: 'button primary' })),
  ]);
  input.select();
}

/** People by the beginning of their name, without oneself. */
export async function findPeople(chat, query) {
  const { users } = await chat.connection.rpc('user.find', { query });
  return users.filter((user) => user.id !== chat.me.id);
}

let lists = 0;

/** A field and what it finds: buttons with a name. `always`: also ask for everything, with nothing typed. */
export function finder({ label, find, nothing, always = false }, chosen) {
  const list = h('div', { class: 'found', 'aria-live': 'polite' });
  const id = `finder-${(lists += 1)}`;
  const input = h('input', { id, type: 'search', autocomplete: 'off', autofocus: true });
  let asked = 0;
  const ask = soon(async () => {
    const query = input.value.trim();
    const number = (asked += 1);
    const found = query || always ? await attempt(() => find(query)) : [];
    if (number !== asked || !found) return; // somebody typed on
    list.replaceChildren(
      ...found.map((each) => {
        const title = each.name ?? each.title;
        return h(
          'button',
          { type: 'button', class: 'found-one', on: { click: () => chosen(each) } },
          avatar(each.id, title),
          name(title),
          each.members !== undefined && h('span', { class: 'quiet', text: `${each.members} members` }),
        );
      }),
    );
    if (!found.length && query) list.append(h('p', { class: 'quiet', text: nothing }));
  }, PAUSE);
  input.addEventListener('input', ask);
  if (always) ask();
  return h('div', { class: 'finder' }, h('div', { class: 'field' }, h('label', { for: id, text: label }), input), list);
}
