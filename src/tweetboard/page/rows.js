// A list of rows that move to where their rank is. What comes from the stream is only ever put in as text.

import { changeWords, number, visible } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const MOVE_MS = 450;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Make an element with a class and what is in it: elements and texts. */
export function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

/** The counts of a name as a line; the last, unfinished one is left out, for it would always fall. */
function line(counts) {
  const finished = counts.slice(0, -1);
  const most = Math.max(...finished);
  if (finished.length < 2 || most <= 0) return "";
  const step = 100 / (finished.length - 1);
  const points = finished.map((count, at) => `${(at * step).toFixed(1)},${(22 - (20 * count) / most).toFixed(1)}`);
  return `M${points.join("L")}`;
}

class Row {
  constructor(name, address) {
    this.name = name;
    this.rank = element("span", "rank");
    this.change = element("span", "change");
    this.arrow = element("span");
    this.arrow.ariaHidden = "true";
    this.moved = element("span", "unseen");
    this.change.append(this.arrow, this.moved);
    this.text = element("bdi");
    this.link = element("a", "name", this.text);
    this.link.href = address(name);
    this.score = element("span", "score");
    this.path = document.createElementNS(SVG, "path");
    const spark = document.createElementNS(SVG, "svg");
    spark.setAttribute("class", "spark");
    spark.setAttribute("viewBox", "0 0 100 24");
    spark.setAttribute("preserveAspectRatio", "none");
    spark.setAttribute("aria-hidden", "true");
    spark.append(this.path);
    this.element = element("li", "row", element("span", "bar"), this.rank, this.change, this.link, spark, this.score);
  }

  show(row, { sign, window, most, current }) {
    const display = sign + visible(row.display);
    const [tone, arrow, moved] = changeWords(row.change);
    put(this.rank, String(row.rank));
    put(this.arrow, arrow);
    put(this.moved, moved);
    this.change.dataset.tone = tone;
    put(this.text, display);
    this.link.title = display.length > 20 ? display.slice(0, 200) : "";
    put(this.score, number(row.score, window));
    this.element.style.setProperty("--share", most > 0 ? Math.max(row.score / most, 0).toFixed(4) : "0");
    if (current) this.element.setAttribute("aria-current", "true");
    else this.element.removeAttribute("aria-current");
  }

  draw(counts) {
    this.path.setAttribute("d", counts ? line(counts) : "");
  }
}

function put(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** Rows in an `<ol>`; `address(name)` is where a name leads to. */
export class Rows {
  #rows = new Map();
  #histories = new Map();
  #address;

  constructor(address) {
    this.#address = address;
    this.element = element("ol", "rows");
    this.element.setAttribute("role", "list"); // which Safari forgets where no numbers are shown
  }

  /** Whether some row has no counts by time yet. */
  get lacksHistory() {
    return [...this.#rows.keys()].some((name) => !this.#histories.has(name));
  }

  /** Show `rows`, of a board's answer, in their order; `how` is what all of them are shown with. */
  show(rows, how) {
    const before = new Map([...this.#rows].map(([name, row]) => [name, row.element.getBoundingClientRect().top]));
    const focused = document.activeElement;
    const names = new Set(rows.map((row) => row.name));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    let place = this.element.firstElementChild;
    for (const said of rows) {
      let row = this.#rows.get(said.name);
      if (!row) {
        row = new Row(said.name, this.#address);
        row.draw(this.#histories.get(said.name));
        this.#rows.set(said.name, row);
      }
      row.show(said, { ...how, current: said.name === how.found });
      if (row.element === place) place = place.nextElementSibling;
      else this.element.insertBefore(row.element, place);
    }
    if (focused !== document.activeElement && this.element.contains(focused)) focused.focus({ preventScroll: true });
    this.#move(before);
  }

  /** Draw counts by bucket of time, as in a board's answer with `history=1`. */
  draw(rows) {
    this.#histories = new Map(rows.map((row) => [row.name, row.history]));
    for (const [name, row] of this.#rows) row.draw(this.#histories.get(name));
  }

  clear() {
    for (const row of this.#rows.values()) row.element.remove();
    this.#rows.clear();
    this.#histories.clear();
  }

  #move(before) {
    if (calm.matches || before.size === 0) return;
    for (const [name, row] of this.#rows) {
      for (const moving of row.element.getAnimations()) if (moving.id === "move") moving.cancel();
      const from = before.get(name);
      const by = from === undefined ? 0 : from - row.element.getBoundingClientRect().top;
      const frames =
        from === undefined
          ? [{ opacity: 0 }, { opacity: 1 }]
          : [
              { transform: `translateY(${by}px)`, zIndex: by > 0 ? 2 : 1 }, // who rises passes before who falls
              { transform: "none", zIndex: by > 0 ? 2 : 1 },
            ];
      if (from === undefined || Math.abs(by) > 0.5) {
        row.element.animate(frames, { id: "move", duration: MOVE_MS, easing: "cubic-bezier(0.2, 0, 0, 1)" });
      }
    }
  }
}
