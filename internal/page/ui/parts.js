// What several views are made of: clients, losses, notes, headings.

import { el, named, setText, show } from "./dom.js";
import { clock, count, duration, nameIn, nameOf } from "./text.js";

export const lockHref = (name) => `#/lock/${name.id}`;
// A client's view; its sessions, whose addresses end in #1, #2 and so on, are in it.
export const clientHref = (address) => `#/client/${nameOf(address.split("#")[0]).id}`;

// away says of somebody that he has no connection now, if it is so.
export const away = (who) => who.away && el("span", { class: "away", title: "it has no connection now; what it holds is kept for it for a while" }, " (away)");

// client writes who somebody is: the name that it has given itself, and its address;
// in brief, the name is enough.
export function client(cell, who, { link = true, brief = false } = {}) {
  if (!who || !who.address) {
    setText(cell, "–");
    return;
  }
  const name = nameIn(who);
  const own = name.bytes.length > 0 && name.toString() !== who.address;
  show(cell, `${who.address} ${name.id} ${Boolean(who.away)}`, () => brief && own ? [el("span", { title: who.address }, named(name, { most: 40 })), away(who)].filter(Boolean) : [
    own && named(name, { most: 40 }), own && " ",
    link ? el("a", { class: own ? "address" : "address only", href: clientHref(who.address) }, who.address) : el("span", { class: "address" }, who.address), away(who),
  ].filter(Boolean));
}

export function lockLink(cell, object, key = "name") {
  const name = nameIn(object, key);
  show(cell, name.id, () => el("a", { class: "lock", href: lockHref(name) }, named(name)));
}

export function heading(title, ...more) {
  return el("div", { class: "heading" }, el("h1", { tabindex: "-1" }, title), ...more);
}

// search is a field that says what a list is about. tell is given what stands there when
// nothing was typed for a moment.
export function search(value, placeholder, tell, attributes = {}) {
  let timer;
  const input = el("input", { type: "search", value, placeholder, autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: 4096, ...attributes, oninput: () => {
    clearTimeout(timer);
    timer = setTimeout(() => tell(input.value), 200);
  } });
  return input;
}

// note is where a view says that something has not worked, or what it waits for.
export function note() {
  const element = el("p", { class: "note", role: "status", hidden: true });
  return {
    element,
    say(text, kind = "") {
      setText(element, text);
      element.className = `note ${kind}`;
      element.hidden = text === "";
    },
  };
}

// failed says of a failure what a view has to say of it. That the server cannot be
// reached the page says at its top.
export const failed = (where) => (failure) => where.say(failure.status === 0 || failure.status === 401 ? "" : failure.message ?? String(failure), "bad");

// nothing is what stands where there is nothing: what it means, and what to try.
export function nothing(text, ...tries) {
  return [el("p", {}, text), tries.length > 0 && el("pre", {}, el("code", {}, tries.join("\n")))].filter(Boolean);
}

// nc is the command with which a person speaks to the server, at the port that it has
// unless it was told otherwise.
export const nc = () => `nc ${location.hostname.replace(/^\[|\]$/g, "")} 9999`;

// Facts is a list of what something is, whose values are written by set.
export class Facts {
  constructor(...titles) {
    this.cells = new Map(titles.map((title) => [title, el("dd")]));
    this.element = el("dl", { class: "facts" }, titles.map((title) => el("div", {}, el("dt", {}, title), this.cells.get(title))));
  }

  set(title, value) {
    const cell = this.cells.get(title);
    if (typeof value === "function") value(cell);
    else setText(cell, value);
  }
}

// Why a lock was lost, in words. What a newer server says, we say as it does.
const reasons = {
  disconnect: "client disconnected", dead_peer: "client vanished without a word", kick: "client was kicked", shutdown: "server shut down",
  cut_off: "client was cut off", wait_timeout: "wait timed out", wait_given_up: "wait was given up", refused: "request was refused",
  keep_expired: "client did not come back",
};
export const why = (loss) => reasons[loss.why] ?? String(loss.why ?? "").replaceAll(/[_-]/g, " ");
export const whys = Object.entries(reasons);

// The columns of a table of losses.
export const lossColumns = {
  at: { title: "When", class: "when", cell: (cell, loss) => {
    setText(cell, clock(loss.at));
    cell.title = loss.at;
  } },
  lock: { title: "Lock", class: "main", cell: (cell, loss) => lockLink(cell, loss) },
  kind: { title: "Kind", cell: (cell, loss) => setText(cell, loss.kind ?? "") },
  why: { title: "Why", class: "wide", cell: (cell, loss) => setText(cell, why(loss) + (loss.bound ? `: ${String(loss.bound).replaceAll("_", " ")}` : "") + (loss.times > 1 ? `, ${count(loss.times)} times` : "")) },
  who: { title: "Client", class: "wide", cell: (cell, loss) => client(cell, loss.client, { link: false }) },
  brief: { title: "Client", class: "wide", cell: (cell, loss) => client(cell, loss.client, { link: false, brief: true }) },
  lasted: { title: "Lasted", numeric: true, about: "how long it was held, or waited for", cell: (cell, loss) => setText(cell, duration(loss.lasted_ms)) },
  waited: { title: "Who waited", class: "wide", cell: (cell, loss) => {
    const waiters = loss.waiters ?? [];
    const n = loss.waiting ?? waiters.length;
    setText(cell, n === 0 ? "nobody" : waiters.length === 0 ? count(n) : `${count(n)}: ${waiters.slice(0, 3).map((w) => nameOf(String(w)).toString()).join(", ")}${n > 3 ? ", …" : ""}`);
  } },
};

export const lossKey = (loss) => `${loss.seq}`;

// Pager goes through a list that is longer than what is drawn, by cursors.
export class Pager {
  constructor(go) {
    this.go = go;
    this.cursors = [""]; // of the pages up to this one
    this.next = "";
    this.back = el("button", { type: "button", onclick: () => this.#turn(-1) }, "‹ Previous");
    this.on = el("button", { type: "button", onclick: () => this.#turn(1) }, "Next ›");
    this.where = el("span");
    this.element = el("nav", { class: "pager", "aria-label": "Pages of the list", hidden: true }, this.back, this.where, this.on);
  }

  get cursor() {
    return this.cursors.at(-1);
  }

  get page() {
    return this.cursors.length;
  }

  reset() {
    this.cursors = [""];
  }

  set(next) {
    this.next = next ?? "";
    this.back.disabled = this.page === 1;
    this.on.disabled = this.next === "";
    setText(this.where, `Page ${count(this.page)}`);
    this.element.hidden = this.page === 1 && this.next === "";
  }

  #turn(by) {
    if (by > 0) this.cursors.push(this.next);
    else this.cursors.pop();
    this.go();
  }
}
