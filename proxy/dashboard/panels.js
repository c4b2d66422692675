// What /stats tells of now: gauges, tables and facts.

import { find, make, renew, say } from './dom.js';
import { amount, bytes, clock, count, duration, freeAgain, milliseconds, share } from './words.js';

const STAGES = {
  calm: ['○', 'calm'],
  watch: ['◔', 'watch'],
  spare: ['◑', 'spare'],
  stop: ['●', 'stop'],
};
const KINDS = { app: 'App', page: 'Page', account: 'Ad account', business: 'Business', edge: 'Edge' };

/** A list of which only the first few are shown until the rest is asked for. */
class Unfolding {
  constructor(button, few, noun, show) {
    Object.assign(this, { button, few, noun, all: false });
    button.addEventListener('click', () => {
      this.all = !this.all;
      show();
    });
  }

  /** Those of *items* that are to be shown. */
  of(items) {
    this.button.hidden = items.length <= this.few;
    this.button.textContent = this.all ? 'Show fewer' : `Show all ${items.length} ${this.noun}`;
    this.button.setAttribute('aria-expanded', String(this.all));
    return this.all ? items : items.slice(0, this.few);
  }
}

/** The most used first, each with its stage, where it is going and when it is free again. */
export class Gauges {
  constructor() {
    this.usage = [];
    this.shown = new Unfolding(find('gauges-more'), 8, 'limits', () => this.show(this.usage));
  }

  show(usage) {
    this.usage = usage;
    // Those that are reached first, whatever their usage; the others in steps of five, so that they do not change places at each look.
    const rank = ({ percent, stage }) => (stage === 'stop' ? Infinity : Math.round(percent / 5));
    const ordered = usage.toSorted((one, other) => (rank(other) > rank(one)) - (rank(other) < rank(one)) || pool(one).localeCompare(pool(other)));
    renew(find('gauges'), this.shown.of(ordered).map(gauge));
    find('gauges-none').hidden = usage.length > 0;
    find('stages').hidden = !usage.length;
  }
}

const pool = ({ kind, id, type }) => `${kind} ${id} ${type}`;

function gauge({ kind, id, type, percent: used, trend_per_min: trend, regain_s: regain, regain_named: named, stage, age_s: age, foreseen_percent: ahead, foreseen_in_s: aheadIn }) {
  const [sign, word] = STAGES[stage] ?? STAGES.calm;
  const name = `${KINDS[kind] ?? kind} ${id}`;
  const bar = make('span', {
    class: 'track', role: 'meter', 'aria-label': `${name}${type && `, ${type}`}`, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': used, 'aria-valuetext': `${amount(used)} %, ${word}`,
  }, make('span', { class: 'filled' }));
  bar.firstChild.style.width = `${Math.min(100, Math.max(0, used))}%`;
  return make('li', { class: `gauge ${stage}`, 'data-key': pool({ kind, id, type }) },
    make('span', { class: 'name' }, make('b', {}, KINDS[kind] ?? kind), ` ${id}`, type ? make('small', {}, type.replaceAll('_', ' ')) : null),
    make('span', { class: 'used' }, `${amount(used)} %`),
    bar,
    make('span', { class: 'stage' }, make('span', { 'aria-hidden': 'true' }, `${sign} `), word, ahead === null ? null : ' ahead'),
    make('span', { class: 'future' }, ...(ahead === null ? future(used, trend, regain, age, named) : foreseen(ahead, aheadIn, age))));
}

/** Why a stage has begun before its percentage is used. */
function foreseen(percent, seconds, age) {
  const when = seconds === null ? 'soon' : `in ${duration(seconds, 1)}`;
  return [make('b', {}, `at this rate ${amount(percent)} % ${when}`), ` · reported ${duration(age)} ago`];
}

/** What comes next; *named*: Graph itself named the time, else the sidecar asks again then. */
function future(used, trend, regain, age, named) {
  const told = `reported ${duration(age)} ago`;
  if (regain !== null) return [make('b', {}, freeAgain(regain, named)), ` · ${told}`];
  if (trend >= 0.05 && used < 100) {
    const left = ((100 - used) / trend) * 60 - age;
    return [`+${amount(trend)} %/min, ${left < 60 ? 'nearly full' : `at this rate full in ${duration(left, 1)}`} · ${told}`];
  }
  if (trend <= -0.05) return [`−${amount(-trend)} %/min · ${told}`];
  return [`steady · ${told}`];
}

/** A table whose columns sort it: `{ key, head, cell, text }`, text for columns of words. */
class Sorted {
  constructor(table, columns, by) {
    Object.assign(this, { table, columns, by, down: true, rows: [] });
    this.heads = columns.map((column) => this.head(column));
    this.body = make('tbody');
    table.replaceChildren(make('thead', {}, make('tr', {}, this.heads)), this.body);
  }

  head({ key, head, text }) {
    const button = make('button', { type: 'button' }, head);
    button.addEventListener('click', () => {
      this.down = this.by === key ? !this.down : !text;
      this.by = key;
      this.show(this.rows);
    });
    return make('th', { scope: 'col', class: text ? false : 'number' }, button);
  }

  show(rows) {
    this.rows = rows;
    const value = this.columns.find(({ key }) => key === this.by).value ?? ((row) => row[this.by]);
    const sign = this.down ? -1 : 1;
    const order = (one, other) => sign * (typeof value(one) === 'string' ? value(one).localeCompare(value(other)) : value(one) - value(other));
    this.columns.forEach(({ key }, at) => (
      key === this.by ? this.heads[at].setAttribute('aria-sort', this.down ? 'descending' : 'ascending') : this.heads[at].removeAttribute('aria-sort')
    ));
    renew(this.body, rows.toSorted(order).map((row) => (
      make('tr', { 'data-key': row[this.columns[0].key] }, this.columns.map(({ cell, text }, at) => make(at ? 'td' : 'th', { class: text ? 'text' : 'number', scope: at ? false : 'row' }, cell(row))))
    )));
  }
}

/** Calls that were answered without asking Graph; a refusal that was given again is no answer. */
const saved = ({ avoided, refused }) => avoided - refused;
const SHARE = { key: 'share', head: 'Avoided %', value: (row) => (row.asked ? saved(row) / row.asked : 0), cell: (row) => share(saved(row), row.asked) };
const CALLS = [
  { key: 'asked', head: 'Asked', cell: ({ asked }) => count(asked) },
  { key: 'counted', head: 'Counted by Meta', cell: ({ counted }) => count(counted) },
  { key: 'avoided', head: 'Avoided', value: saved, cell: (row) => count(saved(row)) },
  SHARE,
];
const COSTS = {
  routes: [
    { key: 'route', head: 'Route', text: true, cell: ({ route }) => route },
    ...CALLS,
    { key: 'bytes_avoided', head: 'Bytes avoided', cell: (row) => bytes(row.bytes_avoided) },
    { key: 'p50_ms', head: 'Median', value: (row) => row.p50_ms ?? 0, cell: (row) => (row.p50_ms ? milliseconds(row.p50_ms) : '–') },
  ],
  apps: [{ key: 'app', head: 'App, by fingerprint', text: true, cell: ({ app }) => app }, ...CALLS],
  accounts: [{ key: 'account', head: 'Ad account', text: true, cell: ({ account }) => account }, ...CALLS],
};

/** What each route, app or account costs and saves, in calls as Meta counts them. */
export class Costs {
  constructor() {
    this.stats = {};
    find('costs-by').addEventListener('change', () => this.list());
    this.list();
  }

  list() {
    this.by = document.querySelector('input[name=by]:checked').value;
    this.table = new Sorted(find('costs'), COSTS[this.by], 'asked');
    this.show(this.stats);
  }

  show(stats) {
    this.stats = stats;
    const rows = stats[this.by] ?? [];
    find('costs').hidden = !rows.length;
    find('costs-none').hidden = rows.length > 0 || !(this.by in stats);
    this.table.show(rows);
  }
}

/** The newest errors; all kinds of them when asked. */
export class Errors {
  constructor() {
    this.errors = [];
    this.shown = new Unfolding(find('errors-more'), 10, 'kinds', () => this.show(this.errors));
  }

  show(errors) {
    this.errors = errors;
    const heads = ['Last', 'Times', 'Mode', 'Status', 'Code', 'What', 'Route'].map((head) => make('th', { scope: 'col', class: head === 'Times' && 'number' }, head));
    const rows = this.shown.of(alike(errors)).map(error);
    renew(find('errors'), make('thead', {}, make('tr', {}, heads)), make('tbody', {}, rows));
    find('errors').hidden = !errors.length;
    find('errors-none').hidden = errors.length > 0;
  }
}

// What Graph's codes are about (developers.facebook.com, "Handle Errors" and "Rate Limits").
const CODES = [
  ['limit reached', [4, 17, 32, 341, 368, 613, 130429]],
  ['limit reached', Array.from({ length: 15 }, (_, at) => 80_000 + at)],
  ['token refused', [102, 104, 190, 450, 452, 2500]],
  ['permission missing', [3, 10, ...Array.from({ length: 100 }, (_, at) => 200 + at)]],
  ['passing trouble', [1, 2]],
  ['bad parameter', [100]],
  ['no such object', [803]],
];

function about(code) {
  if (code === null) return ['–'];
  const found = CODES.find(([, codes]) => codes.includes(code));
  return found ? [String(code), make('small', {}, found[0])] : [String(code)];
}

/** Errors that differ in nothing but their time as one, the newest first. */
function alike(errors) {
  const found = new Map();
  for (const { at, ...what } of errors) {
    const name = JSON.stringify(what);
    const same = found.get(name);
    found.set(name, { ...what, name, at: Math.max(at, same?.at ?? 0), times: (same?.times ?? 0) + 1 });
  }
  return [...found.values()];
}

/** A refusal that Graph gave earlier and that was given again from here is counted under the mode of its reply. */
const outcome = (mode, what) => (what === 'throttled' && mode !== 'MISS' && mode !== 'STALE' ? 'REFUSED' : mode);

const error = ({ name, at, times, mode, status, code, what, route }) => make('tr', { 'data-key': name },
  make('th', { scope: 'row', class: 'text' }, make('time', { datetime: new Date(at * 1000).toISOString() }, clock(at))),
  make('td', { class: 'number' }, String(times)),
  make('td', {}, make('span', { class: `mode ${outcome(mode, what)}` }, outcome(mode, what))),
  make('td', {}, String(status)),
  make('td', {}, about(code)),
  make('td', {}, what),
  make('td', { class: 'text' }, route));

const DISK = { closed: 'in use', open: 'not used for now', none: 'not used' };
const WEBHOOKS = { heard: 'Heard', forged: 'Forged', refused: 'Refused', events: 'Changes in them' };

/** What replicas share; only where they do. */
function fleet(shared) {
  if (!shared) return {};
  const { flights, alone, log } = shared;
  const state = shared.other_secret ? 'another secret' : !shared.up ? 'away' : shared.full ? 'full' : shared.believed ? 'in use' : 'not heard';
  return {
    Fleet: [
      ['Replicas seen', count(shared.replicas)], ['Shared store', state], ['Visits', count(shared.visits)],
      ['A visit takes, on average', shared.visits ? milliseconds((shared.visit_s / shared.visits) * 1000) : '–'], ['Without an answer', count(shared.failed)],
      ['Flights led', count(flights.led)], ['Flights joined', count(flights.joined)], ['Taken over', count(flights.taken_over)],
      ['Log read', log.lag_s < 0 ? 'never' : `${duration(log.lag_s)} ago`], ['Writes in doubt', count(log.open_writes)],
    ],
    'Asked alone': Object.entries(alone).filter(([, many]) => many).map(([cause, many]) => [cause, count(many)]),
  };
}

/** Replies beside direct ones of Graph's; only where some are compared. */
function compared(found) {
  if (!found?.percent && !found?.reads) return {};
  return {
    'Compared with Graph': [
      ['Of the reads', `${amount(found.percent)} %`], ['Compared', count(found.reads)], ['The same', count(found.same)], ['Another status', count(found.status)],
      ['Other JSON', count(found.json)], ['Other header fields', count(found.headers)], ['Older, by a rule', count(found.aged)],
    ],
  };
}

/** The rest: what is held, what waits, what went wrong on the way. */
export function facts(stats) {
  const { store, calls, client_batches: theirs, asked_again: again, loop_lag_ms: lag } = stats;
  const cards = {
    'Stored in memory': [['Entries', count(store.memory_entries)], ['Size', bytes(store.memory_bytes)], ['Evicted', count(store.memory_evictions)]],
    'Stored on disk': [
      ['Entries', count(store.disk_entries)], ['Size', bytes(store.disk_bytes)], ['Evicted', count(store.disk_evictions)],
      ['Waiting to be written', count(store.queue_depth)], ['Errors', count(store.disk_troubles)], ['State', DISK[store.breaker] ?? store.breaker],
    ],
    'In progress': [['Connections of callers', count(stats.connections)], ['Requests being answered', count(stats.open)], ['Waiting for a batch', count(stats.queued)], ['Calls in flight', count(stats.in_flight)], ['Event loop lag, median', milliseconds(lag.p50 ?? 0)], ['Event loop lag, p99', milliseconds(lag.p99 ?? 0)]],
    'Calls to Graph': [
      ['Asked of the sidecar', count(calls.asked)], ['Counted by Meta', count(calls.counted)], ['Perhaps counted', count(calls.uncertain)], ['Batches', count(calls.batches)],
      ['Single calls', count(calls.alone)], ['Passed through', count(calls.passed)],
    ],
    'Batches by speed': Object.entries(stats.lanes ?? {}).map(([lane, { batches, slots, upstream_p99_ms: p99 }]) => (
      [lane, `${count(batches)}, ${amount(slots / batches)} slots each, Graph’s p99 ${milliseconds(p99)}`])),
    'Batches of applications': [['Batches', count(theirs.batches)], ['Operations', count(theirs.operations)]],
    'Delayed for quota': [
      ...Object.entries(stats.paced).map(([pools, { reads, s }]) => [`Paced, ${KINDS[pools] ?? pools}`, `${count(reads)} reads, ${duration(s)} in all`]),
      ...Object.entries(stats.stopped).map(([pools, many]) => [`Stopped, ${KINDS[pools] ?? pools}`, `${count(many)} time${many === 1 ? '' : 's'}`]),
    ],
    Webhooks: Object.entries(stats.webhooks).map(([what, many]) => [WEBHOOKS[what] ?? what, count(many)]),
    Settings: [['Taken', `${clock(stats.last_reload.at)}, ${duration(stats.now - stats.last_reload.at)} ago`], ['Last reload', stats.last_reload.successful ? 'taken, or none yet' : 'refused']],
    Retried: Object.entries(again).map(([cause, many]) => [cause, count(many)]),
    ...fleet(stats.shared),
    ...compared(stats.compare),
  };
  renew(find('facts'), Object.entries(cards).map(([name, rows]) => make('article', { class: 'card', 'data-key': name }, make('h3', {}, name),
    rows.length ? make('dl', {}, rows.map(([term, value]) => make('div', {}, make('dt', {}, term), make('dd', {}, value)))) : make('p', { class: 'none' }, 'None.'))));
}

const WHERE = { graph: ['errors-head', 'Errors'], token: ['errors-head', 'Errors'], quota: ['quota-head', 'Quota'], store: ['inside-head', 'Inside'], shared: ['inside-head', 'Inside'], process: ['inside-head', 'Inside'], settings: ['inside-head', 'Inside'] };

/** What is wrong now, as the sidecar itself says, each with the way to the numbers that show it. */
export function troubles(found) {
  renew(find('now-list'), found.map(({ level, about, what, ago_s: ago, for_s: left, for_named: named }) => {
    const [place, name] = WHERE[about] ?? [];
    return make('li', { class: level },
      make('span', { class: 'sign', 'aria-hidden': 'true' }, level === 'bad' ? '●' : '◑'),
      make('span', {}, make('b', {}, what), left === null ? null : `, ${freeAgain(left, named)}`, ago === null ? null : `, last ${duration(ago)} ago`),
      place ? make('a', { href: `#${place}` }, name) : null);
  }));
  find('now-list').hidden = !found.length;
  find('now-none').hidden = found.length > 0;
  find('now').dataset.level = found[0]?.level ?? 'none';
  say('now-said', found.length ? `Wrong now: ${found.length}` : 'No trouble is known');
  document.title = found.length ? `(${found.length}) graph-sidecar` : 'graph-sidecar';
}
