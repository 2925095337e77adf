// Whether the server is there, what it counts, and who we are to it.
//
// One stream of events has a sample each second; the numbers of the last minutes
// come from the history, so that a page that was just opened, or comes back, has
// them, too. Nothing is asked while nobody looks: a hidden page closes its stream.

import { Failure, follow, get, token } from "./api.js";
import { clock } from "./text.js";

const most = 900; // samples that are kept: 15 minutes
const everyStats = 2000;
const backoff = [1000, 1000, 2000, 3000, 5000, 8000, 10_000]; // until the server is asked again

class Live extends EventTarget {
  // connecting, live, lost, signin (a token is needed) or refused (403).
  state = "connecting";
  // What the state is about: a sentence from the server, or why it was lost.
  reason = "";
  // When the server was lost, and when it is asked again.
  since = 0;
  again = 0;
  // Whether a token that was just given was wrong.
  wrongToken = false;
  // The last stats, and samples: for each key an array, the last value at the end.
  stats = null;
  series = {};
  last = 0; // when the last sample was taken
  interval = 1000;
  paused = false;
  polling = false; // whether there was no stream to be had
  #run = null;
  #tries = 0;

  get may() {
    return this.stats?.you ?? { name: "", role: "", kick: false };
  }

  get names() {
    return this.stats?.names !== false;
  }

  get draining() {
    return this.stats?.draining === true;
  }

  start() {
    const look = () => document.hidden ? this.#stop() : this.#run ?? this.reconnect();
    document.addEventListener("visibilitychange", look);
    addEventListener("online", () => this.state === "lost" && this.reconnect());
    look();
  }

  signIn(value) {
    token.set(value);
    this.wrongToken = false;
    this.reconnect();
  }

  // askForToken is for those who may look without one, and want to do more.
  askForToken() {
    this.#stop();
    this.#set("signin");
  }

  signOut() {
    token.set("");
    this.wrongToken = false;
    this.#forget();
    this.reconnect();
  }

  pause(on) {
    this.paused = on;
    this.#tell("state");
  }

  // report is for those who have asked for something and got a Failure that says
  // more about the connection than about what they have asked for.
  report(failure) {
    if (failure.status === 401 || (failure.status === 0 && this.state === "live")) this.reconnect();
  }

  reconnect() {
    this.#stop();
    const run = this.#run = new AbortController();
    this.#follow(run.signal).catch((failure) => this.#failed(run, failure));
  }

  #stop() {
    this.#run?.abort();
    this.#run = null;
  }

  #forget() {
    this.stats = null;
    this.series = {};
    this.last = 0;
  }

  #set(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.#tell("state");
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }

  // #follow lasts as long as the connection. It ends by throwing.
  async #follow(signal) {
    if (this.state !== "lost") this.#set("connecting");
    this.#take(await get("stats", {}, signal));
    this.#fill(await get("history", {}, signal));
    signal.throwIfAborted();
    const stats = this.#askStats(signal);
    const events = follow(signal, (event, data) => {
      if (signal.aborted) return;
      this.polling = false;
      if (event === "hello") this.#take(data);
      if (event === "sample") this.#push(data);
      if (event === "losses") this.dispatchEvent(new CustomEvent("losses", { detail: data }));
      if (event === "sample" || event === "hello") this.#alive();
    }).then(() => {
      throw new Failure(0, this.draining ? "The server has shut down." : "The server has ended the connection.");
    }, (failure) => {
      if (failure.status !== 503) throw failure;
      this.polling = true; // enough others look: the numbers come by the stats, then
      this.#alive();
      return stats;
    });
    await Promise.race([events, stats]);
  }

  #alive() {
    this.#tries = 0;
    if (this.state !== "live") this.#set("live");
  }

  // #askStats asks for what the stream does not tell: bounds, and whether the server
  // is shutting down. It ends by throwing.
  async #askStats(signal) {
    for (;;) {
      await sleep(everyStats, signal);
      const stats = await get("stats", {}, signal);
      this.#take(stats);
      if (this.polling) this.#push({ at: stats.at, ...stats.now });
    }
  }

  #take(stats) {
    const before = this.stats;
    this.stats = stats;
    this.wrongToken = false;
    if (before && before.started_at !== stats.started_at) {
      if (before.version !== stats.version || before.revision !== stats.revision) {
        location.reload(); // it may have another page
        return;
      }
      this.series = {};
      this.dispatchEvent(new CustomEvent("restarted", { detail: `The server was started anew at ${clock(stats.started_at)}.` }));
    }
    this.#tell("stats");
    if (before && (before.draining !== stats.draining || before.names !== stats.names || before.you?.kick !== stats.you?.kick)) this.#tell("state");
  }

  #fill(history) {
    this.interval = history.interval_ms || 1000;
    this.series = {};
    let longest = 0;
    for (const [key, values] of Object.entries(history.series ?? {})) {
      this.series[key] = values.slice(-most);
      longest = Math.max(longest, values.length);
    }
    const from = Date.parse(history.from);
    this.last = Number.isNaN(from) ? 0 : from + Math.max(0, longest - 1) * this.interval;
    this.#tell("samples");
  }

  #push(sample) {
    const at = Date.parse(sample.at);
    if (at < this.last + this.interval / 2) return; // the history has it
    this.last = at;
    for (const [key, value] of Object.entries(sample)) {
      if (typeof value !== "number" && value !== null) continue;
      const values = this.series[key] ??= [];
      values.push(value);
      if (values.length > most) values.splice(0, values.length - most);
    }
    this.#tell("samples");
  }

  #failed(run, failure) {
    if (this.#run !== run) return; // another one has begun
    this.#stop();
    if (failure.status === 401) {
      this.wrongToken = token.get() !== "";
      token.set("");
      this.#forget();
      this.#set("signin", failure.message);
      return;
    }
    if (failure.status === 403) {
      this.#forget();
      this.#set("refused", failure.message);
      return;
    }
    if (this.state !== "lost") this.since = Date.now();
    const wait = backoff[Math.min(this.#tries++, backoff.length - 1)];
    this.again = Date.now() + wait;
    this.#set("lost", failure instanceof Failure ? failure.message : "The connection has broken off.");
    const next = this.#run = new AbortController();
    sleep(wait, next.signal).then(() => this.#run === next && this.reconnect(), () => {});
  }
}

// sleep rejects when the signal is aborted.
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

export const live = new Live();
