/** A small picker of emoji. */
import { h } from './dom.js';
import { floating } from './menu.js';

export const QUICK = ['👍', '❤️', '😂', '🎉', '😮', '😢'];
const ALL = [
  ...QUICK,
  ...['😀', '😊', '😍', '🤔', '😎', '🙄', '😴', '🤯', '😅', '😭', '😡', '🥳', '🙏', '👏', '👋', '💪', '👀', '✅'],
  ...['❌', '❓', '❗', '🔥', '⭐', '💡', '🚀', '🐛', '☕', '🍕', '🎂', '🌈', '👎', '🤝', '💯', '📌', '🕐', '🎵'],
];

export function pickEmoji(anchor, chosen) {
  const done = floating(
    anchor,
    h(
      'div',
      { class: 'picker', role: 'group', 'aria-label': 'Emoji' },
      ALL.map((emoji) =>
        h('button', { type: 'button', text: emoji, 'aria-label': emoji, on: { click: () => (done(), chosen(emoji)) } }),
      ),
    ),
  );
  document.querySelector('.picker button').focus();
}
