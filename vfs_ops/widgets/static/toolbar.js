/** The buttons and sliders above the picture, and the list of shortcuts. */

import { h, icon } from "./dom.js";

const TOOLS = [
  ["brush", "Brush", "B", "M20 4 10 14M10 14c-3 0-4 2-4 4 0 1-1 2-2 2 3 1 8 0 8-4z"],
  ["eraser", "Eraser", "E", "M9 20h11M5 13l8-8 6 6-8 8H9l-4-4z"],
  ["rectangle", "Rectangle", "R", "M4 6h16v12H4z"],
  ["polygon", "Polygon", "P", "M12 3l8 7-3 10H7L4 10z"],
  ["lasso", "Lasso", "L", "M12 4c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM7 13c-2 1-2 3 0 3s2 3-1 4"],
  ["similar", "Fill similar cells", "F", "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM17 14v6M14 17h6"],
  ["move", "Move the enlarged picture", "M", "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3"],
];
const ACTIONS = [
  ["invert", "Invert", "I", "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16"],
  ["clear", "Clear", "Delete", "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13"],
  ["undo", "Undo", "Ctrl+Z", "M4 9h10a5 5 0 0 1 0 10h-4M4 9l4-4M4 9l4 4"],
  ["redo", "Redo", "Ctrl+Shift+Z", "M20 9H10a5 5 0 0 0 0 10h4M20 9l-4-4M20 9l-4 4"],
];
const HELP = [
  ["Drag", "paint; with Shift erase"],
  ["Wheel, [ and ]", "size of the brush"],
  ["Ctrl+wheel, + − 0", "zoom in, out, whole picture"],
  ["Arrow keys", "move the cell cursor"],
  ["Space", "paint the cell, or fill from it; with Shift erase"],
  ["Enter, Esc", "close the polygon, give it up"],
  ["C", "show the cells that are searched for"],
  ...[...TOOLS, ...ACTIONS].map(([, label, key]) => [key, label.toLowerCase()]),
];

export class Toolbar {
  /**
   * @param {Object} actions `choose(tool)`, `invert()`, `clear()`, `undo()`, `redo()`, `zoom(step)`,
   *   `set(name, value)` for what sliders and boxes set.
   */
  constructor(actions) {
    this.tools = new Map();
    this.buttons = new Map();
    const tool = ([name, label, key, path]) => {
      const button = iconButton(label, key, path, () => actions.choose(name));
      button.setAttribute("role", "radio");
      this.tools.set(name, button);
      return button;
    };
    const action = ([name, label, key, path]) => {
      const button = iconButton(label, key, path, () => actions[name]());
      this.buttons.set(name, button);
      return button;
    };
    const slider = (name, label, min, max, step, value) => {
      const input = h("input", {
        type: "range", min, max, step, value, "aria-label": label, title: label,
        on: { input: () => actions.set(name, Number(input.value)) },
      });
      return input;
    };
    this.radius = slider("radius", "Radius of the brush in pixels", 1, 100, 1, 10);
    this.threshold = slider("threshold", "Least similarity", -1, 1, 0.01, 0.5);
    this.opacity = slider("opacity", "Opacity of the picture", 0.1, 1, 0.05, 1);
    this.shownThreshold = h("output", { class: "vfs-number" });
    this.sized = h("label", {}, "Size", this.radius);
    this.similar = h("label", {}, "At least", this.threshold, this.shownThreshold);
    this.grids = h("select", {
      "aria-label": "Cells of", on: { change: () => actions.set("grid", this.grids.value) },
    });
    this.cells = h("input", {
      type: "checkbox", on: { change: () => actions.set("cells", this.cells.checked) },
    });
    this.cellsLabel = h("label", { title: "The weighted cells that the search uses" }, this.cells, "Cells");
    this.shownZoom = h("output", { class: "vfs-number" });
    const zoom = (label, key, text, step) =>
      h("button", { type: "button", class: "vfs-icon", title: `${label} (${key})`,
        "aria-label": label, text, on: { click: () => actions.zoom(step) } });
    this.help = helpPanel();
    this.helpButton = h("button", {
      type: "button", class: "vfs-icon", text: "?", "aria-label": "Shortcuts", title: "Shortcuts (?)",
      "aria-expanded": "false", "aria-controls": this.help.id, on: { click: () => this.toggleHelp() },
    });
    const group = (label, ...children) =>
      h("div", { class: "vfs-tools", role: "group", "aria-label": label }, ...children);
    const choices = group("Tools", ...TOOLS.map(tool));
    choices.setAttribute("role", "radiogroup");
    this.el = h("div", { class: "vfs-toolbar", role: "toolbar", "aria-label": "Highlighting" },
      choices,
      group("Changes", ...ACTIONS.map(action)),
      group("Tool options", this.sized, this.similar),
      group("View",
        h("label", {}, "Picture", this.opacity), this.cellsLabel, this.grids,
        h("span", { class: "vfs-unit" },
          zoom("Zoom out", "−", "−", -1), this.shownZoom, zoom("Zoom in", "+", "+", 1),
          this.helpButton)),
      this.help,
    );
  }

  toggleHelp(open = this.help.hidden) {
    this.help.hidden = !open;
    this.helpButton.setAttribute("aria-expanded", String(open));
  }

  /** Show a state: all that the buttons and sliders tell. */
  update(state) {
    for (const [name, button] of this.tools) {
      const chosen = name === state.tool;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    this.tools.get("similar").hidden = !state.canFill;
    this.tools.get("move").disabled = state.zoom === 1;
    this.buttons.get("undo").disabled = !state.canUndo;
    this.buttons.get("redo").disabled = !state.canRedo;
    this.sized.hidden = !["brush", "eraser"].includes(state.tool);
    this.similar.hidden = state.tool !== "similar";
    this.radius.max = state.maxRadius;
    this.radius.value = state.radius;
    this.threshold.value = state.threshold;
    this.shownThreshold.textContent = state.threshold.toFixed(2);
    this.opacity.value = state.opacity;
    this.cells.checked = state.cells;
    this.cellsLabel.hidden = !state.grids.length;
    this.grids.hidden = state.grids.length < 2 || !state.cells;
    if (this.grids.length !== state.grids.length) {
      this.grids.replaceChildren(...state.grids.map((name) => h("option", { value: name, text: name })));
    }
    this.shownZoom.textContent = `${Math.round(100 * state.zoom)} %`;
  }

  /** Move between the tools with the arrow keys, as in a group of radio buttons. */
  nextTool(step) {
    const names = [...this.tools].filter(([, b]) => !b.hidden && !b.disabled).map(([name]) => name);
    const at = names.findIndex((name) => this.tools.get(name).tabIndex === 0);
    const name = names[(at + step + names.length) % names.length];
    this.tools.get(name).click();
    this.tools.get(name).focus();
  }
}

/** Return which tool or action a key stands for. */
export function shortcut(key) {
  const upper = key.length === 1 ? key.toUpperCase() : key;
  const tool = TOOLS.find((entry) => entry[2] === upper);
  const action = ACTIONS.find((entry) => entry[2] === upper);
  return { tool: tool?.[0], action: upper === "Backspace" ? "clear" : action?.[0] };
}

function iconButton(label, key, path, click) {
  return h("button", { type: "button", class: "vfs-icon", title: `${label} (${key})`,
    "aria-label": label, on: { click } }, icon(path));
}

let panels = 0;

function helpPanel() {
  const rows = HELP.map(([keys, what]) => h("div", {}, h("dt", { text: keys }), h("dd", { text: what })));
  panels += 1;
  return h("div", { class: "vfs-keys", id: `vfs-help-${panels}`, role: "note", hidden: true },
    h("dl", {}, ...rows));
}
