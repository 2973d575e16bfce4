/** The picture with the mask over it: one canvas, drawn anew for every frame that changes. */

import { h } from "./dom.js";
import { clamp } from "./mask.js";

const MARK = [255, 176, 0];
const HEIGHT = 460; // CSS pixels at most
const MAX_ZOOM = 16;

export class Stage {
  constructor() {
    this.canvas = h("canvas", { class: "vfs-stage", tabindex: "0", role: "application" });
    this.el = h("div", { class: "vfs-stage-box" }, this.canvas);
    this.context = this.canvas.getContext("2d");
    this.tint = document.createElement("canvas");
    this.edge = document.createElement("canvas");
    this.scene = { opacity: 1, cells: null, weights: null, shape: null, cursor: null, brush: null };
    this.zoom = 1;
    this.offset = [0, 0]; // pixels of the image at the canvas' top left corner
    this.frame = 0;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.el);
  }

  /** Show an image with its mask. */
  open(image, mask) {
    [this.image, this.mask, this.zoom, this.offset] = [image, mask, 1, [0, 0]];
    [this.tint.width, this.tint.height] = [mask.width, mask.height];
    this.repaint([0, 0, mask.width, mask.height]);
    this.fit();
  }

  /** CSS pixels of one pixel of the image. */
  get scale() {
    return (this.width / this.mask.width) * this.zoom;
  }

  fit() {
    if (!this.mask) return;
    const room = this.el.clientWidth;
    if (!room) return; // not shown yet
    const aspect = this.mask.height / this.mask.width;
    this.width = Math.max(Math.min(room, HEIGHT / aspect), 1);
    this.height = Math.max(this.width * aspect, 1);
    const density = window.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.edge]) {
      canvas.width = Math.round(this.width * density);
      canvas.height = Math.round(this.height * density);
    }
    Object.assign(this.canvas.style, { width: `${this.width}px`, height: `${this.height}px` });
    this.draw();
  }

  /** Return where a pointer is, in pixels of the image; outside of it too. */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      (event.clientX - box.left) / this.scale + this.offset[0],
      (event.clientY - box.top) / this.scale + this.offset[1],
    ];
  }

  /** Tell whether two points are close on the screen. */
  near = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) * this.scale < 9;

  /** Zoom so that a point of the image stays where it is on the screen. */
  zoomTo(zoom, [x, y] = this.middle()) {
    const next = clamp(zoom, 1, MAX_ZOOM);
    const ratio = this.zoom / next;
    this.zoom = next;
    this.moveTo([x - (x - this.offset[0]) * ratio, y - (y - this.offset[1]) * ratio]);
  }

  moveTo([x, y]) {
    const seen = [this.mask.width / this.zoom, this.mask.height / this.zoom];
    this.offset = [
      clamp(x, 0, this.mask.width - seen[0]), clamp(y, 0, this.mask.height - seen[1]),
    ];
    this.draw();
  }

  middle() {
    return [
      this.offset[0] + this.mask.width / this.zoom / 2,
      this.offset[1] + this.mask.height / this.zoom / 2,
    ];
  }

  /** Take a changed box of the mask over into what is drawn. */
  repaint(box) {
    const [left, top, right, bottom] = box;
    if (right <= left || bottom <= top) return;
    const pixels = new ImageData(right - left, bottom - top);
    for (let y = top, at = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, at += 4) {
        pixels.data.set(MARK, at);
        pixels.data[at + 3] = this.mask.data[y * this.mask.width + x];
      }
    }
    this.tint.getContext("2d").putImageData(pixels, left, top);
    this.draw();
  }

  /** Draw before the next frame. */
  draw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  paint() {
    if (!this.image || !this.width) return;
    const { context: c, scene } = this;
    const density = this.canvas.width / this.width;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const k = this.scale * density;
    const place = [k, 0, 0, k, -this.offset[0] * k, -this.offset[1] * k];
    c.setTransform(...place);
    c.globalAlpha = scene.opacity;
    c.imageSmoothingEnabled = this.scale < 4;
    c.drawImage(this.image, 0, 0, this.mask.width, this.mask.height);
    c.globalAlpha = scene.cells ? 0 : 0.38;
    c.imageSmoothingEnabled = false;
    c.drawImage(this.tint, 0, 0);
    c.globalAlpha = 1;
    if (scene.cells) this.paintCells(k);
    this.paintOutline(place, density);
    c.setTransform(...place);
    this.paintShapes(k, density);
    c.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** The weight of each cell: the less it counts, the darker it is; and the lines between them. */
  paintCells(k) {
    const { context: c } = this;
    const { cells, weights } = this.scene;
    for (let number = 0; number < cells.rows * cells.columns; number++) {
      const weight = (weights?.[number] ?? 0) / 255;
      const cell = [Math.floor(number / cells.columns), number % cells.columns];
      const [left, top, right, bottom] = cells.box(cell);
      c.fillStyle = `rgba(0, 0, 0, ${0.5 * (1 - weight)})`;
      c.fillRect(left, top, right - left, bottom - top);
      c.fillStyle = `rgba(${MARK}, ${0.3 * weight})`;
      c.fillRect(left, top, right - left, bottom - top);
    }
    const path = new Path2D();
    const [x, y] = [cells.x, cells.y];
    for (const edge of x) path.addPath(line(edge, y[0], edge, y.at(-1)));
    for (const edge of y) path.addPath(line(x[0], edge, x.at(-1), edge));
    this.contrast(path, k, 0.75);
  }

  /** The border of the mask, in the pixels of the screen. */
  paintOutline(place, density) {
    const e = this.edge.getContext("2d");
    const reach = 1.5 * density;
    e.globalCompositeOperation = "source-over";
    e.setTransform(1, 0, 0, 1, 0, 0);
    e.clearRect(0, 0, this.edge.width, this.edge.height);
    e.imageSmoothingEnabled = false;
    for (let turn = 0; turn < 8; turn++) {
      const [dx, dy] = [Math.cos((turn * Math.PI) / 4), Math.sin((turn * Math.PI) / 4)];
      e.setTransform(...place.slice(0, 4), place[4] + dx * reach, place[5] + dy * reach);
      e.drawImage(this.tint, 0, 0);
    }
    e.globalCompositeOperation = "destination-out";
    e.setTransform(...place);
    e.drawImage(this.tint, 0, 0);
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.drawImage(this.edge, 0, 0);
  }

  paintShapes(k, density) {
    const { context: c, scene } = this;
    if (scene.shape) {
      const { points, closed, handles = [] } = scene.shape;
      const path = new Path2D();
      points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
      if (closed) path.closePath();
      c.fillStyle = `rgba(${MARK}, 0.2)`;
      if (closed) c.fill(path);
      this.contrast(path, k, 1.5 * density, `rgb(${MARK})`);
      for (const [x, y] of handles) this.contrast(disc(x, y, (4 * density) / k), k, 1.5 * density);
    }
    if (scene.cursor) {
      const [left, top, right, bottom] = scene.cursor;
      const path = new Path2D();
      path.rect(left, top, right - left, bottom - top);
      this.contrast(path, k, 2 * density, "#ffffff");
    }
    if (scene.brush) {
      const { point, radius } = scene.brush;
      this.contrast(disc(...point, radius), k, 1.25 * density, "#ffffff");
    }
  }

  /** Stroke a path so that it is seen on any picture; widths are in device pixels. */
  contrast(path, k, width, color = "rgba(255, 255, 255, 0.75)") {
    const { context: c } = this;
    c.lineJoin = "round";
    c.strokeStyle = "rgba(0, 0, 0, 0.45)";
    c.lineWidth = (width + 1.5) / k;
    c.stroke(path);
    c.strokeStyle = color;
    c.lineWidth = width / k;
    c.stroke(path);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }
}

function line(x0, y0, x1, y1) {
  const path = new Path2D();
  path.moveTo(x0, y0);
  path.lineTo(x1, y1);
  return path;
}

function disc(x, y, radius) {
  const path = new Path2D();
  path.arc(x, y, radius, 0, 2 * Math.PI);
  return path;
}
