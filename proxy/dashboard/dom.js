// Elements without markup in strings: text that came from elsewhere stays text.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with these attributes; one that is false or null is left out. */
export const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** The same, for drawings. */
export const draw = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const find = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

/** Say *text* in the place called *id*, and keep the number it stands for beside it. */
export function say(id, text, value) {
  const place = find(id);
  if (place.textContent !== text) place.textContent = text;
  if (value !== undefined) place.setAttribute('value', value);
}
