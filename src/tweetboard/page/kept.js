// What the browser keeps for the page; where it may keep nothing, all is as on a first visit.

/** What was kept under a name, in `localStorage` or `sessionStorage`; null where nothing was. */
export function kept(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

/** Keep a text under a name. */
export function keep(storage, name, text) {
  try {
    window[storage].setItem(name, text);
  } catch {
    // As above.
  }
}
