/** The text of a message: links and mentions are marked, everything else is left as it was written. */
import { h } from './dom.js';

const LINK = /\bhttps?:\/\/[^\s<>"'`{}|\\^]+/giu;
const LINES = 18; // more are folded away
const CHARACTERS = 1800;

/** `mentions` are names; `own` is one's own, marked more. Gives nodes. */
export function textNodes(content, mentions = [], own = '') {
  const nodes = [];
  let end = 0;
  for (const match of content.matchAll(LINK)) {
    const address = withoutPunctuation(match[0]);
    if (!isWeb(address)) continue;
    nodes.push(...mentioned(content.slice(end, match.index), mentions, own));
    nodes.push(h('a', { href: address, target: '_blank', rel: 'noopener noreferrer', text: address }));
    end = match.index + address.length;
  }
  nodes.push(...mentioned(content.slice(end), mentions, own));
  return nodes;
}

/** The beginning of a long text, or `null` when all of it can be shown. */
export function fold(content) {
  let end = Math.min(content.length, CHARACTERS);
  let lines = 0;
  for (let at = content.indexOf('\n'); at !== -1 && at < end; at = content.indexOf('\n', at + 1)) {
    lines += 1;
    if (lines === LINES) end = at;
  }
  if (end === content.length) return null;
  if (isLeadSurrogate(content.charCodeAt(end - 1))) end -= 1; // half an emoji is none
  return content.slice(0, end);
}

/** One line for lists and quotes. */
export function brief(content, most = 120) {
  const line = content.replace(/\s+/gu, ' ').trim();
  return line.length > most ? `${[...line].slice(0, most).join('')}…` : line;
}

/** A name or title as a part of a sentence: without the marks that would turn the rest of it around. */
export function steady(name) {
  return name.replace(/[\u202a-\u202e\u2066-\u2069]/gu, '');
}

/** Nodes with the words of a query marked. */
export function marked(content, query) {
  const words = query.trim().split(/\s+/u).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/gu, '\\$&'));
  if (!words.length) return [content];
  return content
    .split(new RegExp(`(${words.join('|')})`, 'giu'))
    .map((part, index) => (index % 2 ? h('mark', { text: part }) : part));
}

function mentioned(text, names, own) {
  const known = [...new Set(names)].filter(Boolean).sort((one, other) => other.length - one.length);
  const nodes = [];
  let rest = text;
  while (rest) {
    const found = known
      .map((each) => ({ each, at: rest.indexOf(`@${each}`) }))
      .filter(({ at }) => at !== -1)
      .sort((one, other) => one.at - other.at)[0];
    if (!found) break;
    if (found.at) nodes.push(rest.slice(0, found.at));
    nodes.push(h('bdi', { class: found.each === own ? 'mention own' : 'mention', text: `@${found.each}` }));
    rest = rest.slice(found.at + found.each.length + 1);
  }
  if (rest) nodes.push(rest);
  return nodes;
}

/** A full stop after an address belongs to the sentence; so does a bracket that was opened before it. */
function withoutPunctuation(address) {
  let text = address.replace(/[.,;:!?…]+$/u, '');
  while (text.endsWith(')') && text.split(')').length > text.split('(').length) text = text.slice(0, -1);
  return text;
}

function isWeb(address) {
  try {
    return /^https?:$/.test(new URL(address).protocol);
  } catch {
    return false;
  }
}

function isLeadSurrogate(code) {
  return code >= 0xd800 && code <= 0xdbff;
}
