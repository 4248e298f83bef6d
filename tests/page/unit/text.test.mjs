import assert from 'node:assert/strict';
import { test } from 'node:test';
import './browser.mjs';
import { brief, fold, marked, steady, textNodes } from '../web/view/text.js';
import { sentence } from '../web/view/toast.js';

// As much of an element as these modules touch.
document.createElement = (tag) => ({
  tag,
  attributes: {},
  setAttribute(name, value) {
    this.attributes[name] = value;
  },
  append() {},
});

function links(text) {
  return textNodes(text).filter((node) => node.tag === 'a').map((node) => node.attributes.href);
}

/** All the text, whatever it stands in: nothing may be lost. */
function whole(nodes) {
  return nodes.map((node) => node.textContent ?? node).join('');
}

test('a name in a sentence turns nothing around', () => {
  assert.equal(`${steady('\u202eeve\u2066')} added ${steady('דנה\u200f')}`, 'eve added דנה\u200f');
});

test('links are those of the web alone', () => {
  assert.deepEqual(links('see https://example.org/a?b=c#d, and http://x.y'), ['https://example.org/a?b=c#d', 'http://x.y']);
  assert.deepEqual(links('javascript:alert(1) data:text/html,x ftp://x.y file:///etc'), []);
  assert.deepEqual(links('xhttps://example.org'), []);
});

test('punctuation after a link belongs to the sentence', () => {
  assert.deepEqual(links('(https://example.org/a).'), ['https://example.org/a']);
  assert.deepEqual(links('https://en.wikipedia.org/wiki/Chalk_(drawing)!'), ['https://en.wikipedia.org/wiki/Chalk_(drawing)']);
});

test('a link opens apart and gets no hold of this page', () => {
  const [link] = textNodes('https://example.org').filter((node) => node.tag === 'a');
  assert.match(link.attributes.rel, /noopener/);
  assert.equal(link.attributes.target, '_blank');
});

test('nothing is lost', () => {
  for (const text of ['', 'a', '<b>x</b>', '@Ana and @Ana Maria: https://x.y/<script>', '@', 'https://', 'a https://[ b']) {
    assert.equal(whole(textNodes(text, ['Ana', 'Ana Maria'], 'Ana')), text);
    assert.equal(whole(marked(text, 'a (b')), text);
  }
});

test('the longest name is the one that is meant', () => {
  const mentions = textNodes('@Ana Maria, @Ana', ['Ana', 'Ana Maria']).filter((node) => node.tag === 'bdi');
  assert.deepEqual(mentions.map((node) => node.textContent), ['@Ana Maria', '@Ana']);
});

test('what is long is folded', () => {
  assert.equal(fold('short'), null);
  assert.equal(fold('a\n'.repeat(17)), null);
  assert.equal(fold('a\n'.repeat(10_000)).split('\n').length, 18);
  assert.ok(fold('x'.repeat(16_000)).length <= 1800);
  assert.equal(fold('\n'.repeat(10_000)).length, 17);
});

test('an emoji is not cut in two', () => {
  for (const lead of ['', 'a']) {
    const text = fold(lead + '😀'.repeat(2000));
    assert.equal(text, text.toWellFormed?.() ?? text);
  }
  assert.match(brief('😀'.repeat(200)), /^(😀){120}…$/u);
});

test('a message of the server becomes a sentence', () => {
  assert.equal(sentence('/email: no address'), 'No address');
});
