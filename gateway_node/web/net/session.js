/**
 * A login: the pair of tokens, kept in localStorage so that all tabs share it, and made anew before it ends.
 *
 * A refresh token works once, and for half a minute again if its answer was lost; later it ends the login. So one tab
 * refreshes at a time (a Web Lock where the browser has them), and a tab that finds a newer pair in the storage takes that.
 */
import { Emitter } from '../emitter.js';

const KEY = 'chalkwire.login';
const EARLY = 30_000; // ms before its end in which an access token is not used any more

/** There is no login (any more): sign in. */
export class SignedOut extends Error {}

/** What the server refused: an RFC 9457 problem. `fields` are its messages by the name of the field. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The server answered ${status}.`);
    this.status = status;
    this.temporary = status === 429 || status >= 500;
    this.fields = Object.fromEntries((document.errors ?? []).map((each) => [(each.pointer ?? '').slice(1), each.detail]));
  }
}

/** The server was not reached. */
export class Unreachable extends Error {
  constructor() {
    super('The server cannot be reached.');
    this.temporary = true;
  }
}

export async function post(path, body, options = {}) {
  return answer(path, {
    ...options,
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
}

/** A response that is fine; throws `Problem` or `Unreachable`. */
export async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: 'omit' });
  } catch {
    throw new Unreachable();
  }
  if (response.ok) return response;
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

export class Session extends Emitter {
  #login;
  #refreshing = null;

  constructor(login) {
    super();
    this.#login = login;
    addEventListener('storage', (event) => {
      if (event.key === KEY || event.key === null) this.#changedElsewhere(event.newValue);
    });
  }

  /** The login that this browser has, or `null`. */
  static stored() {
    const login = read();
    return login && new Session(login);
  }

  static async signIn(email, password) {
    const tokens = await (await post('/v1/auth/login', { email, password })).json();
    const response = await answer('/v1/me', { headers: { Authorization: `Bearer ${tokens.access_token}` } });
    const { id, name } = await response.json();
    const login = { ...pair(tokens), user: { id, name, email } };
    write(login);
    return new Session(login);
  }

  static async register(name, email, password) {
    await post('/v1/auth/register', { email, password, name });
    return Session.signIn(email, password);
  }

  get user() {
    return this.#login.user;
  }

  rename(name) {
    this.#login = { ...this.#login, user: { ...this.#login.user, name } };
    write(this.#login);
  }

  /** An access token that is valid, and not the one that the server `refused`. Throws `SignedOut`. */
  async token(refused = null) {
    if (!this.#usable(this.#login, refused)) {
      this.#refreshing ??= this.#refresh(refused).finally(() => (this.#refreshing = null));
      await this.#refreshing;
    }
    return this.#login.access;
  }

  async signOut() {
    // The page is gone before the answer is there: `keepalive` lets the request outlive it.
    const request = post('/v1/auth/logout', { refresh_token: this.#login.refresh }, { keepalive: true });
    sessionStorage.clear();
    this.#forget();
    await request.catch(() => {});
  }

  #usable(login, refused) {
    return login.access !== refused && Date.now() < login.until - EARLY;
  }

  async #refresh(refused) {
    const alone = navigator.locks ? (work) => navigator.locks.request(KEY, work) : (work) => work();
    await alone(async () => {
      const stored = read();
      if (stored?.user.id !== this.user.id) {
        this.#forget();
        throw new SignedOut();
      }
      this.#login = stored;
      if (this.#usable(stored, refused)) return; // another tab was faster
      try {
        const response = await post('/v1/auth/refresh', { refresh_token: stored.refresh });
        this.#login = { ...stored, ...pair(await response.json()) };
        write(this.#login);
      } catch (error) {
        if (error.temporary) throw error;
        this.#forget();
        throw new SignedOut();
      }
    });
  }

  #forget() {
    if (read()?.user.id === this.user.id) localStorage.removeItem(KEY);
    this.emit('ended');
  }

  #changedElsewhere(value) {
    const login = value && JSON.parse(value);
    if (!login) this.emit('ended');
    else if (login.user.id !== this.user.id) location.reload(); // somebody else signed in
    else this.#login = login;
  }
}

function pair(tokens) {
  return {
    access: tokens.access_token,
    refresh: tokens.refresh_token,
    until: Date.now() + tokens.expires_in * 1000,
  };
}

function read() {
  try {
    const login = JSON.parse(localStorage.getItem(KEY));
    return login?.user?.id && login.access && login.refresh ? login : null;
  } catch {
    return null;
  }
}

function write(login) {
  localStorage.setItem(KEY, JSON.stringify(login));
}
