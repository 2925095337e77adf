// A line that says what has just been done, read out once, and gone after a while.

import { el } from "./dom.js";

const stays = 8000;

export function say(text) {
  const line = el("p", {}, text, el("button", { type: "button", "aria-label": "Close this message", onclick: () => line.remove() }, "×"));
  document.getElementById("said").append(line);
  setTimeout(() => line.remove(), stays);
}
