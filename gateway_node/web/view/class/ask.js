/** The form by which the teachers ask everybody something: a poll, or a quiz with a right answer. */
import { h } from '../dom.js';
import { attempt } from '../toast.js';

export class AskForm {
  element;
  #poll;
  #quiz = h('input', { type: 'radio', name: 'kind', value: 'quiz' });
  #question = h('input', { maxlength: 500, required: true, autocomplete: 'off' });
  #options = h('textarea', { rows: 3, required: true });
  #anonymous = h('input', { type: 'checkbox' });
  #correct = h('select');
  #points = h('input', { type: 'number', min: 0, max: 1000, step: 'any' });
  #quizOnly;

  constructor(poll) {
    this.#poll = poll;
    this.#quizOnly = h(
      'div',
      { class: 'class-quiz' },
      h('label', {}, 'Right answer', this.#correct),
      h('label', {}, 'Points', this.#points),
    );
    this.element = h(
      'form',
      { class: 'class-ask', 'aria-label': 'Ask everybody' },
      h(
        'fieldset',
        {},
        h('legend', { text: 'Kind' }),
        h('label', {}, h('input', { type: 'radio', name: 'kind', value: 'poll', checked: true }), 'Poll'),
        h('label', {}, this.#quiz, 'Quiz'),
      ),
      h('label', {}, 'Question', this.#question),
      h('label', {}, 'Answers, one a line', this.#options),
      this.#quizOnly,
      h('label', { class: 'class-check' }, this.#anonymous, 'Anonymous: nobody sees who answered what'),
      h('button', { class: 'button', text: 'Ask' }),
    );
    this.element.addEventListener('change', (event) => this.#changed(event.target));
    this.#options.addEventListener('input', () => this.#drawAnswers());
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(() => this.#ask());
    });
    this.#reset();
  }

  get #lines() {
    return this.#options.value.split('\n').map((each) => each.trim()).filter(Boolean);
  }

  async #ask() {
    const quiz = this.#quiz.checked;
    const anonymous = this.#anonymous.checked;
    await this.#poll.ask({
      question: this.#question.value,
      options: this.#lines,
      anonymous,
      ...(quiz && { correct: this.#correct.selectedIndex, points: anonymous ? 0 : this.#points.valueAsNumber || 0 }),
    });
    this.#reset();
  }

  #reset() {
    this.element.reset();
    this.#drawAnswers();
    this.#changed(this.#quiz);
  }

  #changed(target) {
    if (target.name === 'kind') {
      const quiz = this.#quiz.checked;
      this.#quizOnly.hidden = !quiz;
      this.#anonymous.checked = !quiz;
      this.#points.value = quiz ? 1 : 0;
    }
    this.#points.disabled = this.#anonymous.checked; // what earns points is in the gradebook, by name
  }

  #drawAnswers() {
    const { selectedIndex } = this.#correct;
    this.#correct.replaceChildren(...this.#lines.map((text) => h('option', { text })));
    this.#correct.selectedIndex = Math.max(0, Math.min(selectedIndex, this.#correct.options.length - 1));
  }
}
