// Asking the daemon for something, once.

const TIMEOUT_MS = 10_000; // what hangs for longer would take one of the few connections that a browser has to a host

/** Ask for what is at an address; answers null where it is not there, and throws where nobody answers in time. */
export async function ask(address, { signal, cache } = {}) {
  const signals = [AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])];
  const response = await fetch(address, { cache, signal: AbortSignal.any(signals) });
  return response.ok ? response.text() : null;
}
