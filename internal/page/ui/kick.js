// Ending a client, by those who may; not before they have read what that takes away.

import { clientPath, Failure, get, lockPath, post } from "./api.js";
import { el, named, setText } from "./dom.js";
import { many, nameIn } from "./text.js";
import { say } from "./say.js";

const told = 5; // locks that are named
const asked = 3; // locks whose waiters are named
const slack = 500; // ms, by which the server's clock may be behind this one

export function kickButton(address) {
  return el("button", { type: "button", class: "danger", hidden: true, onclick: () => confirm(address) }, "Kick…");
}

async function confirm(address) {
  const body = el("div", {}, el("p", {}, "Asking what it holds…"));
  const result = el("p", { class: "note bad", role: "alert", hidden: true });
  const cancel = el("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Cancel");
  const kick = el("button", { type: "button", class: "danger", disabled: true, onclick: () => doIt() }, "Kick");
  const dialog = el("dialog", { "aria-labelledby": "kick-title", "aria-describedby": "kick-text", onclose: () => dialog.remove() },
    el("h2", { id: "kick-title" }, `Kick ${address}?`), el("div", { id: "kick-text" }, body), result, el("div", { class: "buttons" }, cancel, kick));
  document.body.append(dialog);
  dialog.showModal();

  let age = 0; // of the connection, when it was asked for
  let seen = 0; // when that was
  const failed = (failure) => {
    result.hidden = false;
    setText(result, failure instanceof Failure && failure.status === 404 ? "It is gone already." : failure.message);
  };

  async function doIt() {
    kick.disabled = true;
    try {
      // Who has got its address meanwhile has not been connected for as long.
      const reply = await post(`${clientPath(address)}/kick`, { min_age_ms: Math.max(0, Math.floor(age + performance.now() - seen - slack)) });
      dialog.close();
      say(reply.freed ? `${address} was kicked.` : `${address} is being ended: it holds so much that this takes a while.`);
    } catch (failure) {
      failed(failure);
      kick.disabled = failure.status === 404;
    }
  }

  try {
    const client = await get(clientPath(address));
    [age, seen] = [client.age_ms, performance.now()];
    body.replaceChildren(...await lost(client, address));
    kick.disabled = false;
  } catch (failure) {
    body.replaceChildren(el("p", {}, "What it holds could not be learned."));
    failed(failure);
    kick.disabled = failure.status === 404;
  }
}

// lost tells what a client loses when it is kicked, and who waits for that.
async function lost(client, address) {
  const holds = client.holds ?? [];
  const locks = Math.max(client.locks ?? 0, holds.length);
  const name = nameIn(client);
  const who = el("p", {}, "The connection of ", name.bytes.length > 0 ? named(name, { most: 40 }) : address, " ends, with all its sessions and waits.");
  if (locks === 0) return [who, el("p", {}, "It holds no locks.")];
  // First those that others wait for.
  const first = [...holds].sort((a, b) => (b.queue ?? 0) - (a.queue ?? 0)).slice(0, told);
  const waiters = await Promise.all(first.map((hold, i) => i < asked && hold.queue > 0 ? waiting(hold) : hold.queue > 0 ? many(hold.queue, "client") : ""));
  const list = el("ul", {}, first.map((hold, i) => el("li", {}, named(nameIn(hold)), hold.kind === "shared" ? " (shared)" : "",
    waiters[i] ? el("span", { class: "more" }, `, for which ${waiters[i]} ${hold.queue === 1 ? "waits" : "wait"}`) : "")));
  return [who, el("p", {}, el("strong", {}, `It loses ${many(locks, "lock")}, without having released ${locks === 1 ? "it" : "them"}:`)), list,
    locks > first.length && el("p", {}, `and ${many(locks - first.length, "other")}.`),
    el("p", {}, "What these locks guard may be half done: whoever waits gets them at once.")].filter(Boolean);
}

// waiting tells who waits for a lock.
async function waiting(hold) {
  try {
    const lock = await get(lockPath(nameIn(hold)));
    const queue = (hold.kind === "shared" ? lock.shared : lock.exclusive)?.queue ?? [];
    const first = queue.slice(0, 2).map((item) => {
      const client = item.client ?? item;
      const name = nameIn(client);
      return name.bytes.length > 0 ? name.toString().slice(0, 60) : client.address;
    });
    const more = Math.max(hold.queue, queue.length) - first.length;
    if (first.length > 0) return first.join(", ") + (more > 0 ? ` and ${many(more, "other")}` : "");
  } catch {
    // How many there are has to do.
  }
  return many(hold.queue, "client");
}
