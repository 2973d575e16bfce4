/** Hover a cell: what is similar to it, in all images, at all layers in step. */

import { HeatmapView } from "./heatmap_view.js";
import { correspondingCell } from "./kernel.js";

function plan(view) {
  const { layers } = view.figure;
  return {
    source: (panel, cell) => ({ layer: panel.layer, image: panel.image, cell }),
    cells: ({ layer, image, cell }) => layers.map((other, number) =>
      (number === layer ? cell : correspondingCell(cell, layers[layer], other, image))),
    mark: (source, cells, panel) => (panel.image === source.image ? cells[panel.layer] ?? -1 : -1),
  };
}

export default {
  render({ model, el }) {
    const view = new HeatmapView(model, el, plan);
    return () => view.close();
  },
};
