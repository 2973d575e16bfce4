/** Images with a grid of cells on top: one row of panels per layer, all in step. */

import { h } from "./dom.js";
import { cellAt } from "./kernel.js";

const GAP = 8; // pixels between panels

/** One image at one layer. */
export class Panel {
  constructor(figure, layer, image, caption) {
    Object.assign(this, { layer, image, grid: figure.layers[layer] });
    const { rows, columns } = this.grid;
    this.view = figure.images[image].view;
    const [left, top, right, bottom] = this.grid.boxes[image];
    this.picture = h("img", { alt: "", draggable: "false", hidden: true });
    this.canvas = h("canvas", { width: columns, height: rows, class: "vfs-heat" });
    this.context = this.canvas.getContext("2d");
    this.layers = h("div", { class: "vfs-grid" }, this.canvas);
    place(this.layers, within(this.view, [left, top, right, bottom]));
    const seen = h("div", { class: "vfs-seen" });
    const inside = [Math.max(left, 0), Math.max(top, 0), Math.min(right, 1), Math.min(bottom, 1)];
    place(seen, within(this.view, inside));
    place(this.picture, within(this.view, [0, 0, 1, 1]));
    this.marks = {};
    for (const kind of ["source", "reader"]) {
      this.marks[kind] = h("i", { class: "vfs-cell", "data-kind": kind, hidden: true });
      this.layers.append(this.marks[kind]);
    }
    this.frame = h(
      "div",
      {
        class: "vfs-frame",
        role: "application",
        "aria-roledescription": "heatmap",
        "aria-label": `${figure.images[image].label}, ${this.grid.label}: ${rows} × ${columns} cells`,
        tabindex: -1,
        "data-layer": layer,
        "data-image": image,
      },
      this.picture,
      this.layers,
      seen,
    );
    this.frame.style.setProperty("--aspect", figure.images[image].aspect);
    this.badge = h("span", { class: "vfs-badge", hidden: true });
    const name = h("span", { class: "vfs-name", text: caption, title: caption });
    this.el = h("figure", { class: "vfs-panel" }, this.frame, h("figcaption", {}, name, this.badge));
  }

  /** Show where a cell is, or that none is. */
  mark(kind, cell) {
    const mark = this.marks[kind];
    mark.hidden = cell < 0;
    if (cell < 0) return;
    const { rows, columns } = this.grid;
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    place(mark, [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows]);
  }

  /** Return the cell under a pointer; -1 where the model does not see the image. */
  cellUnder(event) {
    const box = this.frame.getBoundingClientRect();
    const [left, top, right, bottom] = this.view;
    const x = left + (event.clientX - box.left) / box.width * (right - left);
    const y = top + (event.clientY - box.top) / box.height * (bottom - top);
    return cellAt(x, y, this.grid, this.image);
  }
}

/** All panels of a figure. */
export class Panels {
  constructor(figure) {
    this.figure = figure;
    const alone = figure.images.length === 1;
    this.all = figure.layers.map((layer, number) =>
      figure.images.map((image, place) =>
        new Panel(figure, number, place, alone ? layer.label : image.label)));
    this.readings = figure.layers.map(() => h("output", { class: "vfs-reading" }));
    this.el = h("div", { class: "vfs-panels" });
    this.count = alone ? figure.layers.length : figure.images.length;
    new ResizeObserver(([entry]) => this.arrange(entry.contentRect.width)).observe(this.el);
    if (alone) {
      this.el.append(h("div", { class: "vfs-row" }, ...this.all.map(([panel]) => panel.el)));
      this.all.forEach(([panel], layer) => panel.el.lastChild.append(this.readings[layer]));
    } else {
      for (const [number, row] of this.all.entries()) this.el.append(...this.section(number, row));
    }
    this.flat = this.all.flat();
    this.focusable(this.flat[0]);
  }

  /** Choose the number of columns: panels not too small, and rows as even as can be. */
  arrange(width) {
    const smallest = Math.max(88, Math.min(136, width / 5));
    const fit = Math.max(1, Math.min(this.count, Math.floor((width + GAP) / (smallest + GAP))));
    const columns = Math.ceil(this.count / Math.ceil(this.count / fit));
    this.el.style.setProperty("--columns", columns);
  }

  section(number, row) {
    const { label, rows, columns } = this.figure.layers[number];
    const size = h("small", { text: `${rows} × ${columns}` });
    const name = h("span", { class: "vfs-layer-name", text: label });
    return [
      h("div", { class: "vfs-layer" }, name, size, this.readings[number]),
      h("div", { class: "vfs-row" }, ...row.map((panel) => panel.el)),
    ];
  }

  /** Return the panel that an element lies in. */
  of(element) {
    const frame = element.closest?.(".vfs-frame");
    return frame && this.all[Number(frame.dataset.layer)][Number(frame.dataset.image)];
  }

  /** Let the Tab key reach this panel; arrow keys and Page keys reach the others. */
  focusable(panel) {
    for (const other of this.flat) other.frame.tabIndex = other === panel ? 0 : -1;
  }

  /** Return the panel so many places after this one. */
  neighbour(panel, step) {
    const place = this.flat.indexOf(panel) + step;
    return this.flat[Math.max(0, Math.min(this.flat.length - 1, place))];
  }

  /** Show an image's picture once it is there. */
  picture(image, bytes) {
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    for (const row of this.all) {
      row[image].picture.src = url;
      row[image].picture.hidden = false;
    }
    return url;
  }
}

/** Take a box of the image to parts of what is shown of it. */
function within([left, top, right, bottom], box) {
  const [wide, high] = [right - left, bottom - top];
  return [(box[0] - left) / wide, (box[1] - top) / high, (box[2] - left) / wide, (box[3] - top) / high];
}

function place(element, [left, top, right, bottom]) {
  Object.assign(element.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
}
