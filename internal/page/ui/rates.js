// The rates of which units are out.

import { get } from "./api.js";
import { el, setText } from "./dom.js";
import { failed, heading, lockLink, nc, note, nothing, Pager, search } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { count, duration, nameFrom, nameOf } from "./text.js";

const size = 100;

export function rates({ query, change }) {
  let prefix = nameFrom(query.get("prefix") ?? "");
  const where = note();
  const table = new Table({
    caption: "Rates", key: (rate) => `${rate.name_b64 ?? ""} ${rate.name}`,
    empty: () => prefix.id ? nothing("No rate whose units are out begins so.") :
      nothing("No rate has units out. Take one of three that are given each minute:", nc(), "rl 3 60000 1 test"),
    columns: [
      { title: "Name", class: "main", cell: (cell, rate) => lockLink(cell, rate) },
      { title: "State", cell: (cell, rate) => {
        setText(cell, rate.limited ? "▲ limited" : "open");
        cell.parentNode.classList.toggle("some", Boolean(rate.limited));
      } },
      { title: "Open units", numeric: true, cell: (cell, rate) => setText(cell, count(rate.open ?? 0)) },
      { title: "All open in", numeric: true, cell: (cell, rate) => setText(cell, duration(rate.full_in_ms)) },
    ],
  });
  const pager = new Pager(() => poll.now());
  const input = search(prefix.toString(), "mail/", (value) => {
    prefix = nameOf(value);
    pager.reset();
    table.emptied();
    change({ prefix: prefix.id });
    poll.now();
  }, { "data-search": true });

  const poll = new Poll(async (signal) => {
    let reply = await get("rates", { prefix, limit: size, cursor: pager.cursor }, signal);
    const found = [...reply.rates];
    while (reply.partial && reply.next && found.length < size) {
      where.say("Searching…");
      reply = await get("rates", { prefix, limit: size - found.length, cursor: reply.next }, signal);
      found.push(...reply.rates);
    }
    table.set(found);
    pager.set(reply.next);
    where.say("");
  }, failed(where));

  return { title: "Rates", element: el("div", { class: "view" }, heading("Rates"),
    el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, el("label", {}, el("span", {}, "Name begins with"), input)),
    where.element, table.element, pager.element), poll, stop: () => poll.stop() };
}
