/** A class: who is seen, what is said, whose hand is up; and for the teachers, what they can do about it. */
import { button } from '../button.js';
import { h, soon } from '../dom.js';
import { toast } from '../toast.js';
import { Classroom } from '../../state/classroom.js';
import { Devices } from '../../state/devices.js';
import { JanusLink } from '../../net/janus.js';
import { Mesh } from '../../net/mesh.js';
import { ClassChat } from './chat.js';
import { Hands } from './hands.js';
import { People } from './people.js';
import { PollView } from './poll.js';
import { Tiles } from './tiles.js';

const REACTIONS = ['👍', '👏', '❤️', '😂'];

/** Say what went wrong, where somebody did something. */
export async function attempt(work) {
  try {
    await work();
  } catch (error) {
    toast(error.message);
  }
}

export class ClassPage {
  element;
  room;
  devices;
  media = null;
  #told = h('p', { class: 'class-told', role: 'status', 'aria-live': 'polite' });
  #status = h('p', { class: 'class-status', role: 'status' });
  #bar = h('div', { class: 'class-bar', role: 'toolbar', 'aria-label': 'Class' });
  #locks = h('section', { class: 'class-locks', 'aria-label': 'What students may do' });
  #parts;
  #tiles;

  constructor(session, id) {
    const room = (this.room = new Classroom(session, id));
    this.devices = new Devices(room);
    this.#tiles = new Tiles(this);
    this.#parts = [new Hands(this), new PollView(this), new ClassChat(this), new People(this)];
    this.element = h(
      'div',
      { class: 'class-page' },
      h('header', { class: 'class-head' }, h('h1', { text: 'Class' }), this.#status, this.#bar),
      h('main', { class: 'class-main' }, this.#tiles.element, this.#told),
      h('aside', { class: 'class-side', 'aria-label': 'Class details' }, this.#locks, this.#parts.map((each) => each.element)),
    );
    const update = soon(() => this.#update());
    room.on('changed', update);
    room.on('told', (text) => (this.#told.textContent = text));
    room.on('entered', () => this.#begin(update));
    this.devices.on('changed', update);
    this.#update();
    window.classroom = this; // for whoever looks at it from the console, and the tests
  }

  open() {
    this.room.open();
  }

  async #begin(update) {
    if (this.media) return;
    this.media = this.room.state.media === 'janus' ? new JanusLink(this.room, this.devices) : new Mesh(this.room, this.devices);
    this.media.on('changed', update);
    await attempt(() => this.media.begin());
    this.room.emit('changed');
  }

  #update() {
    const { room } = this;
    this.element.dataset.status = room.status;
    this.element.dataset.connection = room.connection.state;
    this.element.dataset.phase = room.state?.phase ?? '';
    this.#set(this.#status, this.#says());
    this.#drawBar();
    this.#drawLocks();
    this.#tiles.update();
    for (const part of this.#parts) part.update();
  }

  #says() {
    const { room } = this;
    if (room.connection.state !== 'connected') return 'Connecting…';
    if (room.status === 'waiting') return 'You are in the lobby: a teacher lets you in.';
    if (room.status === 'refused') return room.reason;
    const { state } = room;
    if (!state) return 'Coming in…';
    const me = room.me.id;
    const muted = state.muted[me] || (state.all_muted && !state.unmuted[me] && !room.isStaff);
    return {
      scheduled: 'The class has not begun.',
      live: muted ? 'The class goes on. You are muted.' : 'The class goes on.',
      ended: 'The class has ended.',
      cancelled: 'The class was cancelled.',
    }[state.phase];
  }

  #set(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  #drawBar() {
    const { room, devices } = this;
    const { state } = room;
    const wanted = [];
    if (state && room.status === 'in') {
      if (room.isStaff && state.phase === 'scheduled') wanted.push(['Start the class', () => room.do('start')]);
      if (state.phase === 'live') {
        for (const kind of ['microphone', 'camera', 'screen']) {
          wanted.push([kind[0].toUpperCase() + kind.slice(1), () => devices.toggle(kind), devices.tracks.has(kind)]);
        }
        const up = room.me.id in state.hands;
        wanted.push(['Raise hand', () => room.do(up ? 'lower_hand' : 'raise_hand'), up]);
        for (const emoji of REACTIONS) wanted.push([emoji, () => room.call('react', { emoji })]);
        if (room.isStaff) {
          wanted.push(['Lock the class', () => room.do('lock', { on: !state.locked }), state.locked]);
          wanted.push(['Lobby', () => room.do('lobby', { on: !state.lobby }), Boolean(state.lobby)]);
          wanted.push(['Mute all', () => room.do(state.all_muted ? 'unmute_all' : 'mute_all'), state.all_muted]);
          wanted.push(['End the class', () => room.do('end')]);
        }
      }
    }
    draw(this.#bar, wanted);
  }

  #drawLocks() {
    const { room } = this;
    const { state } = room;
    const wanted = [];
    if (state?.phase === 'live' && room.isStaff) {
      for (const lock of ['microphone', 'camera', 'screen', 'chat', 'private_chat']) {
        const on = lock in state.locks;
        wanted.push([`Lock ${lock.replace('_', ' ')}`, () => room.do('set_lock', { lock, on: !on }), on]);
      }
      wanted.push(['Slow chat', () => room.do('chat_rules', { slow: state.slow ? 0 : 10, private: state.private }), state.slow > 0]);
      wanted.push(['Chat to teachers only', () => room.do('chat_rules', { slow: state.slow, private: !state.private }), state.private]);
    }
    draw(this.#locks, wanted);
  }
}

/** Buttons ([label, what they do, whether they are pressed]); one that stays keeps its focus. */
function draw(place, wanted) {
  const old = new Map([...place.children].map((each) => [each.textContent, each]));
  const elements = wanted.map(([label, work, pressed]) => {
    const element = old.get(label) ?? button(label, () => attempt(element.work));
    element.work = work;
    if (pressed === undefined) element.removeAttribute('aria-pressed');
    else element.setAttribute('aria-pressed', String(pressed));
    return element;
  });
  const same = elements.length === place.children.length && elements.every((each, i) => place.children[i] === each);
  if (!same) place.replaceChildren(...elements);
}
