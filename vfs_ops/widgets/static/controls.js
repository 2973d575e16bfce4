/** The bar of controls: each bound to one of the model's traits, both ways. */

import { h } from "./dom.js";

/** Controls of one model, and the listeners to take away in the end. */
export class Controls {
  constructor(model) {
    this.model = model;
    this.bound = [];
    this.el = h("div", { class: "vfs-controls", role: "group", "aria-label": "Display" });
  }

  /** Add a choice of words. */
  choice(name, label, options) {
    const made = options.map(([value, text]) => h("option", { value, text }));
    const select = h("select", { "data-trait": name }, ...made);
    this.bind(name, select, "change", (value) => value);
    this.el.append(h("label", {}, label, select));
  }

  /** Add a slider from 0 to 1. */
  slider(name, label) {
    const input = h("input", { type: "range", min: 0, max: 1, step: 0.01, "data-trait": name });
    this.bind(name, input, "input", Number);
    this.el.append(h("label", {}, label, input));
  }

  /** Add a button; it is returned. */
  button(text, onClick, attributes = {}) {
    const button = h("button", { type: "button", text, on: { click: onClick }, ...attributes });
    this.el.append(button);
    return button;
  }

  /** Add a button that shows and hides a list of keys and gestures. */
  help(lines) {
    const entries = lines.flatMap(([key, what]) => [h("dt", { text: key }), h("dd", { text: what })]);
    this.helpText = h("dl", { class: "vfs-help", hidden: true }, ...entries);
    const button = this.button("?", () => {
      this.helpText.hidden = !this.helpText.hidden;
      button.setAttribute("aria-expanded", String(!this.helpText.hidden));
    }, { class: "vfs-icon vfs-last", "aria-label": "Keys and gestures", "aria-expanded": "false" });
    return this.helpText;
  }

  bind(name, element, event, read) {
    const show = () => { element.value = String(this.model.get(name)); };
    show();
    element.addEventListener(event, () => {
      this.model.set(name, read(element.value));
      this.model.save_changes();
    });
    this.model.on(`change:${name}`, show);
    this.bound.push([`change:${name}`, show]);
  }

  /** Take the listeners away. */
  close() {
    for (const [event, listener] of this.bound) this.model.off(event, listener);
  }
}
