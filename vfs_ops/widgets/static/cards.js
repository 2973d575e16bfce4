/** One hit: its picture with the region outlined, rank, score and label. */

import { h, icon, s } from "./dom.js";

const AGAIN = "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4 4M8 11h6M11 8v6";

/**
 * @param {Object} card What Python told of a hit.
 * @param {Object} how `rank`, `core` (which cells to outline), `url` of the preview or null, `mark`
 *   of an image that other rows hold too, `adopt` to search from it or null.
 */
export function hitCard(card, { rank, core, url, mark, adopt }) {
  const wide = card.width >= card.height;
  const picture = h("div", { class: "vfs-hit-picture" });
  picture.style.aspectRatio = `${card.width} / ${card.height}`;
  picture.style[wide ? "width" : "height"] = "100%";
  const title = card.label || card.uri.split("/").at(-1);
  picture.append(
    url ? h("img", { src: url, alt: `${title}: ${card.uri}`, draggable: "false" })
      : h("span", { class: "vfs-no-preview", text: "no preview" }),
    outline(card, core),
  );
  const label = h("span", { class: "vfs-hit-label", title: `${title}\n${card.uri}\nimage ${card.image}`, text: title });
  const shared = mark && h("span", { class: "vfs-shared", "data-color": mark.color, text: mark.number,
    title: "Another row holds this image too", "aria-label": `shared image ${mark.number}` });
  const again = adopt && h("button", { type: "button", class: "vfs-again", title: "Search from this hit",
    "aria-label": `Search from hit ${rank}: ${title}`, on: { click: adopt } }, icon(AGAIN));
  return h("li", { class: "vfs-hit" },
    h("div", { class: "vfs-hit-frame" }, picture, shared ?? null, again ?? null),
    h("div", { class: "vfs-hit-text" },
      h("span", { class: "vfs-rank", text: rank }),
      h("span", { class: "vfs-score", text: card.score.toFixed(3) })),
    label);
}

/** Darken all but the region, and draw its border. */
function outline({ x, y }, core) {
  let cells = "";
  let border = "";
  const inside = (row, column) => core[row]?.[column] ?? 0;
  core.forEach((line, row) => line.forEach((chosen, column) => {
    if (!chosen) return;
    const [l, r, t, b] = [x[column], x[column + 1], y[row], y[row + 1]];
    cells += `M${l} ${t}H${r}V${b}H${l}Z`;
    if (!inside(row - 1, column)) border += `M${l} ${t}H${r}`;
    if (!inside(row + 1, column)) border += `M${l} ${b}H${r}`;
    if (!inside(row, column - 1)) border += `M${l} ${t}V${b}`;
    if (!inside(row, column + 1)) border += `M${r} ${t}V${b}`;
  }));
  return s("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "vfs-shade", d: `M0 0H1V1H0Z${cells}`, "fill-rule": "evenodd" }),
    s("path", { class: "vfs-border", d: border, "vector-effect": "non-scaling-stroke" }));
}
