/** What went wrong or is going on, said in the widget itself. */

import { h } from "./dom.js";

const STATES = {
  gone: "The kernel was restarted or ended, and this widget with it. Run its cell again.",
  silent:
    "The kernel does not answer. If it is busy, this goes on when it is done; " +
    "if it was restarted, run this cell again.",
};

/** A place for messages; each subject holds one at most. */
export class Messages {
  constructor() {
    this.el = h("div", { class: "vfs-messages", role: "status", "aria-live": "polite" });
    this.shown = new Map();
  }

  /**
   * Show a message in place of the last one of its subject.
   * @param {string} subject
   * @param {string} text
   * @param {"bad"|"plain"} [tone]
   */
  show(subject, text, tone = "bad") {
    this.clear(subject);
    const close = h("button", { type: "button", "aria-label": "Close this message", text: "×" });
    const box = h("div", { class: "vfs-message", "data-tone": tone }, h("span", { text }), close);
    close.addEventListener("click", () => this.clear(subject));
    this.shown.set(subject, box);
    this.el.append(box);
  }

  /** Take a subject's message away. */
  clear(subject) {
    this.shown.get(subject)?.remove();
    this.shown.delete(subject);
  }

  /** Say what a channel's state means; "ok" takes it away. */
  kernel(state) {
    if (state in STATES) {
      if (!this.shown.has(state)) this.show(state, STATES[state]);
    } else {
      for (const name of Object.keys(STATES)) this.clear(name);
    }
  }
}
