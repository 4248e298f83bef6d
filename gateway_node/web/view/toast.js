/** A line that comes and goes: what went wrong, or what was done. */
import { h } from './dom.js';

const SHOWN = 6000; // ms

export function toast(text) {
  const line = h('div', { class: 'toast', text });
  document.getElementById('toasts').append(line);
  setTimeout(() => line.remove(), SHOWN);
}

/** Do something that may fail, and say so if it does. Gives the result, or `undefined`. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(sentence(error.message));
    return undefined;
  }
}

/** The server's messages begin with a JSON pointer where they are about a field. */
export function sentence(message) {
  const text = message.replace(/^(\/\w+)+: /u, '');
  return text.charAt(0).toLocaleUpperCase() + text.slice(1);
}
