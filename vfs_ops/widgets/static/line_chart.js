/** A chart of lines over a parameter, with a cursor that others may move. */

import { shown } from "./colours.js";
import { s } from "./dom.js";

const [WIDTH, HEIGHT] = [760, 240]; // CSS pixels; the width until it is known, see transform_study.css
const EDGE = { left: 50, right: 14, top: 12, bottom: 40 };
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];

/** Lines of similarities; a point's state says how it is drawn: 0 whole, 1 on padding, 2 gone. */
export class LineChart {
  /**
   * @param {number[]} parameters
   * @param {string[]} names Of the lines.
   * @param {string} axis What the parameter is.
   * @param {(place: ?number) => void} onPoint Called with the parameter that is pointed at.
   */
  constructor(parameters, names, axis, onPoint) {
    Object.assign(this, { parameters, names, onPoint });
    this.width = WIDTH;
    this.order = parameters.map((_, place) => place).sort((a, b) => parameters[a] - parameters[b]);
    this.lines = s("g");
    this.cursor = s("line", { class: "vfs-cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
    this.axes = s("g", { class: "vfs-axes" });
    this.label = s("text", { class: "vfs-axis-name", y: HEIGHT - 4, text: axis });
    this.svg = s("svg", {
      class: "vfs-chart",
      role: "application",
      "aria-roledescription": "line chart",
      "aria-label": `Cosine similarity against ${axis}; left and right arrow keys move`,
      tabindex: 0,
      on: {
        pointermove: (event) => this.pointed(event),
        pointerdown: (event) => this.pointed(event),
        pointerleave: ({ pointerType }) => pointerType !== "touch" && onPoint(null), // fingers lift
        keydown: (event) => this.key(event),
      },
    }, this.axes, this.cursor, this.lines, this.label);
    this.at = null;
    this.fit(WIDTH);
    new ResizeObserver(([{ contentRect }]) => this.fit(contentRect.width)).observe(this.svg);
  }

  /** Draw for a width on the page: text keeps its size, and labels their distance. */
  fit(width) {
    if (!width) return; // not shown
    this.width = width;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.label.setAttribute("x", width / 2);
    if (this.curves) this.show(this.curves, this.states);
    this.point(this.at);
  }

  /**
   * Draw the lines.
   * @param {Float32Array[]} curves One value per parameter.
   * @param {Uint8Array[]} states
   */
  show(curves, states) {
    Object.assign(this, { curves, states });
    const seen = curves.flatMap((curve, line) =>
      [...curve].filter((value, place) => states[line][place] < 2 && Number.isFinite(value)));
    const lowest = Math.min(0.6, ...seen);
    this.step = [0.1, 0.2, 0.25, 0.5].find((step) => 1 - lowest <= 5 * step);
    this.low = 1 - this.step * Math.ceil((1 - lowest) / this.step - 1e-6);
    this.drawAxes();
    this.lines.replaceChildren(...curves.map((curve, line) => this.line(curve, states[line], line)));
  }

  /** Put the cursor at a parameter, or away. */
  point(place) {
    this.at = place;
    this.cursor.classList.toggle("vfs-away", place === null);
    if (place === null) return;
    this.cursor.setAttribute("x1", this.x(place));
    this.cursor.setAttribute("x2", this.x(place));
  }

  line(curve, states, number) {
    const runs = [];
    let run = [];
    for (const place of this.order) {
      if (states[place] === 2) { runs.push(run); run = []; }
      else run.push(`${this.x(place)},${this.y(curve[place])}`);
    }
    runs.push(run);
    const dash = DASHES[number % DASHES.length];
    const strokes = runs.filter((points) => points.length > 1).map((points) =>
      s("polyline", { points: points.join(" "), "stroke-dasharray": dash }));
    const points = this.order.map((place) => this.marker(place, curve[place], states[place]));
    return s("g", { class: "vfs-line", "data-line": number % 6 }, ...strokes, ...points);
  }

  marker(place, value, state) {
    const title = s("title", { text: this.tell(place, value, state) });
    const x = this.x(place);
    if (state === 2) {
      const y = HEIGHT - EDGE.bottom;
      const cross = `M${x - 4} ${y - 4}l8 8m0 -8l-8 8`;
      return s("path", { d: cross, class: "vfs-gone", "data-state": "left" }, title);
    }
    const kind = state === 1 ? "padding" : "inside";
    return s("circle", { cx: x, cy: this.y(value), r: 4, "data-state": kind, "data-value": value }, title);
  }

  /** Say one point in words. */
  tell(place, value, state) {
    const what = state === 2 ? "left the image" : shown(value) + (state === 1 ? ", on padding" : "");
    return `${this.parameters[place]}: ${what}`;
  }

  drawAxes() {
    const marks = [];
    for (let value = 1; value > this.low - 1e-6; value -= this.step) {
      const y = this.y(value);
      marks.push(s("line", { x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y }));
      marks.push(s("text", { x: EDGE.left - 6, y: y + 4, class: "vfs-end", text: shown(value).slice(0, -1) }));
    }
    let last = -Infinity;
    for (const place of this.order) {
      const x = this.x(place);
      if (x - last < 44) continue; // room for a label
      last = x;
      const text = String(Math.round(this.parameters[place] * 1000) / 1000).replace("-", "\u2212");
      marks.push(s("text", { x, y: HEIGHT - EDGE.bottom + 18, class: "vfs-middle", text }));
    }
    this.axes.replaceChildren(...marks);
  }

  x(place) {
    const low = this.parameters[this.order[0]];
    const high = this.parameters[this.order.at(-1)];
    const part = high > low ? (this.parameters[place] - low) / (high - low) : 0.5;
    return EDGE.left + 8 + part * (this.width - EDGE.left - EDGE.right - 16);
  }

  y(value) {
    const part = (value - this.low) / (1 - this.low);
    return HEIGHT - EDGE.bottom - part * (HEIGHT - EDGE.top - EDGE.bottom);
  }

  pointed(event) {
    const box = this.svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * this.width;
    const distance = (place) => Math.abs(this.x(place) - x);
    this.onPoint(this.order.reduce((best, place) => (distance(place) < distance(best) ? place : best)));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const now = this.at === null ? (step > 0 ? -1 : this.order.length) : this.order.indexOf(this.at);
    this.onPoint(this.order[Math.max(0, Math.min(this.order.length - 1, now + step))]);
    event.preventDefault();
    event.stopPropagation();
  }
}
