/** The line that says which cell is shown, which is read, and the value there. */

import { shown } from "./colours.js";
import { h } from "./dom.js";

/** One or two places, and a number. Its height never changes: the images below stay where they are. */
export class Readout {
  constructor() {
    const parts = () => [h("span", { class: "vfs-where" }), h("span")];
    this.places = [parts(), parts()];
    this.arrow = h("span", { text: "→", "aria-label": "to" });
    this.number = h("data", { class: "vfs-value" });
    const all = [...this.places[0], this.arrow, ...this.places[1], this.number];
    this.el = h("div", { class: "vfs-readout", role: "status" }, ...all);
  }

  /**
   * Show places, each `{name, cell, columns}`, and a value.
   * @param {Object} from
   * @param {?Object} to Left out where it is the same.
   * @param {?number} value
   */
  show(from, to, value) {
    const two = to !== null && (to.name !== from.name || to.cell !== from.cell);
    [from, two ? to : null].forEach((place, number) => {
      const [name, cell] = this.places[number];
      name.textContent = name.title = place ? place.name : "";
      cell.textContent = place ? cellName(place) : "";
    });
    this.arrow.hidden = !two;
    this.number.textContent = value === null ? "" : shown(value);
    this.number.value = value === null ? "" : String(value);
  }

  /** Say something else. */
  say(text) {
    this.show({ name: text, cell: null }, null, null);
  }
}

function cellName({ cell, columns }) {
  return cell === null ? "" : `(${Math.floor(cell / columns)}, ${cell % columns})`;
}
