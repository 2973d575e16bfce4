/** Shows a widget that was saved as a page: a stand-in takes the place of model and kernel. */

/** The model of a saved widget: its state, and the answers that were saved with it. */
export class SavedModel {
  constructor(state, replies) {
    this.state = { ...state };
    this.replies = new Map(replies.map((reply) => [keyOf(reply.name, reply.value), reply]));
    this.listeners = new Map();
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.emit(`change:${name}`);
    this.emit("change");
  }

  save_changes() {}

  on(name, listener) {
    if (!this.listeners.has(name)) this.listeners.set(name, new Set());
    this.listeners.get(name).add(listener);
  }

  off(name, listener) {
    this.listeners.get(name)?.delete(listener);
  }

  send({ id, name, value }) {
    const reply = this.replies.get(keyOf(name, value));
    const message = "This figure was saved without an answer to that; open it in a notebook.";
    const answer = reply
      ? [{ kind: "answer", id, value: reply.answer }, reply.buffers.map(decoded)]
      : [name === "ping" ? { kind: "answer", id, value: {} } : { kind: "error", id, message }, []];
    queueMicrotask(() => this.emit("msg:custom", ...answer));
  }

  emit(name, ...values) {
    for (const listener of [...(this.listeners.get(name) ?? [])]) listener(...values);
  }
}

async function show() {
  const saved = JSON.parse(document.getElementById("saved").textContent);
  const style = document.createElement("style");
  style.textContent = saved.css;
  document.head.append(style);
  const module = URL.createObjectURL(new Blob([saved.module], { type: "text/javascript" }));
  const { default: widget } = await import(module);
  URL.revokeObjectURL(module);
  const model = new SavedModel(saved.state, saved.replies);
  const el = document.getElementById("figure");
  await widget.initialize?.({ model });
  await widget.render({ model, el });
}

function keyOf(name, value) {
  return `${name} ${JSON.stringify(sorted(value))}`;
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new DataView(bytes.buffer);
}

export default show();
