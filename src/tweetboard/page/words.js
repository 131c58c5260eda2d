// What the page says in words and numbers. Pure: nothing here touches the page, the network or a clock.

const UNITS = { s: ["second", 1], m: ["minute", 60], h: ["hour", 3600], d: ["day", 86400] };
const TONES = { ended: "bad", connecting: "bad", quiet: "wait", "catching up": "wait", standby: "good", live: "good" };
const INVISIBLE = /^[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}]*$/u;

const whole = new Intl.NumberFormat();
const faded = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const small = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });

/** A score: whole, or of a trending board, where it fades. */
export function number(score, window = "all") {
  if (window !== "trending") return whole.format(score);
  return (score < 1 ? small : faded).format(score);
}

/** A window's number, the unit it is of, and how many seconds that has; null for scores that are no window's. */
function parsed(window) {
  const found = /^(\d+)([smhd])$/.exec(window);
  return found && [Number(found[1]), ...UNITS[found[2]]];
}

/** A window's length in seconds; 0 for scores that are no window's. */
export function seconds(window) {
  const [number, , size] = parsed(window) ?? [0, "", 0];
  return number * size;
}

/** What a window is called: "5 minutes". */
export function windowWords(window) {
  const found = parsed(window);
  if (!found) return window === "all" ? "all time" : window;
  const [number, unit] = found;
  return `${number} ${unit}${number === 1 ? "" : "s"}`;
}

/** The same within a sentence: "last 5 minutes", "last hour", "all time". */
export function ofWords(window) {
  return seconds(window) ? `last ${windowWords(window).replace(/^1 /, "")}` : windowWords(window);
}

/** The width of a window's buckets in seconds: a sixtieth of it, in whole ones. */
export function bucketSeconds(window) {
  return Math.ceil(seconds(window) / 60);
}

/** The window in whose buckets the counts by time of some scores are told; undefined where a board keeps none. */
export function historyOf(window, link) {
  const kept = link.windows.filter(seconds).sort((one, other) => seconds(one) - seconds(other));
  if (window === "trending") return kept.find((one) => seconds(one) >= link.half_life_s) ?? kept.at(-1);
  return kept.includes(window) ? window : kept.at(-1);
}

/** An exact length of time: "5 seconds", "minute", "24 minutes". */
function span(seconds) {
  const [unit, size] = Object.values(UNITS).findLast(([, one]) => seconds % one === 0);
  return seconds === size ? unit : `${seconds / size} ${unit}s`;
}

/** What lines and arrows mean, and trending scores. */
export function legendWords(window, link) {
  const history = historyOf(window, link);
  const fading = window === "trending" ? [`A post counts 1 at first, and half as much each ${span(link.half_life_s)}.`] : [];
  const line = history ? [`Lines: posts in the ${ofWords(history)}, a point each ${span(bucketSeconds(history))}.`] : [];
  const bucket = span(bucketSeconds(window) || 60).replace(/^[a-z]/, "a $&");
  const change = link.windows.length > 1 ? [`▲▼: ranks risen or fallen since ${bucket} ago.`] : [];
  return [...fading, ...line, ...change].join(" ");
}

/** A name to show: one of which nobody would see anything is told by its code points. */
export function visible(name) {
  if (!INVISIBLE.test(name)) return name;
  return [...name].map((sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`).join(" ");
}

/** How a rank has changed: its tone, what is shown, and what is read out. */
export function changeWords(change) {
  if (change === "new") return ["new", "new", "new"];
  if (!change) return ["", "", ""];
  const by = Math.abs(change);
  return change > 0 ? ["up", `▲${by}`, `up ${by}`] : ["down", `▼${by}`, `down ${by}`];
}

/** A moment as a time of day, with its date where that is another than today's. */
export function moment(date, now) {
  const time = date.toLocaleTimeString();
  return date.toDateString() === now.toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

/** A length of time, roughly: "12 s", "5 min", "3 h". */
export function roughly(seconds) {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const GAP_SHOWN_MS = 3_600_000; // what is missing from the last hour is worth a word on the wall

function streamWords(stream, now) {
  const since = new Date(stream.since);
  const at = moment(since, now);
  const words = {
    live: "live",
    "catching up": `catching up: ${roughly(stream.behind_s ?? 0)} behind`,
    quiet: "connected, but next to no posts come",
    connecting: `stream not connected, reconnecting since ${at}`,
    standby: "live, counted by another instance",
    ended: `stream ended at ${at}`,
  }[stream.status] ?? stream.status;
  const isRecent = now - since < GAP_SHOWN_MS;
  const gap = stream.gap_s && isRecent ? `; a gap before ${at}: up to ${roughly(stream.gap_s)} went by unheard` : "";
  const leftOut = stream.left_out ? `; some ${number(stream.left_out)} posts were left out by the stream` : "";
  return words + gap + leftOut;
}

/**
 * How all is, in words, and in what tone: "good", "wait" or "bad".
 *
 * `lost` is since when there is no connection to the daemon, or null; `state` what it said last, or null.
 */
export function stateWords(lost, state, now) {
  if (lost) return ["bad", `no connection to tweetboard, reconnecting since ${moment(lost, now)}`];
  if (!state) return ["wait", "connecting"];
  const streams = Object.entries(state.streams);
  const said = streams.map(([title, stream]) => (streams.length > 1 ? `${title}: ` : "") + streamWords(stream, now));
  const others = Object.entries(state.troubles).filter(([part]) => !/^stream\b/.test(part));
  const troubles = others.map(([part, detail]) => (part === "redis" ? "waiting for Redis" : `${part}: ${detail}`));
  const tones = [...streams.map(([, stream]) => TONES[stream.status]), troubles.length ? "bad" : "good"];
  const tone = ["bad", "wait", "good"].find((one) => tones.includes(one));
  const all = said.every((words) => words.endsWith(": live")) && said.length > 1 ? ["live"] : said;
  return [tone, [...troubles, ...all].join(" · ") || "live"];
}

/** Why it is so, for whoever looks closer: a wall need not tell everybody. */
export function detailWords(state) {
  return Object.entries(state?.troubles ?? {}).map(([part, detail]) => `${part}: ${detail}`).join("\n");
}

/** What of it all is the same until something happens. */
export function stateKind(lost, state) {
  if (lost || !state) return lost ? "lost" : "";
  return [...Object.values(state.streams).map((stream) => stream.status), ...Object.keys(state.troubles)].join();
}
