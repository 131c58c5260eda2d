// Asking the daemon for something, once.

const TIMEOUT_MS = 10_000; // what hangs for longer would take one of the few connections that a browser has to a host

/** Ask for the text at an address; throws where nobody answers in time, or with a refusal. */
export async function ask(address, { signal, cache } = {}) {
  const signals = [AbortSignal.timeout(TIMEOUT_MS), ...(signal ? [signal] : [])];
  const response = await fetch(address, { cache, signal: AbortSignal.any(signals) });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return response.text();
}
