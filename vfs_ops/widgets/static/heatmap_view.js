/** Heatmaps of one cell over all panels: which cell, what is read, and who is told. */

import { blobsOf } from "./blobs.js";
import { floats } from "./buffers.js";
import { Channel } from "./channel.js";
import { ColourBar, colourTable, paintCells } from "./colours.js";
import { Controls } from "./controls.js";
import { h } from "./dom.js";
import { HELP, listenTo } from "./gestures.js";
import { extent, similarities } from "./kernel.js";
import { Messages } from "./messages.js";
import { Panels } from "./panels.js";
import { pinnedAt, placeOf, samePlace } from "./places.js";
import { Readout } from "./readout.js";

/**
 * What an overlay does with cells.
 * @typedef {Object} Plan
 * @property {(panel: Panel, cell: number) => ?Place} source Which cell is meant by one.
 * @property {(source: Place) => number[]} cells Per layer, the cell of the source's image; or -1.
 * @property {(source: Place, cells: number[], panel: Panel) => number} mark Which cell to outline.
 * @property {() => void} [looked] Called when a cell is looked at.
 * @property {(view: HeatmapView) => void} [arrived] Called when all data is there.
 * @property {(view: HeatmapView) => void} [painted] Called after each picture.
 */

/** The view of one overlay, in one output. */
export class HeatmapView {
  constructor(model, el, makePlan) {
    this.model = model;
    this.figure = model.get("figure");
    this.channel = new Channel(model);
    this.messages = new Messages();
    this.channel.onState = (state) => this.messages.kernel(state);
    this.panels = new Panels(this.figure);
    this.plan = makePlan(this);
    this.values = this.figure.layers.map(() => null);
    this.urls = [];
    this.build(el);
    this.listen();
    const { rows, columns } = this.figure.layers[0];
    const middle = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    this.source = this.pinned ?? { layer: 0, image: 0, cell: middle };
    this.reader = null;
    this.load();
    this.schedule();
  }

  build(el) {
    this.controls = new Controls(this.model);
    const maps = Object.keys(this.model.get("colormaps")).map((name) => [name, name]);
    this.pinButton = this.controls.button("Pin", () => this.togglePin(), { "aria-pressed": "false" });
    this.controls.choice("colormap", "Colours", maps);
    this.controls.choice("scale", "Scale", [["fixed", "fixed"], ["auto", "automatic"]]);
    this.controls.slider("opacity", "Opacity");
    this.bar = new ColourBar("Cosine similarity");
    this.readout = new Readout();
    this.progress = h("progress", { class: "vfs-progress", max: 1, "aria-label": "Loading" });
    const help = this.controls.help(HELP);
    this.head = h("div", { class: "vfs-head" }, this.readout.el, this.bar.el);
    const title = this.figure.title ? h("div", { class: "vfs-title", text: this.figure.title }) : null;
    const parts = [title, this.controls.el, help, this.messages.el, this.progress, this.head];
    this.el = h("div", { class: "vfs vfs-overlay" }, ...parts, this.panels.el);
    el.replaceChildren(this.el);
  }

  listen() {
    listenTo(this.panels, this);
    this.redraw = () => { this.stale = true; this.schedule(); };
    this.changed = () => this.pinChanged();
    for (const name of ["colormap", "scale", "limits", "opacity"]) {
      this.model.on(`change:${name}`, this.redraw);
    }
    this.model.on("change:pinned", this.changed);
    this.stale = true;
  }

  async load() {
    this.blobs = blobsOf(this.figure);
    const whole = (name) => this.whole(name);
    const arrived = () => { this.progress.value = this.blobs.arrived / this.blobs.total; };
    try {
      await this.blobs.load(this.channel, this.figure.messages, arrived, whole);
    } catch (error) {
      this.progress.hidden = true;
      this.messages.show("load", `The figure could not be loaded. ${error.message}`);
    }
  }

  whole(name) {
    const [kind, number] = name.split("/");
    if (kind === "picture") this.urls.push(this.panels.picture(Number(number), this.blobs.bytes(name)));
    else this.asked = null;
    this.progress.hidden = this.blobs.arrived === this.blobs.total;
    if (this.progress.hidden) this.plan.arrived?.(this);
    this.schedule();
  }

  // --- which cell ---

  /** Look at a cell: the heatmaps are of it, or, where one is pinned, its value is read. */
  look(panel, cell) {
    this.reader = { panel, cell };
    this.plan.looked?.();
    if (!this.pinned) this.source = this.plan.source(panel, cell) ?? this.source;
    this.schedule();
  }

  /** The pointer is over no cell. */
  leave() {
    this.reader = null;
    this.schedule();
  }

  /** Pin a cell; let go if it is the pinned one. */
  choose(panel, cell) {
    const place = this.plan.source(panel, cell);
    if (place === null) return;
    const same = this.pinned && samePlace(place, this.source);
    this.source = place;
    this.reader = { panel, cell };
    this.pin(same ? null : place);
  }

  togglePin() {
    this.pin(this.pinned ? null : this.source);
  }

  /** Let go of the pinned cell. */
  release() {
    if (this.pinned) this.pin(null);
  }

  get pinned() {
    return placeOf(this.model.get("pinned"), this.figure);
  }

  pin(place) {
    this.model.set("pinned", place && pinnedAt(place, this.figure));
    this.model.save_changes();
    this.schedule();
  }

  pinChanged() {
    this.source = this.pinned ?? this.source;
    this.schedule();
  }

  /** Return the cell that arrow keys start from. */
  cursor(panel) {
    if (this.reader?.panel === panel) return this.reader.cell;
    const marked = this.plan.mark(this.source, this.cells ?? [], panel);
    return marked >= 0 ? marked : Math.floor(panel.grid.rows / 2) * panel.grid.columns;
  }

  // --- what is shown ---

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const asked = JSON.stringify(this.source);
    if (asked !== this.asked) {
      this.asked = asked;
      this.cells = this.plan.cells(this.source);
      this.compute();
      this.stale = true;
    }
    if (this.stale) this.paint();
    this.mark();
    this.read();
    this.plan.painted?.(this);
    if (this.current) this.el.dataset.shown = asked; // for whoever waits for the picture of a cell
  }

  compute() {
    if (this.figure.compute === "python") {
      this.ask();
      return;
    }
    this.figure.layers.forEach((layer, number) => {
      const vectors = this.blobs.floats(`vectors/${number}`);
      if (!vectors || this.cells[number] < 0) {
        this.values[number] = null;
        return;
      }
      const size = layer.rows * layer.columns;
      this.values[number] ??= new Float32Array(size * this.figure.images.length);
      const chosen = this.source.image * size + this.cells[number];
      similarities(vectors, chosen, layer.channels, this.values[number]);
    });
  }

  /** Whether the heatmaps are of the chosen cell: an answer of Python may be on its way. */
  get current() {
    return this.figure.compute === "browser" || this.answered === this.asked;
  }

  /** Ask Python, one question at a time: the newest when the last is answered. */
  async ask() {
    this.question = { image: this.source.image, cells: this.cells };
    this.questionOf = this.asked;
    if (this.asking) return;
    this.asking = true;
    while (this.question) {
      const [question, asked] = [this.question, this.questionOf];
      this.question = null;
      try {
        const { buffers } = await this.channel.request("similarities", question);
        this.values = buffers.map((view) => (view.byteLength ? floats(view) : null));
        this.answered = asked;
        this.messages.clear("similarities");
        this.redraw();
      } catch (error) {
        this.messages.show("similarities", error.message);
      }
    }
    this.asking = false;
  }

  limits(layer) {
    const values = this.values[layer];
    return this.model.get("scale") === "auto" && values ? extent(values) : this.model.get("limits");
  }

  paint() {
    this.stale = false;
    const table = colourTable(this.model.get("colormaps")[this.model.get("colormap")]);
    this.table = table;
    this.el.style.setProperty("--opacity", this.model.get("opacity"));
    for (const panel of this.panels.flat) {
      const values = this.values[panel.layer];
      panel.canvas.hidden = !values;
      if (!values) continue;
      const size = panel.grid.rows * panel.grid.columns;
      const own = values.subarray(panel.image * size, (panel.image + 1) * size);
      paintCells(panel.context, own, this.limits(panel.layer), table);
    }
  }

  mark() {
    const pinned = this.pinned !== null;
    this.el.classList.toggle("vfs-pinned", pinned);
    this.pinButton.setAttribute("aria-pressed", String(pinned));
    this.pinButton.textContent = pinned ? "Unpin" : "Pin";
    for (const panel of this.panels.flat) {
      const marked = this.plan.mark(this.source, this.cells, panel);
      panel.mark("source", marked);
      const read = this.reader?.panel === panel ? this.reader.cell : -1;
      panel.mark("reader", read === marked ? -1 : read);
    }
  }

  read() {
    const reader = this.reader;
    const layer = reader?.panel.layer ?? this.source.layer;
    this.bar.show(this.table, this.limits(layer), this.model.get("scale") === "fixed");
    const value = reader && this.valueAt(reader.panel, reader.cell);
    this.bar.point(value ?? null);
    const own = this.placeName(this.source.layer, this.source.image, this.source.cell);
    const read = reader && this.placeName(layer, reader.panel.image, reader.cell);
    this.readout.show(own, read, value ?? null);
    this.panels.readings.forEach((output, number) => {
      output.textContent = this.cells[number] < 0 ? "this model does not see that place" : "";
    });
  }

  valueAt(panel, cell) {
    const values = this.values[panel.layer];
    return values && this.current ? values[panel.image * panel.grid.rows * panel.grid.columns + cell] : null;
  }

  placeName(layer, image, cell) {
    return { name: this.figure.images[image].label, cell, columns: this.figure.layers[layer].columns };
  }

  /** Take away what would outlive the output. */
  close() {
    cancelAnimationFrame(this.frame);
    this.controls.close();
    this.channel.close();
    for (const name of ["colormap", "scale", "limits", "opacity"]) {
      this.model.off(`change:${name}`, this.redraw);
    }
    this.model.off("change:pinned", this.changed);
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}
