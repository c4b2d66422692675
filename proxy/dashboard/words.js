// How numbers are written: grouped, rounded to what can be told apart, always with their unit.

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const few = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

const SIZES = [['TB', 1e12], ['GB', 1e9], ['MB', 1e6], ['kB', 1e3]];

export const count = (n) => grouped.format(n);
export const amount = (n) => (Math.abs(n) < 1e6 ? few.format(Math.abs(n) < 1000 ? n : Math.round(n)) : short.format(n));
export const share = (part, whole) => (!whole ? '–' : part && part / whole < 0.001 ? '< 0.1 %' : `${tenths.format((100 * part) / whole)} %`);

export function bytes(n) {
  const [unit, size] = SIZES.find(([, least]) => Math.abs(n) >= least) ?? ['B', 1];
  return `${few.format(n / size)} ${unit}`;
}

export const milliseconds = (n) => (n >= 1000 ? `${few.format(n / 1000)} s` : `${n >= 10 ? Math.round(n) : tenths.format(n)} ms`);

const SPANS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];

/** A length of time in its largest parts: "3 d 4 h", "2 min 5 s"; in the largest alone for what is a guess. */
export function duration(seconds, parts = 2) {
  let left = Math.max(0, Math.round(seconds));
  const first = SPANS.findIndex(([, size]) => left >= size);
  if (first < 0) return '0 s';
  const found = SPANS.slice(first, first + parts).map(([unit, size]) => {
    const many = Math.floor(left / size);
    left -= many * size;
    return many ? `${many} ${unit}` : '';
  });
  return found.filter(Boolean).join(' ');
}

/** When a limit is free again, if Graph *named* the time; else when the sidecar tries again. */
export function freeAgain(seconds, named) {
  if (seconds < 0.5) return named ? 'regains now' : 'tried by the next read';
  return `${named ? 'regains' : 'tried again'} in ${duration(seconds)}`;
}

const two = (n) => String(n).padStart(2, '0');

/** Local time of day of *epoch* seconds. */
export function clock(epoch, withSeconds = true) {
  const at = new Date(epoch * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ''}`;
}
