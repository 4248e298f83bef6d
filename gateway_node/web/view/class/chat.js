/** What is said to all, and to one alone. */
import { h, name, reconcile } from '../dom.js';
import { attempt } from '../toast.js';

export class ClassChat {
  element;
  #page;
  #lines = h('ul');
  #log = h('div', { class: 'class-lines', role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages', tabindex: 0 }, this.#lines);
  #to = h('select', { 'aria-label': 'To' });
  #text = h('input', { 'aria-label': 'Message to the class', maxlength: 4000, autocomplete: 'off' });
  #reactions = h('p', { class: 'class-reactions', role: 'group', 'aria-label': 'Reactions' });
  #recipients = '';

  constructor(page) {
    this.#page = page;
    const form = h('form', { class: 'class-say', 'aria-label': 'Say something' }, this.#to, this.#text, h('button', { class: 'button', text: 'Send' }));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const content = this.#text.value.trim();
      if (content) attempt(() => this.#send(content));
    });
    this.element = h('section', { 'aria-label': 'Chat' }, h('h2', { text: 'Chat' }), this.#log, this.#reactions, form);
  }

  async #send(content) {
    const { room } = this.#page;
    const to = this.#to.value;
    if (to === 'all') await room.say(content);
    else await room.call('whisper', { content, to: to === 'teachers' ? null : to });
    this.#text.value = '';
  }

  update() {
    const { room } = this.#page;
    this.#drawRecipients(room);
    const log = this.#log;
    const bottom = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    reconcile(
      this.#lines,
      room.lines.map((line) => ({
        key: line.id,
        stamp: line.id,
        make: () =>
          h(
            'li',
            { class: line.whisper ? 'is-whisper' : '' },
            name(line.name ?? room.name(line.user), { class: 'class-who' }),
            line.whisper ? ` (to ${line.whisper === 'teachers' ? 'the teachers' : room.name(line.whisper)} alone): ` : ': ',
            name(line.content),
          ),
      })),
    );
    if (bottom) log.scrollTop = log.scrollHeight;
    const reactions = [...room.reactions].map(([emoji, count]) => `${emoji} ${count}`).join('  ');
    if (this.#reactions.textContent !== reactions) this.#reactions.textContent = reactions;
  }

  #drawRecipients(room) {
    const people = [...room.people].filter(([user]) => user !== room.me.id);
    const stamp = JSON.stringify(people.map(([user, { name: known }]) => [user, known]));
    if (stamp === this.#recipients) return;
    this.#recipients = stamp;
    const chosen = this.#to.value || 'all';
    this.#to.replaceChildren(
      h('option', { value: 'all', text: 'Everybody' }),
      h('option', { value: 'teachers', text: 'The teachers' }),
      ...people.map(([user, { name: known }]) => h('option', { value: user, text: known })),
    );
    this.#to.value = chosen;
    if (!this.#to.value) this.#to.value = 'all';
  }
}
