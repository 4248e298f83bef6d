import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { clock, settled, sockets } from './browser.mjs';
import { CommandError, Connection, ConnectionLost } from '../web/net/connection.js';
import { SignedOut } from '../web/net/session.js';

const CHANNEL = 'room:1';

beforeEach(() => clock.timers.clear()); // the connections of the test before wake up no more

async function opened(token = async () => 'token') {
  const connection = new Connection('ws://test', token);
  const events = [];
  for (const name of ['state', 'publication', 'lost', 'subscribed', 'unsubscribed', 'joined', 'ended']) {
    connection.on(name, (detail) => events.push([name, detail]));
  }
  connection.open();
  await settled();
  return { connection, events, of: (name) => events.filter((each) => each[0] === name).map((each) => each[1]) };
}

async function connected(subs = { [CHANNEL]: { epoch: 'e', offset: 4, recoverable: true } }, more = {}) {
  const given = await opened();
  const socket = sockets.at(-1);
  socket.accept();
  socket.reply({ id: socket.sent[0].id, connect: { client: 'c', ping: 25, pong: true, subs, ...more } });
  await settled();
  return { ...given, socket };
}

function publication(offset, data = { offset }) {
  return { push: { channel: CHANNEL, pub: { data, offset } } };
}

/** Lose the connection and accept the next one. */
async function again(socket, connect) {
  socket.close(1006);
  clock.tick(500);
  await settled();
  const next = sockets.at(-1);
  assert.notEqual(next, socket);
  next.accept();
  next.reply({ id: next.sent[0].id, connect });
  await settled();
  return next;
}

test('the first command is connect, with the token', async () => {
  const { socket, connection } = await connected();
  assert.equal(socket.sent[0].connect.token, 'token');
  assert.equal(connection.state, 'connected');
});

test('a ping is answered', async () => {
  const { socket } = await connected();
  socket.reply({});
  assert.deepEqual(socket.sent.at(-1), {});
});

test('a ping is not answered when the server wants no pong', async () => {
  const { socket } = await connected({}, { pong: false });
  const before = socket.sent.length;
  socket.reply({});
  assert.equal(socket.sent.length, before);
});

test('silence ends the connection', async () => {
  const { socket, connection } = await connected();
  clock.tick(34_000);
  assert.equal(connection.state, 'connected');
  clock.tick(2_000);
  assert.notEqual(connection.state, 'connected');
  assert.equal(socket.readyState, 3);
});

test('publications come once and in order', async () => {
  const { socket, of } = await connected();
  socket.reply(publication(5), publication(5), publication(4), publication(6));
  assert.deepEqual(of('publication').map(({ offset }) => offset), [5, 6]);
});

test('a hole means that the channel is read anew', async () => {
  const { socket, of } = await connected();
  socket.reply(publication(5), publication(7), publication(8));
  assert.deepEqual(of('publication').map(({ offset }) => offset), [5, 8]);
  assert.deepEqual(of('lost'), [CHANNEL]);
});

test('publications without an offset pass', async () => {
  const { socket, of } = await connected();
  socket.reply({ push: { channel: CHANNEL, pub: { data: { type: 'typing' } } } });
  assert.equal(of('publication')[0].data.type, 'typing');
});

test('coming back it says where it was, and gives what it missed once', async () => {
  const { socket, of } = await connected();
  socket.reply(publication(5));
  const missed = [{ data: 6, offset: 6 }, { data: 7, offset: 7 }];
  const sub = { epoch: 'e', offset: 7, recovered: true, was_recovering: true, publications: missed };
  const next = await again(socket, { subs: { [CHANNEL]: sub } });
  assert.deepEqual(next.sent[0].connect.subs, { [CHANNEL]: { recover: true, offset: 5, epoch: 'e' } });
  next.reply(publication(7), publication(8));
  assert.deepEqual(of('publication').map(({ offset }) => offset), [5, 6, 7, 8]);
  assert.deepEqual(of('lost'), []);
});

test('what could not be recovered is read anew, and goes on from there', async () => {
  const { socket, of } = await connected();
  const next = await again(socket, { subs: { [CHANNEL]: { epoch: 'other', offset: 2, was_recovering: true } } });
  next.reply(publication(3));
  assert.deepEqual(of('lost'), [CHANNEL]);
  assert.deepEqual(of('publication').map(({ offset }) => offset), [3]);
});

test('a channel that the server gives no more is forgotten', async () => {
  const { socket, connection } = await connected();
  await again(socket, { subs: {} });
  assert.equal(connection.isSubscribed(CHANNEL), false);
});

test('the server subscribes and unsubscribes', async () => {
  const { socket, connection, of } = await connected({});
  socket.reply({ push: { channel: CHANNEL, subscribe: { epoch: 'e', offset: 1 } } }, publication(2));
  assert.equal(connection.isSubscribed(CHANNEL), true);
  assert.equal(of('publication').length, 1);
  socket.reply({ push: { channel: CHANNEL, unsubscribe: { code: 2000 } } }, publication(3));
  assert.deepEqual(of('unsubscribed'), [CHANNEL]);
  assert.equal(of('publication').length, 1);
});

test('a room that was taken over is subscribed to again, from where one was', async () => {
  const { socket, connection } = await connected();
  const taking = connection.take(CHANNEL);
  const { id, subscribe } = socket.sent.at(-1);
  assert.deepEqual(subscribe, { channel: CHANNEL, join_leave: true, recover: true, offset: 4, epoch: 'e' });
  socket.reply({ id, subscribe: { epoch: 'e', offset: 4, recovered: true } });
  await taking;
  const next = await again(socket, {});
  assert.equal(next.sent.at(-1).subscribe.channel, CHANNEL);
});

test('commands are answered by their number, errors are thrown', async () => {
  const { socket, connection } = await connected();
  const one = connection.rpc('one', { a: 1 });
  const two = connection.rpc('two');
  await settled();
  const [first, second] = socket.sent.slice(-2);
  socket.reply({ id: second.id, error: { code: 103, message: 'no' } }, { id: first.id, rpc: { data: { b: 2 } } });
  assert.deepEqual(await one, { b: 2 });
  await assert.rejects(two, (error) => error instanceof CommandError && error.code === 103 && !error.temporary);
});

test('a command under way when the connection goes is not known to be done', async () => {
  const { socket, connection } = await connected();
  const publishing = connection.publish(CHANNEL, {});
  socket.close(1006);
  await assert.rejects(publishing, ConnectionLost);
  await assert.rejects(connection.publish(CHANNEL, {}), ConnectionLost);
});

test('a question is asked again until it is answered', async () => {
  const { socket, connection } = await connected();
  const reading = connection.read('room.list');
  await settled();
  socket.reply({ id: socket.sent.at(-1).id, error: { code: 100, message: 'later', temporary: true } });
  await settled();
  clock.tick(500);
  await settled();
  socket.reply({ id: socket.sent.at(-1).id, rpc: { data: { rooms: [] } } });
  assert.deepEqual(await reading, { rooms: [] });
});

test('attempts become rarer, and a push of the network makes one at once', async () => {
  const { connection } = await opened();
  const made = [];
  for (let attempt = 0; attempt < 7; attempt += 1) {
    const before = sockets.length;
    sockets.at(-1).close(1006);
    let waited = 0;
    for (; sockets.length === before; waited += 50) {
      clock.tick(50);
      await settled();
    }
    made.push(waited);
  }
  assert.ok(made[0] <= 500 && made[6] >= 5000 && Math.max(...made) <= 20_050, String(made));
  const before = sockets.length;
  sockets.at(-1).close(1006);
  connection.hurry();
  await settled();
  assert.equal(sockets.length, before + 1);
});

test('a login that has ended ends the connection', async () => {
  const { of, connection } = await opened(async () => {
    throw new SignedOut();
  });
  assert.equal(of('ended').length, 1);
  assert.equal(connection.state, 'closed');
});

for (const [how, refuse] of [
  ['an expired', (socket) => socket.reply({ id: 1, error: { code: 109, message: 'token expired' } })],
  ['a refused', (socket) => socket.close(3500)],
]) {
  test(`${how} token is replaced, and only that one`, async () => {
    const asked = [];
    await opened(async (refused) => `token ${asked.push(refused)}`);
    for (const [attempt, wait] of [500, 1000].entries()) { // the most that the back-off waits
      const socket = sockets.at(-1);
      socket.accept();
      assert.equal(socket.sent[0].connect.token, `token ${attempt + 1}`);
      if (attempt === 0) refuse(socket);
      else socket.close(1006);
      await settled();
      clock.tick(wait);
      await settled();
    }
    // The third attempt follows one that never got an answer: what the server thinks of its token is not known yet.
    assert.deepEqual(asked, [null, 'token 1', 'token 1']);
  });
}

test('the token is refreshed before it ends', async () => {
  const tokens = ['one', 'two'];
  const { connection } = await opened(async () => tokens.shift());
  const socket = sockets.at(-1);
  socket.accept();
  socket.reply({ id: 1, connect: { client: 'c', expires: true, ttl: 100, ping: 0 } });
  clock.tick(60_000);
  await settled();
  assert.equal(socket.sent.length, 1);
  clock.tick(35_000);
  await settled();
  assert.equal(socket.sent[1].refresh.token, 'two');
  socket.reply({ id: 2, refresh: { client: 'c', expires: true, ttl: 100 } });
  assert.equal(connection.state, 'connected');
});

test('closed means closed', async () => {
  const { connection } = await connected();
  const before = sockets.length;
  connection.close();
  clock.tick(60_000);
  await settled();
  assert.equal(sockets.length, before);
  assert.equal(connection.state, 'closed');
});
