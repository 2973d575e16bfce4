/** Groups of cells in colours; hover a group to see its strength in all images. */

import { blobsOf } from "./blobs.js";
import { Channel } from "./channel.js";
import { ColourBar, colourTable, paintCells } from "./colours.js";
import { Controls } from "./controls.js";
import { h } from "./dom.js";
import { listenTo } from "./gestures.js";
import { Messages } from "./messages.js";
import { Panels } from "./panels.js";
import { Readout } from "./readout.js";

const HELP = [
  ["Groups", "Point at one, or reach it with Tab: its strength is shown in all images."],
  ["Click, Enter", "Keep showing a group; again to let go. On a cell: its strongest group."],
  ["Pointer, arrow keys", "Read which groups a cell belongs to, and how strongly."],
  ["Page Up, Page Down", "Go to the image before or after."],
  ["Escape", "Let go."],
];
const TRAITS = ["colormap", "opacity", "pinned"];

class FactorView {
  constructor(model, el) {
    this.model = model;
    this.figure = model.get("figure");
    this.channel = new Channel(model);
    this.messages = new Messages();
    this.channel.onState = (state) => this.messages.kernel(state);
    this.panels = new Panels(this.figure);
    this.reader = null;
    this.hovered = null;
    this.urls = [];
    this.build(el);
    listenTo(this.panels, this);
    this.redraw = () => this.schedule();
    for (const name of TRAITS) model.on(`change:${name}`, this.redraw);
    this.load();
  }

  build(el) {
    this.controls = new Controls(this.model);
    const maps = Object.keys(this.model.get("colormaps")).map((name) => [name, name]);
    this.controls.choice("colormap", "Colours of strength", maps);
    this.controls.slider("opacity", "Opacity");
    const help = this.controls.help(HELP);
    this.bar = new ColourBar("Strength");
    this.readout = new Readout();
    this.progress = h("progress", { class: "vfs-progress", max: 1, "aria-label": "Loading" });
    this.chips = this.figure.groups.map((group, number) => this.chip(group, number));
    const groups = h("div", { class: "vfs-groups", role: "group", "aria-label": "Groups" }, ...this.chips);
    const { title, explained, converged } = this.figure;
    const note = `${this.figure.groups.length} groups give back ${Math.round(100 * explained)} % of the features`
      + (converged ? "." : "; the factorisation stopped before it converged.");
    const head = h("div", { class: "vfs-head" }, this.readout.el, this.bar.el);
    const heading = title ? h("div", { class: "vfs-title", text: title }) : null;
    const parts = [heading, this.controls.el, help, this.messages.el, this.progress, groups, head];
    const foot = h("p", { class: "vfs-note", text: note });
    this.el = h("div", { class: "vfs vfs-overlay" }, ...parts, this.panels.el, foot);
    el.replaceChildren(this.el);
  }

  chip({ label, colour, share }, number) {
    const swatch = h("i", { class: "vfs-swatch" });
    swatch.style.background = colour;
    const part = h("small", { text: `${Math.round(100 * share)} %` });
    const hover = (value) => () => { this.hovered = value; this.schedule(); };
    return h("button", {
      type: "button",
      class: "vfs-group",
      "aria-pressed": "false",
      on: {
        pointerenter: hover(number),
        pointerleave: hover(null),
        focus: hover(number),
        blur: hover(null),
        click: () => this.pin(number),
        keydown: (event) => { if (event.key === "Escape") this.release(); },
      },
    }, swatch, h("span", { text: label }), part);
  }

  async load() {
    this.blobs = blobsOf(this.figure);
    const arrived = () => { this.progress.value = this.blobs.arrived / this.blobs.total; };
    const whole = (name) => {
      const number = Number(name.split("/")[1]);
      if (name.startsWith("picture/")) this.urls.push(this.panels.picture(number, this.blobs.bytes(name)));
      this.schedule();
    };
    try {
      await this.blobs.load(this.channel, this.figure.messages, arrived, whole);
    } catch (error) {
      this.messages.show("load", `The figure could not be loaded. ${error.message}`);
    }
    this.progress.hidden = true;
  }

  look(panel, cell) {
    this.reader = { panel, cell };
    this.schedule();
  }

  leave() {
    this.reader = null;
    this.schedule();
  }

  choose(panel, cell) {
    this.reader = { panel, cell };
    const strengths = this.strengthsAt(panel, cell);
    if (strengths) this.pin(strongest(strengths));
  }

  release() {
    this.hovered = null;
    if (this.model.get("pinned") !== null) this.pin(this.model.get("pinned"));
    this.schedule();
  }

  pin(number) {
    this.model.set("pinned", this.model.get("pinned") === number ? null : number);
    this.model.save_changes();
    this.schedule();
  }

  cursor(panel) {
    if (this.reader?.panel === panel) return this.reader.cell;
    return Math.floor(panel.grid.rows / 2) * panel.grid.columns + Math.floor(panel.grid.columns / 2);
  }

  strengthsAt(panel, cell) {
    const all = this.blobs.floats("strengths");
    const count = this.figure.groups.length;
    const at = (panel.image * panel.grid.rows * panel.grid.columns + cell) * count;
    return all && all.subarray(at, at + count);
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const group = this.hovered ?? this.model.get("pinned");
    const table = colourTable(this.model.get("colormaps")[this.model.get("colormap")]);
    this.el.style.setProperty("--opacity", this.model.get("opacity"));
    if (this.blobs.floats("strengths")) {
      for (const panel of this.panels.flat) this.paint(panel, group, table);
    }
    this.bar.el.classList.toggle("vfs-away", group === null);
    this.bar.show(table, [0, 1]);
    this.mark(group);
    this.el.dataset.shown = group === null ? "groups" : String(group);
  }

  paint(panel, group, table) {
    const size = panel.grid.rows * panel.grid.columns;
    if (group !== null) {
      const values = Float32Array.from({ length: size }, (_, cell) => this.strengthsAt(panel, cell)[group]);
      paintCells(panel.context, values, [0, 1], table);
      return;
    }
    const picture = panel.context.createImageData(panel.grid.columns, panel.grid.rows);
    for (let cell = 0; cell < size; cell++) {
      const strengths = this.strengthsAt(panel, cell);
      const best = strongest(strengths);
      const colour = parseInt(this.figure.groups[best].colour.slice(1), 16);
      const alpha = 255 * Math.min(1, 0.25 + 1.2 * strengths[best]); // faint where nothing is strong
      picture.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, strengths[best] ? alpha : 0], 4 * cell);
    }
    panel.context.putImageData(picture, 0, 0);
  }

  mark(group) {
    const { reader } = this;
    const strengths = reader && this.strengthsAt(reader.panel, reader.cell);
    const best = strengths ? strongest(strengths) : null;
    const shownGroup = group ?? best;
    const value = strengths ? strengths[shownGroup] : null;
    for (const panel of this.panels.flat) {
      panel.mark("source", -1);
      panel.mark("reader", reader?.panel === panel ? reader.cell : -1);
    }
    this.chips.forEach((chip, number) => {
      chip.setAttribute("aria-pressed", String(this.model.get("pinned") === number));
      chip.classList.toggle("vfs-best", number === best && group === null);
    });
    this.bar.point(group === null ? null : value);
    if (value === null) this.readout.say(this.explain(group));
    else {
      const { image, grid } = reader.panel;
      const label = `${this.figure.groups[shownGroup].label} · ${this.figure.images[image].label}`;
      this.readout.show({ name: label, cell: reader.cell, columns: grid.columns }, null, value);
    }
  }

  explain(group) {
    return group === null
      ? "Each cell: its strongest group"
      : `${this.figure.groups[group].label}, as part of its largest strength`;
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.controls.close();
    this.channel.close();
    for (const name of TRAITS) this.model.off(`change:${name}`, this.redraw);
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}

function strongest(strengths) {
  return strengths.reduce((best, value, number) => (value > strengths[best] ? number : best), 0);
}

export default {
  render({ model, el }) {
    const view = new FactorView(model, el);
    return () => view.close();
  },
};
