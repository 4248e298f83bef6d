// The npm SDK `centrifuge`, unchanged, against a server of two nodes. One scenario a run:
//   node scenarios.mjs <scenario> '{"urls": [...], "channel": "...", "tokens": {...}}'
// A scenario fails by throwing; the exit code says so.
import assert from 'node:assert/strict';
import { once, EventEmitter } from 'node:events';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [name, json] = process.argv.slice(2);
const given = JSON.parse(json);
const clients = [];

function client(node, options) {
  const made = new Centrifuge(given.urls[node], { websocket: WebSocket, maxReconnectDelay: 500, ...options });
  clients.push(made);
  return made;
}

async function connected(node, options) {
  const made = client(node, options);
  made.connect();
  await made.ready(10000);
  return made;
}

async function subscribed(someone, channel, options) {
  const subscription = someone.newSubscription(channel, options);
  subscription.heard = [];
  subscription.arrival = new EventEmitter();
  subscription.on('publication', (publication) => {
    subscription.heard.push(publication);
    subscription.arrival.emit('publication');
  });
  subscription.subscribe();
  await subscription.ready(10000);
  return subscription;
}

async function heard(subscription, count) {
  while (subscription.heard.length < count) await once(subscription.arrival, 'publication');
  return subscription.heard.slice(0, count);
}

function event(emitter, kind) {
  return new Promise((resolve) => emitter.once(kind, resolve));
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  throw new assert.AssertionError({ message: 'was not refused' });
}

const scenarios = {
  async publish() {
    const ana = await subscribed(await connected(0, { token: given.tokens.ana }), given.channel);
    const bo = await subscribed(await connected(1, { token: given.tokens.bo }), given.channel);
    for (let number = 0; number < 20; number++) await (number % 2 ? ana : bo).publish({ number });
    for (const subscription of [ana, bo]) {
      const publications = await heard(subscription, 20);
      assert.deepEqual(publications.map((each) => each.offset), Array.from({ length: 20 }, (_, n) => n + 1));
      assert.deepEqual(publications.map((each) => each.data.number), Array.from({ length: 20 }, (_, n) => n));
      assert.equal(publications[0].info.user, 'bo');
    }
  },

  async history() {
    const ana = await subscribed(await connected(0, { token: given.tokens.ana }), given.channel);
    for (let number = 0; number < 5; number++) await ana.publish(number);
    const all = await ana.history({ limit: -1 });
    assert.deepEqual(all.publications.map((each) => [each.offset, each.data]), [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]);
    const since = await ana.history({ limit: 2, since: { offset: 2, epoch: all.epoch } });
    assert.deepEqual(since.publications.map((each) => each.offset), [3, 4]);
    const back = await ana.history({ limit: 2, reverse: true });
    assert.deepEqual(back.publications.map((each) => each.offset), [5, 4]);
    assert.equal(await refused(ana.history({ limit: 2, since: { offset: 2, epoch: 'another' } })), 112);
  },

  async presence() {
    const first = await connected(0, { token: given.tokens.ana });
    const ana = first.newSubscription(given.channel, { joinLeave: true });
    const joined = new Promise((resolve) => ana.on('join', (ctx) => ctx.info.user === 'bo' && resolve()));
    ana.subscribe();
    await ana.ready(10000);
    const second = await connected(1, { token: given.tokens.bo });
    await subscribed(second, given.channel);
    await joined;
    // Who is present is written behind the join, some milliseconds later.
    let present = [];
    while (present.length < 2) present = Object.values((await ana.presence()).clients);
    assert.deepEqual(present.map((info) => info.user).sort(), ['ana', 'bo']);
    assert.deepEqual(await ana.presenceStats(), { numClients: 2, numUsers: 2 });
    const left = event(ana, 'leave');
    second.disconnect();
    assert.equal((await left).info.user, 'bo');
  },

  async recovery() {
    const first = await connected(0, { token: given.tokens.ana });
    const ana = await subscribed(first, given.channel);
    const bo = await subscribed(await connected(1, { token: given.tokens.bo }), given.channel);
    await bo.publish(0);
    await heard(ana, 1);
    first.disconnect();
    for (let number = 1; number <= 10; number++) await bo.publish(number);
    const back = event(ana, 'subscribed');
    first.connect();
    const ctx = await back;
    assert.deepEqual([ctx.wasRecovering, ctx.recovered], [true, true]);
    assert.deepEqual((await heard(ana, 11)).map((each) => each.offset), Array.from({ length: 11 }, (_, n) => n + 1));
    await bo.publish(11);
    assert.equal((await heard(ana, 12))[11].offset, 12);
  },

  async rpc() {
    const ana = await connected(0, { token: given.tokens.ana });
    assert.equal(await refused(ana.rpc('no.such.method', {})), 104);
  },

  async refresh() {
    const tokens = [given.tokens.short, given.tokens.ana];
    let asked;
    const again = new Promise((resolve) => { asked = resolve; });
    const ana = await connected(0, {
      getToken: async () => {
        const token = tokens.shift();
        if (tokens.length === 0) asked();
        return token;
      },
    });
    const reconnecting = event(ana, 'connecting').then(() => { throw new Error('the refresh must not reconnect'); });
    await Promise.race([again, reconnecting]);
    const subscription = await subscribed(ana, given.channel);
    await Promise.race([subscription.publish('still here'), reconnecting]);
    ana.removeAllListeners();
  },

  async badToken() {
    const ana = client(0, { token: 'not-a-token' });
    const ended = event(ana, 'disconnected');
    ana.connect();
    assert.equal((await ended).code, 3500);
  },

  async expiredToken() {
    const ana = await connected(0, { token: given.tokens.expired, getToken: async () => given.tokens.ana });
    assert.equal(ana.state, 'connected');
  },

  async closedChannel() {
    const first = await connected(0, { token: given.tokens.ana });
    const subscription = first.newSubscription(given.channel);
    const ended = event(subscription, 'unsubscribed');
    subscription.subscribe();
    assert.equal((await ended).code, 103);
    first.removeSubscription(subscription);
    await subscribed(first, given.channel, { token: given.tokens.subscription });
  },

  async batch() {
    const first = await connected(0, { token: given.tokens.ana });
    const ana = await subscribed(first, given.channel);
    first.startBatching(); // one frame with many commands, joined by newlines
    const published = Array.from({ length: 50 }, (_, number) => ana.publish(number));
    first.stopBatching();
    await Promise.all(published);
    assert.deepEqual((await heard(ana, 50)).map((each) => each.data), Array.from({ length: 50 }, (_, n) => n));
  },
};

await scenarios[name]();
for (const each of clients) each.disconnect();
