/** The frame of what stands at the right. */
import { iconButton } from './button.js';
import { h } from './dom.js';

export function panel(title, app, ...children) {
  return h(
    'section',
    { class: 'panel', 'aria-label': title },
    h('header', { class: 'panel-head' }, h('h2', { text: title }), iconButton('close', 'Close', () => app.closePanel())),
    h('div', { class: 'panel-body' }, children),
  );
}
