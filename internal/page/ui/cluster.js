// The cluster as this node sees it, or a proxy's link to its server.

import { get } from "./api.js";
import { el, setAttribute, setText, show } from "./dom.js";
import { Facts, failed, heading, note, nothing } from "./parts.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";
import { count, duration, many } from "./text.js";

const partitions = 1024;

// adminHref is where a node's own page is, by this page's scheme; null where that is not known.
export const adminHref = (admin, hash = "#/") => /^[\w.:[\]-]+:\d+$/.test(admin ?? "") ? `${location.protocol}//${admin}/${hash}` : null;

function states({ serving = 0, recovering = 0, frozen = 0 }) {
  const words = [[serving, "serving"], [recovering, "recovering"], [frozen, "about to move"]].filter(([n]) => n > 0).map(([n, word]) => `${count(n)} ${word}`);
  return words.length > 0 ? words.join(", ") : "none";
}

// how is what there is to say of a node, and whether that is bad.
function how(node, silence) {
  if (node.unwell) return [`▲ ${node.unwell}`, true];
  if (node.silent_ms > silence) return [`▲ silent for ${duration(node.silent_ms)}`, true];
  if (node.partitions.recovering > 0) return ["▲ recovering", true];
  if (node.leaving) return ["leaving", false];
  if (node.behind > 0) return [`behind by ${many(node.behind, "map")}`, false];
  if (node.partitions.frozen > 0) return ["moving", false];
  return [node.owned > 0 ? "serving" : "idle", false];
}

function link(cell, node) {
  const to = node.link;
  setAttribute(cell, "title", to && to.confirmed_ms !== null ? `last confirmed ${duration(to.confirmed_ms)} ago; what is held there is given up in ${duration(to.left_ms)} if nothing is heard` : null);
  setText(cell, node.this ? "this node" : !to ? "none" : to.live ? "live" : "▲ down");
}

export function cluster() {
  const where = note();
  const facts = new Facts("State", "Right to serve", "Map", "Partitions", "Heartbeat", "Claims", "Unavailable");
  const table = new Table({ caption: "Nodes", key: (node) => node.id, empty: () => nothing("No node is registered, as far as this one knows."), columns: [
    { title: "Node", class: "main", cell: (cell, node) => show(cell, `${node.name} ${node.admin} ${node.this}`, () => {
      const href = node.this ? null : adminHref(node.admin, "#/cluster");
      return [href ? el("a", { href }, node.name) : node.name];
    }) },
    { title: "State", cell: (cell, node) => {
      const [text, bad] = how(node, 10_000);
      setText(cell, text);
      cell.parentNode.classList.toggle("some", bad || node.link?.live === false);
    } },
    { title: "Owns", numeric: true, about: `of the ${partitions} partitions of the names`, cell: (cell, node) => setText(cell, count(node.owned)) },
    { title: "Has", about: "partitions by state, as it said in its last sign", cell: (cell, node) => setText(cell, states(node.partitions)) },
    { title: "Last sign", numeric: true, cell: (cell, node) => setText(cell, `${duration(node.silent_ms)} ago`) },
    { title: "Link", about: "from this node", cell: link },
    { title: "Held there", numeric: true, about: "by clients of this node", cell: (cell, node) => setText(cell, node.link ? count(node.link.held) : "–") },
    { title: "Address", cell: (cell, node) => setText(cell, node.address) },
    { title: "Version", cell: (cell, node) => setText(cell, node.version) },
  ] });
  const nodes = el("section", { "aria-labelledby": "nodes" }, el("h2", { id: "nodes" }, "Nodes"), table.element);
  const node = el("section", { "aria-labelledby": "this" }, el("h2", { id: "this" }, "This node"), facts.element);
  const upFacts = new Facts("Server", "Held without it for", "Connections", "Unanswered", "Lost clients");
  const up = el("section", { "aria-labelledby": "up", hidden: true }, el("h2", { id: "up" }, "The server of this proxy"), upFacts.element);
  const alone = el("p", { hidden: true }, "This server is alone: it is no node of a cluster, and no proxy.");

  const poll = new Poll(async (signal) => {
    const all = await get("cluster", {}, signal);
    const me = all.node;
    node.hidden = nodes.hidden = !me;
    up.hidden = !all.upstream;
    alone.hidden = Boolean(me || all.upstream);
    if (me) {
      facts.set("State", !me.registered ? "▲ not registered" : me.right_ms === 0 ? "▲ no right to serve" : me.trouble ? `registered; etcd: ${me.trouble}` : "registered");
      facts.set("Right to serve", `for ${duration(me.right_ms)}, at least ${duration(me.right_least_ms)} were left when it was renewed`);
      facts.set("Map", `version ${count(me.map)}`);
      facts.set("Partitions", states(me.partitions) + (me.recovering_ms > 0 ? `, for ${duration(me.recovering_ms)}` : "") + (me.frozen_ms > 0 ? `, stood still for ${duration(me.frozen_ms)}` : ""));
      facts.set("Heartbeat", `${duration(me.heartbeat_ms)} to etcd and back`);
      facts.set("Claims", `${count(me.claims_taken)} taken at new owners, ${count(me.claims_refused)} refused`);
      facts.set("Unavailable", many(me.unavailable, "request"));
      table.set([...all.nodes].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1));
    }
    const server = all.upstream;
    if (server) {
      upFacts.set("Server", server.live ? "reached" : "▲ not reached");
      upFacts.set("Held without it for", duration(server.left_ms));
      upFacts.set("Connections", many(server.connections, "connection"));
      upFacts.set("Unanswered", `${many(server.unanswered, "request")} that the proxy answered itself`);
      upFacts.set("Lost clients", count(server.lost_clients));
    }
    where.say("");
  }, failed(where));
  return { title: "Cluster", element: el("div", { class: "view" }, heading("Cluster"), where.element, alone, node, nodes, up), poll, stop: () => poll.stop() };
}
