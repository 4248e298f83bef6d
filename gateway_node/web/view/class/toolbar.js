/** Buttons in a row, one stop of the Tab key: arrow keys, Home and End go from one to the other. */
import { button } from '../button.js';
import { h } from '../dom.js';
import { attempt } from '../toast.js';

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class Toolbar {
  element;
  #current = null; // the button at which the Tab key stops

  constructor(label, properties) {
    this.element = h('div', { role: 'toolbar', 'aria-label': label, hidden: true, ...properties });
    this.element.addEventListener('keydown', (event) => this.#move(event));
    this.element.addEventListener('focusin', ({ target }) => this.#stopAt(target));
  }

  /** `wanted`: {label, work, pressed?, name?} each. A button that stays keeps its focus; `name` is read out for a picture. */
  draw(wanted) {
    const { element } = this;
    const old = new Map([...element.children].map((each) => [each.textContent, each]));
    const at = [...element.children].indexOf(document.activeElement);
    const buttons = wanted.map(({ label, work, pressed, name }) => {
      const each = old.get(label) ?? button(label, () => attempt(() => each.work()), { 'aria-label': name, tabindex: -1 });
      each.work = work;
      if (pressed === undefined) each.removeAttribute('aria-pressed');
      else each.setAttribute('aria-pressed', String(pressed));
      return each;
    });
    const same = buttons.length === element.children.length && buttons.every((each, i) => element.children[i] === each);
    if (same) return;
    const focused = document.activeElement;
    element.replaceChildren(...buttons);
    element.hidden = !buttons.length;
    const next = buttons[Math.min(at, buttons.length - 1)];
    if (at >= 0) (buttons.includes(focused) ? focused : next)?.focus();
    if (!buttons.includes(this.#current) && buttons.length) this.#stopAt(next ?? buttons[0]);
  }

  #move(event) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...this.element.children];
    const to = buttons.indexOf(document.activeElement) + step;
    buttons[Number.isFinite(to) ? (to + buttons.length) % buttons.length : to < 0 ? 0 : buttons.length - 1].focus();
  }

  #stopAt(target) {
    if (this.#current) this.#current.tabIndex = -1;
    this.#current = target;
    target.tabIndex = 0;
  }
}
