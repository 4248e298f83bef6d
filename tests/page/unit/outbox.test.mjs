import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clock, settled } from './browser.mjs';
import { Outbox } from '../web/state/outbox.js';

let users = 0;

function lost() {
  return Object.assign(new Error('lost'), { temporary: true });
}

/** An outbox whose server is `answers`: what each attempt meets, stored when there is none left. */
function outbox(answers = [], user = `u${(users += 1)}`) {
  const sent = [];
  const made = new Outbox(user, async ({ id }) => {
    sent.push(id);
    const answer = answers.shift();
    if (answer) throw answer;
  });
  return { outbox: made, sent, user };
}

function message(id, room_id = 'r') {
  return { id, room_id, content: id };
}

async function later() {
  await settled();
  clock.tick(30_000);
  await settled();
}

test('one after the other, in the order of writing', async () => {
  const { outbox: box, sent } = outbox([lost(), lost()]);
  for (const id of ['a', 'b', 'c']) box.add(message(id));
  for (let turn = 0; turn < 3; turn += 1) await later();
  assert.deepEqual(sent, ['a', 'a', 'a', 'b', 'c']);
});

test('rooms do not wait for each other', async () => {
  const { outbox: box, sent } = outbox([lost()]);
  box.add(message('a', 'one'));
  box.add(message('b', 'two'));
  await settled();
  assert.deepEqual(sent, ['a', 'b']);
});

test('what was refused stays, and the next ones go on', async () => {
  const { outbox: box, sent } = outbox([new Error('muted')]);
  box.add(message('a'));
  box.add(message('b'));
  await later();
  assert.deepEqual(box.of('r').map(({ id, state, error }) => [id, state, error]), [['a', 'failed', 'muted'], ['b', 'sent', undefined]]);
  box.retry('a');
  await later();
  assert.deepEqual(sent, ['a', 'b', 'a']);
});

test('a reload of the page loses nothing, and sends with the same id', async () => {
  const { outbox: box, user } = outbox([lost(), lost(), lost()]);
  box.add(message('a'));
  box.add(message('b'));
  await settled();
  const { sent } = outbox([], user);
  await later();
  assert.deepEqual(sent, ['a', 'b']);
});

test('what came back is gone, also when the answer comes later', async () => {
  let answer;
  const box = new Outbox('late', () => new Promise((resolve) => (answer = resolve)));
  box.add(message('a'));
  await settled();
  box.discard('a');
  answer();
  await settled();
  assert.deepEqual(box.of('r'), []);
});

test('what is stored is settled when the room was read anew', async () => {
  const { outbox: box } = outbox([new Error('no')]);
  box.add(message('a'));
  box.add(message('b'));
  await later();
  box.settle('r');
  assert.deepEqual(box.of('r').map(({ id }) => id), ['a']);
});
