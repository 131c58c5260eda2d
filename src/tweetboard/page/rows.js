// A list of rows that move to where their rank is. What comes from the stream is only ever put in as text.

import { element } from "./element.js";
import { changeWords, number, visible } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const MOVE_MS = 450;
const MOST_MOVING = 50; // more of them nobody can follow, and a small computer could not draw
const calm = matchMedia("(prefers-reduced-motion: reduce)");

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
    this.link.dir = "auto"; // where a name is too long, its beginning is shown, not its left end
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
    put(this.rank, row.rank === null ? "–" : String(row.rank));
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

/** Let a row come from the place it had to the one it has, or appear where it had none. */
function move(row, from, to, height) {
  if (from === to) return;
  const how = { duration: MOVE_MS, easing: "cubic-bezier(0.2, 0, 0, 1)" };
  if (from === undefined) {
    row.animate([{ opacity: 0 }, { opacity: 1 }], how);
    return;
  }
  row.style.zIndex = from > to ? 2 : 1; // who rises passes before who falls
  // Added to a move that is under way: nothing jumps, and nothing has to be measured.
  row.animate([{ transform: `translateY(${(from - to) * height}px)` }, { transform: "none" }], { ...how, composite: "add" });
}

/** Put a row into its place; a browser that can lets it keep its focus and its moves. */
function putBefore(list, row, place) {
  if (row.isConnected && list.moveBefore) list.moveBefore(row, place);
  else list.insertBefore(row, place);
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

  get names() {
    return [...this.#rows.keys()];
  }

  /** Whether some row has no counts by time yet. */
  get lacksHistory() {
    return [...this.#rows.keys()].some((name) => !this.#histories.has(name));
  }

  /** Show `rows`, of a board's answer, in their order; `how` is what all of them are shown with. */
  show(rows, how) {
    const height = this.element.firstElementChild?.getBoundingClientRect().height ?? 0;
    const before = new Map([...this.element.children].map((place, at) => [place, at]));
    const focused = document.activeElement;
    const focusedAt = before.get(focused.closest?.(".row"));
    const names = new Set(rows.map((row) => row.name));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.element.remove();
      this.#rows.delete(name);
    }
    let place = this.element.firstElementChild;
    for (const said of rows) {
      const row = this.#rows.get(said.name) ?? this.#made(said.name);
      row.show(said, { ...how, current: said.name === how.found });
      if (row.element === place) place = place.nextElementSibling;
      else putBefore(this.element, row.element, place);
    }
    if (focusedAt !== undefined && document.activeElement !== focused) this.#focus(focused, focusedAt);
    if (!height || calm.matches || rows.length > MOST_MOVING) return;
    [...this.element.children].forEach((row, at) => move(row, before.get(row), at, height));
  }

  /** Give the focus back to a row that was moved, or where it has gone, to the one in its place. */
  #focus(focused, at) {
    const rows = this.element.children;
    const next = focused.isConnected ? focused : rows[Math.min(at, rows.length - 1)]?.querySelector("a");
    next?.focus({ preventScroll: true });
  }

  /** Let names lead to where `address` says now. */
  relink() {
    for (const row of this.#rows.values()) row.link.href = this.#address(row.name);
  }

  #made(name) {
    const row = new Row(name, this.#address);
    row.draw(this.#histories.get(name));
    this.#rows.set(name, row);
    return row;
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
}
