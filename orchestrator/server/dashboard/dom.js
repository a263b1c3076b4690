// Making and changing elements. All text goes in as text: nothing here, or anywhere in this page, reads markup.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes, listeners (onclick…) and children, which are elements or text.
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Changes a text only where it is another one: what is selected or read aloud stays.
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

// Keeps the children of `parent` in step with `items`: one element for each key, made once, then updated in place.
export function keyed(parent, items, keyOf, make, update) {
  const known = parent.keyedNodes ?? (parent.keyedNodes = new Map());
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    wanted.add(key);
    let node = known.get(key);
    if (!node) known.set(key, (node = make(item)));
    update(node, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (node !== place) parent.insertBefore(node, place);
    before = node;
  }
  for (const [key, node] of known) {
    if (wanted.has(key)) continue;
    known.delete(key);
    node.remove();
  }
}

// Says above a list that there is nothing in it.
export function sayEmpty(list, text) {
  list.emptyNote ??= list.parentNode.insertBefore(el("p", { class: "empty" }), list);
  setText(list.emptyNote, text);
  setAttribute(list.emptyNote, "hidden", !text);
}

// Runs each named drawing at most once per frame, however often it is asked for.
const drawings = new Map();
const due = new Set();
const FRAMES = 600;
export const frames = { count: 0, times: [] }; // how long the latest ones took, in ms

export function drawing(name, draw) {
  drawings.set(name, draw);
}

export function redraw(...names) {
  if (!due.size) requestAnimationFrame(drawAll);
  for (const name of names) due.add(name);
}

function drawAll() {
  const began = performance.now();
  const names = [...due];
  due.clear();
  for (const name of names) drawings.get(name)?.();
  frames.count += 1;
  frames.times.push(performance.now() - began);
  if (frames.times.length > FRAMES) frames.times.shift();
}
