/** Pointers and keys on panels, as an overlay understands them. */

/** What the help says. */
export const HELP = [
  ["Pointer", "Move over an image: every cell is coloured by how similar it is to the one below."],
  ["Click, tap", "Pin that cell, then move on to read values. Click it again to let go."],
  ["Touch", "Drag sideways to read values; a tap pins."],
  ["Arrow keys", "Go from cell to cell. Home and End: to the ends of the row."],
  ["Page Up, Page Down", "Go to the image before or after."],
  ["Enter, Space", "Pin the cell, or let go."],
  ["Escape", "Let go of the pinned cell."],
];

/**
 * Listen to the panels' pointers and keys.
 * @param {Panels} panels
 * @param {{look: Function, leave: Function, choose: Function, release: Function, cursor: Function}}
 *   view What they lead to.
 */
export function listenTo(panels, view) {
  const on = (name, listener) => panels.el.addEventListener(name, listener);
  const pointed = (event) => {
    // a finger's events all go to where it came down, so look where it is
    const under = panels.el.getRootNode().elementFromPoint(event.clientX, event.clientY);
    const panel = under && panels.of(under);
    const cell = panel ? panel.cellUnder(event) : -1;
    if (cell < 0) view.leave();
    else view.look(panel, cell);
  };
  on("pointermove", pointed);
  on("pointerdown", pointed);
  on("pointerleave", () => view.leave());
  on("click", (event) => {
    const panel = panels.of(event.target);
    const cell = panel ? panel.cellUnder(event) : -1;
    if (cell >= 0) view.choose(panel, cell);
  });
  on("focusin", (event) => {
    const panel = panels.of(event.target);
    if (!panel) return;
    panels.focusable(panel);
    if (event.target.matches(":focus-visible")) view.look(panel, view.cursor(panel));
  });
  on("keydown", (event) => {
    const panel = panels.of(event.target);
    if (!panel || event.altKey || event.ctrlKey || event.metaKey) return;
    const moved = cellAfter(event.key, panel.grid, view.cursor(panel));
    if (moved >= 0) view.look(panel, moved);
    else if (event.key === "PageDown") panels.neighbour(panel, 1).frame.focus();
    else if (event.key === "PageUp") panels.neighbour(panel, -1).frame.focus();
    else if (event.key === "Enter" || event.key === " ") view.choose(panel, view.cursor(panel));
    else if (event.key === "Escape") view.release();
    else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has keys of its own
  });
}

function cellAfter(key, { rows, columns }, now) {
  const [row, column] = [Math.floor(now / columns), now % columns];
  const moves = {
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    Home: [row, 0],
    End: [row, columns - 1],
  };
  if (!(key in moves)) return -1;
  const [y, x] = moves[key];
  return Math.max(0, Math.min(rows - 1, y)) * columns + Math.max(0, Math.min(columns - 1, x));
}
