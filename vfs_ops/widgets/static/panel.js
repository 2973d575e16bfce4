/** The picker, what to search for, and the hits of each cache in a row of their own. */

import { KernelGone } from "./channel.js";
import { Controls } from "./search_controls.js";
import { h } from "./dom.js";
import { Picker } from "./picker.js";
import { Rows } from "./rows.js";

export class Panel {
  constructor(channel, messages) {
    Object.assign(this, { channel, messages });
    this.asked = null; // the request whose answer belongs to what is highlighted now
    this.picker = new Picker(channel, messages, {
      onState: (state) => this.open(state),
      onImage: () => (this.exported || this.controls.live) && this.search(),
      onMask: (done) => done && this.controls.live && this.search(),
      onOther: (byPython) => (byPython && this.controls.live ? this.search() : this.forget()),
    });
    this.rows = new Rows((name, image) => this.adopt(name, image));
    this.place = h("div");
    this.el = h("div", { class: "vfs-search", "data-lm-suppress-shortcuts": "true" },
      h("div", { class: "vfs-split" },
        this.picker.el,
        h("div", { class: "vfs-results" }, this.place, messages.el, this.rows.el)));
    channel.on("partial", (value, buffers) => {
      if (value.request === this.asked) this.rows.partial(value, buffers);
    });
  }

  /** Make what depends on Python's state. */
  open(state) {
    this.exported = Boolean(state.exported);
    this.rows.open(state.panel.caches, this.exported);
    if (this.exported) {
      this.fixed = state.panel.options; // the page holds the answers to these alone
      this.place.remove();
      return;
    }
    this.controls = new Controls(state.panel, {
      search: () => this.search(),
      cancel: () => this.cancel(),
      save: (kind) => this.save(kind),
      changed: () => this.controls.live && this.picker.mask && this.search(),
    });
    this.place.replaceChildren(this.controls.el);
  }

  /** Search for what is highlighted. An answer to an older question is not shown. */
  async search() {
    if (!this.picker.mask) return;
    if (this.picker.mask.empty && !this.exported) {
      this.forget();
      this.cancel();
      return;
    }
    const given = { number: this.picker.number, options: this.fixed ?? this.controls.options };
    const answer = this.channel.request("search", given);
    this.asked = answer.id;
    this.controls?.busy(true);
    this.controls?.found(false); // files hold what is shown, or nothing
    this.rows.wait();
    try {
      const { value, buffers } = await answer;
      if (answer.id !== this.asked) return;
      this.messages.clear("search");
      this.rows.show(value, buffers);
      this.controls?.found(value.rows.some((row) => row.cards));
    } catch (error) {
      if (answer.id !== this.asked) return;
      this.forget();
      if (!(error instanceof KernelGone)) this.messages.show("search", error.message);
    }
    this.idle();
  }

  /** What is shown does not belong to what is highlighted: take it away. */
  forget() {
    this.asked = null;
    this.idle();
    this.controls?.found(false);
    this.rows.clear();
  }

  cancel() {
    this.channel.request("cancel").catch(() => {});
  }

  /** Nothing is being searched for any more. */
  idle() {
    this.controls?.busy(false);
    this.rows.rest();
  }

  /** Search from a hit: its image becomes the picture, its region is highlighted. */
  async adopt(name, image) {
    await this.picker.attempt("adopt", async () => {
      const { value } = await this.channel.request("adopt", { name, image });
      this.picker.setNames(value.names);
      await this.picker.openImage(value.number);
      this.picker.el.scrollIntoView({ block: "nearest" });
      if (!this.controls.live) this.search();
    });
  }

  /** Save the last answer as a file that the browser downloads. */
  async save(kind) {
    await this.picker.attempt("save", async () => {
      const { value, buffers } = await this.channel.request("file", { kind });
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: value.type }));
      h("a", { href: url, download: value.name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }

  close() {
    this.picker.close();
    this.rows.close();
  }
}
