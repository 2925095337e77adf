// The ledger: what was lost, by whom, when and why.

import { get } from "./api.js";
import { el } from "./dom.js";
import { failed, heading, lossColumns, lossKey, nc, note, nothing, Pager, search, whys } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { nameFrom, nameOf } from "./text.js";

const size = 100;

export function losses({ query, change }) {
  let name = nameFrom(query.get("name") ?? "");
  let why = query.get("why") ?? "";
  const where = note();
  const { at, lock, kind, who, lasted, waited } = lossColumns;
  const table = new Table({
    caption: "Losses, the latest first", key: lossKey, columns: [at, lock, kind, lossColumns.why, who, lasted, waited],
    empty: () => name.id || why ? nothing("Nothing of the kind has been lost, as far as the ledger goes back.") :
      nothing("Nothing has been lost since the server was started. A lock is lost when its holder goes without releasing it: take one, then end nc with Ctrl-C.", nc(), "g test"),
  });
  const pager = new Pager(() => poll.now());
  const input = search(name.toString(), "the whole name", (value) => {
    name = nameOf(value);
    changed();
  }, { "data-search": true });
  const select = el("select", { onchange: () => {
    why = select.value;
    changed();
  } }, el("option", { value: "" }, "all"), whys.map(([value, text]) => el("option", { value, selected: value === why }, text)));

  function changed() {
    pager.reset();
    table.emptied();
    change({ name: name.id, why });
    poll.now();
  }

  const poll = new Poll(async (signal) => {
    const reply = await get("losses", { name, why, limit: size, cursor: pager.cursor }, signal);
    table.set(reply.losses);
    pager.set(reply.next);
    where.say("");
  }, failed(where));

  return { title: "Losses", element: el("div", { class: "view" }, heading("Losses"),
    el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      el("label", {}, el("span", {}, "Lock"), input), el("label", {}, el("span", {}, "Why"), select)),
    where.element, table.element, pager.element), poll, stop: () => poll.stop() };
}
