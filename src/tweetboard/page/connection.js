// The connection to the daemon: one for all boards, made again whenever it is lost.

const SILENT_MS = 35_000; // the daemon says something every 15 s
const OPENING_MS = 10_000; // and at once where somebody comes, so that a head without a body is no sign of life
const RETRY_MS = [2_000, 8_000]; // where the browser gives up by itself, as after a proxy's 502

/**
 * Watches `address()`; calls `onEvent(name, data)` with what comes, `onLost(since)` with a Date, or null again, and
 * `onRefused()` where what is asked for is answered, but not with events.
 */
export class Connection {
  #address;
  #onEvent;
  #onLost;
  #onRefused;
  #source = null;
  #timer = 0;
  #heardAt = new Date();
  #lost = null;

  constructor(address, onEvent, onLost, onRefused) {
    this.#address = address;
    this.#onEvent = onEvent;
    this.#onLost = onLost;
    this.#onRefused = onRefused;
  }

  open() {
    this.close();
    if (this.#lost === null) this.#heardAt = new Date();
    const source = new EventSource(this.#address());
    this.#source = source;
    source.onmessage = (event) => this.#take("board", event.data);
    source.addEventListener("state", (event) => this.#take("state", event.data));
    source.addEventListener("beat", () => this.#heard());
    source.onerror = () => {
      this.#lose();
      if (source.readyState !== EventSource.CLOSED) return;
      const [least, most] = RETRY_MS;
      this.#openIn(least + Math.random() * (most - least));
      this.#onRefused();
    };
    this.#openIn(OPENING_MS);
  }

  close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
  }

  #take(name, text) {
    this.#heard();
    this.#onEvent(name, JSON.parse(text));
  }

  #heard() {
    if (this.#lost !== null) this.#onLost(null);
    this.#lost = null;
    this.#heardAt = new Date();
    this.#openIn(SILENT_MS);
  }

  #lose() {
    if (this.#lost !== null) return;
    this.#lost = this.#heardAt;
    this.#onLost(this.#lost);
  }

  /** Connect anew after a while, unless something is heard before. */
  #openIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#lose();
      this.open();
    }, ms);
  }
}
