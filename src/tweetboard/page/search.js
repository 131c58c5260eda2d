// Searching for a name: asked of all boards at once, and again for as long as somebody looks at the answer.

import { ask } from "./ask.js";

const AROUND = 2;
const TYPING_MS = 200;
const AGAIN_MS = 2_000;

/** Searches what is typed into `field`; `onSought(name)` is called with each new one. */
export class Search {
  #field;
  #onSought;
  #panels = [];
  #sought = "";
  #timer = 0;
  #asking = new AbortController();
  #isNew = false; // nothing of it has been shown yet

  constructor(field, onSought) {
    this.#field = field;
    this.#onSought = onSought;
    field.onfocus = () => this.#suggest();
    const typed = () => this.#set(field.value.trim());
    field.oninput = () => this.#soon(field.value ? TYPING_MS : 0, typed);
    field.form.onsubmit = (event) => {
      event.preventDefault();
      typed();
    };
  }

  /** Search on these boards from now on, as they are shown now. */
  among(panels) {
    this.#panels = panels;
    this.#isNew = true;
    this.#ask();
  }

  /** Search for a name, as if it had been typed; an empty one ends the search. */
  seek(name) {
    this.#field.value = name; // which lets go of line breaks
    this.#set(name);
  }

  /** Offer the names that are on the page now. */
  #suggest() {
    const names = this.#panels.flatMap((panel) => panel.rows.names.map((name) => (panel.sign || "@") + name));
    const options = names.map((name) => Object.assign(document.createElement("option"), { value: name }));
    this.#field.list?.replaceChildren(...options);
  }

  #set(sought) {
    if (sought !== this.#sought) this.#onSought(sought);
    this.#sought = sought;
    this.#isNew = true;
    this.#ask();
  }

  /** Ask, and again in a while, for as long as nothing else is asked. */
  async #ask() {
    clearTimeout(this.#timer);
    this.#asking.abort();
    const asking = (this.#asking = new AbortController());
    const [name, panels] = this.#where(this.#sought);
    for (const panel of this.#panels) if (!name || !panels.includes(panel)) panel.hide();
    if (!name || panels.length === 0) return;
    const boards = panels.map((panel) => panel.asked).join(",");
    try {
      const query = new URLSearchParams({ name, boards, around: AROUND, history: 1 });
      const said = await ask(`search?${query}`, { signal: asking.signal });
      if (!asking.signal.aborted) this.#show(name, panels, JSON.parse(said).found);
    } catch {
      if (!asking.signal.aborted) for (const panel of panels) panel.hide(); // how all is stands at the top of the page
    }
    if (!asking.signal.aborted) this.#soon(AGAIN_MS, () => this.#again());
  }

  #show(name, panels, found) {
    const isNew = this.#isNew;
    this.#isNew = false;
    for (const panel of panels) {
      const said = found.find((one) => one.board === panel.name) ?? null;
      if (said || found.length === 0) panel.show(name, said, isNew);
      else panel.hide();
      // On a phone the answer may be far from who was clicked on.
      if (isNew && said === found[0]) panel.found.scrollIntoView({ block: "nearest" });
    }
  }

  #again() {
    if (document.hidden) this.#soon(AGAIN_MS, () => this.#again());
    else this.#ask();
  }

  /** What is searched for, and where: #coffee is a hashtag, @alice is none, coffee may be either. */
  #where(sought) {
    if (sought.startsWith("#")) return [sought.slice(1), this.#panels.filter((panel) => panel.sign === "#")];
    if (sought.startsWith("@")) return [sought.slice(1), this.#panels.filter((panel) => panel.sign !== "#")];
    return [sought, this.#panels];
  }

  #soon(ms, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
  }
}
