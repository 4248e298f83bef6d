/** The beginning: whoever has a login sees the chat, everybody else the form. Links in mails lead here, too. */
import { Session, post } from './net/session.js';
import { Chat } from './state/chat.js';
import { App } from './view/app.js';
import { ClassPage } from './view/class/page.js';
import { SignIn } from './view/signin.js';
import { sentence, toast } from './view/toast.js';

const place = document.getElementById('app');

function start(session, entrance = {}) {
  if (!session) {
    place.replaceChildren(new SignIn(start, entrance).element);
    return;
  }
  const id = location.hash.match(/^#\/class\/([0-9a-f-]{36})$/)?.[1];
  if (id) {
    const page = new ClassPage(session, id);
    session.on('ended', () => location.reload());
    addEventListener('hashchange', () => location.reload());
    place.replaceChildren(page.element);
    page.open();
    return;
  }
  addEventListener('hashchange', () => location.hash.startsWith('#/class/') && location.reload());
  const chat = new Chat(session);
  const app = new App(chat);
  // A reload is the one end that leaves nothing of the last login behind, in memory or on the screen.
  session.on('ended', () => {
    history.replaceState(null, '', '/');
    location.reload();
  });
  place.replaceChildren(app.element);
  chat.open();
  if (entrance.words) toast(entrance.words);
}

/** The token of a link such as `#reset=…`; it does not stay in the address. */
function taken(purpose) {
  const prefix = `#${purpose}=`;
  if (!location.hash.startsWith(prefix)) return null;
  const token = location.hash.slice(prefix.length);
  history.replaceState(null, '', '/');
  return token;
}

async function verified(token) {
  try {
    await post('/v1/auth/verification', { token });
    return 'Thank you: the address is yours.';
  } catch (problem) {
    return sentence(problem.fields?.token ?? problem.message);
  }
}

const reset = taken('reset');
const verification = taken('verify');
if (reset) start(null, { token: reset });
else start(Session.stored(), verification ? { words: await verified(verification) } : {});
