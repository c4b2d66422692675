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

/**
 * Let *place* hold *children*, keeping the elements that it holds already: what the reader has selected, focused or
 * scrolled stays so. Elements are known again by their `data-key`, those without one by where they stand.
 */
export function renew(place, ...children) {
  const due = children.flat().filter((child) => child !== null).map((child) => (typeof child === 'string' ? document.createTextNode(child) : child));
  const keys = new Set(due.map((child) => child.dataset?.key));
  const known = new Map();
  for (const child of [...place.children].filter(({ dataset }) => dataset?.key)) {
    if (keys.has(child.dataset.key)) known.set(child.dataset.key, child);
    else child.remove();
  }
  let at = place.firstChild;
  for (const wanted of due) {
    const key = wanted.dataset?.key;
    const same = key ? known.get(key) : at && !at.dataset?.key && at.nodeName === wanted.nodeName ? at : null;
    if (!same) {
      place.insertBefore(wanted, at);
      continue;
    }
    if (same !== at) place.insertBefore(same, at);
    at = same.nextSibling;
    become(same, wanted);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Let *node* be as *wanted* is, touching what differs alone. */
function become(node, wanted) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) === value) continue;
    if (name === 'style') node.style.cssText = value; // as an attribute the page's policy forbids it
    else node.setAttribute(name, value);
  }
  renew(node, ...wanted.childNodes);
}
