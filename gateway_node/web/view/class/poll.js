/** A question to everybody: asking it, answering it, and what came of it. */
import { button } from '../button.js';
import { h } from '../dom.js';
import { attempt } from './page.js';

export class PollView {
  element;
  #page;
  #ask;
  #poll = h('div', { class: 'class-poll' });
  #shown = '';

  constructor(page) {
    this.#page = page;
    const question = h('input', { name: 'question', maxlength: 500, 'aria-label': 'Question', required: true });
    const options = h('textarea', { name: 'options', rows: 3, 'aria-label': 'Answers, one a line', required: true });
    this.#ask = h('form', { 'aria-label': 'Ask everybody' }, question, options, h('button', { class: 'button', text: 'Ask' }));
    this.#ask.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(async () => {
        const lines = options.value.split('\n').map((each) => each.trim()).filter(Boolean);
        await page.room.call('poll', { question: question.value, options: lines });
        this.#ask.reset();
      });
    });
    this.element = h('section', { 'aria-label': 'Poll' }, h('h2', { text: 'Poll' }), this.#poll, this.#ask);
  }

  update() {
    const { room } = this.#page;
    const poll = room.state?.poll;
    const open = poll && !poll.closed;
    this.#ask.hidden = !room.isStaff || open || room.state?.phase !== 'live';
    const counts = poll && room.votes?.poll_id === poll.id ? room.votes.counts : [];
    const mine = poll && room.myVote?.poll === poll.id ? room.myVote.option : null;
    const stamp = JSON.stringify([poll, counts, mine, room.isStaff]);
    if (stamp === this.#shown) return;
    this.#shown = stamp;
    this.#poll.replaceChildren();
    if (!poll) return;
    const answers = poll.options.map((option, i) => {
      const count = h('span', { class: 'class-count', text: `${counts[i] ?? 0}` });
      if (!open || mine !== null || room.isStaff) return h('li', { class: i === mine ? 'is-mine' : '' }, option, ' ', count);
      return h('li', {}, button(option, () => attempt(() => room.vote(i))), ' ', count);
    });
    this.#poll.append(h('p', { text: poll.question }), h('ul', { 'aria-label': 'Answers' }, answers));
    if (open && room.isStaff) this.#poll.append(button('Close the poll', () => attempt(() => room.do('close_poll'))));
    if (!open) this.#poll.append(h('p', { class: 'quiet', text: 'The poll is closed.' }));
  }
}
