// One lock: who holds it, who waits, in the order of their turn, and how it was
// lost lately.

import { get, lockPath } from "./api.js";
import { adminHref } from "./cluster.js";
import { el, named, setText, show } from "./dom.js";
import { client, Facts, failed, heading, lossColumns, lossKey, note, nothing } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { clock, count, duration, many, nameFrom } from "./text.js";

const drawn = 200; // holders and waiters

const who = { title: "Client", class: "main", cell: (cell, item) => client(cell, item.client ?? item) };
const key = (item) => `${(item.client ?? item).address} ${item.n ?? ""}`;

function waits(caption) {
  return new Table({ caption, key, empty: () => nothing("Nobody waits."), columns: [
    { title: "Turn", class: "turn", cell: (cell, item) => setText(cell, count(item.turn)) },
    who,
    { title: "Waits for", numeric: true, cell: (cell, item) => setText(cell, duration(item.wait_ms)) },
  ] });
}

// queue puts waiters into their table, with the number of their turn.
function queue(table, more, waiters, length) {
  const shown = (waiters ?? []).slice(0, drawn);
  table.set(shown.map((item, i) => ({ ...item, turn: i + 1 })));
  setText(more, length > shown.length ? `and ${count(length - shown.length)} more behind them` : "");
}

const whys = {
  first: () => "nobody had it before",
  "fail-over": (from) => `${from || "its owner"} was gone, and clients claim what they hold`,
  move: (from) => `moved here from ${from || "another node"}, with all that was in it`,
};

// tellServed says where in a cluster a lock is, and why there.
function tellServed(element, at, name) {
  element.hidden = !at;
  if (!at) return;
  const since = at.since && whys[at.how] ? `, since ${clock(at.since)}: ${whys[at.how](at.from).replace("here", `to ${at.here ? "this node" : at.node}`)}` : "";
  const state = { recovering: "▲ recovering: nobody gets it anew yet", frozen: "about to move" }[at.state];
  show(element, JSON.stringify(at), () => {
    if (at.state === "nobody" || !at.node) return [`Nobody serves its partition, ${at.partition}, now.`];
    const href = at.here ? null : adminHref(at.admin, `#/lock/${name.id}`);
    return [`Served by ${at.here ? "this node, " : ""}`, href ? el("a", { href }, at.node) : at.node, `, in partition ${at.partition}${since}.`,
      state ? ` It is ${state}.` : "", at.here ? "" : " Who holds it, and who waits, that node knows."].filter(Boolean);
  });
}

export function lock({ id }) {
  const name = nameFrom(id);
  const where = note();
  const facts = new Facts("State", "Holder", "Held for", "Fencing token", "Queue");
  const exclusiveMore = el("p", { class: "more" }), sharedMore = el("p", { class: "more" }), holdersMore = el("p", { class: "more" });
  const exclusiveQueue = waits("Who waits for the exclusive lock, in the order of their turn");
  const sharedQueue = waits("Who waits for the shared lock, in the order of their turn");
  const holders = new Table({ caption: "Who holds the shared lock", key, empty: () => nothing("Nobody holds it."), columns: [
    who, { title: "Held for", numeric: true, cell: (cell, item) => setText(cell, duration(item.held_ms)) },
  ] });
  const losses = new Table({
    caption: "Its last losses", key: lossKey, empty: () => nothing("It has not been lost, as far as the ledger goes back."),
    columns: [lossColumns.at, lossColumns.kind, lossColumns.why, lossColumns.who, lossColumns.lasted, lossColumns.waited],
  });
  const exclusive = el("section", { "aria-labelledby": "exclusive" }, el("h2", { id: "exclusive" }, "Exclusive"), facts.element, exclusiveQueue.element, exclusiveMore);
  const sharedTitle = el("span", { class: "tally" });
  const shared = el("section", { "aria-labelledby": "shared", hidden: true }, el("h2", { id: "shared" }, "Shared ", sharedTitle),
    holders.element, holdersMore, sharedQueue.element, sharedMore);
  const served = el("p", { class: "served", hidden: true });
  const rateText = el("p");
  const rate = el("section", { "aria-labelledby": "rate", hidden: true }, el("h2", { id: "rate" }, "Rate"), rateText);

  const poll = new Poll(async (signal) => {
    const lock = await get(lockPath(name), {}, signal);
    const ex = lock.exclusive ?? {};
    const held = Boolean(ex.holder?.address);
    facts.set("State", held ? "held" : ex.kept ? "held by a client that is away" : "free");
    facts.set("Holder", (cell) => client(cell, held ? ex.holder : null));
    facts.set("Held for", held ? duration(ex.held_ms) : "–");
    facts.set("Fencing token", held && ex.token ? String(ex.token) : "–");
    const length = ex.queue_length ?? ex.queue?.length ?? 0;
    facts.set("Queue", length === 0 ? "nobody waits" : `${count(length)} waiting`);
    queue(exclusiveQueue, exclusiveMore, ex.queue, length);
    exclusiveQueue.element.hidden = length === 0;

    const sh = lock.shared ?? {};
    const sharedLength = sh.queue_length ?? sh.queue?.length ?? 0;
    shared.hidden = !(sh.count > 0 || sharedLength > 0);
    setText(sharedTitle, `${many(sh.count ?? 0, "holder")}, ${count(sharedLength)} waiting`);
    const shownHolders = (sh.holders ?? []).slice(0, drawn);
    holders.set(shownHolders);
    setText(holdersMore, sh.count > shownHolders.length ? `and ${count(sh.count - shownHolders.length)} more` : "");
    queue(sharedQueue, sharedMore, sh.queue, sharedLength);
    sharedQueue.element.hidden = sharedLength === 0;

    rate.hidden = !lock.rate;
    if (lock.rate) {
      const full = lock.rate.full_in_ms ?? lock.rate.retry_ms ?? 0;
      setText(rateText, `${many(lock.rate.open, "unit")} open${full > 0 ? `, all of them in ${duration(full)}` : ", which is all"}.`);
    }
    losses.set(lock.losses ?? []);
    tellServed(served, lock.served, name);
    exclusive.hidden = Boolean(lock.served) && !lock.served.here;
    where.say("");
  }, failed(where));

  const copy = el("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(name.toString());
      setText(copy, "Copied");
    } catch {
      setText(copy, "Mark and copy it, please");
    }
    setTimeout(() => setText(copy, "Copy name"), 2000);
  } }, "Copy name");

  const head = heading("Lock ", copy);
  head.querySelector("h1").append(named(name, { whole: true }));
  return { title: `Lock ${name.toString().slice(0, 60)}`, element: el("div", { class: "view one" },
    el("p", { class: "trail" }, el("a", { href: "#/locks" }, "‹ Locks")), head, where.element, served, exclusive, shared, rate,
    el("section", { "aria-labelledby": "losses" }, el("h2", { id: "losses" }, "Last losses"), losses.element)), poll, stop: () => poll.stop() };
}
