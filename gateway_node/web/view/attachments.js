/** Files on their way into a message: each is uploaded as soon as it is chosen. */
import { iconButton } from './button.js';
import { h, name } from './dom.js';
import { sizeOf } from './file.js';
import { icon } from './icons.js';
import { sentence } from './toast.js';

const MOST = 10; // files at once

export class Attachments {
  element = h('div', { class: 'attachments', 'aria-label': 'Attachments', hidden: true });
  #chat;
  #room;
  #changed;
  #files = new Set(); // {file, line, bar, stop, done}
  #input = h('input', { type: 'file', multiple: true, hidden: true, 'aria-label': 'Files' });

  constructor(chat, room, changed) {
    this.#chat = chat;
    this.#room = room;
    this.#changed = changed;
    this.#input.addEventListener('change', () => {
      this.add([...this.#input.files]);
      this.#input.value = '';
    });
    this.element.append(this.#input);
  }

  get any() {
    return this.#files.size > 0;
  }

  choose() {
    this.#input.click();
  }

  add(files) {
    for (const file of files.slice(0, MOST - this.#files.size)) this.#begin(file);
    this.#draw();
  }

  clear() {
    for (const each of this.#files) this.#remove(each);
  }

  /** When all are there: what the server says of each. `null` when one failed; it stays, with the reason. */
  async uploaded() {
    const outcomes = await Promise.all([...this.#files].map(({ done }) => done));
    const files = outcomes.filter((outcome) => outcome !== 'cancelled');
    return files.length && files.every((file) => file?.id) ? files : null;
  }

  #begin(file) {
    const bar = h('progress', { max: 1, value: 0, 'aria-label': `Upload of ${file.name}` });
    const note = h('span', { class: 'quiet', text: sizeOf(file.size) });
    const stop = new AbortController();
    const each = { file, note, bar, stop, preview: null };
    each.line = h(
      'div',
      { class: 'attachment' },
      this.#preview(each),
      h('div', { class: 'attachment-text' }, name(file.name), note, bar),
      iconButton('close', `Remove ${file.name}`, () => this.#remove(each)),
    );
    each.done = this.#upload(each);
    this.#files.add(each);
    this.element.append(each.line);
  }

  async #upload({ file, note, bar, stop, line }) {
    try {
      const stored = await this.#chat.api.upload(this.#room.id, file, (fraction) => (bar.value = fraction), stop.signal);
      bar.hidden = true;
      return stored;
    } catch (error) {
      if (error.name === 'AbortError') return 'cancelled';
      bar.hidden = true;
      line.classList.add('failed');
      note.textContent = sentence(error.message);
      return null;
    }
  }

  #preview(each) {
    if (!/^image\/(png|jpeg|gif|webp|avif)$/.test(each.file.type)) return h('span', { class: 'file-icon' }, icon('file'));
    each.preview = URL.createObjectURL(each.file);
    return h('img', { class: 'attachment-image', src: each.preview, alt: '' });
  }

  #remove(each) {
    each.stop.abort();
    if (each.preview) URL.revokeObjectURL(each.preview);
    each.line.remove();
    this.#files.delete(each);
    this.#draw();
  }

  #draw() {
    this.element.hidden = !this.any;
    this.#changed();
  }
}
