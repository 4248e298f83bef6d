/** What has happened, one line each: read out as it comes. */
import { h } from '../dom.js';

const KEPT = 5;

export class Told {
  element = h('div', { class: 'class-told', role: 'log', 'aria-live': 'polite', 'aria-label': 'What has happened' });

  say(text) {
    this.element.append(h('p', { text }));
    if (this.element.children.length > KEPT) this.element.firstElementChild.remove();
  }
}
