/** What to search for besides the region: how many hits, filters, groups; and files to save. */

import { h } from "./dom.js";

const OPERATORS = {
  text: ["==", "!=", "in", "not in"],
  number: ["==", "!=", "<", "<=", ">", ">="],
  time: ["<", "<=", ">", ">=", "==", "!="],
  truth: ["==", "!="],
  list: ["contains"],
};
const WORDS = { "==": "is", "!=": "is not", in: "is one of", "not in": "is none of", contains: "contains" };
const FILES = [["png", "PNG"], ["svg", "SVG"], ["csv", "CSV"], ["parquet", "Parquet"], ["json", "Recipe"]];

export class Controls {
  /**
   * @param {Object} panel What Python told: `columns`, `options`, `live`, `most`.
   * @param {Object} actions `search()`, `cancel()`, `changed()`, `save(kind)`.
   */
  constructor(panel, actions) {
    this.columns = panel.columns;
    this.conditions = [];
    this.changed = actions.changed;
    this.searchButton = h("button", { type: "button", class: "vfs-primary", text: "Search",
      on: { click: actions.search } });
    this.cancelButton = h("button", { type: "button", text: "Cancel", disabled: true,
      on: { click: actions.cancel } });
    this.liveBox = h("input", { type: "checkbox" });
    this.liveBox.checked = panel.live;
    this.k = h("input", { type: "number", min: 1, max: panel.most, step: 1,
      "aria-label": "Hits of each cache", on: {
        change: () => this.changed(),
        keydown: (event) => {
          if (event.key !== "Enter") return;
          this.k.blur(); // which tells of the change, in every host
          this.k.focus();
        },
      } });
    this.k.value = panel.options.k;
    this.group = h("select", { "aria-label": "One hit per", on: { change: () => this.changed() } },
      h("option", { value: "", text: "image" }),
      ...panel.columns.filter((column) => column.groups)
        .map(({ name }) => h("option", { value: name, text: name })));
    this.group.value = panel.options.unique_by ?? "";
    this.chips = h("span", { class: "vfs-chips" });
    this.files = FILES.map(([kind, label]) =>
      h("button", { type: "button", text: label, disabled: true, title: `Save as ${label}`,
        on: { click: () => actions.save(kind) } }));
    this.filter = this.filterForm();
    this.filter.hidden = true;
    this.filterButton = h("button", { type: "button", text: "Filter…", "aria-expanded": "false",
      on: { click: () => this.toggleFilter() } });
    const unit = (...children) => h("div", { class: "vfs-tools" }, ...children);
    this.el = h("div", { class: "vfs-asking" },
      unit(this.searchButton, this.cancelButton,
        h("label", { title: "Search whenever the pointer is released" }, this.liveBox, "on release")),
      unit(h("label", {}, "Hits", this.k), h("label", {}, "one per", this.group),
        this.filterButton, this.chips),
      unit(h("span", { class: "vfs-quiet", text: "Save" }), ...this.files),
      this.filter);
  }

  get live() {
    return this.liveBox.checked;
  }

  /** What Python is asked for, besides the region. */
  get options() {
    return { k: Number(this.k.value), unique_by: this.group.value || null, where: this.conditions };
  }

  busy(searching) {
    this.cancelButton.disabled = !searching;
  }

  /** There is something to save, or not. */
  found(some) {
    for (const button of this.files) button.disabled = !some;
  }

  toggleFilter(open = this.filter.hidden) {
    this.filter.hidden = !open;
    this.filterButton.setAttribute("aria-expanded", String(open));
  }

  filterForm() {
    const column = h("select", { "aria-label": "Column" },
      ...this.columns.map(({ name }) => h("option", { value: name, text: name })));
    const operator = h("select", { "aria-label": "Comparison" });
    const list = h("datalist", { id: `vfs-values-${Math.random().toString(36).slice(2)}` });
    const value = h("input", { type: "text", "aria-label": "Value", list: list.id, size: 16 });
    const choose = () => {
      const { kind, values } = this.columns.find(({ name }) => name === column.value);
      operator.replaceChildren(...OPERATORS[kind].map((sign) =>
        h("option", { value: sign, text: WORDS[sign] ?? sign })));
      list.replaceChildren(...values.map((text) => h("option", { value: text })));
      value.value = "";
    };
    column.addEventListener("change", choose);
    choose();
    const add = (event) => {
      event.preventDefault();
      if (!value.value.trim()) return;
      this.conditions.push([column.value, operator.value, value.value]);
      value.value = "";
      this.toggleFilter(false);
      this.showChips();
      this.changed();
    };
    return h("form", { class: "vfs-filter", on: { submit: add } },
      column, operator, value, list, h("button", { type: "submit", text: "Add" }));
  }

  showChips() {
    this.chips.replaceChildren(...this.conditions.map((condition, number) => {
      const [name, sign, value] = condition;
      const text = `${name} ${WORDS[sign] ?? sign} ${value}`;
      return h("button", { type: "button", class: "vfs-chip", "aria-label": `Remove the filter ${text}`,
        on: { click: () => {
          this.conditions.splice(number, 1);
          this.showChips();
          this.changed();
        } } }, text, h("span", { "aria-hidden": "true", text: "×" }));
    }));
  }
}
