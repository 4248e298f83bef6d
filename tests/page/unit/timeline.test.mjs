import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timeline, change } from '../web/state/timeline.js';

const ROOM = 'r';

function row(offset, more = {}) {
  return { id: `m${offset}`, offset, type: 'text', content: `text ${offset}`, from_user_id: 'a', timestamp: 't', ...more };
}

/** A room's log and the pages that the server makes of it; `hold()` lets answers wait. */
function server(count) {
  const log = Array.from({ length: count }, (_, index) => row(index + 1));
  let gate = null;
  async function read(method, { before, after, around, limit }) {
    let found = log.filter(({ type }) => type !== 'event');
    if (before) found = found.filter(({ offset }) => offset < before).slice(-limit);
    else if (after !== undefined) found = found.filter(({ offset }) => offset > after).slice(0, limit);
    else if (around) found = found.filter(({ offset }) => Math.abs(offset - around) <= limit / 2);
    else found = found.slice(-limit);
    const page = { messages: found.map((each) => ({ ...each })), users: {}, offset: log.length };
    await gate;
    return page;
  }
  function hold() {
    let release;
    gate = new Promise((resolve) => (release = resolve));
    return () => ((gate = null), release());
  }
  return { log, read, hold };
}

function offsets(timeline) {
  return timeline.items.map(({ offset }) => offset);
}

function range(from, to) {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

test('it opens with the newest, and grows upwards to the beginning', async () => {
  const { read } = server(120);
  const timeline = new Timeline(ROOM, read);
  await timeline.open();
  assert.deepEqual(offsets(timeline), range(71, 120));
  assert.equal(timeline.atStart, false);
  await timeline.older();
  await timeline.older();
  assert.deepEqual(offsets(timeline), range(1, 120));
  assert.equal(timeline.atStart, true);
});

test('around an old message it grows both ways, and does not mix in what comes live', async () => {
  const { read } = server(300);
  const timeline = new Timeline(ROOM, read);
  await timeline.open(100);
  assert.equal(timeline.atEnd, false);
  timeline.receive(row(301));
  assert.equal(timeline.find('m301'), undefined);
  while (!timeline.atEnd) await timeline.newer();
  assert.equal(offsets(timeline).at(-1), 300);
  assert.deepEqual(offsets(timeline), range(offsets(timeline)[0], 300));
});

test('what comes while the page is read is there once', async () => {
  const { log, read, hold } = server(10);
  const timeline = new Timeline(ROOM, read);
  const release = hold();
  const opening = timeline.open();
  log.push(row(11));
  timeline.receive(row(10)); // in the page already
  timeline.receive(row(11)); // not in the page
  release();
  await opening;
  assert.deepEqual(offsets(timeline), range(1, 11));
});

test('an edit that overtakes a page of older messages is not undone by it', async () => {
  const { read, hold } = server(100);
  const timeline = new Timeline(ROOM, read);
  await timeline.open();
  const release = hold();
  const loading = timeline.older();
  timeline.receive({ type: 'event', event: 'message_edited', message_id: 'm20', content: 'new', edited_at: 'e', offset: 101 });
  release();
  await loading;
  assert.equal(timeline.find('m20').content, 'new');
  assert.equal(timeline.items.find(({ id }) => id === 'm20').content, 'new');
});

test('a window that was opened anew throws away what was asked for the old one', async () => {
  const { read, hold } = server(200);
  const timeline = new Timeline(ROOM, read);
  await timeline.open();
  const release = hold();
  const older = timeline.older();
  const opening = timeline.open(50);
  release();
  await Promise.all([older, opening]);
  assert.deepEqual(offsets(timeline), range(25, 75));
});

test('the window is bounded', async () => {
  const { log, read } = server(2000);
  const timeline = new Timeline(ROOM, read);
  await timeline.open();
  for (let page = 0; page < 20; page += 1) await timeline.older();
  assert.equal(timeline.items.length, 500);
  assert.equal(timeline.atEnd, false);
  assert.deepEqual(offsets(timeline), range(offsets(timeline)[0], offsets(timeline)[0] + 499));
  await timeline.open();
  for (let offset = 2001; offset <= 2600; offset += 1) (log.push(row(offset)), timeline.receive(row(offset)));
  timeline.trim();
  assert.deepEqual(offsets(timeline), range(2101, 2600));
  assert.equal(timeline.atStart, false);
});

test('events change messages, and twice is as good as once', () => {
  const message = row(1, { file: { id: 'f' }, reactions: { '👍': { count: 1, users: ['b'] } } });
  const added = { event: 'reaction_added', emoji: '👍', count: 2, from_user_id: 'a' };
  const twice = change(change(message, added), added);
  assert.deepEqual(twice.reactions, { '👍': { count: 2, users: ['b', 'a'] } });
  const removed = { event: 'reaction_removed', emoji: '👍', count: 0, from_user_id: 'b' };
  assert.deepEqual(change(message, removed).reactions, {});
  const deleted = change(message, { event: 'message_deleted', timestamp: 'd' });
  assert.equal(deleted.content, '');
  assert.equal(deleted.file, undefined);
  assert.equal(deleted.reactions, undefined);
  assert.equal(deleted.deleted_at, 'd');
  assert.equal(change(message, { event: 'of the future' }), message);
});
