/** Sign in, make an account, or have a new password by mail. */
import { Session, post } from '../net/session.js';
import { h } from './dom.js';
import { sentence } from './toast.js';

const NAME = { name: 'name', autocomplete: 'name', maxlength: 100, required: true };
const EMAIL = { name: 'email', type: 'email', autocomplete: 'username', maxlength: 255, required: true };
const PASSWORD = { name: 'password', type: 'password', required: true };
const NEW_PASSWORD = { ...PASSWORD, autocomplete: 'new-password', minlength: 8 };

/** What the form asks for. `send(values, token)` gives a session, or nothing: then `sent` is said. */
const FORMS = {
  signIn: {
    title: 'Sign in',
    words: 'Welcome back.',
    fields: { Email: EMAIL, Password: { ...PASSWORD, autocomplete: 'current-password', minlength: 1 } },
    send: ({ email, password }) => Session.signIn(email.trim(), password),
    others: [
      ['New here? ', 'Create an account', 'register'],
      ['', 'Forgotten the password?', 'forgotten'],
    ],
  },
  register: {
    title: 'Create account',
    words: 'A name, an address, and off you go.',
    fields: { Name: NAME, Email: EMAIL, Password: NEW_PASSWORD },
    send: ({ name, email, password }) => Session.register(name.trim(), email.trim(), password),
    others: [['You have an account? ', 'Sign in', 'signIn']],
  },
  forgotten: {
    title: 'Send me a link',
    words: 'A link for a new password comes by mail.',
    fields: { Email: EMAIL },
    send: async ({ email }) => void (await post('/v1/auth/forgotten', { email: email.trim() })),
    sent: 'If there is an account with this address, a link is on its way. It is good for an hour.',
    others: [['', 'Back to signing in', 'signIn']],
  },
  reset: {
    title: 'Set password',
    words: 'Choose a new password.',
    fields: { 'New password': NEW_PASSWORD },
    send: async ({ password }, token) => void (await post('/v1/auth/password', { token, password })),
    sent: 'The new password is set: sign in with it.',
    others: [['', 'Send me another link', 'forgotten']],
  },
};

export class SignIn {
  element = h('main', { class: 'signin' });
  #done;
  #token;

  /** `done(session)` is called when somebody is signed in. `token`: of a link for a new password. `words` are said. */
  constructor(done, { token = null, words = '' } = {}) {
    this.#done = done;
    this.#token = token;
    this.#draw(token ? 'reset' : 'signIn', words);
  }

  #draw(name, words = FORMS[name].words) {
    const { title, fields, send, sent, others } = FORMS[name];
    const error = h('p', { class: 'form-error', role: 'alert' });
    const submit = h('button', { class: 'button primary', text: title });
    const inputs = Object.entries(fields).map(([label, properties]) => field(label, properties));
    const form = h('form', { novalidate: true, 'aria-label': title }, ...inputs, error, submit);
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      if (!valid(form)) return;
      error.textContent = '';
      submit.disabled = true;
      try {
        const session = await send(Object.fromEntries(new FormData(form)), this.#token);
        if (session) this.#done(session);
        else this.#draw('signIn', sent);
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
        h('p', { class: 'quiet', role: 'status', text: words || FORMS[name].words }),
        form,
        ...others.map(([before, text, other]) =>
          h(
            'p',
            { class: 'quiet' },
            before,
            h('button', { type: 'button', class: 'link', text, on: { click: () => this.#draw(other) } }),
          ),
        ),
      ),
    );
    queueMicrotask(() => form.querySelector('input').focus());
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
