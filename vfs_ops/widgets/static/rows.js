/** The hits: a row of cards for each cache, one above the other. */

import { hitCard } from "./cards.js";
import { h } from "./dom.js";

const COLORS = 6; // of marks for images that rows share; see panel.css

export class Rows {
  /** @param {(name: string, image: number) => void} adopt Search from a hit. */
  constructor(adopt) {
    this.adopt = adopt;
    this.urls = [];
    this.el = h("div", { class: "vfs-rows" });
    this.rows = new Map();
  }

  /** Make a row for each cache. */
  open(caches, exported) {
    this.exported = exported;
    for (const { name, about } of caches) {
      const status = h("span", { class: "vfs-status", role: "status" });
      const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": `Progress in ${name}` });
      const cards = h("ol", { class: "vfs-cards" });
      const title = h("h3", { class: "vfs-row-title", title: about, text: name });
      const el = h("section", { class: "vfs-found", "aria-label": name },
        h("header", {}, title, status, bar), cards);
      this.rows.set(name, { el, status, bar, cards });
      this.el.append(el);
    }
    this.clear();
  }

  /** Nothing is highlighted. */
  clear() {
    this.release();
    for (const { cards, status } of this.rows.values()) {
      status.textContent = "";
      cards.replaceChildren(hint("Highlight a region of the picture to see where it is found again."));
    }
  }

  /** A search has begun; the hits of the last one stay, dimmed, until the first of the new ones. */
  wait() {
    for (const { el, bar, cards } of this.rows.values()) {
      if (!cards.querySelector(".vfs-hit")) cards.replaceChildren(hint("Searching…"));
      el.classList.add("vfs-old");
      bar.hidden = false;
      bar.removeAttribute("value");
    }
  }

  rest() {
    for (const { el, bar } of this.rows.values()) {
      el.classList.remove("vfs-old");
      bar.hidden = true;
    }
  }

  /** Show the best hits so far of one cache. */
  partial({ name, row, fraction }, buffers) {
    const { el, bar, status } = this.rows.get(name);
    el.classList.remove("vfs-old");
    bar.value = fraction;
    this.fill(name, row, buffers, new Map());
    status.textContent = `${Math.round(100 * fraction)} % searched`;
  }

  /** Show a whole answer. */
  show({ rows, overlaps, cancelled }, buffers) {
    this.release();
    const shared = sharedImages(rows);
    let at = 0;
    for (const row of rows) {
      const { status, cards } = this.rows.get(row.name);
      if (row.error) {
        cards.replaceChildren(hint(row.error, "vfs-failed"));
        status.textContent = "";
        continue;
      }
      this.fill(row.name, row, buffers.slice(at, at + row.cards.length), shared);
      at += row.cards.length;
      const images = `${row.searched.toLocaleString("en")} images in ${seconds(row.seconds)}`;
      const others = overlaps
        .filter(({ rows: names }) => names.includes(row.name))
        .map(({ rows: names, shared: count, k }) =>
          `overlap@${k} with ${names.find((name) => name !== row.name)}: ${(count / k).toFixed(2)}`);
      status.textContent = [cancelled && !row.complete ? `cancelled; ${images}` : images, ...others].join(" · ");
    }
    for (const [name, { status, cards }] of this.rows) {
      if (rows.some((row) => row.name === name)) continue;
      status.textContent = "cancelled";
      cards.replaceChildren();
    }
  }

  fill(name, { cards, core }, buffers, shared) {
    const made = cards.map((card, rank) => {
      const buffer = buffers[rank];
      let url = null;
      if (buffer.byteLength) {
        url = URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }));
        this.urls.push(url);
      }
      const adopt = this.exported ? null : () => this.adopt(name, card.image);
      return hitCard(card, { rank: rank + 1, core, url, mark: shared.get(card.key), adopt });
    });
    this.rows.get(name).cards.replaceChildren(...made);
  }

  release() {
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  }

  close() {
    this.release();
  }
}

/** Number the images that more than one row holds, so that each has a color. */
function sharedImages(rows) {
  const counts = new Map();
  for (const { cards = [] } of rows) {
    for (const key of new Set(cards.map((card) => card.key))) {
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  const keys = [...counts].filter(([, count]) => count > 1).map(([key]) => key);
  return new Map(keys.map((key, number) => [key, { number: number + 1, color: number % COLORS }]));
}

function hint(text, kind = "") {
  return h("li", { class: `vfs-hint ${kind}`, text });
}

function seconds(value) {
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(1)} s`;
}
