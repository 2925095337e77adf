// A client of lockd: a Lockd is one connection, and owns what it gets. Node.js 18 or later.
import { readFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

export class Lost extends Error {} // the connection is gone, and with it all that was held
export class Refused extends Error {} // neither yes nor no: the server is full, shuts down, does not know us...

export class Lockd {
  #lost = new AbortController();
  #turn = Promise.resolve(); // the request before: one at a time
  #answer; // takes the reply that is due
  #buffer = "";
  #heard = performance.now(); // when we sent what was answered last
  #deadAfter = 5000;

  // Aborted when the connection is lost: for fetch and all else that takes a signal.
  get signal() { return this.#lost.signal; }

  static async connect(server = process.env.LOCKD_SERVER || "tcp://127.0.0.1:9999") {
    const file = process.env.LOCKD_TOKEN_FILE;
    const token = file && readFileSync(file, "utf8").trim(); // before there is a connection that an error would leave open
    const lockd = new Lockd(), { protocol, hostname, port, pathname } = new URL(server);
    const host = hostname.replace(/[[\]]/g, "");
    lockd.socket = net.connect(protocol === "unix:" ? { path: decodeURIComponent(pathname) } : { host, port, noDelay: true });
    lockd.socket.setEncoding("utf8").on("data", (data) => lockd.#read(data));
    lockd.socket.on("error", (error) => lockd.close(error)).on("close", () => lockd.close());
    if (file) await lockd.#yes("auth " + token);
    // The server frees what we hold after so long without a word: we have to know before.
    const [, limits] = await lockd.#yes("limits");
    lockd.#deadAfter = (/dead_peer_ms=(\d+)/.exec(limits)[1] * 3) / 4;
    const ping = setInterval(() => {
      if (!lockd.#answer && performance.now() - lockd.#heard > lockd.#deadAfter / 4) lockd.ask("ping").catch(() => {});
    }, lockd.#deadAfter / 16);
    lockd.signal.addEventListener("abort", () => clearInterval(ping));
    await lockd.ask(`iam ${os.hostname()}:${path.basename(process.argv[1] ?? "node")}:${process.pid}`);
    return lockd;
  }

  // True if the lock is ours; false if it was somebody else's for wait milliseconds.
  async get(name, wait = 0) { return (await this.#take(`gw ${Math.round(wait)}`, name, wait)) > 0; }

  // How many hold it, with us; 0 if there was no room among limit for wait milliseconds.
  getShared(name, limit, wait = 0) { return this.#take(`sgw ${limit} ${Math.round(wait)}`, name, wait); }

  async release(name) { return (await this.ask(`r ${name}`))[0] > 0; }

  async releaseShared(name) { return (await this.ask(`sr ${name}`))[0] > 0; }

  close(why) {
    this.socket.destroy();
    this.#lost.abort(new Lost("the connection to lockd is lost", { cause: why })); // the first one counts
    this.#answer?.();
  }

  // Sends a request whose reply is one line; resolves to that line's number and its text.
  ask(line, wait = 0) {
    if (line.includes("\n")) throw new TypeError("a line break in a name");
    const reply = this.#turn.then(() => this.#exchange(line, wait));
    this.#turn = reply.catch(() => {});
    return reply;
  }

  async #exchange(line, wait) {
    this.signal.throwIfAborted();
    const sent = performance.now();
    let reply; // what comes late must not answer the next request, but what came while we were busy counts
    const timer = setTimeout(() => setImmediate(() => reply ?? this.close()), wait + Math.max(1000, this.#heard + this.#deadAfter - sent));
    reply = await new Promise((answer) => { this.#answer = answer; this.socket.write(line + "\n"); });
    clearTimeout(timer);
    this.#answer = undefined;
    this.signal.throwIfAborted();
    this.#heard = sent;
    const [, number, text] = /^(\d+) ?(.*)$/s.exec(reply);
    return [Number(number), text];
  }

  #read(data) {
    const lines = (this.#buffer + data).split("\n");
    this.#buffer = lines.pop();
    for (const line of lines) this.#answer?.(line);
  }

  async #yes(line) {
    const [number, text] = await this.ask(line);
    if (number > 0) return [number, text];
    this.close();
    throw new Refused(text);
  }

  async #take(request, name, wait) {
    if (!name?.trim()) throw new TypeError("an empty name: most often a variable that is not set");
    const [number, text] = await this.ask(`${request} ${name}`, wait);
    if (number < 1 && !/^(Shared )?Lock Get Timeout: /.test(text)) throw new Refused(text);
    return number;
  }
}
