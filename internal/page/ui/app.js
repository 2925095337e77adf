// The page's frame: which view is shown, whether the server is there, who we are.

import { token } from "./api.js";
import { clients, oneClient } from "./clients.js";
import { cluster } from "./cluster.js";
import { el, setAttribute, setText } from "./dom.js";
import { live } from "./live.js";
import { lock } from "./lock.js";
import { locks } from "./locks.js";
import { losses } from "./losses.js";
import { overview } from "./overview.js";
import { rates } from "./rates.js";
import { say } from "./say.js";
import { briefly, clock } from "./text.js";

const views = {
  "": { make: overview, tab: "overview" },
  locks: { make: locks, tab: "locks", names: true },
  lock: { make: lock, tab: "locks", names: true },
  clients: { make: clients, tab: "clients", names: true },
  client: { make: oneClient, tab: "clients", names: true },
  losses: { make: losses, tab: "losses", names: true },
  rates: { make: rates, tab: "rates", names: true },
  cluster: { make: cluster, tab: "cluster" },
};

const $ = (id) => document.getElementById(id);
const main = $("main");
let view = null; // what is shown: { title, element, stop }
let shown = ""; // and for which part of the address
const places = new Map(); // where somebody was in a view that they may come back to

// route reads the address: #/view/ID?key=value. Names in it are percent-encoded
// bytes, and stay so.
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [kind, ...id] = path.split("/");
  const pairs = query.split("&").filter(Boolean).map((pair) => pair.split(/=(.*)/s));
  return { kind: Object.hasOwn(views, kind) ? kind : "", id: id.join("/"), query: new Map(pairs.map(([key, value]) => [key, value ?? ""])) };
}

// change writes what a view is asked for into the address, where Back does not
// stop at each letter.
function change(query) {
  const { kind, id } = route();
  const text = Object.entries(query).filter(([, value]) => value !== "").map(([key, value]) => `${key}=${value}`).join("&");
  const hash = `#/${kind}${id && `/${id}`}${text && `?${text}`}`;
  shown = hash;
  history.replaceState(history.state, "", hash);
}

// open shows what the address says, unless it is shown already.
function open({ again = false } = {}) {
  const hash = location.hash || "#/";
  if (hash === shown && !again) return;
  leave();
  const place = again ? null : places.get(history.state?.place);
  if (!history.state?.place) history.replaceState({ place: `${Date.now()}-${Math.random()}` }, "");
  const at = route();
  const { make, tab, names } = views[at.kind];
  shown = hash;
  const first = view === null;
  if (live.state === "signin") view = signIn();
  else if (live.state === "refused") view = told("You may not see this", live.reason, "Ask who runs this server for a token of role read or admin.");
  else if (live.stats === null) view = told("", live.state === "lost" ? "There is nothing to show yet: the server has not been reached." : "Connecting…");
  else if (names && !live.names) view = told("Names are not shown here", "This server runs with --disable-dump: it counts, and tells nobody the names of locks and clients. The numbers are in the overview.");
  else {
    try {
      view = make({ ...at, change });
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
      view = told("There is no such view", "The address is not one that this page makes.");
    }
  }
  view.place = history.state.place;
  main.replaceChildren(view.element);
  document.title = `${view.title ? `${view.title} · ` : ""}lockd ${location.host}`;
  for (const link of document.querySelectorAll("#tabs a")) setAttribute(link, "aria-current", link.dataset.tab === tab ? "page" : null);
  if (place) comeBack(view, place);
  else if (!first && !again) main.querySelector("h1")?.focus({ preventScroll: true });
  if (!place && !again) scrollTo(0, 0);
}

// leave ends what is shown, and remembers where in it somebody was.
function leave() {
  if (!view) return;
  const link = document.activeElement?.closest?.("#main a");
  if (view.place) places.set(view.place, { href: link?.getAttribute("href"), top: scrollY });
  view.stop?.();
}

// comeBack goes to where somebody was, once it is there again.
function comeBack(to, { href, top }) {
  const until = Date.now() + 3000;
  main.querySelector("h1")?.focus({ preventScroll: true });
  const look = () => {
    if (view !== to || Date.now() > until) return;
    const link = href && [...main.querySelectorAll("a")].find((a) => a.getAttribute("href") === href && a.closest("tbody"));
    if (href ? !link : main.scrollHeight < top) {
      setTimeout(look, 50);
      return;
    }
    scrollTo(0, top);
    if (document.activeElement === document.body || document.activeElement?.tagName === "H1") link?.focus({ preventScroll: true });
  };
  look();
}

// told is a view that is a sentence.
function told(title, ...sentences) {
  return { title, element: el("div", { class: "view told" }, title && el("h1", { tabindex: "-1" }, title), sentences.map((s) => el("p", {}, s))) };
}

function signIn() {
  const input = el("input", { id: "token", type: "password", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true, maxlength: 4096,
    "aria-invalid": live.wrongToken ? "true" : null, "aria-describedby": "token-said" });
  const element = el("div", { class: "view told" }, el("h1", { tabindex: "-1" }, "Sign in"),
    el("p", {}, "This server asks who you are. A token of role read sees everything; one of role admin may also kick."),
    el("form", { class: "signin", onsubmit: (event) => {
      event.preventDefault();
      if (input.value.trim()) live.signIn(input.value.trim());
    } }, el("label", { for: "token" }, "Token"), input, el("button", { class: "primary" }, "Sign in"),
    el("button", { type: "button", onclick: () => live.signOut() }, "Cancel"),
    el("p", { id: "token-said", class: "note bad", role: "alert", hidden: !live.wrongToken }, live.wrongToken ? "Wrong token." : "")),
    el("p", { class: "more" }, "It is kept for this tab until it is closed, or you sign out."));
  setTimeout(() => input.isConnected && input.focus());
  return { title: "Sign in", element };
}

// What decides which view is shown, besides the address.
let gate = "";
const gateOf = () => `${["signin", "refused"].includes(live.state) ? live.state : ""} ${live.stats !== null} ${live.names} ${live.wrongToken} ${live.stats === null && live.state}`;

function state() {
  const { state } = live;
  const draining = live.draining && state === "live";
  const text = state === "live" ? (draining ? "Shutting down" : live.paused ? "Paused" : live.polling ? "Live, every 2 s" : "Live") :
    state === "lost" ? `Lost at ${clock(live.since)}` : state === "connecting" ? "Connecting…" : state === "signin" ? "Signed out" : "Refused";
  $("state").dataset.state = draining ? "draining" : live.paused && state === "live" ? "paused" : state;
  setText($("state-text"), text);
  const banner = state === "lost" ? `${live.reason} What is shown is from before ${clock(live.since)}.` :
    draining ? "The server is shutting down: it gives nothing new, and ends when what is held is released, or its time is over." : "";
  setText($("banner-text"), banner);
  $("banner").hidden = banner === "";
  $("banner").className = state === "lost" ? "lost" : "draining";
  $("retry").hidden = state !== "lost";
  main.classList.toggle("stale", state === "lost");
  const { name, role, kick } = live.may;
  setText($("you"), state === "live" || state === "lost" ? [name, role && `${role}${role === "admin" && !kick ? ", may not kick" : ""}`].filter(Boolean).join(", ") : "");
  $("signout").hidden = token.get() === "" || state === "signin";
  $("signin").hidden = token.get() !== "" || state !== "live" || kick || !live.names;
  $("pause").hidden = !["live", "lost"].includes(state);
  setText($("pause"), live.paused ? "Resume" : "Pause");
  $("pause").setAttribute("aria-pressed", String(live.paused));
  if (gate !== gateOf()) {
    gate = gateOf();
    open({ again: true });
  }
}

function stats() {
  const { stats } = live;
  if (!stats) return;
  const tab = document.querySelector('#tabs [data-tab="cluster"]');
  tab.hidden = !["node", "proxy"].includes(stats.part);
  setText(tab, stats.part === "proxy" ? "Uplink" : "Cluster");
  setText($("server"), `${stats.node ? `node ${stats.node} · ` : ""}${stats.version ?? ""} · up ${briefly(stats.uptime_ms)}`);
  $("server").title = `started ${stats.started_at}${stats.revision ? `, revision ${stats.revision}` : ""}`;
}

function countdown() {
  if (live.state !== "lost") return;
  const s = Math.max(0, Math.ceil((live.again - Date.now()) / 1000));
  setText($("countdown"), s > 0 ? `Trying again in ${s} s.` : "Trying again…");
}

live.addEventListener("state", state);
live.addEventListener("stats", stats);
live.addEventListener("stats", () => gate !== gateOf() && state());
live.addEventListener("restarted", (event) => {
  say(event.detail);
  open({ again: true });
});
addEventListener("hashchange", () => open());
addEventListener("popstate", () => open());
setInterval(countdown, 500);
$("retry").addEventListener("click", () => live.reconnect());
$("signin").addEventListener("click", () => live.askForToken());
$("signout").addEventListener("click", () => live.signOut());
$("pause").addEventListener("click", () => live.pause(!live.paused));
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.querySelector("h1, input")?.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !document.querySelector("dialog[open]")) {
    const search = main.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (live.state === "live" && live.names) location.hash = "#/locks";
  } else if (event.key === "Escape" && typing && event.target.type === "search") {
    if (event.target.value === "") event.target.blur();
    else {
      event.preventDefault();
      event.target.value = "";
      event.target.dispatchEvent(new Event("input"));
    }
  }
});

open();
live.start();
