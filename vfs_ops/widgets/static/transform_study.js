/** An image under transforms: heatmaps that follow a cell, and the chart of its similarity. */

import { h } from "./dom.js";
import { HeatmapView } from "./heatmap_view.js";
import { correspondingCell } from "./kernel.js";
import { LineChart } from "./line_chart.js";

const HATCH = 8; // pixels of the hatching canvas per cell
const WHOLE = 0.01 * 255; // less padding than this is none: that of vfs_ops.overlays.transform_study

class Study {
  constructor(view) {
    this.view = view;
    const { layers, parameters, axis } = view.figure;
    this.sizes = layers.map((layer) => layer.rows * layer.columns);
    this.chart = new LineChart(
      parameters, layers.map((layer) => layer.label), axis, (place) => this.pointAt(place));
    const keys = layers.length < 2 ? [] : layers.map((layer, line) =>
      h("span", { class: "vfs-key", "data-line": line % 6, text: layer.label }));
    const legend = h(
      "div",
      { class: "vfs-legend" },
      ...keys,
      h("span", { class: "vfs-key", "data-state": "padding", text: "on padding" }),
      h("span", { class: "vfs-key", "data-state": "left", text: "left the image" }),
    );
    this.told = h("div", { class: "vfs-told", role: "status" });
    const name = h("div", { class: "vfs-chart-name", text: "Cosine similarity to where the cell went" });
    this.el = h("div", { class: "vfs-study" }, name, this.chart.svg, legend, this.told);
    this.marked = null;
  }

  source(panel, cell) {
    if (panel.image === 0) return { layer: panel.layer, image: 0, cell };
    const came = this.cameFrom(panel, cell);
    return came < 0 ? null : { layer: panel.layer, image: 0, cell: came };
  }

  /** Return the cell of the original image that went to a cell; of several, the middle one. */
  cameFrom(panel, cell) {
    const all = this.view.blobs.integers(`cells/${panel.layer}`);
    if (!all) return -1;
    const size = this.sizes[panel.layer];
    const start = (panel.image - 1) * size;
    const found = [];
    for (let from = 0; from < size; from++) if (all[start + from] === cell) found.push(from);
    return found.length ? found[Math.floor(found.length / 2)] : -1;
  }

  cells({ layer, cell }) {
    const { layers } = this.view.figure;
    return layers.map((other, number) =>
      (number === layer ? cell : correspondingCell(cell, layers[layer], other, 0)));
  }

  mark(source, cells, panel) {
    const cell = cells[panel.layer] ?? -1;
    if (panel.image === 0 || cell < 0) return cell;
    const all = this.view.blobs.integers(`cells/${panel.layer}`);
    return all ? all[(panel.image - 1) * this.sizes[panel.layer] + cell] : -1;
  }

  arrived() {
    for (const panel of this.view.panels.flat) {
      if (panel.image > 0) this.hatch(panel);
    }
  }

  hatch(panel) {
    const { rows, columns } = panel.grid;
    const padding = this.view.blobs.bytes(`padding/${panel.layer}`);
    const start = (panel.image - 1) * rows * columns;
    panel.hatching ??= h("canvas", {
      class: "vfs-hatch", width: columns * HATCH, height: rows * HATCH,
    });
    panel.canvas.after(panel.hatching);
    const context = panel.hatching.getContext("2d");
    context.clearRect(0, 0, panel.hatching.width, panel.hatching.height);
    context.strokeStyle = "rgb(255 255 255 / 0.75)";
    context.beginPath();
    for (let cell = 0; cell < rows * columns; cell++) {
      if (padding[start + cell] <= WHOLE) continue;
      const [x, y] = [(cell % columns) * HATCH, Math.floor(cell / columns) * HATCH];
      context.moveTo(x, y + HATCH);
      context.lineTo(x + HATCH, y);
    }
    context.stroke();
  }

  painted() {
    const { view } = this;
    const states = this.sizes.map((size, layer) => {
      const all = view.blobs.bytes(`states/${layer}`);
      const cell = view.cells[layer];
      return Uint8Array.from(view.figure.parameters, (_, place) =>
        (all && cell >= 0 && view.values[layer] ? all[place * size + cell] : 2));
    });
    const curves = this.sizes.map((size, layer) => {
      const all = view.blobs.integers(`cells/${layer}`);
      return Float32Array.from(view.figure.parameters, (_, place) => (states[layer][place] === 2
        ? NaN
        : view.values[layer][(place + 1) * size + all[place * size + view.cells[layer]]]));
    });
    this.chart.show(curves, states);
    Object.assign(this, { curves, states });
    const image = view.reader ? view.reader.panel.image : 0;
    if (!this.held) this.highlight(image > 0 ? image - 1 : null);
    else this.tell();
  }

  /** An image is looked at, so no longer the chart. */
  looked() {
    this.held = false;
  }

  /** The chart is pointed at: show which image that is. */
  pointAt(place) {
    this.held = place !== null;
    this.highlight(place);
  }

  highlight(place) {
    this.chart.point(place);
    this.marked = place;
    for (const panel of this.view.panels.flat) {
      panel.el.classList.toggle("vfs-marked", place !== null && panel.image === place + 1);
    }
    this.tell();
  }

  tell() {
    const { layers, images } = this.view.figure;
    const place = this.marked;
    this.told.textContent = place === null || !this.curves ? "" : layers.map((layer, line) => {
      const text = this.chart.tell(place, this.curves[line][place], this.states[line][place]);
      const said = text.slice(text.indexOf(":") + 2);
      return layers.length > 1 ? `${layer.label}: ${said}` : `${images[place + 1].label}: ${said}`;
    }).join(" · ");
  }
}

export default {
  render({ model, el }) {
    const view = new HeatmapView(model, el, (made) => new Study(made));
    view.panels.el.before(view.plan.el);
    return () => view.close();
  },
};
