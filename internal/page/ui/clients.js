// All clients, and one of them with what it holds and waits for.

import { clientPath, get } from "./api.js";
import { el, named, setAttribute, setText, show } from "./dom.js";
import { kickButton } from "./kick.js";
import { live } from "./live.js";
import { away, clientHref, Facts, failed, heading, lockLink, nc, note, nothing, Pager, search } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { bytes, count, duration, many, nameIn } from "./text.js";

const size = 100;
const drawn = 200; // of what one client holds

function identity(cell, item) {
  const name = nameIn(item, "identity");
  if (name.bytes.length === 0) setText(cell, "–");
  else show(cell, `${name.id} ${item.identity_kind}`, () => [named(name, { most: 40 }), item.identity_kind && el("span", { class: "kind" }, ` ${item.identity_kind}`)].filter(Boolean));
}

function own(cell, item) {
  const name = nameIn(item);
  if (name.bytes.length === 0 || name.toString() === item.address) setText(cell, "–");
  else show(cell, name.id, () => named(name, { most: 40 }));
}

function processOf(item) {
  const p = item.process;
  return p ? Object.entries(p).map(([key, value]) => `${key} ${value}`).join(", ") : "–";
}

export function clients({ query, change }) {
  const sorts = ["locks", "age", "waits", "bytes", "none"]; // none: all, in the order of the table
  let sort = sorts.includes(query.get("sort")) ? query.get("sort") : "locks";
  let q = decodeURIComponent(query.get("q") ?? "");
  const where = note();
  const summary = el("p", { class: "summary" });
  const table = new Table({ caption: "Clients", key: (item) => item.address, sort: (by) => {
    sort = by;
    changed();
  }, empty: () => q ? nothing("No client matches.") : nothing("No client is connected. Be one:", nc(), "iam me"), columns: [
    { title: "Address", sort: "none", ascending: true, class: "main", cell: (cell, item) => show(cell, `${item.address} ${Boolean(item.away)}`, () => [
      el("a", { href: clientHref(item.address) }, item.address), away(item),
    ].filter(Boolean)) },
    { title: "Name", cell: own },
    { title: "Transport", cell: (cell, item) => {
      setText(cell, item.transport ?? "");
      setAttribute(cell, "title", item.process ? processOf(item) : null);
    } },
    { title: "Identity", about: "by a token or a certificate that it has shown", cell: identity },
    { title: "Connected for", sort: "age", numeric: true, cell: (cell, item) => setText(cell, duration(item.age_ms)) },
    { title: "Sessions", numeric: true, cell: (cell, item) => setText(cell, count(item.sessions ?? 1)) },
    { title: "Locks", sort: "locks", numeric: true, cell: (cell, item) => setText(cell, count(item.locks ?? 0)) },
    { title: "Waits", sort: "waits", numeric: true, cell: (cell, item) => setText(cell, count(item.waits ?? 0)) },
    { title: "Bytes", sort: "bytes", numeric: true, about: "of memory that the server has for it", cell: (cell, item) => setText(cell, bytes(item.bytes)) },
  ] });
  const pager = new Pager(() => poll.now());
  const input = search(q, "name, address or identity", (value) => {
    q = value;
    changed();
  }, { maxlength: 256, "data-search": true });

  function changed() {
    pager.reset();
    table.emptied();
    change({ sort: sort === "locks" ? "" : sort, q: encodeURIComponent(q) });
    poll.now();
  }

  const poll = new Poll(async (signal) => {
    const reply = await get("clients", { sort, q, limit: size, cursor: pager.cursor }, signal);
    table.sorted(sort);
    table.set(reply.clients);
    pager.set(reply.next);
    setText(summary, many(reply.total ?? reply.clients.length, "client"));
    where.say(reply.partial ? "There are more matches than are gone through here." :
      sort !== "none" && !reply.next && pager.page > 1 ? "These are the first in this order. By address, all are there." : "");
  }, failed(where));

  return { title: "Clients", element: el("div", { class: "view" }, heading("Clients", summary),
    el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, el("label", {}, el("span", {}, "Find"), input)),
    where.element, table.element, pager.element), poll, stop: () => poll.stop() };
}

export function oneClient({ id }) {
  const address = decodeURIComponent(id).split("#")[0];
  const where = note();
  const facts = new Facts("Name", "Transport", "Identity", "Process", "Connected for", "Sessions", "Locks", "Waits", "Memory");
  const kind = { title: "Kind", cell: (cell, item) => setText(cell, item.kind ?? "") };
  const name = { title: "Lock", class: "main", cell: (cell, item) => lockLink(cell, item) };
  const key = (item) => `${item.kind} ${item.session ?? ""} ${item.name_b64 ?? ""} ${item.name}`;
  const session = { title: "Session", about: "of a connection that has several", cell: (cell, item) => setText(cell, item.session?.split("#")[1] ?? "–") };
  const holds = new Table({ caption: "What it holds", key, empty: () => nothing("It holds nothing."), columns: [
    name, kind, session,
    { title: "Held for", numeric: true, cell: (cell, item) => setText(cell, duration(item.held_ms)) },
    { title: "Token", numeric: true, class: "token", cell: (cell, item) => setText(cell, item.token ? String(item.token) : "–") },
    { title: "Queue", numeric: true, cell: (cell, item) => {
      setText(cell, count(item.queue ?? 0));
      cell.parentNode.classList.toggle("some", item.queue > 0);
    } },
  ] });
  const waiting = new Table({ caption: "What it waits for", key, empty: () => nothing("It waits for nothing."), columns: [
    name, kind, session, { title: "Waits for", numeric: true, cell: (cell, item) => setText(cell, duration(item.wait_ms)) },
  ] });
  const more = el("p", { class: "more" });
  const kick = kickButton(address);
  const gone = () => {
    holds.set([]);
    waiting.set([]);
    where.say("This client is gone.");
    kick.hidden = true;
  };

  const poll = new Poll(async (signal) => {
    let item;
    try {
      item = await get(clientPath(address), {}, signal);
    } catch (failure) {
      if (failure.status === 404) return gone();
      throw failure;
    }
    facts.set("Name", (cell) => own(cell, item));
    facts.set("Transport", item.away ? "none now: it is kept for a while" : item.transport ?? "–");
    facts.set("Identity", (cell) => identity(cell, item));
    facts.set("Process", processOf(item));
    facts.set("Connected for", duration(item.age_ms));
    facts.set("Sessions", count(item.sessions ?? 1));
    facts.set("Locks", count(item.locks ?? 0));
    facts.set("Waits", count(item.waits ?? 0));
    facts.set("Memory", bytes(item.bytes));
    const shown = (item.holds ?? []).slice(0, drawn);
    holds.set(shown);
    setText(more, item.locks > shown.length ? `and ${count(item.locks - shown.length)} more` : "");
    waiting.set((item.waiting ?? []).slice(0, drawn));
    kick.hidden = !live.may.kick;
    where.say("");
  }, failed(where));

  return { title: `Client ${address}`, element: el("div", { class: "view one" },
    el("p", { class: "trail" }, el("a", { href: "#/clients" }, "‹ Clients")), heading(`Client ${address}`, kick), where.element, facts.element,
    el("section", { "aria-labelledby": "holds" }, el("h2", { id: "holds" }, "Holds"), holds.element, more),
    el("section", { "aria-labelledby": "waits" }, el("h2", { id: "waits" }, "Waits"), waiting.element)), poll, stop: () => poll.stop() };
}
