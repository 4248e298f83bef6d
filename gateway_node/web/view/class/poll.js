/** A question to everybody: answering it, and what came of it. */
import { button } from '../button.js';
import { h, name, reconcile } from '../dom.js';
import { attempt } from '../toast.js';
import { AskForm } from './ask.js';

export class PollView {
  element;
  #room;
  #none = h('p', { class: 'quiet', text: 'Nothing has been asked.' });
  #form;
  #shown = h('div', { class: 'class-poll' });
  #question = h('p', { class: 'class-question' });
  #terms = h('p', { class: 'quiet' });
  #answers = h('ul', { 'aria-label': 'Answers' });
  #outcome = h('p', { class: 'class-outcome' });
  #who = h('ul', { class: 'class-voters', 'aria-label': 'Who answered what' });
  #more;
  #close;
  #options = []; // {answer, count, mark} of each
  #drawn = '';

  constructor({ room }) {
    this.#room = room;
    this.#form = new AskForm(room.poll).element;
    this.#more = button('More answers', () => attempt(() => room.poll.moreVoters()));
    this.#close = button('Close the poll', () => attempt(() => room.do('close_poll')));
    this.#shown.append(this.#question, this.#terms, this.#answers, this.#outcome, this.#close, this.#who, this.#more);
    this.element = h('section', { 'aria-label': 'Poll' }, h('h2', { text: 'Poll' }), this.#none, this.#shown, this.#form);
  }

  update() {
    const { poll, isStaff, state } = this.#room;
    const { asked, open } = poll;
    this.#form.hidden = !isStaff || open || state?.phase !== 'live';
    this.#none.hidden = Boolean(asked) || !this.#form.hidden;
    this.#shown.hidden = !asked;
    this.#close.hidden = !open || !isStaff;
    this.#close.textContent = asked?.points ? 'Close the quiz' : 'Close the poll';
    this.#more.hidden = !poll.more;
    if (asked) this.#draw(asked);
  }

  #draw(asked) {
    const { poll, isStaff } = this.#room;
    const open = !asked.closed;
    const stamp = `${asked.id} ${isStaff}`;
    if (stamp !== this.#drawn) this.#begin(asked, isStaff);
    this.#drawn = stamp;
    set(this.#terms, terms(asked));
    set(this.#outcome, [!open && `The ${asked.points ? 'quiz' : 'poll'} is closed.`, poll.outcome].filter(Boolean).join(' '));
    const seen = isStaff || !open || poll.mine !== null; // the answers of others shall not be a hint
    this.#options.forEach(({ answer, count, mark }, i) => {
      if (!isStaff) {
        answer.setAttribute('aria-pressed', String(i === poll.mine));
        answer.setAttribute('aria-disabled', String(!open || poll.mine !== null));
      }
      set(count, seen ? ` ${poll.counts[i] ?? 0}` : '');
      set(mark, [i === poll.correct && ' (right)', i === poll.mine && ' (your answer)'].filter(Boolean).join(''));
    });
    reconcile(
      this.#who,
      poll.voters.map(([user, who, option]) => ({
        key: user,
        stamp: `${who} ${option} ${poll.correct}`,
        make: () => h('li', { 'data-user': user }, name(who), ': ', name(asked.options[option]), option === poll.correct && ' (right)'),
      })),
    );
  }

  /** Another question: what is pressed stays where it is from here on. */
  #begin(asked, isStaff) {
    set(this.#question, asked.question);
    this.#options = asked.options.map((option, i) => ({
      answer: isStaff ? name(option) : button(option, () => this.#choose(i)),
      count: h('span', { class: 'class-count' }),
      mark: h('span', { class: 'class-mark' }),
    }));
    this.#answers.replaceChildren(...this.#options.map(({ answer, count, mark }) => h('li', {}, answer, count, mark)));
  }

  #choose(option) {
    const { poll } = this.#room;
    if (poll.open && poll.mine === null) attempt(() => poll.vote(option));
  }
}

function terms({ anonymous, points }) {
  if (anonymous) return 'Anonymous: nobody sees who answers what.';
  return points ? `The teachers see who answers what. ${points} ${points === 1 ? 'point' : 'points'}.` : 'The teachers see who answers what.';
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
