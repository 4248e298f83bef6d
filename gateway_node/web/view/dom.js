/** Elements without markup in strings: text stays text whatever it contains. */

/**
 * An element. `properties` are attributes; `on` holds listeners, `class` and `text` are what they say, and what is
 * `false`, `null` or `undefined` is left out. Children may be elements, texts, or nothing.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === 'text') element.textContent = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A name or title of somebody's making: its direction must not turn the text around it. */
export function name(text, properties = {}) {
  return h('bdi', { text, ...properties });
}

const stamps = new WeakMap();

/**
 * Make a container's children those of `items` ({key, stamp, make}), and leave alone what is there already: an element
 * is made anew only when its stamp is another one.
 */
export function reconcile(container, items) {
  const old = new Map();
  for (const child of container.children) old.set(stamps.get(child)?.key, child);
  let place = container.firstElementChild;
  for (const { key, stamp, make } of items) {
    let element = old.get(key);
    old.delete(key);
    if (!element || stamps.get(element).stamp !== stamp) {
      const fresh = make();
      stamps.set(fresh, { key, stamp });
      if (element) {
        if (element === place) place = fresh;
        const focused = focusedIn(element);
        element.replaceWith(fresh);
        focusIn(fresh, focused);
      }
      element = fresh;
    }
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
  }
  for (const child of old.values()) {
    const focused = focusedIn(child);
    const next = child.nextElementSibling ?? child.previousElementSibling;
    child.remove();
    if (next) focusIn(next, focused);
  }
}

const controls = (element) => [element, ...element.querySelectorAll('*')].filter((each) => each.tabIndex >= 0 || each.matches('[tabindex]'));

/** Which control of an element has the focus; -1: none. */
function focusedIn(element) {
  return element.contains(document.activeElement) ? controls(element).indexOf(document.activeElement) : -1;
}

/** Give the focus to the same control of another element, or to its last one. */
function focusIn(element, at) {
  if (at >= 0) (controls(element)[at] ?? controls(element).at(-1))?.focus({ preventScroll: true });
}

/** Give the focus back to what opened a menu or a dialog, which may have been drawn anew meanwhile. */
export function giveBack(opener) {
  const label = CSS.escape(opener.getAttribute('aria-label') ?? '');
  (opener.isConnected ? opener : document.querySelector(`[aria-label="${label}"]`))?.focus();
}

const numbers = new WeakMap();
let last = 0;

/** A number for an object that is replaced, never changed: part of a stamp. */
export function version(object) {
  if (!object) return 0;
  if (!numbers.has(object)) numbers.set(object, (last += 1));
  return numbers.get(object);
}

/** Call `work` once in a while, however often it is asked for. */
export function soon(work, milliseconds = 16) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      work();
    }, milliseconds);
  };
}
