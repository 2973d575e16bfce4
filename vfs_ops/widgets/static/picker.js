/** Highlight a region of an image: the picture, its tools, keyboard and pointer, and Python's side. */

import { bytes, floats, words } from "./buffers.js";
import { Cells } from "./cells.js";
import { KernelGone } from "./channel.js";
import { h } from "./dom.js";
import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { Mask, clamp } from "./mask.js";
import { Stage } from "./stage.js";
import { Toolbar, shortcut } from "./toolbar.js";
import { drawingTools } from "./tools.js";

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Picker {
  /**
   * @param {Channel} channel
   * @param {Messages} messages
   * @param {Object} [hooks] `onState(state)` is told what Python knows at first, `onImage()` when
   *   an image is shown, `onMask(done)` when a mask has been sent to Python, `onOther(byPython)` when
   *   Python or another view has changed the mask.
   */
  constructor(channel, messages, hooks = {}) {
    const nothing = () => {};
    const { onState = nothing, onImage = nothing, onMask = nothing, onOther = nothing } = hooks;
    Object.assign(this, { channel, messages, onState, onImage, onMask, onOther });
    this.view = Math.random().toString(36).slice(2); // randomUUID is missing on plain http
    this.tools = drawingTools();
    this.tool = "brush";
    this.state = { radius: 10, maxRadius: 100, threshold: 0.5, opacity: 1, cells: false, grids: [], fills: [] };
    this.cell = null;
    this.sent = null; // the mask that Python has not answered yet
    this.unsent = []; // those that wait behind it, one of each image
    this.stage = new Stage();
    this.toolbar = new Toolbar({
      choose: (tool) => this.choose(tool),
      invert: () => this.change(() => this.mask.invert()),
      clear: () => this.change(() => this.mask.clear()),
      undo: () => this.restore(this.history?.undo()),
      redo: () => this.restore(this.history?.redo()),
      zoom: (step) => this.zoom(step),
      set: (name, value) => this.set(name, value),
    });
    this.caption = h("div", { class: "vfs-caption" });
    this.strip = h("div");
    // Lumino would take our keys for the notebook's own shortcuts.
    this.el = h("div", { class: "vfs-picker", "data-lm-suppress-shortcuts": "true" },
      this.toolbar.el, this.stage.el, this.caption, this.strip);
    this.listen();
    channel.on("mask", (value, buffers) => this.receiveMask(value, buffers));
    channel.on("image", ({ number }) => number !== this.number && this.openImage(number));
    this.start();
  }

  async start() {
    await this.attempt("picker", async () => {
      const { value } = await this.channel.request("state");
      Object.assign(this.state, { grids: value.grids, grid: value.grids[0], fills: value.fills });
      this.exported = Boolean(value.exported);
      this.onState(value);
      this.setNames(value.names);
      await this.openImage(value.image);
    });
  }

  /** Show a strip of images to choose from, where there are several. */
  setNames(names) {
    if (names.length < 2 || names.length === this.names?.length) return;
    this.names = names;
    const load = async (number) => (await this.channel.request("thumbnail", { number })).buffers[0];
    this.gallery?.close();
    this.gallery = new Gallery({ names, load }, (number) => this.openImage(number));
    this.strip.replaceChildren(this.gallery.el);
  }

  /** Show an image. Until it is there, nothing can be painted: strokes would be lost with it. */
  async openImage(number) {
    this.gallery?.select(number);
    this.leaveImage();
    const opening = (this.opening = {});
    this.number = number;
    const shown = await this.attempt("picker", async () => {
      const { value, buffers } = await this.channel.request("image", { number });
      this.missed = null; // what was told before this answer is in it
      const image = await createImageBitmap(new Blob([buffers[0]], { type: value.type }));
      if (this.opening !== opening || this.closed) return true; // another one was chosen meanwhile
      this.mask = new Mask(value.width, value.height);
      this.mask.decode(words(buffers[1]));
      this.grids = Object.fromEntries(
        Object.entries(value.cells).map(([name, { x, y }]) => [name, new Cells(x, y)]),
      );
      const longest = Math.max(value.width, value.height);
      this.state.maxRadius = Math.max(2, Math.round(longest / 4));
      this.state.radius = Math.max(1, Math.round(longest / 25));
      this.history = new History(this.mask.encode());
      this.caption.textContent = `${value.name}${value.name ? " · " : ""}${value.width} × ${value.height}`;
      this.stage.canvas.setAttribute(
        "aria-label", `${value.name || "Image"}: highlight a region. Arrow keys and space paint cells.`,
      );
      this.stage.canvas.hidden = false;
      this.stage.open(image, this.mask);
      this.describe(this.mask.encode());
      this.stage.canvas.setAttribute("aria-busy", "false");
      this.takeWeights(value, buffers.slice(2));
      if (this.exported) this.showOnly();
      this.onImage();
      if (this.missed) this.receiveMask(...this.missed);
      return true;
    });
    if (!shown && this.opening === opening) this.showNone();
  }

  /** The image chosen cannot be shown: neither is another one in its place. */
  showNone() {
    this.number = null;
    this.stage.canvas.hidden = true;
    this.caption.textContent = "";
    this.onOther(false);
  }

  /** End what is going on with the image that is shown. */
  leaveImage() {
    this.tools[this.tool]?.cancel();
    Object.assign(this, {
      mask: null, history: null, similarity: null, cell: null, panning: null, dragging: undefined, missed: null,
    });
    this.stage.canvas.setAttribute("aria-busy", "true");
  }

  /** A saved page: there is no Python that could take a mask. */
  showOnly() {
    this.toolbar.el.hidden = true;
    this.stage.canvas.dataset.tool = "none";
  }

  /** Run something that asks Python; show what it raises. */
  async attempt(subject, action) {
    try {
      const result = await action();
      this.messages.clear(subject);
      return result;
    } catch (error) {
      if (!(error instanceof KernelGone) && !this.closed) this.messages.show(subject, error.message);
      return undefined;
    }
  }

  get cells() {
    return this.grids?.[this.state.grid] ?? Cells.regular(this.mask.width, this.mask.height);
  }

  get canFill() {
    return this.state.fills.includes(this.state.grid);
  }

  choose(tool) {
    this.tools[this.tool]?.cancel();
    this.tool = tool;
    this.stage.canvas.dataset.tool = tool;
    this.similarity = null;
    this.refresh();
  }

  set(name, value) {
    this.state[name] = value;
    if (name === "threshold") this.fill();
    if (name === "grid") this.similarity = null;
    this.refresh();
  }

  zoom(step, point) {
    if (!this.mask) return;
    this.stage.zoomTo(step === 0 ? 1 : this.stage.zoom * 1.25 ** step, point);
    if (this.stage.zoom === 1 && this.tool === "move") this.choose("brush");
    this.refresh();
  }

  /** Change the mask as one step of undo. */
  change(action) {
    if (!this.mask) return;
    const box = action() ?? [0, 0, this.mask.width, this.mask.height];
    this.stage.repaint(box);
    this.similarity = null;
    this.commit();
  }

  commit() {
    const runs = this.mask.encode();
    const changed = this.history.add(runs);
    this.describe(runs);
    this.refresh();
    if (changed) this.send(true);
  }

  /** Tell who does not see it how much is highlighted. */
  describe(runs) {
    const inside = runs.reduce((sum, run, number) => (number % 2 ? sum + run : sum), 0);
    const percent = Math.round((100 * inside) / (this.mask.width * this.mask.height));
    const text = inside ? `${percent || "Less than 1"} % is highlighted.` : "Nothing is highlighted.";
    this.stage.canvas.setAttribute("aria-description", text);
  }

  restore(runs) {
    if (!runs) return;
    this.mask.decode(runs);
    this.similarity = null;
    this.stage.repaint([0, 0, this.mask.width, this.mask.height]);
    this.describe(runs);
    this.refresh();
    this.send(true);
  }

  /** Show what Python set, or another view painted. */
  receiveMask({ number, view, weights, note }, buffers) {
    if (number !== this.number || view === this.view) return;
    if (!this.mask) {
      this.missed = [{ number, view, weights, note }, buffers]; // its image is on its way
      return;
    }
    const { mask: ours } = this;
    if (this.sent === ours || this.unsent.some(({ mask }) => mask === ours)) {
      return; // ours reaches Python later, and takes its place
    }
    const runs = words(buffers[0]);
    this.mask.decode(runs);
    this.history.add(runs);
    this.describe(runs);
    this.stage.repaint([0, 0, this.mask.width, this.mask.height]);
    this.takeWeights({ weights, note }, buffers.slice(1));
    this.onOther(view === null);
  }

  /** Send the mask; while an answer is awaited only the newest waits behind it. */
  async send(done) {
    const { number, mask } = this;
    const last = this.unsent.at(-1);
    if (last?.mask === mask) last.done ||= done;
    else this.unsent.push({ number, mask, done });
    if (this.sent) return;
    while (this.unsent.length && !this.closed) {
      const next = this.unsent.shift();
      this.sent = next.mask;
      await this.attempt("mask", async () => {
        const given = { number: next.number, done: next.done, view: this.view };
        const answer = this.channel.request("mask", given, [next.mask.encode().buffer]);
        if (next.mask === this.mask) this.onMask(next.done);
        const { value, buffers } = await answer;
        if (next.mask === this.mask) this.takeWeights(value, buffers);
      });
    }
    this.sent = null;
  }

  takeWeights({ weights, note }, buffers) {
    this.weights = Object.fromEntries(
      weights.map((name, number) => [name, bytes(buffers[number])]),
    );
    if (note) this.messages.show("note", note, "plain");
    else this.messages.clear("note");
    this.refresh();
  }

  /** Start filling from a cell: Python tells how similar all others are. */
  async fillFrom(cell, erase) {
    const { number, mask } = this;
    const before = mask.encode();
    await this.attempt("similar", async () => {
      const given = { number, grid: this.state.grid, row: cell[0], column: cell[1] };
      const { buffers } = await this.channel.request("similar", given);
      if (mask !== this.mask) return;
      const values = floats(buffers[0]);
      this.similarity = { cell, values, erase, before };
      this.fill();
    });
  }

  /** Fill what is similar enough, in place of what the last threshold filled. */
  fill() {
    if (!this.similarity) return;
    const { cell, values, erase, before } = this.similarity;
    this.mask.decode(before);
    for (const found of this.cells.connected(cell, values, this.state.threshold)) {
      this.mask.fillBox(...this.cells.box(found), erase ? 0 : 255);
    }
    this.stage.repaint([0, 0, this.mask.width, this.mask.height]);
    this.commit();
  }

  refresh() {
    const { scene } = this.stage;
    scene.opacity = this.state.opacity;
    scene.cells = this.state.cells ? this.grids?.[this.state.grid] ?? null : null;
    scene.weights = this.weights?.[this.state.grid] ?? null;
    scene.shape = this.tools[this.tool]?.shape ?? null;
    scene.cursor = this.cell && this.focused ? this.cells.box(this.cell) : null;
    this.toolbar.update({
      ...this.state, tool: this.tool, zoom: this.stage.zoom, canFill: this.canFill,
      canUndo: this.history?.canUndo, canRedo: this.history?.canRedo,
    });
    this.stage.draw();
  }

  listen() {
    const { canvas } = this.stage;
    canvas.dataset.tool = this.tool;
    const on = (name, listener, options) => canvas.addEventListener(name, listener, options);
    on("pointerdown", (event) => this.pointerDown(event));
    on("pointermove", (event) => this.pointerMove(event));
    on("pointerup", (event) => this.pointerUp(event));
    on("pointercancel", () => this.giveUp());
    on("pointerleave", () => this.hover(null));
    on("dblclick", () => this.closePolygon());
    on("contextmenu", (event) => event.preventDefault());
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("focus", () => this.focus(canvas.matches(":focus-visible")));
    on("blur", () => this.focus(false));
    this.el.addEventListener("keydown", (event) => this.keydown(event));
  }

  focus(shown) {
    this.focused = shown;
    if (this.mask) this.refresh();
  }

  pointerDown(event) {
    if (!this.mask || this.exported || event.button > 1 || this.dragging !== undefined) return;
    event.preventDefault();
    this.stage.canvas.focus({ preventScroll: true });
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.focused = false;
    const point = this.stage.point(event);
    if (event.button === 1 || this.tool === "move") {
      this.panning = { from: [event.clientX, event.clientY], offset: this.stage.offset };
    } else if (this.tool === "similar") {
      if (this.canFill) this.fillFrom(this.cells.at(point), event.shiftKey);
      return;
    } else {
      this.apply("down", point, event);
    }
    this.dragging = event.pointerId;
  }

  pointerMove(event) {
    if (!this.mask) return;
    this.hover(event);
    if (this.dragging !== undefined && event.pointerId !== this.dragging) return;
    if (this.panning) {
      const { from, offset } = this.panning;
      this.stage.moveTo([
        offset[0] - (event.clientX - from[0]) / this.stage.scale,
        offset[1] - (event.clientY - from[1]) / this.stage.scale,
      ]);
    } else if (this.dragging !== undefined || this.tool === "polygon") {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) {
        this.apply("move", this.stage.point(step), event);
      }
    }
  }

  pointerUp(event) {
    if (event.pointerId !== this.dragging) return;
    this.dragging = undefined;
    if (this.panning) {
      this.panning = null;
      return;
    }
    const box = this.tools[this.tool].up(this.mask);
    if (box) this.stage.repaint(box);
    this.similarity = null;
    this.commit();
  }

  apply(what, point, event) {
    const options = { radius: this.state.radius, erase: event.shiftKey, near: this.stage.near };
    const box = this.tools[this.tool]?.[what](point, this.mask, options);
    if (box) {
      this.stage.repaint(box);
      this.send(false);
    }
    this.refresh();
  }

  giveUp() {
    this.dragging = undefined;
    this.panning = null;
    this.tools[this.tool]?.cancel();
    if (this.mask) this.commit();
  }

  hover(event) {
    const shows = event && !this.exported && ["brush", "eraser"].includes(this.tool) && event.pointerType !== "touch";
    this.stage.scene.brush = shows && { point: this.stage.point(event), radius: this.state.radius };
    this.stage.draw();
  }

  closePolygon() {
    if (this.tool !== "polygon" || !this.tools.polygon.points.length) return;
    const box = this.tools.polygon.close(this.mask);
    if (box) this.stage.repaint(box);
    this.commit();
  }

  wheel(event) {
    if (!this.mask) return;
    event.preventDefault();
    const up = event.deltaY < 0;
    if (event.ctrlKey || event.metaKey) {
      this.zoom(up ? 1 : -1, this.stage.point(event));
    } else {
      this.resize(up);
      this.hover(event);
    }
  }

  resize(up) {
    const { radius, maxRadius } = this.state;
    const next = up ? Math.ceil(radius * 1.15) : Math.floor(radius / 1.15);
    this.set("radius", clamp(next, 1, maxRadius));
  }

  keydown(event) {
    if (["INPUT", "SELECT"].includes(event.target.tagName) || !this.mask || this.exported) return;
    if (this.handleKey(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /** @returns Whether the key meant something here. */
  handleKey(event) {
    const { key, shiftKey } = event;
    const onStage = event.target === this.stage.canvas;
    if (event.ctrlKey || event.metaKey) {
      const redo = key === "y" || (key.toLowerCase() === "z" && shiftKey);
      if (!redo && key.toLowerCase() !== "z") return false;
      this.restore(redo ? this.history.redo() : this.history.undo());
      return true;
    }
    if (event.altKey) return false;
    if (key in ARROWS) {
      if (onStage) this.moveCell(ARROWS[key]);
      else if (event.target.getAttribute("role") === "radio") {
        this.toolbar.nextTool(key === "ArrowRight" || key === "ArrowDown" ? 1 : -1);
      } else return false;
      return true;
    }
    if (key === " ") return onStage && this.paintCell(shiftKey);
    if (key === "Enter") {
      if (onStage) this.closePolygon();
      return onStage;
    }
    const { tool, action } = shortcut(key);
    if (action) this.toolbar.buttons.get(action).click();
    else if (tool) this.toolbar.tools.get(tool).click();
    else if (key === "[" || key === "]") this.resize(key === "]");
    else if (key === "+" || key === "-" || key === "0") this.zoom({ "+": 1, "-": -1, 0: 0 }[key]);
    else if (key.toLowerCase() === "c" && this.state.grids.length) this.set("cells", !this.state.cells);
    else if (key === "?") this.toolbar.toggleHelp();
    else if (key === "Escape") this.escape();
    else return false;
    return true;
  }

  escape() {
    this.toolbar.toggleHelp(false);
    this.tools[this.tool]?.cancel();
    this.refresh();
  }

  moveCell([down, across]) {
    const { rows, columns } = this.cells;
    const [row, column] = this.cell ?? [Math.floor(rows / 2) - down, Math.floor(columns / 2) - across];
    this.cell = [clamp(row + down, 0, rows - 1), clamp(column + across, 0, columns - 1)];
    this.focused = true;
    this.refresh();
  }

  paintCell(erase) {
    if (!this.cell) this.moveCell([0, 0]);
    else if (this.tool === "similar") this.fillFrom(this.cell, erase);
    else {
      const value = erase || this.tool === "eraser" ? 0 : 255;
      this.change(() => this.mask.fillBox(...this.cells.box(this.cell), value));
    }
    return true;
  }

  close() {
    this.closed = true;
    this.stage.close();
    this.gallery?.close();
  }
}
