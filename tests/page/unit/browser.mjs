// What the modules expect of a browser, as far as they need it here.

globalThis.addEventListener ??= () => {};
globalThis.document ??= { addEventListener() {}, hidden: false };

function storage() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
}
globalThis.sessionStorage = storage();

/** A WebSocket whose server is the test: `sockets.at(-1).sent` is what came, `reply(...)` is what goes back. */
export const sockets = [];
globalThis.WebSocket = class WebSocket {
  static OPEN = 1;
  static CLOSING = 2;
  readyState = 0;
  sent = [];

  constructor(url) {
    this.url = url;
    sockets.push(this);
  }

  accept() {
    this.readyState = 1;
    this.onopen();
  }

  send(frame) {
    this.sent.push(...frame.split('\n').map((line) => JSON.parse(line)));
  }

  reply(...replies) {
    this.onmessage({ data: replies.map((reply) => JSON.stringify(reply)).join('\n') });
  }

  close(code = 1005) {
    if (this.readyState >= 2) return;
    this.readyState = 3;
    this.onclose({ code });
  }
};

/** Let promises that are due go on. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Time that stands still until it is told to pass. */
export const clock = {
  now: 0,
  timers: new Map(),
  number: 0,

  tick(milliseconds) {
    const until = this.now + milliseconds;
    for (;;) {
      const [id, timer] = [...this.timers].filter(([, { at }]) => at <= until).sort(([, one], [, other]) => one.at - other.at)[0] ?? [];
      if (!timer) break;
      this.timers.delete(id);
      this.now = timer.at;
      timer.work();
    }
    this.now = until;
  },
};
globalThis.setTimeout = (work, milliseconds = 0) => {
  clock.timers.set((clock.number += 1), { work, at: clock.now + milliseconds });
  return clock.number;
};
globalThis.clearTimeout = (id) => clock.timers.delete(id);
