/** A class: who is seen, what is said, whose hand is up; and for the teachers, what they can do about it. */
import { confirmed } from '../dialog.js';
import { h, soon } from '../dom.js';
import { attempt } from '../toast.js';
import { Classroom } from '../../state/classroom.js';
import { Devices } from '../../state/devices.js';
import { JanusLink } from '../../net/janus.js';
import { Mesh } from '../../net/mesh.js';
import { ClassChat } from './chat.js';
import { Hands } from './hands.js';
import { People } from './people.js';
import { PollView } from './poll.js';
import { Tiles } from './tiles.js';
import { Told } from './told.js';
import { Toolbar } from './toolbar.js';

const REACTIONS = { '👍': 'Thumbs up', '👏': 'Applause', '❤️': 'Heart', '😂': 'Laughter' };
const LOCKS = ['microphone', 'camera', 'screen', 'chat', 'private_chat'];

export class ClassPage {
  element;
  room;
  devices;
  media = null;
  #told = new Told();
  #heading = h('h1', { text: 'Class' });
  #status = h('p', { class: 'class-status' });
  #bar = new Toolbar('Class', { class: 'class-bar' });
  #locks = new Toolbar('What students may do', { class: 'class-locks' });
  #parts;
  #tiles;
  #focused = null; // the section with the focus

  constructor(session, id) {
    const room = (this.room = new Classroom(session, id));
    this.devices = new Devices(room);
    this.#tiles = new Tiles(this);
    this.#parts = [new Hands(this), new PollView(this), new ClassChat(this), new People(this)];
    this.element = h(
      'div',
      { class: 'class-page' },
      h(
        'header',
        { class: 'class-head' },
        this.#heading,
        this.#status,
        this.#bar.element,
        h('a', { class: 'button', href: '#/', text: 'Back to the rooms' }),
      ),
      h('main', { class: 'class-main' }, this.#tiles.element, this.#told.element),
      h('aside', { class: 'class-side', 'aria-label': 'Class details' }, this.#locks.element, this.#parts.map((each) => each.element)),
    );
    const update = soon(() => this.#update());
    room.on('changed', update);
    room.on('told', (text) => this.#told.say(text));
    room.on('entered', () => this.#begin(update));
    this.devices.on('changed', update);
    this.devices.on('stopped', (kinds) => this.#told.say(`Your ${kinds.join(' and ')} ${kinds.length > 1 ? 'are' : 'is'} not sent any more.`));
    this.element.addEventListener('focusin', ({ target }) => (this.#focused = target.closest('section')));
    this.#update();
    document.title = 'Class – Chalkwire';
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
    if (room.title && this.#heading.textContent !== room.title) {
      this.#heading.textContent = room.title;
      document.title = `${room.title} – Chalkwire`;
    }
    const says = this.#says();
    if (this.#status.textContent !== says) this.#status.textContent = says;
    const had = document.activeElement;
    this.#bar.draw(this.#actions());
    this.#locks.draw(this.#rules());
    this.#tiles.update();
    for (const part of this.#parts) part.update();
    this.#keepFocus(had);
  }

  /** What had the focus may be gone: then it goes to the heading of its section, and not to the top of the page. */
  #keepFocus(had) {
    const lost = had !== document.body && !had.checkVisibility();
    const heading = this.#focused?.querySelector('h2');
    if (!lost || !heading || document.activeElement.checkVisibility() && document.activeElement !== document.body) return;
    heading.tabIndex = -1;
    heading.focus();
  }

  #says() {
    const { room } = this;
    if (room.status === 'refused') return refusal(room);
    if (room.connection.state !== 'connected') return room.state ? 'The connection is lost. Coming back…' : 'Connecting…';
    if (room.status === 'waiting') return 'You are in the lobby: a teacher lets you in.';
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

  #actions() {
    const { room, devices } = this;
    const { state } = room;
    if (room.status === 'refused') return [{ label: 'Come in', work: () => room.enter() }];
    if (!state || room.status !== 'in') return [];
    if (state.phase === 'scheduled' && room.isStaff) return [{ label: 'Start the class', work: () => room.do('start') }];
    if (state.phase !== 'live') return [];
    const { mine } = room.queue;
    return [
      ...['microphone', 'camera', 'screen'].map((kind) => ({
        label: kind[0].toUpperCase() + kind.slice(1),
        work: () => devices.toggle(kind),
        pressed: devices.tracks.has(kind),
      })),
      { label: 'Raise hand', work: () => room.do(mine ? 'lower_hand' : 'raise_hand'), pressed: mine },
      ...Object.entries(REACTIONS).map(([emoji, name]) => ({ label: emoji, name, work: () => room.call('react', { emoji }) })),
      ...(room.isStaff
        ? [
            { label: 'Lock the class', work: () => room.do('lock', { on: !state.locked }), pressed: state.locked },
            { label: 'Lobby', work: () => room.do('lobby', { on: !state.lobby }), pressed: Boolean(state.lobby) },
            { label: 'Mute all', work: () => room.do(state.all_muted ? 'unmute_all' : 'mute_all'), pressed: state.all_muted },
            { label: 'End the class', work: () => this.#end() },
          ]
        : []),
    ];
  }

  async #end() {
    if (await confirmed('End the class for everybody?', 'End it')) await this.room.do('end');
  }

  #rules() {
    const { room } = this;
    const { state } = room;
    if (state?.phase !== 'live' || !room.isStaff) return [];
    const { slow, private: alone } = state;
    return [
      ...LOCKS.map((lock) => {
        const on = lock in state.locks;
        return { label: `Lock ${lock.replace('_', ' ')}`, work: () => room.do('set_lock', { lock, on: !on }), pressed: on };
      }),
      { label: 'Slow chat', work: () => room.do('chat_rules', { slow: slow ? 0 : 10, private: alone }), pressed: slow > 0 },
      { label: 'Chat to teachers only', work: () => room.do('chat_rules', { slow, private: !alone }), pressed: alone },
    ];
  }
}

/** The server's reason as a sentence, and whether somebody has to do anything about it. */
function refusal({ reason, asksAgain }) {
  const said = reason[0].toUpperCase() + reason.slice(1).replace(/\.$/, '');
  return asksAgain ? `${said}. This page tries again by itself.` : `${said}.`;
}
