/** Waiting between attempts: exponential, with full jitter, so that those whom one fault hit do not come back at once. */

const FIRST = 500; // ms
const MOST = 20_000; // ms

export class Backoff {
  #attempts = 0;

  /** Milliseconds until the next attempt. The first follows within half a second. */
  next() {
    const most = Math.min(MOST, FIRST * 2 ** this.#attempts);
    this.#attempts += 1;
    return most / 4 + Math.random() * (most - most / 4);
  }

  reset() {
    this.#attempts = 0;
  }
}

export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
