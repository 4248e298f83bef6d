/** Sign in, or make an account. */
import { Session } from '../net/session.js';
import { h } from './dom.js';
import { sentence } from './toast.js';

export class SignIn {
  element = h('main', { class: 'signin' });
  #done;
  #registering = false;

  /** `done(session)` is called when somebody is signed in. */
  constructor(done) {
    this.#done = done;
    this.#draw();
  }

  #draw() {
    const registering = this.#registering;
    const error = h('p', { class: 'form-error', role: 'alert' });
    const submit = h('button', { class: 'button primary', text: registering ? 'Create account' : 'Sign in' });
    const form = h(
      'form',
      { novalidate: true, 'aria-label': registering ? 'Create account' : 'Sign in' },
      registering && field('Name', { name: 'name', autocomplete: 'name', maxlength: 100, required: true }),
      field('Email', { name: 'email', type: 'email', autocomplete: 'username', maxlength: 255, required: true }),
      field('Password', {
        name: 'password',
        type: 'password',
        autocomplete: registering ? 'new-password' : 'current-password',
        minlength: registering ? 8 : 1,
        required: true,
      }),
      error,
      submit,
    );
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      if (!valid(form)) return;
      error.textContent = '';
      submit.disabled = true;
      try {
        this.#done(await this.#enter(Object.fromEntries(new FormData(form))));
      } catch (problem) {
        submit.disabled = false;
        show(form, error, problem);
      }
    });
    this.element.replaceChildren(
      h(
        'div',
        { class: 'signin-card' },
        h('h1', {}, h('span', { class: 'logo', 'aria-hidden': 'true' }), 'Chalkwire'),
        h('p', { class: 'quiet', text: registering ? 'A name, an address, and off you go.' : 'Welcome back.' }),
        form,
        h(
          'p',
          { class: 'quiet' },
          registering ? 'You have an account? ' : 'New here? ',
          h('button', {
            type: 'button',
            class: 'link',
            text: registering ? 'Sign in' : 'Create an account',
            on: { click: () => ((this.#registering = !registering), this.#draw()) },
          }),
        ),
      ),
    );
    queueMicrotask(() => form.querySelector('input').focus());
  }

  #enter({ name, email, password }) {
    return this.#registering
      ? Session.register(name.trim(), email.trim(), password)
      : Session.signIn(email.trim(), password);
  }
}

function field(label, properties) {
  const id = `field-${properties.name}`;
  return h(
    'div',
    { class: 'field' },
    h('label', { for: id, text: label }),
    h('input', { id, 'aria-describedby': `${id}-error`, ...properties }),
    h('span', { id: `${id}-error`, class: 'field-error' }),
  );
}

/** The browser's own words for what is wrong, next to the field. */
function valid(form) {
  const inputs = [...form.querySelectorAll('input')];
  for (const input of inputs) complain(input, input.validationMessage);
  const first = inputs.find((input) => !input.validity.valid);
  first?.focus();
  return !first;
}

function complain(input, message) {
  input.setAttribute('aria-invalid', String(Boolean(message)));
  input.nextElementSibling.textContent = message;
}

function show(form, error, problem) {
  const fields = Object.entries(problem.fields ?? {}).filter(([name]) => form.elements[name]);
  for (const [name, message] of fields) complain(form.elements[name], sentence(message));
  error.textContent = fields.length ? '' : sentence(problem.message);
}
