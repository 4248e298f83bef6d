/** Buttons: with an icon and a label for screen readers, or with words. */
import { h } from './dom.js';
import { icon } from './icons.js';

export function iconButton(which, label, click, properties = {}) {
  const { class: more = '', ...rest } = properties;
  return h(
    'button',
    { type: 'button', class: `icon-button ${more}`, title: label, 'aria-label': label, on: { click }, ...rest },
    icon(which),
  );
}

export function button(label, click, properties = {}) {
  return h('button', { type: 'button', class: 'button', text: label, on: { click }, ...properties });
}
