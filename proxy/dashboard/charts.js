// Charts that can be read without seeing or pointing: arrow keys move a cursor, and each turns into a table.

import { draw, make, renew } from './dom.js';
import { clock } from './words.js';

const EDGE = { top: 8, bottom: 20, left: 46 };
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
const GAP_PX = 2;

/**
 * The frame of every chart: a drawing with a cursor, what stands at the cursor, and the same as a table.
 *
 * `points` are `{ name, title, values }`, values null where nothing is known; a subclass says where they are and draws.
 */
class Chart {
  constructor(home, { label, lines, format, height = 130, unit = '', first = 'Time' }) {
    Object.assign(this, { label, lines, format, height, unit, first });
    this.points = [];
    this.at = null; // the title of the point under the cursor
    this.svg = draw('svg', { 'aria-hidden': 'true', height });
    this.plot = make('div', { class: 'plot', role: 'slider', tabindex: 0, 'aria-label': `${label}: move with the arrow keys` }, this.svg);
    this.read = make('div', { class: 'read' });
    this.numbers = make('div', { class: 'numbers', tabindex: 0, role: 'region', 'aria-label': `${label} as a table`, hidden: true });
    this.button = make('button', { type: 'button', class: 'quiet', 'aria-expanded': 'false', 'aria-label': `${label} as a table` }, 'Table');
    home.classList.add('chart');
    home.append(this.plot, make('div', { class: 'below' }, this.read, this.button), this.numbers);
    this.listen();
  }

  listen() {
    this.plot.addEventListener('keydown', (event) => this.key(event));
    this.plot.addEventListener('pointermove', (event) => this.point(event));
    this.plot.addEventListener('pointerdown', (event) => this.point(event));
    this.plot.addEventListener('pointerleave', () => this.move(null));
    this.plot.addEventListener('blur', () => this.move(null));
    this.button.addEventListener('click', () => this.unfold());
    new ResizeObserver(() => this.paint()).observe(this.plot);
  }

  show(points) {
    this.points = points;
    this.paint();
    if (!this.numbers.hidden) this.tabulate();
  }

  get place() {
    return this.points.findIndex((point) => point.title === this.at);
  }

  move(place) {
    this.at = place === null ? null : this.points[Math.max(0, Math.min(this.points.length - 1, place))]?.title ?? null;
    this.paint();
  }

  key(event) {
    const last = this.points.length - 1;
    const from = this.place < 0 ? last + (KEYS[event.key] < 0 ? 1 : 0) : this.place;
    const to = { Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined && !(event.key in KEYS)) return;
    event.preventDefault();
    this.move(to === undefined ? from + KEYS[event.key] : to);
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    if (this.points.length) this.move(this.under((event.clientX - box.left - EDGE.left) / (box.width - EDGE.left)));
  }

  unfold() {
    this.numbers.hidden = !this.numbers.hidden;
    this.button.setAttribute('aria-expanded', String(!this.numbers.hidden));
    if (!this.numbers.hidden) this.tabulate();
  }

  tabulate() {
    const head = make('tr', {}, make('th', { scope: 'col' }, this.first), this.lines.map(({ name }) => make('th', { scope: 'col', class: 'number' }, name)));
    const rows = this.ordered().filter(({ values }) => values).map(({ title, values }) => (
      make('tr', { 'data-key': title }, make('th', { scope: 'row' }, title), values.map((value) => make('td', { class: 'number' }, make('data', { value }, this.format(value)))))
    ));
    renew(this.numbers, make('table', {}, make('caption', {}, `${this.label}${this.unit && `, ${this.unit}`}`), make('thead', {}, head), make('tbody', {}, rows)));
  }

  paint() {
    const width = this.plot.clientWidth;
    if (!width) return;
    this.svg.setAttribute('width', width);
    this.svg.setAttribute('viewBox', `0 0 ${width} ${this.height}`);
    const top = nice(this.highest());
    const y = (value) => this.height - EDGE.bottom - (value / top) * (this.height - EDGE.top - EDGE.bottom);
    const known = this.points.some(({ values }) => values?.some((value) => value > 0));
    this.svg.replaceChildren(...this.grid(width, known ? top : 0, y), ...(known ? this.marks(width, y) : []), ...this.ticks(width), ...this.cursor(width));
    if (!known && this.points.length) this.svg.append(draw('text', { class: 'nothing', x: (EDGE.left + width) / 2, y: this.height / 2 - 4, 'text-anchor': 'middle' }, 'nothing in this time'));
    this.tell();
  }

  grid(width, top, y) {
    const levels = top ? [0, top / 2, top] : [0];
    return levels.flatMap((level) => [
      draw('line', { class: level ? 'grid' : 'floor', x1: EDGE.left, x2: width, y1: Math.round(y(top ? level : 0)) + 0.5, y2: Math.round(y(top ? level : 0)) + 0.5 }),
      top ? draw('text', { class: 'level', x: EDGE.left - 8, y: Math.round(y(level)) + 4, 'text-anchor': 'end' }, this.format(level)) : null,
    ]).filter(Boolean);
  }

  cursor(width) {
    const place = this.place;
    if (place < 0) return [];
    const x = this.x(place, width);
    return [draw('line', { class: 'cursor', x1: x, x2: x, y1: EDGE.top, y2: this.height - EDGE.bottom })];
  }

  /** Say what stands at the cursor, or at the newest point. */
  tell() {
    const place = this.place;
    const point = place < 0 ? this.resting() : this.points[place];
    const text = point?.values ? this.lines.map(({ name }, at) => `${name} ${this.format(point.values[at])}`).join(', ') : 'nothing known';
    const title = place < 0 ? this.restingTitle : point.title;
    this.plot.setAttribute('aria-valuemin', 0);
    this.plot.setAttribute('aria-valuemax', Math.max(0, this.points.length - 1));
    this.plot.setAttribute('aria-valuenow', place < 0 ? Math.max(0, this.points.length - 1) : place);
    this.plot.setAttribute('aria-valuetext', `${title}: ${text}${this.unit && ` ${this.unit}`}`);
    const shown = this.lines.flatMap(({ name, mark }, at) => [
      make('span', { class: 'value' }, this.lines.length > 1 ? make('i', { class: `key ${mark}` }) : null, this.lines.length > 1 ? `${name} ` : null,
        make('b', {}, point?.values ? this.format(point.values[at]) : '–'), this.unit && this.lines.length === 1 ? ` ${this.unit}` : null),
    ]);
    renew(this.read, make('span', { class: 'title' }, title), shown);
  }
}

/** Values over time: as lines, or as areas that stand on each other. */
export class TimeChart extends Chart {
  constructor(home, { stacked = false, ...options }) {
    super(home, options);
    this.stacked = stacked;
    this.restingTitle = 'last';
  }

  /** *values* of each of *bins*. */
  update(bins, values) {
    this.bins = bins;
    this.show(bins.map(({ end }, at) => ({ title: clock(end), values: values[at] })));
  }

  ordered() {
    return this.points.toReversed();
  }

  resting() {
    return this.points.findLast(({ values }) => values);
  }

  highest() {
    return Math.max(0, ...this.points.map(({ values }) => (values ? this.stack(values).at(-1) : 0)));
  }

  /** The tops of *values*; for lines that do not stand on each other only the highest matters. */
  stack(values) {
    if (!this.stacked) return [Math.max(...values)];
    let height = 0;
    return values.map((value) => (height += value));
  }

  x(place, width) {
    return EDGE.left + ((place + 1) / this.points.length) * (width - EDGE.left);
  }

  under(share) {
    return Math.round(share * this.points.length) - 1;
  }

  marks(width, y) {
    const runs = this.runs();
    return this.lines.flatMap((line, at) => runs.flatMap((run) => this.shapes(run, line, at, width, y))).toReversed();
  }

  /** The stretches of points about which something is known. */
  runs() {
    const found = [[]];
    this.points.forEach(({ values }, place) => (values ? found.at(-1).push(place) : found.push([])));
    return found.filter((run) => run.length);
  }

  shapes(run, { mark, filled }, at, width, y) {
    const tops = run.map((place) => [this.x(place, width), y(this.stacked ? this.stack(this.points[place].values)[at] : this.points[place].values[at])]);
    // A stretch of one point is drawn as wide as its bin.
    if (tops.length === 1) tops.unshift([tops[0][0] - (width - EDGE.left) / this.points.length, tops[0][1]]);
    const line = `M${tops.map(([x, height]) => `${x.toFixed(1)} ${height.toFixed(1)}`).join('L')}`;
    const area = `${line}L${tops.at(-1)[0].toFixed(1)} ${y(0)}L${tops[0][0].toFixed(1)} ${y(0)}Z`;
    return [
      draw('path', { class: `line ${mark}`, d: line }),
      this.stacked || filled ? draw('path', { class: `${this.stacked ? 'layer' : 'area'} ${mark}`, d: area }) : null,
    ].filter((shape) => shape && !(this.stacked && shape.classList.contains('line')));
  }

  ticks(width) {
    if (!this.bins?.length) return [];
    const [from, to] = [this.bins[0].start, this.bins.at(-1).end];
    const steps = [60, 180, 300, 600, 900, 1800];
    const step = steps.find((each) => ((to - from) / each) * 52 < width - EDGE.left) ?? 3600;
    const found = [];
    for (let at = Math.ceil(from / step) * step; at < to; at += step) {
      const x = EDGE.left + ((at - from) / (to - from)) * (width - EDGE.left);
      if (x > EDGE.left + 14 && x < width - 14) found.push(draw('text', { class: 'tick', x, y: this.height - 5, 'text-anchor': 'middle' }, clock(at, false)));
    }
    return found;
  }
}

/** One bar for each kind of thing. */
export class BarChart extends Chart {
  constructor(home, options) {
    super(home, options);
    this.restingTitle = 'most';
  }

  ordered() {
    return this.points;
  }

  resting() {
    const most = Math.max(...this.points.map(({ values }) => values[0]));
    const point = most > 0 ? this.points.find(({ values }) => values[0] === most) : undefined;
    this.restingTitle = point?.title ?? '';
    return point;
  }

  highest() {
    return Math.max(0, ...this.points.map(({ values }) => values[0]));
  }

  x(place, width) {
    return EDGE.left + ((place + 0.5) / this.points.length) * (width - EDGE.left);
  }

  under(share) {
    return Math.floor(share * this.points.length);
  }

  marks(width, y) {
    const each = (width - EDGE.left) / this.points.length;
    return this.points.map(({ values }, place) => draw('rect', {
      class: `bar ${this.lines[0].mark}${place === this.place ? ' chosen' : ''}`, rx: 2, x: EDGE.left + place * each + GAP_PX, width: each - 2 * GAP_PX,
      y: values[0] ? Math.min(y(values[0]), y(0) - 2) : y(0), height: values[0] ? Math.max(2, y(0) - y(values[0])) : 0,
    }));
  }

  ticks(width) {
    const shown = (name) => ((width - EDGE.left) / this.points.length < 40 ? name.split('–')[0] : name);
    return this.points.map(({ name }, place) => draw('text', { class: 'tick', x: this.x(place, width), y: this.height - 5, 'text-anchor': 'middle' }, shown(name)));
  }

  cursor() {
    return [];
  }
}

/** The least round number that *value* fits under. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((each) => each * power).find((each) => each >= value * 0.999) ?? value;
}

