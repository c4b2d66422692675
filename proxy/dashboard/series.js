// An hour of rows of cumulative counts, and the rates that follow from them.
// A sidecar that was started anew counts from nothing: its uptime falls, and what it has counted since is all increase.

const KEPT_S = 3600;
const BINS = 60;

export class Series {
  constructor() {
    this.rows = [];
    this.step = 5;
    this.places = new Map();
    this.sums = new Map();
  }

  /** Take a whole history; what is held of an earlier run stays before it. */
  begin({ columns, rows, step_s: step }) {
    const same = columns.length === this.places.size && columns.every((name) => this.places.has(name));
    this.places = new Map(columns.map((name, place) => [name, place]));
    this.step = step;
    const start = rows.length ? rows[0][this.places.get('now')] : Infinity;
    this.rows = [...(same ? this.rows.filter((row) => this.now(row) < start) : []), ...rows];
    this.trim();
  }

  /** Take the rows that came since. */
  add(rows) {
    this.rows.push(...rows);
    this.trim();
  }

  trim() {
    const newest = this.newest;
    this.rows = this.rows.filter((row) => this.now(row) > newest - KEPT_S - this.step);
    this.sums.clear();
  }

  now(row) {
    return row[this.places.get('now')];
  }

  get newest() {
    return this.rows.length ? this.now(this.rows.at(-1)) : 0;
  }

  get oldest() {
    return this.rows.length ? this.now(this.rows[0]) : 0;
  }

  restarted(number) {
    const up = this.places.get('uptime_s');
    return this.rows[number][up] < this.rows[number - 1][up];
  }

  /** Nobody counted between this row and the one before: the sidecar was away or slept, or the clock was set back. */
  gap(number) {
    const passed = this.now(this.rows[number]) - this.now(this.rows[number - 1]);
    return this.restarted(number) || passed <= 0 || passed > 4 * this.step;
  }

  /** What *column* had come to at each row, restarts taken out. */
  sum(column) {
    if (!this.sums.has(column)) {
      const place = this.places.get(column);
      let total = 0;
      this.sums.set(column, this.rows.map((row, number) => {
        if (number) total += this.restarted(number) ? row[place] : row[place] - this.rows[number - 1][place];
        return total;
      }));
    }
    return this.sums.get(column);
  }

  /** How much *column* grew in the last *seconds*; *now* is what it has come to since the newest row. */
  growth(column, seconds, now) {
    if (!this.rows.length) return now ?? 0;
    const sum = this.sum(column);
    const first = this.rows.findIndex((row) => this.now(row) >= this.newest - seconds);
    const since = now === undefined ? 0 : Math.max(0, now - this.rows.at(-1)[this.places.get(column)]);
    return sum.at(-1) - sum[first] + since;
  }

  /** The last *seconds* in sixty bins that lie still as time goes on. */
  bins(seconds) {
    const size = seconds / BINS;
    const last = Math.ceil(this.newest / size);
    return Array.from({ length: BINS }, (_, number) => (last - BINS + number) * size).map((start) => ({ start, end: start + size }));
  }

  /** What *columns* grew by in each of *bins*, per second; null where nobody counted. */
  rates(columns, bins) {
    const found = bins.map(() => ({ seconds: 0, grown: columns.map(() => 0) }));
    for (let number = 1; number < this.rows.length; number += 1) {
      if (this.gap(number)) continue;
      const [from, to] = [this.now(this.rows[number - 1]), this.now(this.rows[number])];
      const grown = columns.map((column) => this.sum(column)[number] - this.sum(column)[number - 1]);
      for (const place of this.touched(bins, from, to)) {
        const part = Math.min(to, bins[place].end) - Math.max(from, bins[place].start);
        found[place].seconds += part;
        grown.forEach((each, column) => { found[place].grown[column] += (each * part) / (to - from); });
      }
    }
    return found.map(({ seconds, grown }) => (seconds < 1 ? null : grown.map((each) => Math.max(0, each / seconds))));
  }

  /** The highest that *columns* stood at in each of *bins*; null where there was nothing to measure, which is told as 0. */
  peaks(columns, bins) {
    const found = bins.map(() => null);
    const places = columns.map((column) => this.places.get(column));
    for (let number = 0; number < this.rows.length; number += 1) {
      const row = this.rows[number];
      if (!places.some((each) => row[each])) continue;
      for (const place of this.touched(bins, this.now(row) - this.step, this.now(row))) {
        found[place] = places.map((each, at) => Math.max(row[each] ?? 0, found[place]?.[at] ?? 0));
      }
    }
    return found;
  }

  /** The numbers of the *bins* that the time from *from* to *to* is in. */
  touched(bins, from, to) {
    const size = bins[0].end - bins[0].start;
    const first = Math.max(0, Math.floor((from - bins[0].start) / size));
    const last = Math.min(bins.length - 1, Math.ceil((to - bins[0].start) / size) - 1);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, number) => first + number);
  }
}
