/**
 * What each tool does with a pointer.
 *
 * A tool gets points in pixels of the image. `down`, `move` and `up` return true where the mask has
 * changed; `shape` is what is being drawn and not yet filled.
 */

/** Brush and eraser: the line from the last point to this one, so fast strokes have no gaps. */
class Stroke {
  constructor(erases) {
    this.erases = erases;
  }

  down(point, mask, { radius, erase }) {
    this.last = point;
    this.value = this.erases !== erase ? 0 : 255;
    return mask.stroke(point, point, radius, this.value);
  }

  move(point, mask, { radius }) {
    const box = mask.stroke(this.last, point, radius, this.value);
    this.last = point;
    return box;
  }

  up() {
    return null;
  }

  get shape() {
    return null;
  }

  cancel() {}
}

class Rectangle {
  corners = null;

  down(point, mask, { erase }) {
    this.erase = erase;
    this.corners = [point, point];
    return null;
  }

  move(point) {
    this.corners[1] = point;
    return null;
  }

  up(mask) {
    const [[x0, y0], [x1, y1]] = this.corners;
    this.corners = null;
    return mask.fillBox(
      Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1), this.erase ? 0 : 255,
    );
  }

  get shape() {
    if (!this.corners) return null;
    const [[x0, y0], [x1, y1]] = this.corners;
    return { points: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], closed: true };
  }

  cancel() {
    this.corners = null;
  }
}

class Lasso {
  points = null;

  down(point, mask, { erase }) {
    this.erase = erase;
    this.points = [point];
    return null;
  }

  move(point) {
    this.points.push(point);
    return null;
  }

  up(mask) {
    const points = this.points;
    this.points = null;
    return points.length > 2 ? mask.fillOutline(points, this.erase ? 0 : 255) : null;
  }

  get shape() {
    return this.points && { points: this.points, closed: true };
  }

  cancel() {
    this.points = null;
  }
}

/** A click sets a corner; a click on the first corner, a double click or Enter closes. */
class Polygon {
  points = [];
  hover = null;

  down(point, mask, { erase, near }) {
    if (!this.points.length) this.erase = erase;
    const close = this.points.some((corner, i) => (i === 0 || i === this.points.length - 1) &&
      near(corner, point));
    if (close && this.points.length > 2) return this.close(mask);
    if (!close) this.points.push(point);
    return null;
  }

  move(point) {
    this.hover = point;
    return null;
  }

  up() {
    return null;
  }

  close(mask) {
    const points = this.points;
    this.cancel();
    return points.length > 2 ? mask.fillOutline(points, this.erase ? 0 : 255) : null;
  }

  get shape() {
    if (!this.points.length) return null;
    const points = this.hover ? [...this.points, this.hover] : this.points;
    return { points, closed: false, handles: this.points };
  }

  cancel() {
    this.points = [];
    this.hover = null;
  }
}

/** Make one of each tool that draws, by name. */
export function drawingTools() {
  return {
    brush: new Stroke(false),
    eraser: new Stroke(true),
    rectangle: new Rectangle(),
    polygon: new Polygon(),
    lasso: new Lasso(),
  };
}
