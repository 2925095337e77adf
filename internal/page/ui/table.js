// Tables whose rows stay what they are while their numbers change: a row is found
// by its key and written over, never made again, so focus, selection and place stay.

import { el, setText } from "./dom.js";

// moveBefore keeps focus and hover of what is moved, where the browser has it.
const move = Element.prototype.moveBefore ?
  (parent, node, before) => node.parentNode === parent ? parent.moveBefore(node, before) : parent.insertBefore(node, before) :
  (parent, node, before) => {
    const focused = node.contains(document.activeElement) && document.activeElement;
    parent.insertBefore(node, before);
    if (focused) focused.focus({ preventScroll: true });
  };

export class Table {
  // A column has a title, a cell(td, item) that writes into a cell, perhaps a sort
  // that its header asks for, whether it is of numbers, and which end comes first.
  // key(item) tells items apart. empty() makes what is shown when there are none.
  constructor({ caption, columns, key, empty, sort }) {
    Object.assign(this, { columns, key, empty, rows: new Map() });
    this.heads = columns.map((column) => el("th", { scope: "col", role: "columnheader", class: column.numeric && "numeric", title: column.about },
      column.sort && sort ? el("button", { type: "button", onclick: () => sort(column.sort) }, column.title, el("span", { class: "arrow", "aria-hidden": "true" })) : column.title));
    this.body = el("tbody", { role: "rowgroup" });
    this.caption = el("caption", {}, caption);
    this.nothing = el("div", { class: "empty", hidden: true });
    this.table = el("table", { role: "table" }, this.caption, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, this.heads)), this.body);
    this.element = el("div", { class: "table" }, this.table, this.nothing);
    this.body.addEventListener("click", (event) => this.#click(event));
    this.body.addEventListener("keydown", (event) => this.#key(event));
    this.sorted("");
  }

  // sorted says by which column the rows are in order, for eyes and for others.
  sorted(sort) {
    this.columns.forEach((column, i) => {
      if (!column.sort) return;
      const by = column.sort === sort;
      if (by) this.heads[i].setAttribute("aria-sort", column.ascending ? "ascending" : "descending");
      else this.heads[i].removeAttribute("aria-sort");
    });
  }

  // set shows these items, in this order.
  set(items) {
    const wanted = new Set(items.map(this.key));
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      // A row that someone is at must not vanish below their fingers, and another one
      // take its place: it stays until they leave.
      if (row.contains(document.activeElement)) row.classList.add("gone");
      else {
        row.remove();
        this.rows.delete(key);
      }
    }
    let at = this.body.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      let row = this.rows.get(key);
      while (at && at !== row && at.classList.contains("gone")) at = at.nextElementSibling;
      if (!row) {
        row = this.#make();
        this.rows.set(key, row);
      }
      row.classList.remove("gone");
      if (row === at) at = at.nextElementSibling;
      else move(this.body, row, at);
      this.columns.forEach((column, i) => column.cell(row.cells[i].firstElementChild, item));
    }
    const none = this.rows.size === 0;
    if (none && this.nothing.hidden) this.nothing.replaceChildren(...[this.empty()].flat());
    this.nothing.hidden = !none;
    this.table.hidden = none;
  }

  // emptied has what is shown for no rows made anew.
  emptied() {
    this.nothing.hidden = true;
  }

  #make() {
    return el("tr", { role: "row" }, this.columns.map((column) =>
      el("td", { role: "cell", class: [column.numeric && "numeric", column.class].filter(Boolean).join(" ") || null, "data-label": column.title }, el("div"))));
  }

  // A click anywhere in a row goes where its link does, unless text is being marked.
  #click(event) {
    if (event.defaultPrevented || event.target.closest("a, button") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (String(getSelection()) !== "") return;
    event.target.closest("tr")?.querySelector("a")?.click();
  }

  // Up and down go from row to row.
  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const row = event.target.closest("tr");
    const next = event.key === "ArrowDown" ? row?.nextElementSibling : event.key === "ArrowUp" ? row?.previousElementSibling : null;
    const link = next?.querySelector("a");
    if (!link) return;
    event.preventDefault();
    link.focus();
  }
}

// text is a cell of plain text.
export const text = (of) => (cell, item) => setText(cell, of(item));
