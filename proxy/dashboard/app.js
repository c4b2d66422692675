// The page: follows the events of the sidecar and shows what they tell.

import { BarChart, TimeChart } from './charts.js';
import { find, make, renew, say } from './dom.js';
import { Costs, Errors, facts, Gauges, troubles } from './panels.js';
import { Series } from './series.js';
import { follow } from './stream.js';
import { amount, bytes, clock, count, duration, milliseconds, share } from './words.js';

const MODES = ['REUSED', 'COALESCED', 'STALE', 'REVALIDATED', 'CHANGED', 'MISS', 'SKIPPED', 'REFUSED', 'FAILED'];
const MEANINGS = {
  REUSED: 'stored and fresh; Graph was not asked',
  COALESCED: 'shared the call of an identical read',
  STALE: 'stored, no longer fresh; allowed by a rule',
  REVALIDATED: 'Graph answered 304',
  CHANGED: 'Graph sent another body, or an error',
  MISS: 'nothing was stored',
  SKIPPED: 'passed through',
  REFUSED: 'Graph’s last refusal, given again',
  FAILED: 'the sidecar’s own error',
};
const CAUSES = ['collapsed', 'fresh', 'stale', 'merged', 'superset', 'throttle'];
const ORIGINS = { graph: 'from Graph', refused: 'refused again here', sidecar: 'the sidecar’s own' };
const PERCENTILES = ['p50', 'p90', 'p99'];
const STATES = { connecting: 'connecting…', live: 'live', reconnecting: 'reconnecting…', locked: 'waiting for the token', full: 'too many pages are open; waiting…' };

/** What is wrong while the numbers on the page are old ones, by the state of the connection. */
const SILENT = {
  connecting: (since) => `No sidecar has answered since ${since}`,
  reconnecting: (since) => `No sidecar has answered since ${since}`,
  locked: (since) => `The sidecar has refused the token since ${since}`,
  full: (since) => `The sidecar has no place for this page since ${since}`,
};

const avoided = CAUSES.map((cause) => `calls_avoided.${cause}`);
const modes = MODES.map((mode) => `outcomes.${mode}`);
const series = new Series();
const costs = new Costs();
const errors = new Errors();
const gauges = new Gauges();
let stats = null;
let origin = '';
let seconds = 900;

const saving = (id, label, unit, format) => new TimeChart(find(`${id}-chart`), { label, unit, format, lines: [{ name: label, mark: id, filled: true }] });
const waiting = (id, label) => new TimeChart(find(`${id}-chart`), { label, format: milliseconds, height: 160, lines: PERCENTILES.map((name) => ({ name, mark: name })) });
const charts = {
  calls: saving('calls', 'Calls avoided', 'per minute', amount),
  bytes: saving('bytes', 'Bytes avoided', 'per minute', bytes),
  trips: saving('trips', 'Round trips avoided', 'per minute', amount),
  modes: new TimeChart(find('modes-chart'), { label: 'Replies by mode', unit: 'per second', format: amount, height: 230, stacked: true, lines: MODES.map((name) => ({ name, mark: name })) }),
  slots: new BarChart(find('slots-chart'), { label: 'Batches by their slots', unit: 'batches', format: amount, height: 160, first: 'Slots', lines: [{ name: 'Batches', mark: 'slots' }] }),
  window: waiting('window', 'Waited for a batch'),
  upstream: waiting('upstream', 'Waited for Graph'),
};

// --- what comes in

const heard = {
  history(told) {
    series.begin(told);
    origin = told.listen;
    later(drawCharts);
  },
  sample({ rows }) {
    series.add(rows);
    later(drawCharts);
  },
  stats(told) {
    stats = told;
    later(showNumbers);
  },
};

const waitingToShow = new Set();

/** Do *work* when the page is next painted: once, however often it was asked for. */
function later(work) {
  if (!waitingToShow.size) {
    requestAnimationFrame(() => {
      const due = [...waitingToShow];
      waitingToShow.clear();
      due.forEach((each) => each());
    });
  }
  waitingToShow.add(work);
}

// --- charts

function drawCharts() {
  if (!series.rows.length) return;
  const bins = series.bins(seconds);
  const summed = (rates) => rates.map((each) => each && [60 * each.reduce((sum, rate) => sum + rate, 0)]);
  charts.calls.update(bins, summed(series.rates(avoided, bins)));
  charts.bytes.update(bins, summed(series.rates(['bytes_avoided'], bins)));
  charts.trips.update(bins, summed(series.rates(['round_trips_avoided'], bins)));
  charts.modes.update(bins, series.rates(modes, bins));
  charts.slots.show(sizes());
  for (const wait of ['window', 'upstream']) charts[wait].update(bins, series.peaks(PERCENTILES.map((name) => `${wait}_ms.${name}`), bins));
  if (stats) showNumbers();
}

/** The bars of the histogram: a column stands for all sizes up to the next. */
function sizes() {
  const columns = [...series.places.keys()].filter((name) => name.startsWith('slots_per_batch.'));
  const lows = columns.map((name) => Number(name.split('.')[1]));
  return columns.map((name, at) => {
    const high = (lows[at + 1] ?? lows[at] + 1) - 1;
    const shown = high > lows[at] ? `${lows[at]}–${high}` : String(lows[at]);
    return { name: shown, title: `${shown} slot${shown === '1' ? '' : 's'}`, values: [series.growth(name, seconds)] };
  });
}

// --- numbers

function showNumbers() {
  if (!stats) return;
  const total = (values) => Object.values(values).reduce((sum, value) => sum + value, 0);
  const grown = (column) => series.growth(column, seconds, column.split('.').reduce((value, name) => value[name], stats));
  find('empty').hidden = total(stats.replies) > 0;
  say('try', `curl '${reachable()}/v25.0/me?fields=id,name' -H "Authorization: Bearer $TOKEN"`);
  say('version', stats.version);
  find('version').title = `up ${duration(stats.uptime_s)}`;
  say('place', [stats.instance, `calls ${stats.upstream}`].filter(Boolean).join(' · '));
  find('place').hidden = false;

  const saves = CAUSES.reduce((sum, cause) => sum + stats.calls_avoided[cause], 0);
  saved('calls', avoided.reduce((sum, column) => sum + grown(column), 0), saves, count);
  saved('bytes', grown('bytes_avoided'), stats.bytes_avoided, bytes);
  saved('trips', grown('round_trips_avoided'), stats.round_trips_avoided, count);
  say('calls-share', stats.calls.asked ? `, ${share(saves, stats.calls.asked)} of what was asked` : '');
  say('calls-causes', CAUSES.map((cause, at) => [cause, grown(avoided[at])]).filter(([, many]) => many).map(([cause, many]) => `${cause} ${count(many)}`).join(' · '));
  say('bytes-causes', `${count(grown('replies.REVALIDATED'))} replies revalidated`);
  say('trips-causes', `${count(grown('calls.slots'))} reads in ${count(grown('calls.batches'))} batches`);
  const { batches, slots } = stats.calls;
  say('slots-since', batches ? `${count(batches)} batches since the start, ${amount(slots / batches)} slots each` : 'No batch yet');

  showModes(grown, total);
  gauges.show(stats.usage);
  costs.show(stats);
  errors.show(stats.errors);
  facts(stats);
  troubles(stats.troubles);
  if (connection === 'live') showState();
}

function saved(id, inWindow, sinceStart, written) {
  say(`${id}-window`, written(inWindow), inWindow);
  say(`${id}-total`, written(sinceStart), sinceStart);
}

function showModes(grown, total) {
  const inWindow = MODES.map((mode) => grown(`outcomes.${mode}`));
  const all = total(inWindow);
  const wrong = Object.keys(stats.error_replies).map((origin) => [ORIGINS[origin], grown(`error_replies.${origin}`)]);
  const parts = wrong.filter(([, many]) => many).map(([origin, many]) => `${origin} ${count(many)}`).join(' · ');
  const many = total(wrong.map(([, each]) => each));
  say('errors-rate', all ? `Errors: ${share(many, all)} of replies${parts ? ` (${parts})` : ''}` : '', many);
  renew(find('modes-table'), MODES.map((mode, at) => make('tr', { 'data-mode': mode },
    make('th', { scope: 'row' }, make('i', { class: `key ${mode}` }), mode, make('small', {}, MEANINGS[mode])),
    make('td', { class: 'number' }, count(inWindow[at])),
    make('td', { class: 'number share' }, share(inWindow[at], all)),
    make('td', { class: 'number' }, make('data', { value: stats.outcomes[mode] }, count(stats.outcomes[mode]))))));
}

/** The address for programs, as seen from where this page is looked at. */
function reachable() {
  return origin.replace(/\/\/(0\.0\.0\.0|\[::\])/, `//${location.hostname}`);
}

// --- what the reader chooses

function choose() {
  const chosen = document.querySelector('input[name=window]:checked');
  seconds = Number(chosen.value);
  document.querySelectorAll('.when').forEach((place) => { place.textContent = `in the last ${chosen.dataset.name}`; });
  later(drawCharts);
}

function dress() {
  const scheme = document.querySelector('input[name=scheme]:checked').value;
  if (scheme === 'auto') delete document.documentElement.dataset.scheme;
  else document.documentElement.dataset.scheme = scheme;
  keep('scheme', scheme);
}

/** A browser may forbid storage; then a choice lasts as long as the page. */
function keep(name, value, store = 'localStorage') {
  try {
    window[store].setItem(`graph-sidecar ${name}`, value);
  } catch { /* forbidden */ }
}

function kept(name, store = 'localStorage') {
  try {
    return window[store].getItem(`graph-sidecar ${name}`) ?? '';
  } catch {
    return '';
  }
}

// --- the connection

let connection = 'connecting';
let key = kept('token', 'sessionStorage');

/** Of a connection that lives: whether the sidecar serves, or is on its way out. */
function showState() {
  const draining = stats.state === 'draining';
  find('connection').dataset.state = draining ? 'draining' : 'live';
  say('connection-text', draining ? `draining, ${count(stats.open)} inside` : `live, up ${duration(stats.uptime_s)}`);
}

function state(word) {
  connection = word;
  find('connection').dataset.state = word;
  if (stats && word !== 'live') troubles([{ level: 'bad', about: '', what: SILENT[word](clock(stats.now)), ago_s: null, for_s: null }]);
  say('connection-text', stats && word !== 'live' ? `${STATES[word]} these are the numbers of ${clock(stats.now)}` : STATES[word]);
}

/** The admin token, from the reader if the one at hand was refused. */
async function token(refused) {
  if (!refused) return key;
  const dialog = find('key');
  find('key-wrong').hidden = !key;
  dialog.showModal();
  await new Promise((resume) => { dialog.addEventListener('close', resume, { once: true }); });
  key = find('key-text').value.trim();
  find('key-text').value = '';
  keep('token', key, 'sessionStorage');
  return key;
}

const scheme = document.querySelector(`input[name=scheme][value="${kept('scheme')}"]`);
if (scheme) scheme.checked = true;
find('schemes').addEventListener('change', dress);
find('windows').addEventListener('change', choose);
dress();
choose();
follow('events', { heard: (name, data) => heard[name]?.(data), state, token });
