/** One message: what it says, what it answers, its file and reactions, and what can be done with it. */
import { avatar, hue } from './avatar.js';
import { button, iconButton } from './button.js';
import { confirmed } from './dialog.js';
import { h, name } from './dom.js';
import { fileView } from './file.js';
import { icon } from './icons.js';
import { openMenu } from './menu.js';
import { QUICK, pickEmoji } from './picker.js';
import { content } from './summary.js';
import { fold, textNodes } from './text.js';
import { fullTime, timeOf } from './time.js';
import { attempt, sentence, toast } from './toast.js';

const READ = { '': 'Stored', some: 'Read by some', all: 'Read' };

export class MessageView {
  element;
  #chat;
  #conversation;
  #message;
  #view;

  /** `view` is what the message looks like among the others (see `Conversation`). */
  constructor(chat, conversation, message, view) {
    this.#chat = chat;
    this.#conversation = conversation;
    this.#message = message;
    this.#view = view;
    const { own, together, author, mentions } = view;
    const kinds = [
      'message',
      own && 'own',
      together && 'together',
      message.deleted_at && 'deleted',
      message.state && `is-${message.state}`,
      !own && mentions.includes(chat.me.name) && message.mentions.includes(chat.me.id) && 'to-me',
    ];
    this.element = h(
      'article',
      {
        class: kinds.filter(Boolean).join(' '),
        'data-offset': message.offset,
        'data-id': message.id,
        tabindex: -1,
        'aria-label': `${own ? 'You' : author}, ${timeOf(message.timestamp)}`,
      },
      !own && !this.#room.direct && h('div', { class: 'face' }, !together && avatar(message.from_user_id, author)),
      h(
        'div',
        { class: 'column' },
        !own && !together && !this.#room.direct && this.#author(),
        h('div', { class: 'bubble' }, this.#quote(), this.#body(), this.#meta()),
        this.#reactions(),
        message.state === 'failed' && this.#failure(),
      ),
      message.offset && !message.deleted_at && this.#actions(),
    );
  }

  get #room() {
    return this.#conversation.room;
  }

  #author() {
    const element = name(this.#view.author, { class: 'author' });
    element.style.setProperty('--hue', String(hue(this.#message.from_user_id)));
    return element;
  }

  #quote() {
    const { reply_to } = this.#message;
    const { quoted } = this.#view;
    if (!reply_to || this.#message.deleted_at) return null;
    if (!quoted) return h('div', { class: 'quote' }, h('span', { class: 'quiet', text: 'A message' }));
    return h(
      'button',
      { type: 'button', class: 'quote', 'aria-label': 'Go to the message', on: { click: () => this.#conversation.jump(quoted.offset) } },
      name(this.#chat.people.name(quoted.from_user_id), { class: 'author' }),
      h('span', { class: 'quote-text', dir: 'auto', text: content(quoted) }),
    );
  }

  #body() {
    const message = this.#message;
    if (message.deleted_at) return h('p', { class: 'content', text: 'Message deleted' });
    return [message.file && fileView(this.#chat, message), message.content && this.#text(message.content)];
  }

  #text(text) {
    const { whole, mentions } = this.#view;
    const beginning = fold(text);
    const shown = beginning === null || whole ? text : `${beginning}…`;
    const nodes = textNodes(shown, mentions, this.#chat.me.name);
    const paragraph = h('p', { class: loud(text) ? 'content loud' : 'content', dir: 'auto' }, nodes);
    if (beginning === null) return paragraph;
    const fewer = button(whole ? 'Show less' : 'Show more', () => this.#fold(), { class: 'link', 'aria-expanded': String(whole) });
    return [paragraph, fewer];
  }

  #fold() {
    const { expanded } = this.#conversation;
    if (!expanded.delete(this.#message.id)) expanded.add(this.#message.id);
    this.#conversation.update();
  }

  #meta() {
    const { timestamp, edited_at, deleted_at, offset, state } = this.#message;
    const { own, read, pinned } = this.#view;
    return h(
      'span',
      { class: 'meta' },
      pinned && icon('pin'),
      edited_at && !deleted_at && h('span', { text: 'edited', title: fullTime(edited_at) }),
      h('time', { datetime: timestamp, title: fullTime(timestamp), text: timeOf(timestamp) }),
      own && offset && !deleted_at && h('span', { class: `ticks ${read}`, role: 'img', 'aria-label': READ[read], title: READ[read] }, icon(read ? 'ticks' : 'tick')),
      state && state !== 'failed' && h('span', { class: 'ticks', role: 'img', 'aria-label': 'Sending' }, icon('clock')),
    );
  }

  #reactions() {
    const { reactions = {} } = this.#message;
    const entries = Object.entries(reactions);
    if (!entries.length) return null;
    const mine = this.#chat.me.id;
    return h(
      'div',
      { class: 'reactions' },
      entries.map(([emoji, { count, users }], index) => {
        const own = users.includes(mine);
        const who = this.#view.reactors[index].join(', ');
        return h(
          'button',
          {
            type: 'button',
            class: own ? 'reaction own' : 'reaction',
            title: who,
            'aria-pressed': String(own),
            'aria-label': `${emoji}, ${count}: ${who}`,
            on: { click: () => this.#react(emoji, own) },
          },
          h('span', { text: emoji }),
          h('span', { class: 'count', text: count }),
        );
      }),
    );
  }

  #failure() {
    const { id, error } = this.#message;
    return h(
      'p',
      { class: 'failure', role: 'alert' },
      icon('warning'),
      h('span', { text: `Not sent. ${sentence(error ?? '')}` }),
      button('Try again', () => this.#chat.outbox.retry(id), { class: 'link' }),
      button('Discard', () => this.#chat.outbox.discard(id), { class: 'link' }),
    );
  }

  #actions() {
    const more = iconButton('more', 'More', () => this.#menu(more));
    const react = iconButton('emoji', 'React', () => pickEmoji(react, (emoji) => this.#react(emoji, false)));
    return h(
      'div',
      { class: 'actions', role: 'toolbar', 'aria-label': 'Message' },
      QUICK.slice(0, 2).map((emoji) =>
        h('button', {
          type: 'button',
          class: 'icon-button quick',
          text: emoji,
          'aria-label': `React with ${emoji}`,
          on: { click: () => this.#react(emoji, this.#reacted(emoji)) },
        }),
      ),
      react,
      iconButton('reply', 'Reply', () => this.#conversation.reply(this.#message)),
      more,
    );
  }

  #reacted(emoji) {
    return this.#message.reactions?.[emoji]?.users.includes(this.#chat.me.id) ?? false;
  }

  #menu(anchor) {
    const { own, pinned } = this.#view;
    const { type, content: text } = this.#message;
    openMenu(anchor, [
      text && ['Copy text', () => this.#copy(text)],
      own && type === 'text' && ['Edit', () => this.#conversation.edit(this.#message)],
      this.#room.mayPin && [pinned ? 'Unpin' : 'Pin', () => this.#do(pinned ? 'message.unpin' : 'message.pin')],
      (own || this.#room.leading) && ['Delete', () => this.#delete()],
    ]);
  }

  async #copy(text) {
    await attempt(() => navigator.clipboard.writeText(text));
    toast('Copied.');
  }

  async #delete() {
    if (await confirmed('Delete this message for everybody?', 'Delete')) this.#do('message.delete');
  }

  #react(emoji, remove) {
    this.#do('message.react', { emoji, ...(remove && { remove }) });
  }

  #do(method, more = {}) {
    const place = { room_id: this.#room.id, message_id: this.#message.id };
    return attempt(() => this.#chat.connection.rpc(method, { ...place, ...more }));
  }
}

/** A few emoji and nothing else are shown larger. */
function loud(text) {
  return text.length <= 24 && /^(?:\p{Extended_Pictographic}|\p{Emoji_Component}|\s)+$/u.test(text) && /\p{Extended_Pictographic}/u.test(text);
}
