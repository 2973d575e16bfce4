/** Where a cell is: `{layer, image, cell}`; in Python's words, `{layer, image, row, column}`. */

/** Return the place that a trait names; null for none. */
export function placeOf(pinned, figure) {
  if (!pinned) return null;
  const { layer, image, row, column } = pinned;
  return { layer, image, cell: row * figure.layers[layer].columns + column };
}

/** Return a place as the trait names it. */
export function pinnedAt({ layer, image, cell }, figure) {
  const { columns } = figure.layers[layer];
  return { layer, image, row: Math.floor(cell / columns), column: cell % columns };
}

/** Tell whether two places are the same. */
export function samePlace(one, other) {
  return one.layer === other.layer && one.image === other.image && one.cell === other.cell;
}
