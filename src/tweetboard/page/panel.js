// One board on the page: its heading, its rows, and who was searched for among them.

import { ask } from "./ask.js";
import { element } from "./element.js";
import { Rows } from "./rows.js";
import { bucketSeconds, historyOf, legendWords, moment, number, ofWords, visible } from "./words.js";

const HISTORY_MS = [5_000, 60_000]; // counts by time are read as often as a bucket ends, within these bounds,
const LACKING_MS = 2_000; // and sooner where a name is new on the page
const AIMING_MS = 600; // so long after the pointer has moved over them rows stay where they are,
const HELD_MS = 2_000; // but no longer than this, though it may tremble for ever

export class Panel {
  #link;
  #limit;
  #drawnMs = -Infinity;
  #aimedMs = -Infinity;
  #shownMs = -Infinity;
  #said = null;
  #waiting = 0;

  /** `link` is the board as `/boards` has it; `address(name)` where a name of it leads to. */
  constructor(name, link, { limit, address }) {
    this.name = name;
    this.sign = link.sign;
    this.window = "all";
    this.#link = link;
    this.#limit = limit;
    this.rows = new Rows(address);
    this.foundRows = new Rows(address);
    this.of = element("span", "of");
    this.total = element("p", "total");
    const heading = element("h2", "", element("bdi", "", name), " ", this.of);
    heading.id = `board-${name}`;
    this.foundWords = element("p", "words");
    this.readOut = element("p", "unseen");
    this.readOut.setAttribute("role", "status");
    this.found = element("div", "found", this.foundWords, this.readOut, this.foundRows.element);
    this.found.hidden = true;
    this.empty = element("p", "empty", "No names yet.");
    this.empty.hidden = true;
    const list = element("div", "list", this.rows.element, this.empty);
    list.onpointermove = () => (this.#aimedMs = performance.now());
    this.legend = element("p", "legend");
    this.element = element("section", "board", heading, this.total, this.found, list, this.legend);
    this.element.setAttribute("aria-labelledby", heading.id);
    this.element.ariaBusy = "true";
  }

  /** What of `boards=` in a request is this board as it is shown. */
  get asked() {
    return `${this.name}:${this.window}`;
  }

  /** Show the scores of a window, as soon as they come; a board that does not keep it shows those of all time. */
  choose(window) {
    this.window = this.#link.windows.includes(window) ? window : "all";
    this.of.textContent = ofWords(this.window);
    this.legend.textContent = legendWords(this.window, this.#link);
    this.#said = null;
    this.#shownMs = -Infinity;
    this.#sayTotal();
    this.element.ariaBusy = "true";
    this.rows.draw([]);
    this.rows.relink();
    this.hide();
    this.#drawnMs = -Infinity;
  }

  /** Take in what an event says, where it is of this board as it is shown now. */
  take(said) {
    if (said.board !== this.name || said.window !== this.window) return;
    clearTimeout(this.#waiting);
    const waitMs = Math.min(this.#aimedMs + AIMING_MS, this.#shownMs + HELD_MS) - performance.now();
    if (waitMs > 0) this.#waiting = setTimeout(() => this.take(said), waitMs);
    else this.#showBoard(said);
  }

  #showBoard(said) {
    this.#said = said;
    this.#shownMs = performance.now();
    const most = said.results[0]?.score ?? 0;
    this.element.ariaBusy = "false";
    this.rows.show(said.results, { sign: this.sign, window: this.window, most });
    this.empty.hidden = said.results.length > 0;
    this.tick();
  }

  /** Do what time asks for, every second or so: say of when it all is, and read the counts by time anew. */
  tick() {
    this.#sayTotal();
    this.#drawInTime();
  }

  #sayTotal() {
    const said = this.#said;
    const names = said?.total === 1 ? "name" : "names";
    const error = said?.max_error ? `, scores to within ${number(said.max_error, this.window)}` : "";
    const words = said ? `${number(said.total)} ${names}${error}, as of ${moment(new Date(said.as_of), new Date())}` : "…";
    if (this.total.textContent !== words) this.total.textContent = words;
  }

  /** Show where a name that was searched for stands, and read it out once; `said` is null where it does not. */
  show(name, said, isNew) {
    this.found.hidden = false;
    const shown = element("bdi", "", this.sign + visible(said?.display ?? name).slice(0, 100));
    const rank = said?.rank ? `number ${number(said.rank)}` : `below number ${number(said?.below ?? 0)}`;
    const words = said
      ? ` is ${rank} of ${number(said.total)}.`
      : ` is not on this board (${ofWords(this.window)}); names are searched for whole.`;
    this.foundWords.replaceChildren(shown, words);
    if (isNew) this.readOut.textContent = `${this.name}: ${this.foundWords.textContent}`;
    if (!said) {
      this.foundRows.clear();
      return;
    }
    const most = Math.max(this.#said?.results[0]?.score ?? 0, ...said.around.map((row) => row.score));
    this.foundRows.show(said.around, { sign: this.sign, window: this.window, most, found: said.name });
    if (said.history) this.foundRows.draw(said.around);
  }

  /** Show no search any more. */
  hide() {
    this.found.hidden = true;
    this.foundRows.clear();
  }

  #drawInTime() {
    const history = historyOf(this.window, this.#link);
    if (!history) return;
    const [least, most] = HISTORY_MS;
    const bucketMs = bucketSeconds(history) * 1000;
    const pauseMs = this.rows.lacksHistory ? LACKING_MS : Math.min(Math.max(bucketMs, least), most);
    if (performance.now() - this.#drawnMs >= pauseMs) this.#draw();
  }

  async #draw() {
    this.#drawnMs = Infinity; // not again before there is an answer
    const window = this.window;
    try {
      const said = await ask(`${this.name}?${new URLSearchParams({ window, limit: this.#limit, history: 1 })}`);
      if (this.window === window) this.rows.draw(JSON.parse(said).results);
    } catch {
      // How the daemon does is said at the top of the page.
    }
    this.#drawnMs = this.window === window ? performance.now() : -Infinity;
  }
}
