// All locks, in the order that answers a question: the longest queue, the oldest,
// the busiest; or those whose name or holder begins as is asked for.
//
// There may be millions. The server has lists of the first in each order, and goes
// through all of them a page at a time; here stands one page.

import { get } from "./api.js";
import { el, setText } from "./dom.js";
import { live } from "./live.js";
import { client, failed, heading, lockLink, nc, note, nothing, Pager, search } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { count, duration, many, nameFrom, nameOf, number } from "./text.js";

const size = 100; // rows in the page
const searches = 200; // requests that one search makes at most before it says how far it has come

function holder(how) {
  return (cell, lock) => {
    if (!cell.who) cell.replaceChildren(cell.who = el("span"), cell.others = el("span", { class: "more" }));
    client(cell.who, lock.holder, how);
    setText(cell.others, lock.holders > 1 ? ` and ${many(lock.holders - 1, "other")}` : "");
  };
}

const columns = {
  name: { title: "Name", sort: "name", ascending: true, class: "main", cell: (cell, lock) => lockLink(cell, lock) },
  kind: { title: "Kind", cell: (cell, lock) => setText(cell, lock.kind) },
  holder: { title: "Holder", class: "wide", cell: holder() },
  brief: { title: "Holder", class: "wide", cell: holder({ brief: true }) },
  held: { title: "Held for", sort: "oldest", numeric: true, about: "how long it is held without a break", cell: (cell, lock) => setText(cell, lock.holders === 0 ? "–" : duration(lock.held_ms)) },
  token: { title: "Token", numeric: true, class: "token", about: "the fencing token of an exclusive lock", cell: (cell, lock) => setText(cell, lock.token ? String(lock.token) : "–") },
  queue: { title: "Queue", sort: "queue", numeric: true, about: "how many wait", cell: (cell, lock) => {
    setText(cell, count(lock.queue ?? 0));
    cell.parentNode.classList.toggle("some", lock.queue > 0);
  } },
  oldest: { title: "Oldest wait", numeric: true, cell: (cell, lock) => setText(cell, lock.queue > 0 ? duration(lock.oldest_wait_ms) : "–") },
  busy: { title: "Busy", sort: "busiest", numeric: true, about: "grants and refusals a second, by samples", cell: (cell, lock) => setText(cell, lock.busy ? `${number(lock.busy)} /s` : "–") },
};

const key = (lock) => `${lock.kind} ${lock.name_b64 ?? ""} ${lock.name}`;

// The table of all that is known of locks; or, in brief, of who holds and waits.
export function locksTable({ caption, empty, sort, key: itemKey = key }) {
  const { name, kind, holder, brief, held, token, queue, oldest, busy } = columns;
  return new Table({ caption, empty, sort, key: itemKey, columns: sort ? [name, kind, holder, held, token, queue, oldest, busy] : [name, brief, queue, oldest] });
}

// What orders a list that is here as a whole.
const orders = {
  queue: (a, b) => (b.queue ?? 0) - (a.queue ?? 0) || (b.oldest_wait_ms ?? 0) - (a.oldest_wait_ms ?? 0),
  oldest: (a, b) => b.held_ms - a.held_ms,
  busiest: (a, b) => (b.busy ?? 0) - (a.busy ?? 0),
  name: () => 0,
};
const byName = (a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : key(a) < key(b) ? -1 : 1;

export function locks({ query, change }) {
  let sort = Object.hasOwn(orders, query.get("sort") ?? "") ? query.get("sort") : "queue";
  let prefix = nameFrom(query.get("prefix") ?? "").toString();
  let holder = nameFrom(query.get("holder") ?? "").toString();
  let prefixName = nameFrom(query.get("prefix") ?? "");
  let holderName = nameFrom(query.get("holder") ?? "");

  const where = note();
  const summary = el("p", { class: "summary" });
  // Where a holder is looked for, a shared lock comes once for each who matches.
  const table = locksTable({ caption: "Locks", key: (lock) => key(lock) + (holder ? ` ${lock.holder?.address}` : ""), sort: (by) => {
    sort = by;
    changed();
  }, empty: () => prefix || holder ? nothing("No lock that is held or waited for matches.") :
    nothing("No locks are held. Take one, as a client would, and see it here:", nc(), "g test") });
  const pager = new Pager(() => poll.now());

  const field = (label, value, placeholder, set) => {
    const input = search(value, placeholder, (text) => {
      set(text);
      changed();
    });
    return [el("label", {}, el("span", {}, label), input), input];
  };
  const [prefixLabel, prefixInput] = field("Name begins with", prefix, "deploy/", (value) => {
    prefix = value;
    prefixName = nameOf(value);
  });
  const [holderLabel] = field("Holder", holder, "name or address", (value) => {
    holder = value;
    holderName = nameOf(value);
  });
  prefixInput.dataset.search = "";

  function changed() {
    pager.reset();
    table.emptied();
    change({ sort: sort === "queue" ? "" : sort, prefix: prefixName.id, holder: holderName.id });
    poll.now();
  }

  const poll = new Poll(async (signal) => {
    const now = live.stats?.now ?? {};
    const searching = prefix !== "" || holder !== "";
    // Few enough to be here all at once: in order here, which is fresher than the
    // server's lists, which it makes from time to time.
    const whole = searching || sort === "name" || (now.locks ?? 0) + (now.shared_holds ?? 0) <= size;
    const parameters = { sort: whole ? "" : sort, prefix: prefixName, holder: holderName, limit: size };
    let reply = await get("locks", { ...parameters, cursor: pager.cursor }, signal);
    const found = [...reply.locks];
    for (let i = 0; i < searches && reply.partial && reply.next && found.length < size; i++) {
      where.say(`Searching… ${many(found.length, "match", "matches")} so far.`);
      reply = await get("locks", { ...parameters, limit: size - found.length, cursor: reply.next }, signal);
      found.push(...reply.locks);
    }
    const complete = pager.page === 1 && !reply.next;
    if (whole && (complete || !searching)) found.sort((a, b) => (complete ? orders[sort](a, b) : 0) || byName(a, b));
    table.sorted(!whole || complete || sort === "name" ? sort : "");
    table.set(found);
    pager.set(reply.next);
    const total = reply.total ?? {};
    setText(summary, `${many(total.exclusive ?? 0, "exclusive lock")}, ${count(total.shared ?? 0)} shared, ${count(total.waiters ?? 0)} waiting`);
    where.say(reply.partial && reply.next && found.length < size ? `Not all locks have been gone through: “Next” goes on from here.` :
      searching && !complete ? "There are more matches than fit here, so they stand in no order." :
      !whole ? "These are the first of all in this order, as of a moment ago." : "");
  }, failed(where));

  return { title: "Locks", element: el("div", { class: "view" }, heading("Locks", summary),
    el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, prefixLabel, holderLabel),
    where.element, table.element, pager.element), poll, stop: () => poll.stop() };
}
