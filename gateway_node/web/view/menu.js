/** A small menu at a button: arrow keys move, Escape and a click elsewhere close it. */
import { giveBack, h } from './dom.js';

let close = () => {};

/** `entries` are [label, action] pairs; nothing for those that do not apply. */
export function openMenu(anchor, entries) {
  close();
  const menu = h(
    'div',
    { class: 'menu', role: 'menu' },
    entries
      .filter(Boolean)
      .map(([label, action]) =>
        h('button', { type: 'button', role: 'menuitem', text: label, on: { click: () => (leave(), action()) } }),
      ),
  );
  floating(anchor, menu);
  const leave = () => (close(), giveBack(anchor));
  menu.addEventListener('keydown', (event) => {
    if (event.key === 'Tab') leave();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const items = [...menu.children];
    items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
  });
  menu.firstElementChild?.focus();
}

/** Put an element next to another one, inside the window, until somebody clicks elsewhere or presses Escape. */
export function floating(anchor, element) {
  close();
  const host = anchor.closest('dialog') ?? document.body;
  host.append(element);
  const near = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = element;
  const below = near.bottom + height + 8 < innerHeight;
  element.style.setProperty('left', `${Math.max(8, Math.min(near.right - width, innerWidth - width - 8))}px`);
  element.style.setProperty('top', `${Math.max(8, below ? near.bottom + 4 : near.top - height - 4)}px`);
  const elsewhere = (event) => !element.contains(event.target) && close();
  const escape = (event) => {
    if (event.key !== 'Escape') return;
    event.preventDefault();
    event.stopPropagation();
    close();
    giveBack(anchor);
  };
  close = () => {
    element.remove();
    document.removeEventListener('pointerdown', elsewhere, true);
    document.removeEventListener('keydown', escape, true);
    close = () => {};
  };
  document.addEventListener('pointerdown', elsewhere, true);
  document.addEventListener('keydown', escape, true);
  return () => close();
}
