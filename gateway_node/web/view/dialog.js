/** Modal dialogs: the browser's own element, which keeps the focus inside, closes with Escape, and gives the focus back. */
import { button, iconButton } from './button.js';
import { giveBack, h } from './dom.js';

/** Show `content` under a title. Gives the element; it is gone when it is closed. */
export function openDialog(title, content, more = '') {
  const opener = document.activeElement;
  const close = () => dialog.close();
  const dialog = h(
    'dialog',
    { class: `dialog ${more}`, 'aria-label': title },
    h('header', { class: 'dialog-head' }, h('h2', { text: title }), iconButton('close', 'Close', close)),
    h('div', { class: 'dialog-body' }, content),
  );
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (!opener.isConnected) giveBack(opener);
  });
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be taken back. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    let answer = false;
    const dialog = openDialog(question, [
      h(
        'div',
        { class: 'dialog-buttons' },
        button('Cancel', () => dialog.close()),
        button(action, () => ((answer = true), dialog.close()), { class: 'button danger' }),
      ),
    ]);
    dialog.addEventListener('close', () => resolve(answer));
  });
}
