/** Requests to Python with ids, their answers, and what Python says unasked. */

const PATIENCE = 2000; // ms that an answer may take before the kernel is asked whether it is there

/** The kernel that a request was sent to will never answer it. */
export class KernelGone extends Error {}

/**
 * One widget's line to its Python side.
 *
 * Python answers `{kind: "answer", id, value}` or `{kind: "error", id, message}`, and sends
 * `{kind: "event", name, value}` on its own; each with binary buffers.
 */
export class Channel {
  /** @param {*} model The model that anywidget gives to `render`. */
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.listeners = new Map();
    // each view of a model has a channel, and all hear every answer: their ids must not meet
    this.nextId = 1 + Math.floor(Math.random() * 2 ** 40);
    this.silence = null;
    /** Called with "silent" when the kernel does not answer, "gone" when it ended, "ok" when it does. */
    this.onState = () => {};
    this.receive = this.receive.bind(this);
    this.changed = this.changed.bind(this);
    model.on("msg:custom", this.receive);
    model.on("comm_live_update", this.changed); // hosts built on ipywidgets tell of restarts
  }

  /**
   * Ask Python.
   * @param {string} name Which handler is to answer.
   * @param {Object} [value] What JSON can hold.
   * @param {ArrayBuffer[]} [buffers]
   * @returns {Promise<{value: Object, buffers: DataView[]}>} Rejected with what Python raised; its
   *   `id` is that of the request.
   */
  request(name, value = {}, buffers = []) {
    const id = this.nextId++;
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.silence ??= setTimeout(() => this.probe(), PATIENCE);
      this.send(id, name, value, buffers);
    });
    answer.id = id;
    return answer;
  }

  /** Call `listener(value, buffers)` on each event of a name. */
  on(name, listener) {
    this.listeners.set(name, listener);
  }

  /** Stop listening; nobody is answered any more. */
  close() {
    this.model.off("msg:custom", this.receive);
    this.model.off("comm_live_update", this.changed);
    clearTimeout(this.silence);
    this.waiting.clear();
  }

  receive(message, buffers = []) {
    clearTimeout(this.silence);
    this.silence = null;
    this.onState("ok");
    if (message.kind === "event") {
      this.listeners.get(message.name)?.(message.value, buffers);
    } else if (this.waiting.has(message.id)) {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.kind === "answer") resolve({ value: message.value, buffers });
      else reject(new Error(message.message));
    }
    if (this.waiting.size) this.silence ??= setTimeout(() => this.probe(), PATIENCE);
  }

  /** An answer takes long. That of a long search may; a kernel that does not hear is busy or gone. */
  probe() {
    this.silence = setTimeout(() => this.onState("silent"), PATIENCE);
    this.send(this.nextId++, "ping", {}, []);
  }

  send(id, name, value, buffers) {
    try {
      this.model.send({ kind: "request", id, name, value }, undefined, buffers);
    } catch {
      this.end(); // a closed connection throws
    }
  }

  /** The line was cut or mended: give up what was asked, and see whether somebody is there. */
  changed() {
    clearTimeout(this.silence);
    this.abandon();
    this.silence = setTimeout(() => this.end(), PATIENCE);
    this.send(this.nextId++, "ping", {}, []);
  }

  end() {
    clearTimeout(this.silence);
    this.silence = null;
    this.onState("gone");
    this.abandon();
  }

  abandon() {
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(new KernelGone("The kernel ended."));
  }
}
