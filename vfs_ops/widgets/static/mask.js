/**
 * What is highlighted: one byte a pixel of the image, 0 or 255. Pixels count by their centres.
 * Methods that draw return the box that may have changed: [left, top, right, bottom] in pixels.
 */
export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
  }

  get empty() {
    return !this.data.includes(255);
  }

  /**
   * Set or clear all pixels within a distance of a line; a line of one point is a disc.
   * @param {[number, number]} from In pixels of the image.
   * @param {[number, number]} to
   * @param {number} radius
   * @param {0|255} value
   */
  stroke([x0, y0], [x1, y1], radius, value) {
    const box = this.clip(
      Math.min(x0, x1) - radius, Math.min(y0, y1) - radius,
      Math.max(x0, x1) + radius, Math.max(y0, y1) + radius,
    );
    const [dx, dy] = [x1 - x0, y1 - y0];
    const length = dx * dx + dy * dy;
    for (let y = box[1]; y < box[3]; y++) {
      for (let x = box[0]; x < box[2]; x++) {
        const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
        const along = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
        const [ex, ey] = [px - along * dx, py - along * dy];
        if (ex * ex + ey * ey <= radius * radius) this.data[y * this.width + x] = value;
      }
    }
    return box;
  }

  /** Set or clear the pixels whose centres lie in a box. */
  fillBox(left, top, right, bottom, value) {
    const [x0, x1] = [left, right].map((x) => clamp(Math.ceil(x - 0.5), 0, this.width));
    const [y0, y1] = [top, bottom].map((y) => clamp(Math.ceil(y - 0.5), 0, this.height));
    for (let y = y0; y < y1; y++) this.data.fill(value, y * this.width + x0, y * this.width + x1);
    return [x0, y0, x1, y1];
  }

  /**
   * Set or clear the pixels that an outline winds around, as `vfs_ops.images.masks` does.
   * @param {Array<[number, number]>} corners
   * @param {0|255} value
   */
  fillOutline(corners, value) {
    const ys = corners.map((corner) => corner[1]);
    const first = clamp(Math.ceil(Math.min(...ys) - 0.5), 0, this.height);
    const last = clamp(Math.ceil(Math.max(...ys) - 0.5), 0, this.height);
    const turns = new Int32Array(this.width + 1);
    for (let y = first; y < last; y++) {
      turns.fill(0);
      corners.forEach(([x0, y0], number) => {
        const [x1, y1] = corners[(number + 1) % corners.length];
        const [low, high] = [Math.min(y0, y1), Math.max(y0, y1)];
        if (Math.ceil(low - 0.5) > y || y >= Math.ceil(high - 0.5)) return;
        const x = x0 + (y + 0.5 - y0) * ((x1 - x0) / (y1 - y0));
        turns[clamp(Math.ceil(x - 0.5), 0, this.width)] += y1 > y0 ? 1 : -1;
      });
      for (let x = 0, winding = 0; x < this.width; x++) {
        winding += turns[x];
        if (winding) this.data[y * this.width + x] = value;
      }
    }
    return [0, first, this.width, Math.max(first, last)];
  }

  invert() {
    for (let i = 0; i < this.data.length; i++) this.data[i] ^= 255;
  }

  clear() {
    this.data.fill(0);
  }

  /** Run lengths in reading order, of pixels outside and inside by turns. */
  encode() {
    const runs = [];
    let value = 0;
    for (let start = 0; start < this.data.length; ) {
      let end = this.data.indexOf(value ^ 255, start);
      if (end < 0) end = this.data.length;
      runs.push(end - start);
      start = end;
      value ^= 255;
    }
    return Uint32Array.from(runs);
  }

  /** @param {Uint32Array} runs What `encode` returned for a mask of this size. */
  decode(runs) {
    let at = 0;
    runs.forEach((length, number) => {
      this.data.fill(number % 2 ? 255 : 0, at, at + length);
      at += length;
    });
  }

  clip(left, top, right, bottom) {
    return [
      clamp(Math.floor(left), 0, this.width), clamp(Math.floor(top), 0, this.height),
      clamp(Math.ceil(right), 0, this.width), clamp(Math.ceil(bottom), 0, this.height),
    ];
  }
}

/** Return a number within bounds. */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
