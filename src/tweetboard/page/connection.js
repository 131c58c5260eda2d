// The connection to the daemon: one for all boards, made again whenever it is lost.

const SILENT_MS = 45_000; // heartbeats are comments, which no script sees: after so long it is tried anew
const RETRY_MS = [2_000, 8_000]; // where the browser gives up by itself, as after a proxy's 502

/** Watches `address()`; calls `onEvent(name, data)` with what comes, and `onLost(since)` with a Date, or null again. */
export class Connection {
  #address;
  #onEvent;
  #onLost;
  #source = null;
  #silence = 0;
  #retry = 0;
  #lost = null;

  constructor(address, onEvent, onLost) {
    this.#address = address;
    this.#onEvent = onEvent;
    this.#onLost = onLost;
  }

  open() {
    this.close();
    const source = new EventSource(this.#address());
    this.#source = source;
    source.onopen = () => this.#heard();
    source.onmessage = (event) => this.#take("board", event.data);
    source.addEventListener("state", (event) => this.#take("state", event.data));
    source.onerror = () => {
      if (this.#lost === null) this.#set(new Date());
      if (source.readyState !== EventSource.CLOSED) return;
      const [least, most] = RETRY_MS;
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.open(), least + Math.random() * (most - least));
    };
    this.#listen();
  }

  close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
  }

  #take(name, text) {
    this.#heard();
    this.#onEvent(name, JSON.parse(text));
  }

  #heard() {
    if (this.#lost !== null) this.#set(null);
    this.#listen();
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.open(), SILENT_MS);
  }

  #set(lost) {
    this.#lost = lost;
    this.#onLost(lost);
  }
}
