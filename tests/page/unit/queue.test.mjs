import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from './browser.mjs';
import { Emitter } from '../web/emitter.js';
import { Queue } from '../web/state/queue.js';

const hand = (at) => ({ name: `hand ${at}`, at });
const add = (at) => ['add', 'hands', `user ${at}`, hand(at)];
const remove = (at) => ['remove', 'hands', `user ${at}`];

/** A page that has been shown the hands of `shown` (offsets) out of `count`, as of an offset. */
function page({ shown, count = shown.length, offset, me = 'nobody' }) {
  const hands = Object.fromEntries(shown.map((at) => [`user ${at}`, hand(at)]));
  const counts = count > shown.length ? { hands: count } : {};
  const asked = [];
  const read = (method) => new Promise((answer) => asked.push({ method, answer }));
  const room = Object.assign(new Emitter(), { id: 'class', me: { id: me }, state: { hands, counts, offset }, connection: { read } });
  const queue = new Queue(room);
  queue.reset();
  return { queue, asked, seen: () => Object.values(room.state.hands).map(({ at }) => at), room };
}

const answer = (ats, more) => ({ hands: ats.map((at) => ({ user: `user ${at}`, ...hand(at) })), ...more });

test('a queue that is seen whole is never asked for', () => {
  const { queue, asked, seen } = page({ shown: [1, 2], offset: 2 });
  queue.apply(add(3), 3);
  queue.apply(remove(1), 4);
  assert.deepEqual(seen(), [2, 3]);
  assert.deepEqual([queue.count, queue.hidden, asked.length], [2, 0, 0]);
});

test('what comes while the server is asked is applied to its answer, what the answer has is not', async () => {
  const { queue, asked, seen } = page({ shown: [1, 2], count: 4, offset: 4 });
  assert.equal(asked.length, 1);
  queue.apply(remove(1), 5);
  queue.apply(add(6), 6);
  queue.apply(remove(2), 7);
  assert.deepEqual([seen(), queue.count], [[], 3]);
  asked[0].answer(answer([2, 3, 4], { count: 3, offset: 5 })); // it has seen 5, and neither 6 nor 7
  await settled();
  assert.deepEqual([seen(), queue.count, queue.hidden], [[3, 4, 6], 3, 0]);
  assert.equal(asked.length, 1);
});

test('an answer that is ahead of the page is not changed by what it has already', async () => {
  const { queue, asked, seen } = page({ shown: [1, 2], count: 3, offset: 3 });
  asked[0].answer(answer([2, 3, 4], { count: 3, offset: 5 }));
  await settled();
  queue.apply(add(4), 4);
  queue.apply(remove(1), 5);
  assert.deepEqual([seen(), queue.count], [[2, 3, 4], 3]);
  queue.apply(remove(2), 6);
  assert.deepEqual([seen(), queue.count], [[3, 4], 2]);
});

test('an answer to a question from before a new snapshot is dropped', async () => {
  const { queue, asked, seen, room } = page({ shown: [1], count: 2, offset: 2 });
  room.state = { hands: { 'user 9': hand(9) }, counts: {}, offset: 9 };
  queue.reset();
  asked[0].answer(answer([1, 2], { count: 2, offset: 2 }));
  await settled();
  assert.deepEqual([seen(), queue.count], [[9], 1]);
});

test('one that is not in sight is known to be up', async () => {
  const { queue, asked } = page({ shown: [1], count: 3, offset: 3, me: 'user 3' });
  assert.equal(queue.mine, false);
  asked[0].answer(answer([1], { count: 3, offset: 3, mine: true }));
  await settled();
  assert.equal(queue.mine, true);
  queue.apply(['set', 'hands', {}], 4);
  assert.deepEqual([queue.mine, queue.count, queue.hidden], [false, 0, 0]);
});
