/** Completes names after an @, and remembers whom they mean. */
import { avatar } from './avatar.js';
import { h, name } from './dom.js';

const SHOWN = 8; // names

export class MentionMenu {
  element = h('div', { class: 'mentions', role: 'listbox', id: 'mentions', 'aria-label': 'People', hidden: true });
  #field;
  #candidates;
  #found = [];
  #active = 0;
  #start = 0; // where the @ stands
  #known = new Map(); // name -> id, of those that were chosen

  /** `candidates()` gives {id, name} of whom one may mention. */
  constructor(field, candidates) {
    this.#field = field;
    this.#candidates = candidates;
    field.setAttribute('role', 'combobox');
    field.setAttribute('aria-autocomplete', 'list');
    field.setAttribute('aria-controls', 'mentions');
    field.setAttribute('aria-expanded', 'false');
    field.addEventListener('input', () => this.#look());
    field.addEventListener('blur', () => this.close());
  }

  known(people) {
    for (const person of people) this.#known.set(person.name, person.id);
  }

  /** The ids of those who are mentioned in a text. */
  in(text) {
    return [...this.#known].filter(([each]) => text.includes(`@${each}`)).map(([, id]) => id);
  }

  /** Whether the menu took the key. */
  key(event) {
    if (this.element.hidden) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#active = (this.#active + step + this.#found.length) % this.#found.length;
    else if (event.key === 'Enter' || event.key === 'Tab') this.#choose(this.#found[this.#active]);
    else if (event.key === 'Escape') this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    if (step) this.#draw();
    return true;
  }

  close() {
    this.element.hidden = true;
    this.#field.setAttribute('aria-expanded', 'false');
    this.#field.removeAttribute('aria-activedescendant');
  }

  #look() {
    const before = this.#field.value.slice(0, this.#field.selectionStart);
    const match = before.match(/(?:^|\s)@([^@\n]{0,40})$/u);
    const typed = match?.[1].toLocaleLowerCase();
    this.#found =
      match && typed !== undefined
        ? this.#candidates()
            .filter((person) => person.name.toLocaleLowerCase().split(/\s+/u).concat(person.name.toLocaleLowerCase()).some((word) => word.startsWith(typed)))
            .slice(0, SHOWN)
        : [];
    if (!this.#found.length) {
      this.close();
      return;
    }
    this.#start = before.length - match[1].length - 1;
    this.#active = 0;
    this.#draw();
  }

  #choose(person) {
    this.#known.set(person.name, person.id);
    this.#field.setRangeText(`@${person.name} `, this.#start, this.#field.selectionStart, 'end');
    this.close();
    this.#field.dispatchEvent(new Event('input', { bubbles: true }));
  }

  #draw() {
    this.element.replaceChildren(
      ...this.#found.map((person, index) =>
        h(
          'div',
          {
            role: 'option',
            id: `mention-${index}`,
            'aria-selected': String(index === this.#active),
            on: { pointerdown: (event) => (event.preventDefault(), this.#choose(person)) },
          },
          avatar(person.id, person.name),
          name(person.name),
        ),
      ),
    );
    this.element.hidden = false;
    this.#field.setAttribute('aria-expanded', 'true');
    this.#field.setAttribute('aria-activedescendant', `mention-${this.#active}`);
  }
}
