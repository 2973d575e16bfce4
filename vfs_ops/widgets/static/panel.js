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
    this.running = null; // the request that Python works on and its image, of this view or another
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
    channel.on("searching", (value) => this.began(value));
    channel.on("ended", ({ request }) => this.ended(request));
  }

  /** Make what depends on Python's state. */
  open(state) {
    this.exported = Boolean(state.exported);
    this.rows.open(state.panel.caches, this.exported);
    if (this.exported) {
      this.fixed = state.panel.options; // the page holds the answers to these alone
      this.place.replaceChildren(h("div", { class: "vfs-quiet", text: state.asked }));
      this.el.prepend(h("div", { class: "vfs-title", text: state.title }));
      return;
    }
    this.controls = new Controls(state.panel, {
      search: () => this.search(),
      cancel: () => this.cancel(),
      save: (kind) => this.save(kind),
      changed: () => this.controls.live && this.picker.mask && this.search(),
    });
    this.place.replaceChildren(this.controls.el);
    if (state.panel.searching) this.began(state.panel.searching);
  }

  /** Search for what is highlighted. An answer to an older question is not shown. */
  async search() {
    if (!this.picker.mask) return;
    if (this.picker.mask.empty && !this.exported) {
      this.forget();
      if (this.running?.number === this.picker.number) this.cancel();
      return;
    }
    const { number } = this.picker;
    const answer = this.channel.request("search", { number, options: this.fixed ?? this.controls.options });
    this.asked = answer.id;
    this.began({ request: answer.id, number });
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
    } finally {
      this.ended(answer.id);
    }
    this.rows.rest();
  }

  /** What is shown does not belong to what is highlighted: take it away. */
  forget() {
    this.asked = null;
    this.rows.rest();
    this.controls?.found(false);
    this.rows.clear();
  }

  /** Stop the search that is running, of this view or another. */
  cancel() {
    if (this.running) this.channel.request("cancel", { request: this.running.request }).catch(() => {});
  }

  began(running) {
    this.running = running;
    this.controls?.busy(true);
  }

  ended(request) {
    if (this.running?.request !== request) return; // another one runs
    this.running = null;
    this.controls?.busy(false);
  }

  /** Nothing is being searched for any more: the kernel is gone. */
  idle() {
    this.ended(this.running?.request);
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
