// The first view: how it goes, and how near the bounds are.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, setText } from "./dom.js";
import { live } from "./live.js";
import { locksTable } from "./locks.js";
import { failed, heading, lossColumns, lossKey, note, nothing } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { briefly, bytes, count, number, short } from "./text.js";

const groups = [
  ["Requests", [
    ["requests", "Requests", "/s", number, "all that clients have sent"],
    ["grants", "Grants", "/s", number, "locks given to who asked for them"],
    ["refusals", "Refusals", "/s", number, "locks not given, since another has them"],
    ["rates_allowed", "Rates allowed", "/s", number, "requests of rates that were allowed"],
    ["rates_limited", "Rates limited", "/s", number, "requests of rates that were refused"],
    ["cpu_us", "CPU a request", "µs", number, "processor time of the whole process, by the number of requests"],
  ]],
  ["Held and waiting", [
    ["locks", "Exclusive locks", "", count, "held now"],
    ["shared_holds", "Shared holds", "", count, "held now"],
    ["waiters", "Waiting", "", count, "requests in line now"],
    ["oldest_wait_ms", "Oldest wait", "", briefly, "of those in line now"],
    ["waits_begun", "Waits begun", "/s", number, "requests that got in line"],
    ["timeouts", "Timed out", "/s", number, "waits that ended without the lock"],
  ]],
  ["Losses and server", [
    ["orphans", "Orphans", "/s", number, "locks whose holder has gone without releasing them"],
    ["losses", "Losses", "/s", number, "locks and waits lost, as the ledger has them"],
    ["connections", "Connections", "", count, "open now"],
    ["sessions", "Sessions", "", count, "owners of locks: a connection of protocol 2 may have several"],
    ["cpu", "CPU", "cores", number, "processor time of the whole process"],
    ["memory_bytes", "Memory", "", bytes, "in use for clients and their locks"],
  ]],
];

const spans = [1, 5, 15];

export function overview() {
  let span = Number(sessionStorage.getItem("lockd-span")) || 5;
  const charts = new Map();
  const sections = groups.map(([title, list]) => el("section", { class: "charts", "aria-label": title },
    el("h2", {}, title), el("div", { class: "grid" }, list.map(([key, name, unit, format, about]) => {
      const chart = new Chart({ title: name, unit, format, about });
      charts.set(key, chart);
      return chart.element;
    }))));
  const choose = spans.map((m) => el("button", { type: "button", "aria-pressed": String(m === span), onclick: () => {
    span = m;
    sessionStorage.setItem("lockd-span", String(m));
    choose.forEach((button, i) => button.setAttribute("aria-pressed", String(spans[i] === m)));
    drawAll();
  } }, `${m} min`));

  const bounds = el("div", { class: "bounds" });
  const bars = new Map();

  const where = note();
  const queues = locksTable({ caption: "Locks with the longest queues", empty: () => nothing("Nobody waits for a lock.") });
  const losses = new Table({
    caption: "Latest losses", key: lossKey, columns: [lossColumns.at, lossColumns.lock, lossColumns.why, lossColumns.brief],
    empty: () => nothing("Nothing has been lost."),
  });
  const names = el("div", { class: "halves" },
    el("section", { "aria-labelledby": "queues" }, el("h2", { id: "queues" }, el("a", { href: "#/locks?sort=queue" }, "Longest queues")), queues.element),
    el("section", { "aria-labelledby": "lately" }, el("h2", { id: "lately" }, el("a", { href: "#/losses" }, "Latest losses")), losses.element));

  const element = el("div", { class: "view" },
    heading("Overview", el("div", { class: "choice", role: "group", "aria-label": "Time that the charts show" }, choose)),
    where.element,
    el("section", { "aria-labelledby": "bounds" }, el("h2", { id: "bounds" }, "Bounds"), bounds),
    names, sections);

  function drawAll() {
    if (live.paused) return;
    // A server that was just started has a short past: as much of it as there is, in
    // whole minutes, and not a line at the edge.
    const minute = 60_000 / live.interval;
    const past = Math.max(1, ...Object.values(live.series).map((values) => values.length));
    const shown = Math.min(span, Math.ceil(past / minute)) * minute;
    for (const [key, chart] of charts) {
      chart.set(live.series[key] ?? [], { last: live.last, interval: live.interval, span: shown });
    }
  }

  function drawBounds() {
    if (live.paused) return;
    for (const bound of live.stats?.bounds ?? []) {
      let bar = bars.get(bound.id);
      if (!bar) bars.set(bound.id, bar = makeBar(bounds, bound));
      bar(bound);
    }
    names.hidden = !live.names;
  }

  const poll = new Poll(async (signal) => {
    if (!live.names) return;
    const [byQueue, lately] = await Promise.all([
      get("locks", { sort: "queue", limit: 5 }, signal), get("losses", { limit: 5 }, signal)]);
    queues.set(byQueue.locks.filter((lock) => lock.queue > 0));
    losses.set(lately.losses);
    where.say("");
  }, failed(where));

  live.addEventListener("samples", drawAll);
  live.addEventListener("stats", drawBounds);
  drawAll();
  drawBounds();
  return { title: "Overview", element, poll, stop() {
    poll.stop();
    live.removeEventListener("samples", drawAll);
    live.removeEventListener("stats", drawBounds);
  } };
}

// share is how full something is. A little is not nothing, and all but full is not full.
const share = (full) => full > 0 && full < 0.001 ? "< 0.1 %" : full > 0 && full < 0.1 ? `${(Math.floor(full * 1000) / 10).toFixed(1)} %` : `${Math.floor(full * 100)} %`;

// makeBar makes a bound's bar, and returns what writes it.
function makeBar(into, bound) {
  const fill = el("div", { class: "fill" });
  const bar = el("div", { class: "bar", role: "meter", "aria-valuemin": 0 }, fill);
  const part = el("span", { class: "part" });
  const figures = el("span", { class: "figures" });
  const warning = el("span", { class: "warning", hidden: true });
  const element = el("div", { class: "bound" }, el("div", { class: "line" }, el("span", { class: "title" }, bound.label), part), bar,
    el("div", { class: "line" }, figures, warning));
  into.append(element);
  return ({ label, used, limit, unit }) => {
    const format = unit === "bytes" ? bytes : short;
    const full = limit > 0 ? used / limit : 0;
    const level = full >= 0.95 ? "full" : full >= 0.8 ? "near" : "";
    setText(part, limit > 0 ? share(full) : "");
    setText(figures, limit > 0 ? `${format(used)} of ${format(limit)}` : `${format(used)}, no bound`);
    setText(warning, level === "full" ? "▲ all but full" : level === "near" ? "▲ nearly full" : "");
    warning.hidden = level === "";
    element.className = `bound ${level}`;
    fill.style.width = `${Math.min(100, full * 100)}%`;
    bar.setAttribute("aria-label", label);
    bar.setAttribute("aria-valuemax", limit);
    bar.setAttribute("aria-valuenow", used);
    bar.setAttribute("aria-valuetext", `${part.textContent}: ${figures.textContent} ${warning.textContent}`.trim());
  };
}
