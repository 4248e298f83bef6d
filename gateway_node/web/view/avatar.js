/** A coloured disc with initials, and a dot for who is online. */
import { h } from './dom.js';

export function avatar(id, title, online = undefined) {
  const disc = h('span', { class: 'avatar', 'aria-hidden': 'true' }, h('span', { text: initials(title) }));
  disc.style.setProperty('--hue', String(hue(id)));
  if (online !== undefined) disc.append(h('span', { class: online ? 'dot online' : 'dot' }));
  return disc;
}

/** The same colour for the same person everywhere. */
export function hue(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum;
}

function initials(title) {
  const words = title.trim().split(/\s+/u).filter(Boolean);
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  return ends.map((word) => [...word][0].toLocaleUpperCase()).join('') || '?';
}
