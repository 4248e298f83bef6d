import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from './browser.mjs';
import { Emitter } from '../web/emitter.js';
import { Mesh } from '../web/net/mesh.js';

const connections = [];
globalThis.MediaStream = class {};
globalThis.RTCPeerConnection = class {
  signalingState = 'stable';

  constructor() {
    connections.push(this);
  }

  addTransceiver() {
    return { mid: '0' };
  }

  async setLocalDescription() {
    this.localDescription = { type: 'offer', sdp: 'v=0' };
  }

  close() {
    this.signalingState = 'closed';
  }
};

const open = () => connections.filter((each) => each.signalingState !== 'closed').length;

/** A page that sends, and those who ask for what it sends. */
function page() {
  connections.length = 0;
  const room = Object.assign(new Emitter(), { people: new Map(), call: async () => ({}), connection: { state: 'connected' } });
  const devices = Object.assign(new Emitter(), { peer: 'mine', tracks: new Map([['camera', {}]]) });
  new Mesh(room, devices);
  const want = (from, peer) => room.emit('signal', { from, peer, to_peer: 'mine', data: { want: true } });
  return { room, want };
}

test('somebody who is thrown out is sent nothing any more', async () => {
  const { room, want } = page();
  want('ann', 'a');
  want('ben', 'b');
  await settled();
  assert.equal(open(), 2);
  room.emit('out', 'ben');
  assert.equal(open(), 1);
});

test('somebody who is gone is sent nothing after a while, unless they are back', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { room, want } = page();
  want('ann', 'a');
  want('ben', 'b');
  await settled();
  for (const user of ['ann', 'ben']) room.emit('gone', user);
  room.people.set('ann', {});
  context.mock.timers.tick(19_000);
  assert.equal(open(), 2);
  context.mock.timers.tick(2_000);
  assert.equal(open(), 1);
});

test('made-up names of pages cost no more connections than three', async () => {
  const { want } = page();
  want('ann', 'a');
  for (let i = 0; i < 50; i += 1) want('ben', `page ${i}`);
  await settled();
  assert.equal(open(), 4);
});
