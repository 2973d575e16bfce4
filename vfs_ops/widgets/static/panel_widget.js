/** The entry of SearchPanel. */

import { Channel } from "./channel.js";
import { h } from "./dom.js";
import { Messages } from "./messages.js";
import { Panel } from "./panel.js";

function render({ model, el }) {
  const messages = new Messages();
  const channel = new Channel(model);
  const panel = new Panel(channel, messages);
  channel.onState = (state) => {
    messages.kernel(state);
    if (state === "gone") panel.idle();
  };
  el.append(h("div", { class: "vfs" }, panel.el));
  return () => {
    panel.close();
    channel.close();
  };
}

export default { render };
