/** Times as people say them, in the language of the browser. */

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const short = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const long = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const longWithYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
const DAY = 86_400_000; // ms

export function timeOf(timestamp) {
  return clock.format(new Date(timestamp));
}

export function fullTime(timestamp) {
  return full.format(new Date(timestamp));
}

/** A day's number, to find out where one ends. */
export function dayOf(timestamp) {
  const date = new Date(timestamp);
  return Math.round(new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime() / DAY);
}

/** "Today", "Yesterday", "Wednesday", "Monday, 3 March". */
export function dayName(timestamp) {
  const ago = dayOf(Date.now()) - dayOf(timestamp);
  const date = new Date(timestamp);
  if (ago === 0 || ago === 1) return capitalised(relative.format(-ago, 'day'));
  if (ago > 1 && ago < 7) return weekday.format(date);
  return (date.getFullYear() === new Date().getFullYear() ? long : longWithYear).format(date);
}

/** For a list: the time of today, the day otherwise. */
export function briefTime(timestamp) {
  const ago = dayOf(Date.now()) - dayOf(timestamp);
  if (ago <= 0) return timeOf(timestamp);
  return ago === 1 ? capitalised(relative.format(-1, 'day')) : short.format(new Date(timestamp));
}

/** "5 minutes ago", "yesterday". */
export function agoOf(timestamp) {
  const minutes = Math.round((Date.now() - new Date(timestamp)) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return relative.format(-minutes, 'minute');
  if (minutes < 24 * 60) return relative.format(-Math.round(minutes / 60), 'hour');
  return relative.format(-Math.round(minutes / (24 * 60)), 'day');
}

function capitalised(text) {
  return text.charAt(0).toLocaleUpperCase() + text.slice(1);
}
