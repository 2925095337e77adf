// Elements, made of text and nothing else: no markup is ever parsed, so whatever
// clients call themselves and their locks stays text.

const svg = "http://www.w3.org/2000/svg";

// el makes an element: attributes, listeners (on...), and children, which are
// elements or text.
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(svg, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// setText writes only what has changed: a screen reader, a selection and layout
// notice nothing of the rest.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const shownAtMost = 40; // characters of a name in a table

// named makes an element that shows a name. Long ones lose their middle, and have
// all of it in a title; whole shows them all.
export function named(name, { whole = false, most = shownAtMost, empty = "(empty name)" } = {}) {
  const element = el("bdi", { class: "name", dir: "auto", translate: "no" });
  let parts = name.parts;
  if (parts.length === 0) {
    element.append(el("span", { class: "unnamed" }, empty));
    return element;
  }
  if (!whole && parts.length > most / 2) element.title = name.toString(); // which a narrow column may cut, too
  if (!whole && parts.length > most) {
    const head = Math.ceil(most * 2 / 3);
    append(element, parts.slice(0, head));
    element.append(el("span", { class: "cut" }, `…${parts.length - most}…`));
    parts = parts.slice(parts.length - (most - head));
  }
  append(element, parts);
  return element;
}

// append joins what stands together, so that a name of 4 KB is not 4096 elements.
function append(element, parts) {
  for (let i = 0; i < parts.length;) {
    const from = i;
    const escaped = parts[from].escaped;
    while (i < parts.length && parts[i].escaped === escaped) i++;
    const text = parts.slice(from, i).map((part) => part.text).join("");
    element.append(escaped ? el("span", { class: "escape", title: "a character that would not be seen" }, text) : text);
  }
}

// show has a cell show what make makes, unless it is what the cell shows by that key.
export function show(cell, key, make) {
  if (cell.shows === key) return;
  cell.shows = key;
  cell.replaceChildren(...[make()].flat());
}
