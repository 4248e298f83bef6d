/** What there is to hear of a class: a sentence for each difference between what it was and what it is. */

const LOCKS = { microphone: 'The microphone', camera: 'The camera', screen: 'The screen', chat: 'The chat', private_chat: 'Private chat' };

/** What of a class can be news to somebody. */
export function digest({ state, me, isStaff, role, roleOf }) {
  const { phase, called, locked, lobby, locks, slow, private: alone, poll, all_muted: allMuted } = state;
  return {
    phase,
    called: called && { ...called },
    muted: !isStaff && Boolean(state.muted[me.id] || (allMuted && !state.unmuted[me.id])),
    allMuted,
    locked,
    lobby: Boolean(lobby),
    locks: Object.keys(locks),
    slow,
    alone,
    poll: poll && { id: poll.id, open: !poll.closed, kind: poll.points ? 'quiz' : 'poll', question: poll.question },
    role: roleOf(me.id, role),
  };
}

/** Sentences, in the order in which they are to be said. `before` `null`: one has just come in. */
export function news(before, now, { me, isStaff }) {
  const said = [];
  const say = (text) => text && said.push(text);
  if (before) {
    if (now.phase !== before.phase) say({ live: 'The class has begun.', ended: 'The class has ended.', cancelled: 'The class was cancelled.' }[now.phase]);
    if (now.role !== before.role) say(`You are ${/^[ao]/.test(now.role) ? 'an' : 'a'} ${now.role} now.`);
    if (now.called && now.called.at !== before.called?.at) say(now.called.user === me.id ? 'You are called.' : `${now.called.name} is called.`);
    if (now.muted !== before.muted) say(now.muted ? 'You are muted.' : 'You are not muted any more.');
    if (isStaff && now.allMuted !== before.allMuted) say(now.allMuted ? 'Everybody is muted.' : 'Nobody is muted any more.');
    for (const lock of now.locks) if (!before.locks.includes(lock)) say(`${LOCKS[lock]} is locked.`);
    for (const lock of before.locks) if (!now.locks.includes(lock)) say(`${LOCKS[lock]} is not locked any more.`);
    if (now.locked !== before.locked) say(now.locked ? 'The class is locked: nobody new comes in.' : 'The class is not locked any more.');
    if (isStaff && now.lobby !== before.lobby) say(now.lobby ? 'Whoever comes waits in the lobby.' : 'There is no lobby any more.');
    if (now.slow !== before.slow) say(now.slow ? `The chat is slow: one message in ${now.slow} seconds.` : 'The chat is not slow any more.');
    if (now.alone !== before.alone) say(now.alone ? 'Messages go to the teachers alone.' : 'Messages go to everybody again.');
  }
  const known = before?.poll?.id === now.poll?.id ? before?.poll : null;
  if (now.poll?.open && !known) say(`A ${now.poll.kind === 'quiz' ? 'quiz' : 'question'}: ${now.poll.question}`);
  if (known?.open && !now.poll.open) say(`The ${now.poll.kind} is closed.`);
  return said;
}
