import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest, news } from '../web/state/news.js';

const CLASS = {
  phase: 'live', called: null, locked: false, lobby: 0, locks: {}, slow: 0, private: false, poll: null,
  all_muted: false, muted: {}, unmuted: {}, roles: {},
};

/** What somebody is told when a class becomes another one. */
function heard(before, now, { id = 'ann', role = 'student' } = {}) {
  const seen = (state) => {
    const full = { ...CLASS, ...state };
    const roleOf = (user, own) => (own === 'teacher' ? own : (full.roles[user] ?? own));
    return { state: full, me: { id }, role, roleOf, isStaff: ['teacher', 'assistant'].includes(roleOf(id, role)) };
  };
  return news(before && digest(seen(before)), digest(seen(now)), seen(now));
}

const teacher = { id: 'tea', role: 'teacher' };
const poll = { id: 'p', question: 'Why?', points: 0 };

test('whoever is called is told so, and the others who it is', () => {
  const called = { user: 'ann', name: 'Ann', at: 7 };
  assert.deepEqual(heard({}, { called }), ['You are called.']);
  assert.deepEqual(heard({}, { called }, { id: 'ben' }), ['Ann is called.']);
  assert.deepEqual(heard({ called }, { called: { ...called } }), []);
  assert.deepEqual(heard({ called }, { called: { ...called, at: 9 } }), ['You are called.']);
});

test('mutes are told to those who are muted, however that came', () => {
  assert.deepEqual(heard({}, { muted: { ann: true } }), ['You are muted.']);
  assert.deepEqual(heard({}, { all_muted: true }), ['You are muted.']);
  assert.deepEqual(heard({ all_muted: true }, { all_muted: true, unmuted: { ann: true } }), ['You are not muted any more.']);
  assert.deepEqual(heard({}, { muted: { ben: true } }), []);
  assert.deepEqual(heard({}, { all_muted: true }, teacher), ['Everybody is muted.']);
});

test('locks', () => {
  assert.deepEqual(heard({ locks: { chat: true } }, { locks: { camera: true } }), ['The camera is locked.', 'The chat is not locked any more.']);
  assert.deepEqual(heard({}, { locked: true }), ['The class is locked: nobody new comes in.']);
  assert.deepEqual(heard({}, { lobby: 5 }), []);
  assert.deepEqual(heard({}, { lobby: 5 }, teacher), ['Whoever comes waits in the lobby.']);
});

test('polls and quizzes, also of whoever comes late or was away', () => {
  assert.deepEqual(heard({}, { poll }), ['A question: Why?']);
  assert.deepEqual(heard(null, { poll }), ['A question: Why?']);
  assert.deepEqual(heard({ poll }, { poll: { ...poll, closed: 9 } }), ['The poll is closed.']);
  assert.deepEqual(heard(null, { poll: { ...poll, closed: 9 } }), []);
  assert.deepEqual(heard({ poll: { ...poll, closed: 9 } }, { poll: { ...poll, id: 'q', points: 2 } }), ['A quiz: Why?']);
});

test('one\'s own role', () => {
  assert.deepEqual(heard({}, { roles: { ann: 'observer' } }), ['You are an observer now.']);
  assert.deepEqual(heard({}, { roles: { ben: 'observer' } }), []);
});
