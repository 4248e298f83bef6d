/** Where one writes: text, answers, mentions, emoji, files, and changes of what was written. */
import { Attachments } from './attachments.js';
import { iconButton } from './button.js';
import { h, name } from './dom.js';
import { MentionMenu } from './mentions.js';
import { pickEmoji } from './picker.js';
import { content } from './summary.js';
import { attempt } from './toast.js';

const MAX_CONTENT = 16_384; // characters, as the server has it
const MANY_LINES = 100;
const drafts = new Map(); // room id -> text

export class Composer {
  element;
  #chat;
  #room;
  #text = h('textarea', {
    rows: 1,
    maxlength: MAX_CONTENT,
    placeholder: 'Write a message',
    'aria-label': 'Write a message',
    dir: 'auto',
    enterkeyhint: 'send',
  });
  #context = h('div', { class: 'context', hidden: true });
  #closed = h('p', { class: 'closed', hidden: true });
  #line;
  #send = iconButton('send', 'Send', () => this.#submit(), { class: 'send' });
  #attachments;
  #mentions;
  #reply = null; // the message that is answered
  #edit = null; // the message that is changed
  #sending = false;

  constructor(chat, room) {
    this.#chat = chat;
    this.#room = room;
    this.#attachments = new Attachments(chat, room, () => this.#buttons());
    this.#mentions = new MentionMenu(this.#text, () => this.#mentionable());
    const emoji = iconButton('emoji', 'Insert an emoji', () => pickEmoji(emoji, (each) => this.#insert(each)));
    this.#line = h(
      'div',
      { class: 'composer-line' },
      iconButton('attach', 'Attach files', () => this.#attachments.choose()),
      h('div', { class: 'composer-text' }, this.#text, this.#mentions.element),
      emoji,
      this.#send,
    );
    this.element = h(
      'footer',
      { class: 'composer' },
      this.#closed,
      this.#context,
      this.#attachments.element,
      this.#line,
    );
    this.#text.addEventListener('input', () => this.#typed());
    this.#text.addEventListener('keydown', (event) => this.#key(event));
    this.#text.addEventListener('paste', (event) => this.#pasted(event));
    this.#dropZone();
    this.#text.value = drafts.get(room.id) ?? '';
    queueMicrotask(() => this.#fit());
    this.#buttons();
  }

  focus() {
    // A phone would open its keyboard over what one came to read.
    if (matchMedia('(hover: hover)').matches) this.#text.focus();
  }

  end() {
    if (!this.#edit && this.#text.value) drafts.set(this.#room.id, this.#text.value);
    else drafts.delete(this.#room.id);
    this.#attachments.clear();
  }

  update() {
    const { closed } = this.#room;
    this.#closed.textContent = closed;
    this.#closed.hidden = !closed;
    this.#line.hidden = Boolean(closed);
  }

  reply(message) {
    this.#cancel();
    this.#reply = message;
    this.#showContext(`Reply to ${this.#chat.people.name(message.from_user_id)}`, message);
  }

  edit(message) {
    this.#cancel();
    this.#edit = message;
    this.#text.value = message.content;
    this.#mentions.known(this.#mentionedIn(message));
    this.#showContext('Edit message', message);
    this.#fit();
  }

  // --- writing -----------------------------------------------------------------------------------------------------

  #typed() {
    this.#fit();
    this.#buttons();
    if (this.#text.value && !this.#edit) this.#room.typingNow();
  }

  #key(event) {
    if (event.isComposing || this.#mentions.key(event)) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Escape' && (this.#edit || this.#reply)) {
      event.preventDefault();
      this.#cancel();
    } else if (event.key === 'ArrowUp' && !this.#text.value && !this.#edit) {
      const last = this.#room.timeline.items.findLast(
        ({ from_user_id, type, deleted_at }) => from_user_id === this.#chat.me.id && type === 'text' && !deleted_at,
      );
      if (last) (event.preventDefault(), this.edit(last));
    }
  }

  #insert(text) {
    this.#text.setRangeText(text, this.#text.selectionStart, this.#text.selectionEnd, 'end');
    this.#text.focus();
    this.#typed();
  }

  async #submit() {
    const text = this.#text.value.trim();
    if (this.#sending || (!text && !this.#attachments.any)) return;
    if (this.#edit) await this.#change(text);
    else if (this.#attachments.any) await this.#sendFiles(text);
    else {
      this.#room.send(this.#message(text));
      this.#empty();
    }
  }

  #message(text) {
    const mentions = this.#mentions.in(text);
    return {
      type: 'text',
      content: text,
      ...(this.#reply && { reply_to: this.#reply.id }),
      ...(mentions.length && { mentions }),
    };
  }

  async #change(text) {
    const { id } = this.#edit;
    if (!text) return;
    if (text !== this.#edit.content) {
      const changed = { room_id: this.#room.id, message_id: id, content: text };
      if (!(await attempt(() => this.#chat.connection.rpc('message.edit', changed)))) return;
    }
    this.#empty();
  }

  /** Each file is a message; what was written goes with the first. */
  async #sendFiles(text) {
    this.#sending = true;
    this.#buttons();
    const files = await this.#attachments.uploaded();
    this.#sending = false;
    if (files) {
      const first = this.#message(text);
      files.forEach((file, index) => {
        const type = file.thumbnail ? 'image' : 'file';
        this.#room.send({ ...(index === 0 ? first : { content: '' }), type, file });
      });
      this.#attachments.clear();
      this.#empty();
    }
    this.#buttons();
  }

  #empty() {
    this.#text.value = '';
    this.#cancel();
    this.#text.focus();
  }

  /** Neither an answer nor a change any more. */
  #cancel() {
    if (this.#edit) this.#text.value = '';
    this.#edit = this.#reply = null;
    this.#context.hidden = true;
    this.#mentions.close();
    this.#fit();
    this.#buttons();
  }

  #showContext(title, message) {
    this.#context.replaceChildren(
      h(
        'div',
        { class: 'context-text' },
        name(title, { class: 'author' }),
        h('span', { class: 'quote-text', dir: 'auto', text: content(message) }),
      ),
      iconButton('close', 'Cancel', () => (this.#cancel(), this.#text.focus())),
    );
    this.#context.hidden = false;
    this.#text.focus();
    this.#buttons();
  }

  #buttons() {
    this.#send.disabled = this.#sending || (!this.#text.value.trim() && !this.#attachments.any);
  }

  #fit() {
    this.#text.style.setProperty('height', 'auto');
    this.#text.style.setProperty('height', `${this.#text.scrollHeight}px`);
  }

  // --- people ------------------------------------------------------------------------------------------------------

  #mentionable() {
    const { members, info } = this.#room;
    const ids = members ? [...members.keys()] : info.peer ? [info.peer.id] : [];
    return ids
      .filter((id) => id !== this.#chat.me.id && this.#chat.people.knows(id))
      .map((id) => ({ id, name: this.#chat.people.name(id) }));
  }

  #mentionedIn({ mentions = [] }) {
    return mentions.map((id) => ({ id, name: this.#chat.people.name(id) }));
  }

  // --- files -------------------------------------------------------------------------------------------------------

  #pasted(event) {
    const files = [...event.clipboardData.files];
    const text = event.clipboardData.getData('text/plain');
    if (files.length) this.#attachments.add(files);
    // Chromium takes 3 s for 1,000 lines, and minutes for 8,000, when it inserts them itself.
    else if (text.split('\n').length > MANY_LINES) this.#insert(text.slice(0, MAX_CONTENT - this.#text.value.length));
    else return;
    event.preventDefault();
  }

  /** Files may be dropped anywhere on the conversation. */
  #dropZone() {
    queueMicrotask(() => {
      const zone = this.element.parentElement;
      const carriesFiles = (event) => event.dataTransfer?.types.includes('Files') && !this.#room.closed;
      zone.addEventListener('dragover', (event) => {
        if (!carriesFiles(event)) return;
        event.preventDefault();
        zone.classList.add('dropping');
      });
      zone.addEventListener('dragleave', (event) => zone.contains(event.relatedTarget) || zone.classList.remove('dropping'));
      zone.addEventListener('drop', (event) => {
        zone.classList.remove('dropping');
        if (!carriesFiles(event)) return;
        event.preventDefault();
        this.#attachments.add([...event.dataTransfer.files]);
      });
    });
  }
}
