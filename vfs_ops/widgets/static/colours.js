/** Numbers to colours, and the bar that explains them. */

import { h } from "./dom.js";

/**
 * Decode a table of colours.
 * @param {string} text Base64 of 256 × 3 bytes.
 * @returns {Uint8Array}
 */
export function colourTable(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/**
 * Paint one pixel per cell.
 * @param {CanvasRenderingContext2D} context Of a canvas as large as the grid.
 * @param {Float32Array} values Row by row.
 * @param {[number, number]} limits What the ends of the table stand for.
 * @param {Uint8Array} table
 */
export function paintCells(context, values, limits, table) {
  const { width, height } = context.canvas;
  const picture = context.createImageData(width, height);
  const [low, high] = limits;
  const scale = high > low ? 255.999 / (high - low) : 0;
  for (let cell = 0; cell < values.length; cell++) {
    const step = Math.max(0, Math.min(255, Math.floor((values[cell] - low) * scale)));
    picture.data.set(table.subarray(3 * step, 3 * step + 3), 4 * cell);
    picture.data[4 * cell + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** Write a cosine for people: a real minus sign, three decimals. */
export function shown(value) {
  const text = value.toFixed(3);
  return text === "-0.000" ? "0.000" : text.replace("-", "\u2212");
}

/** A bar of colours with its limits, and a pointer at the value that is read. */
export class ColourBar {
  /** @param {string} name What the colours stand for. */
  constructor(name) {
    this.canvas = h("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.low = h("span");
    this.high = h("span");
    this.pointer = h("i", { hidden: true });
    this.el = h(
      "div",
      { class: "vfs-colours", role: "img" },
      this.low,
      h("div", { class: "vfs-colours-bar" }, this.canvas, this.pointer),
      this.high,
    );
    this.name = name;
  }

  /** Show a table and what its ends stand for; `open` where the lower end stands for less, too. */
  show(table, [low, high], open = false) {
    const ramp = Float32Array.from({ length: 256 }, (_, step) => step / 255);
    paintCells(this.canvas.getContext("2d"), ramp, [0, 1], table);
    this.limits = [low, high];
    this.low.textContent = (open && low > -1 ? "≤ " : "") + shown(low);
    this.high.textContent = shown(high);
    this.el.setAttribute("aria-label", `${this.name}: colours from ${shown(low)} to ${shown(high)}`);
  }

  /** Point at a value; at none, if it is null. */
  point(value) {
    this.pointer.hidden = value === null;
    if (value === null) return;
    const [low, high] = this.limits;
    const part = high > low ? (value - low) / (high - low) : 0;
    this.pointer.style.left = `${100 * Math.max(0, Math.min(1, part))}%`;
  }
}
