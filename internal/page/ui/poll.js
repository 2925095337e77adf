// Asking again and again for what is on the screen, twice a second while somebody
// looks, and less often where an answer takes the server long.

import { sleep, live } from "./live.js";

const every = 500;
const share = 10; // of the time, at most one part in so many is spent by asking

export class Poll {
  #run = null;

  // load(signal) asks and shows; failed(failure) shows that it has not worked.
  constructor(load, failed) {
    Object.assign(this, { load, failed });
    this.look = () => live.state === "live" && !document.hidden && !live.paused ? this.#run ?? this.now() : live.state !== "live" && this.#end();
    live.addEventListener("state", this.look);
    document.addEventListener("visibilitychange", this.look);
    this.now();
  }

  // now asks at once, for something else than before perhaps.
  now() {
    this.#end();
    const run = this.#run = new AbortController();
    this.#loop(run).catch(() => {}).finally(() => {
      if (this.#run === run) this.#run = null;
    });
  }

  stop() {
    live.removeEventListener("state", this.look);
    document.removeEventListener("visibilitychange", this.look);
    this.#end();
  }

  #end() {
    this.#run?.abort();
    this.#run = null;
  }

  async #loop({ signal }) {
    do {
      const began = performance.now();
      try {
        await this.load(signal);
      } catch (failure) {
        signal.throwIfAborted();
        this.failed(failure);
        live.report(failure);
      }
      await sleep(Math.max(every, share * (performance.now() - began)), signal);
    } while (!live.paused && !document.hidden && live.state === "live");
  }
}
