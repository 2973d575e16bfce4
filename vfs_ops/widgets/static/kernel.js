/** Cosines of one cell to many: dot products of unit vectors, which lie one after the other. */

/**
 * Take the dot product of one vector with every vector.
 * @param {Float32Array} vectors
 * @param {number} chosen Which of them.
 * @param {number} channels Length of each.
 * @param {Float32Array} out One number per vector, in [-1, 1].
 */
export function similarities(vectors, chosen, channels, out) {
  const one = vectors.subarray(chosen * channels, (chosen + 1) * channels);
  const whole = channels - (channels % 4);
  for (let cell = 0, at = 0; cell < out.length; cell++, at += channels) {
    let a = 0, b = 0, c = 0, d = 0; // four sums, so that none waits for another
    let i = 0;
    for (; i < whole; i += 4) {
      a += one[i] * vectors[at + i];
      b += one[i + 1] * vectors[at + i + 1];
      c += one[i + 2] * vectors[at + i + 2];
      d += one[i + 3] * vectors[at + i + 3];
    }
    for (; i < channels; i++) a += one[i] * vectors[at + i];
    out[cell] = Math.max(-1, Math.min(1, a + b + c + d));
  }
}

/**
 * Return the smallest and the largest number.
 * @param {Float32Array} values
 * @returns {[number, number]}
 */
export function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/**
 * Find the cell of another grid at the middle of a cell, as `vfs_ops.overlays.correspondence` does.
 * @param {number} cell Row · columns + column.
 * @param {{rows: number, columns: number, boxes: number[][]}} from
 * @param {{rows: number, columns: number, boxes: number[][]}} to
 * @param {number} image Both layers' boxes of this image are compared.
 * @returns {number} -1 where the other model does not see that place.
 */
export function correspondingCell(cell, from, to, image) {
  const [left, top, right, bottom] = from.boxes[image];
  const x = left + ((cell % from.columns) + 0.5) * (right - left) / from.columns;
  const y = top + (Math.floor(cell / from.columns) + 0.5) * (bottom - top) / from.rows;
  return cellAt(x, y, to, image);
}

const TIE = 1e-6; // of a cell: that of vfs_ops.overlays.correspondence

/**
 * Find the cell at a point of an image.
 * @param {number} x As part of the image's width.
 * @param {number} y As part of its height.
 * @param {{rows: number, columns: number, boxes: number[][]}} layer
 * @param {number} image
 * @returns {number} -1 where the model does not see it.
 */
export function cellAt(x, y, layer, image) {
  const [left, top, right, bottom] = layer.boxes[image];
  const column = Math.floor((x - left) / (right - left) * layer.columns + TIE);
  const row = Math.floor((y - top) / (bottom - top) * layer.rows + TIE);
  const seen = row >= 0 && row < layer.rows && column >= 0 && column < layer.columns;
  return seen ? row * layer.columns + column : -1;
}
