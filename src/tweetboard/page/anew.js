// Loading the page anew, so that one on a wall is never asked for by hand.

import { ask } from "./ask.js";
import { keep, kept } from "./kept.js";

const BEGIN_MS = [500, 5_000];
const BEGUN_MS = 60_000;
const AGAIN_MS = 3_000;

let isBeginning = false;

/**
 * Load the page anew, but only where it is there: a proxy's own page in its place would stay for ever.
 *
 * After a while by chance, for all pages of a daemon find out in the same second; and once a minute at most, for behind
 * one name there may be two daemons that differ.
 */
export function beginAnew() {
  if (isBeginning) return;
  isBeginning = true;
  const lastMs = Number(kept("sessionStorage", "begun"));
  const [least, most] = BEGIN_MS;
  setTimeout(loadAnew, Math.max(least + Math.random() * (most - least), lastMs + BEGUN_MS - Date.now()));
}

async function loadAnew() {
  try {
    const page = await ask(location.href, { cache: "no-cache" });
    if (page.includes('src="page.js"')) {
      keep("sessionStorage", "begun", Date.now());
      location.reload();
      return;
    }
  } catch {
    // As where a proxy says that nobody is there.
  }
  setTimeout(loadAnew, AGAIN_MS);
}
