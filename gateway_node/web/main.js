/** The beginning: whoever has a login sees the chat, everybody else the form. */
import { Session } from './net/session.js';
import { Chat } from './state/chat.js';
import { App } from './view/app.js';
import { SignIn } from './view/signin.js';

const place = document.getElementById('app');

function start(session) {
  if (!session) {
    place.replaceChildren(new SignIn(start).element);
    return;
  }
  const chat = new Chat(session);
  const app = new App(chat);
  // A reload is the one end that leaves nothing of the last login behind, in memory or on the screen.
  session.on('ended', () => {
    history.replaceState(null, '', '/');
    location.reload();
  });
  place.replaceChildren(app.element);
  chat.open();
}

start(Session.stored());
