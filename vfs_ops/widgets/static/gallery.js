/** A strip of small pictures to choose from; they come as they are scrolled into sight. */

import { h } from "./dom.js";

export class Gallery {
  /**
   * @param {Object} source `names` of the pictures, `load(number)` → promise of a JPEG.
   * @param {(number: number) => void} choose
   */
  constructor({ names, load }, choose) {
    this.load = load;
    this.urls = [];
    this.items = names.map((name, number) =>
      h("button", { type: "button", class: "vfs-thumb", role: "option", title: name,
        "aria-label": name, "data-number": number, tabindex: -1,
        on: { click: () => choose(number) } }));
    this.el = h("div", { class: "vfs-gallery", role: "listbox", "aria-label": "Images",
      "aria-orientation": "horizontal", on: { keydown: (event) => this.keydown(event) } }, ...this.items);
    this.observer = new IntersectionObserver(
      (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => this.need(e.target)),
      { root: this.el, rootMargin: "200px" },
    );
    for (const item of this.items) this.observer.observe(item);
  }

  /** Mark the picture that is shown. */
  select(number) {
    this.items.forEach((item, i) => {
      item.setAttribute("aria-selected", String(i === number));
      item.tabIndex = i === number ? 0 : -1;
    });
    const item = this.items[number];
    const middle = item.offsetLeft - (this.el.clientWidth - item.clientWidth) / 2;
    this.el.scrollTo({ left: middle });
  }

  async need(item) {
    this.observer.unobserve(item);
    try {
      const buffer = await this.load(Number(item.dataset.number));
      const url = URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }));
      this.urls.push(url);
      item.replaceChildren(h("img", { src: url, alt: "" }));
    } catch {
      item.textContent = "✕"; // the reason is told when it is chosen
    }
  }

  keydown(event) {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const at = this.items.indexOf(event.target);
    const next = this.items[at + (steps[event.key] ?? NaN)];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  }

  close() {
    this.observer.disconnect();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
  }
}
