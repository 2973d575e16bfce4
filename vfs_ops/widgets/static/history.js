/** What undo and redo return to. */

const LIMIT = 200;

export class History {
  /** @param {Uint32Array} first The mask that undo ends at, as run lengths. */
  constructor(first) {
    this.states = [first];
    this.at = 0;
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.states.length - 1;
  }

  /** Remember a state, unless nothing changed; what was undone before is forgotten. */
  add(state) {
    const last = this.states[this.at];
    if (state.length === last.length && state.every((run, i) => run === last[i])) return false;
    this.states.splice(this.at + 1, Infinity, state);
    if (this.states.length > LIMIT) this.states.shift();
    this.at = this.states.length - 1;
    return true;
  }

  undo() {
    return this.canUndo ? this.states[--this.at] : null;
  }

  redo() {
    return this.canRedo ? this.states[++this.at] : null;
  }
}
