// Server-sent events over fetch, because EventSource sends no Authorization header (WHATWG HTML section 9.2).

const SILENCE_MS = 10_000; // the sidecar speaks every second; after this much silence the connection is dead
const PAUSES_MS = [300, 600, 1200, 2500, 5000];

/**
 * Follow the events under *url* for as long as the page is open.
 *
 * `heard(name, data)` gets each event, `state(word)` each change of the connection, and `token(refused)` gives what to
 * authenticate with, waiting for it if it was refused. An event's id is told when coming back, so that nothing is
 * missed and nothing comes twice.
 */
export async function follow(url, { heard, state, token }) {
  let failures = 0;
  let refused = false;
  const place = { id: '' };
  for (;;) {
    const key = await token(refused);
    const status = await listen(url, key, place, heard, () => {
      failures = 0;
      state('live');
    });
    refused = status === 401;
    if (refused) {
      state('locked');
      continue;
    }
    state(status === 503 ? 'full' : 'reconnecting');
    await pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    failures += 1;
  }
}

/** One connection, to its end; the status of its reply, 0 if there was none. */
async function listen(url, key, place, heard, opened) {
  const ending = new AbortController();
  let alarm = setTimeout(() => ending.abort(), SILENCE_MS);
  let status = 0;
  try {
    const headers = { Accept: 'text/event-stream' };
    if (key) headers.Authorization = `Bearer ${key}`;
    if (place.id) headers['Last-Event-ID'] = place.id;
    // Without credentials of the browser's own, which would have it ask for them by itself.
    const reply = await fetch(url, { headers, cache: 'no-store', credentials: 'omit', signal: ending.signal });
    status = reply.status;
    if (!reply.ok) return status;
    opened();
    const take = reader(place, heard);
    const pieces = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return status;
      clearTimeout(alarm);
      alarm = setTimeout(() => ending.abort(), SILENCE_MS);
      take(value);
    }
  } catch {
    return status; // gone, or never there
  } finally {
    clearTimeout(alarm);
    ending.abort();
  }
}

/** Takes text piece by piece and hands over each event that is whole. */
export function reader(place, heard) {
  let rest = '';
  return (text) => {
    const blocks = (rest + text).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: ?(.*)/s, 2)));
      if (fields.data === undefined) continue;
      heard(fields.event, JSON.parse(fields.data));
      place.id = fields.id ?? place.id;
    }
  };
}

/** Wait, but not longer than until the network or the reader comes back. */
function pause(ms) {
  return new Promise((resume) => {
    const over = new AbortController();
    const end = () => {
      over.abort();
      clearTimeout(timer);
      resume();
    };
    const timer = setTimeout(end, ms);
    addEventListener('online', end, { signal: over.signal });
    document.addEventListener('visibilitychange', () => document.hidden || end(), { signal: over.signal });
  });
}
