/** The grid of cells over an image, and what is chosen of it. */

import { clamp } from "./mask.js";

/** Where the cells of a feature map lie on an image. */
export class Cells {
  /**
   * @param {number[]} x Edges of the columns, in pixels of the image.
   * @param {number[]} y Edges of the rows.
   */
  constructor(x, y) {
    this.x = x;
    this.y = y;
    this.columns = x.length - 1;
    this.rows = y.length - 1;
  }

  /** A grid for images of which no cells are known: squares, 16 along the longer side. */
  static regular(width, height) {
    const side = Math.max(width, height) / 16;
    const edges = (length) => {
      const count = Math.max(1, Math.round(length / side));
      return Array.from({ length: count + 1 }, (_, i) => (i * length) / count);
    };
    return new Cells(edges(width), edges(height));
  }

  /** Return the [row, column] at a point, the nearest one for a point outside. */
  at([x, y]) {
    const find = (edges, value) => {
      const after = edges.findIndex((edge) => edge > value);
      return clamp((after < 0 ? edges.length : after) - 1, 0, edges.length - 2);
    };
    return [find(this.y, y), find(this.x, x)];
  }

  /** Return the [left, top, right, bottom] of a cell in pixels. */
  box([row, column]) {
    return [this.x[column], this.y[row], this.x[column + 1], this.y[row + 1]];
  }

  /**
   * Return the cells that hang together with a first one and are similar enough.
   * @param {[number, number]} start Row and column.
   * @param {Float32Array} similarity One number a cell, row after row.
   * @param {number} threshold
   * @returns {Array<[number, number]>}
   */
  connected(start, similarity, threshold) {
    const seen = new Set();
    const found = [];
    const waiting = [start];
    while (waiting.length) {
      const [row, column] = waiting.pop();
      const number = row * this.columns + column;
      const inside = row >= 0 && row < this.rows && column >= 0 && column < this.columns;
      if (!inside || seen.has(number)) continue;
      seen.add(number);
      if (similarity[number] < threshold && number !== start[0] * this.columns + start[1]) continue;
      found.push([row, column]);
      waiting.push([row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]);
    }
    return found;
  }
}
