// The page put together: what its address asks for, the boards there are, and the connection that fills them.
//
// ?window=5m  ?boards=hashtags,usernames  ?limit=20  ?find=coffee  ?theme=dark  ?kiosk=1

import { beginAnew } from "./anew.js";
import { ask } from "./ask.js";
import { Connection } from "./connection.js";
import { element } from "./element.js";
import { Panel } from "./panel.js";
import { Search } from "./search.js";
import { THEMES, chooseTheme } from "./theme.js";
import { detailWords, ofWords, seconds, stateKind, stateWords, visible, windowWords } from "./words.js";

let query = new URLSearchParams(location.search);
const limit = Math.min(Math.max(Number.parseInt(query.get("limit"), 10) || 10, 1), 100);
const kiosk = query.get("kiosk") === "1";
const KNOWN = ["boards", "find", "kiosk", "limit", "theme", "window"];
const ASK_AGAIN_MS = 3_000;
const TICK_MS = 1_000;

const boards = document.getElementById("boards");
let built = "";
let panels = [];
let windows = [];
let connection;
let lost = null;
let state = null;
let version = null;
let chosen = "";
let first = "all";

/** The address of what is shown, but for one thing. */
function addressOf(name, value) {
  const other = new URLSearchParams(query);
  if (windows.length > 1) other.set("window", chosen);
  other.set(name, value);
  return `?${other}`;
}

/** Note in the address what is shown, so that it can be kept, passed on, and gone back to. */
function note(name, value, isStep = false) {
  const before = String(query);
  if (value) query.set(name, value);
  else query.delete(name);
  if (query.has("find") && windows.length > 1 && !query.has("window")) query.set("window", chosen);
  if (String(query) === before) return;
  const address = query.size ? `?${query}` : location.pathname;
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  sayTitle();
}

/** Show what the address says, after a step back. */
function goBack() {
  query = new URLSearchParams(location.search);
  const window = windows.includes(query.get("window")) ? query.get("window") : first;
  if (window !== chosen) choose(window);
  search.seek(query.get("find") ?? "");
}

function sayTitle() {
  document.title = [query.get("find"), ofWords(chosen), "tweetboard"].filter(Boolean).join(" · ");
}

// --- the state, in words ---

function sayState() {
  const [tone, words] = stateWords(lost, state, new Date());
  const shown = document.getElementById("state");
  const readOut = document.getElementById("state-read-out");
  shown.dataset.tone = tone;
  shown.title = detailWords(state);
  if (shown.textContent !== words) shown.textContent = words;
  // Read out is another state, and not each minute of the same.
  const kind = stateKind(lost, state);
  if (readOut.dataset.kind === kind) return;
  readOut.dataset.kind = kind;
  readOut.textContent = words;
}

function take(name, said) {
  if (name === "board") {
    for (const panel of panels) panel.take(said);
    return;
  }
  // A page that hangs on a wall for months becomes that of a newer daemon by itself.
  if (version !== null && version !== said.version) beginAnew();
  version = said.version;
  state = said;
  sayState();
}

// --- windows ---

function showWindows() {
  const list = document.getElementById("windows");
  list.hidden = windows.length < 2;
  for (const window of windows) {
    const tab = element("button", "", windowWords(window));
    tab.type = "button";
    tab.id = `window-${window}`;
    tab.dataset.window = window;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "panel");
    tab.onclick = () => {
      note("window", window, true);
      choose(window);
    };
    list.append(tab);
  }
  list.onkeydown = (event) => {
    const at = windows.indexOf(chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: windows.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = list.children[(to + windows.length) % windows.length];
    tab.click();
    tab.focus();
  };
}

function choose(window) {
  chosen = window;
  for (const tab of document.getElementById("windows").children) {
    const is = tab.dataset.window === window;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    if (is) document.getElementById("panel").setAttribute("aria-labelledby", tab.id);
  }
  for (const panel of panels) panel.choose(window);
  search.among(panels);
  sayTitle();
  if (!document.hidden) connection.open();
}

// --- search ---

const search = new Search(document.getElementById("find"), (sought) => note("find", sought));

function listenToSearch() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (document.activeElement.closest(".found")) document.getElementById("find").focus();
    search.seek("");
  });
  let pressed = null; // a row may move on before the button is let go
  boards.addEventListener("pointerdown", (event) => (pressed = event.target.closest("a.name")));
  boards.addEventListener("click", (event) => {
    const link = event.target.closest("a.name") ?? (event.detail ? pressed : null);
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const name = new URL(link.href).searchParams.get("find");
    note("find", name, true);
    search.seek(name);
  });
}

// --- the wall ---

/** On a wall a few boards hang side by side, or one above the other; many in rows. */
function hangByNumber(count) {
  const style = document.documentElement.style;
  style.setProperty("--across", count <= 4 ? count : Math.ceil(Math.sqrt((count * 16) / 9)));
  style.setProperty("--upright", count <= 3 ? 1 : Math.ceil(Math.sqrt((count * 9) / 16)));
}

async function hangOnTheWall() {
  document.documentElement.dataset.kiosk = "1";
  try {
    await navigator.wakeLock.request("screen"); // which the browser lets go of when the page is hidden
  } catch {
    // Without https, or where a battery is low; the screen's own settings hold then.
  }
}

// --- the beginning ---

async function index() {
  for (;;) {
    try {
      const said = await ask("boards");
      if (JSON.parse(said).boards) return said;
    } catch {
      // The daemon restarts perhaps.
    }
    if (lost === null) {
      lost = new Date();
      sayState();
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
}

/** Begin anew where there are other boards or windows than the page was built for. */
async function compare() {
  try {
    const said = await ask("boards");
    if (said !== built && JSON.parse(said).boards) beginAnew();
  } catch {
    // Nobody there, or a proxy's own page: it is asked again with the next refusal.
  }
}

function build(said) {
  const wanted = query.get("boards")?.split(",").filter((name) => Object.hasOwn(said.boards, name)) ?? [];
  const names = wanted.length ? [...new Set(wanted)] : Object.keys(said.boards);
  windows = [...new Set(names.flatMap((name) => said.boards[name].windows))];
  windows.sort((one, other) => place(one) - place(other));
  panels = names.map((name) => {
    const sign = said.boards[name].sign || "@";
    return new Panel(name, said.boards[name], { limit, address: (one) => addressOf("find", sign + one) });
  });
  const panel = element("div", "boards", ...panels.map((one) => one.element));
  panel.id = "panel";
  if (windows.length > 1) panel.setAttribute("role", "tabpanel");
  boards.replaceChildren(panel);
  document.getElementById("demo").hidden = !said.demo;
  showWindows();
  hangByNumber(names.length);
}

/** Say what of the address is not understood: a wall that was set up with a slip would just show something else. */
function sayProblems(said) {
  const known = Object.keys(said.boards).join(", ");
  const unknown = (query.get("boards")?.split(",") ?? []).filter((name) => !Object.hasOwn(said.boards, name));
  const problems = [
    ...[...query.keys()].filter((key) => !KNOWN.includes(key)).map((key) => `${visible(key)}: is none of ${KNOWN.join(", ")}`),
    ...(kiosk || !query.has("kiosk") ? [] : ["kiosk: it can be 1"]),
    ...unknown.map((name) => `boards: there is no ${visible(name)}, but ${known}`),
    ...(windows.includes(query.get("window") ?? first) ? [] : [`window: it can be ${windows.join(", ")}`]),
    ...(String(limit) === (query.get("limit") ?? String(limit)) ? [] : ["limit: it can be 1 to 100"]),
    ...(Object.hasOwn(THEMES, query.get("theme") ?? "auto") ? [] : [`theme: it can be ${Object.keys(THEMES).join(", ")}`]),
  ];
  const place = document.getElementById("problems");
  place.hidden = problems.length === 0;
  place.textContent = problems.join(" · ");
}

/** Where a window stands among the others: all time, from short to long, trending. */
function place(window) {
  return { all: -1, trending: Infinity }[window] ?? seconds(window);
}

async function start() {
  chooseTheme(document.getElementById("theme"), query.get("theme"), () => note("theme", ""));
  document.documentElement.style.setProperty("--limit", limit);
  document.documentElement.style.setProperty("--digits", String(limit).length);
  if (kiosk) hangOnTheWall();
  built = await index();
  lost = null;
  const said = JSON.parse(built);
  build(said);
  connection = new Connection(
    () => `events?${new URLSearchParams({ boards: panels.map((panel) => panel.asked).join(","), limit })}`,
    take,
    (since) => {
      lost = since;
      sayState();
    },
    compare,
  );
  listenToSearch();
  // A stranger's town begins with the page: what counts there is the last minutes, not all of its time.
  first = said.demo && windows.length > 1 ? windows[1] : windows[0];
  sayProblems(said);
  choose(windows.includes(query.get("window")) ? query.get("window") : first);
  if (query.get("find")) search.seek(query.get("find"));
  window.addEventListener("popstate", goBack);
  setInterval(() => {
    sayState();
    if (!document.hidden && lost === null) for (const panel of panels) panel.tick();
  }, TICK_MS);
  // Nobody looks at a hidden page, and a browser has few connections to one host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      connection.close();
      return;
    }
    connection.open();
    if (kiosk) hangOnTheWall();
  });
}

start();
