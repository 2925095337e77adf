// A small chart of one number over the last minutes, drawn by hand in SVG.

import { draw, el, setAttribute, setText } from "./dom.js";
import { clock } from "./text.js";

const width = 240, height = 48;

export class Chart {
  // format makes text of a number; unit is said with it.
  constructor({ title, unit, format, about }) {
    Object.assign(this, { title, unit, format });
    this.value = el("span", { class: "value" }, "–");
    this.range = el("span", { class: "range" });
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.cursor = draw("path", { class: "cursor", "vector-effect": "non-scaling-stroke" });
    this.label = draw("title");
    this.svg = draw("svg", {
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: not known yet`,
      onpointermove: (event) => this.point(event), onpointerleave: () => this.point(null),
    }, this.label, this.area, this.line, this.cursor);
    this.element = el("figure", { class: "chart" },
      el("figcaption", { title: about }, el("span", { class: "title" }, title),
        el("span", { class: "now" }, this.value, el("span", { class: "unit" }, unit && ` ${unit}`))),
      this.svg, this.range);
  }

  // set draws values, the last of which was taken at a time, over a span of so many.
  set(values, { last, interval, span }) {
    const shown = values.slice(-span);
    this.data = { shown, last, interval, span };
    let least = Infinity, greatest = -Infinity;
    for (const v of shown) {
      if (v === null) continue; // nobody knows it
      least = Math.min(least, v);
      greatest = Math.max(greatest, v);
    }
    if (least > greatest) {
      setText(this.range, shown.length > 0 ? "not known yet" : "");
      return;
    }
    const top = greatest > 0 ? greatest * 1.08 : 1; // from 0, so that heights can be compared
    const x = (i) => (width - (shown.length - 1 - i) / Math.max(1, span - 1) * width).toFixed(1);
    const y = (v) => (height - 1 - Math.max(0, v) / top * (height - 3)).toFixed(1);
    // Where there are more values than points to draw them: of each few, the greatest.
    const step = Math.max(1, Math.floor(shown.length / width));
    let line = "", area = "", run = [];
    const end = () => {
      if (run.length === 0) return;
      const path = run.map(([at, v], i) => `${i === 0 ? "M" : "L"}${x(at)} ${y(v)}`).join("") + (run.length === 1 ? "h1" : "");
      line += path;
      area += `${path}V${height}H${x(run[0][0])}Z`;
      run = [];
    };
    for (let i = 0; i < shown.length; i += step) {
      const known = shown.slice(i, i + step).filter((v) => v !== null);
      if (known.length > 0) run.push([Math.min(i + step, shown.length) - 1, Math.max(...known)]);
      else end();
    }
    end();
    setAttribute(this.line, "d", line);
    setAttribute(this.area, "d", area);
    setText(this.range, `min ${this.format(least)} · max ${this.format(greatest)}`);
    const unit = this.unit ? ` ${this.unit}` : "";
    const text = `${this.title}: ${this.format(shown.at(-1))}${unit}; in ${minutes(span * interval)} least ${this.format(least)}, most ${this.format(greatest)}`;
    setText(this.label, text);
    setAttribute(this.svg, "aria-label", text);
    if (this.at === undefined) setText(this.value, this.format(shown.at(-1)));
    else this.point({ clientX: this.at });
  }

  // point tells the value below the pointer, or the last one again.
  point(event) {
    this.at = event?.clientX;
    const { shown, last, interval, span } = this.data ?? { shown: [] };
    if (shown.length === 0) return;
    this.element.classList.toggle("pointed", event !== null);
    if (event === null) {
      setAttribute(this.cursor, "d", null);
      setText(this.value, this.format(shown.at(-1)));
      return;
    }
    const box = this.svg.getBoundingClientRect();
    const ago = Math.min(shown.length - 1, Math.max(0, Math.round((1 - (event.clientX - box.left) / box.width) * (span - 1))));
    setAttribute(this.cursor, "d", `M${(width - ago / (span - 1) * width).toFixed(1)} 0V${height}`);
    setText(this.value, `${clock(last - ago * interval)}  ${this.format(shown[shown.length - 1 - ago])}`);
  }
}

export const minutes = (ms) => ms === 60_000 ? "the last minute" : `the last ${Math.round(ms / 60_000)} minutes`;
