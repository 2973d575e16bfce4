/** The entry of RegionPicker. */

import { Channel } from "./channel.js";
import { h } from "./dom.js";
import { Messages } from "./messages.js";
import { Picker } from "./picker.js";

function render({ model, el }) {
  const messages = new Messages();
  const channel = new Channel(model);
  channel.onState = (state) => messages.kernel(state);
  const picker = new Picker(channel, messages);
  // below: what is said during a stroke may not move the picture away from the pointer
  el.append(h("div", { class: "vfs" }, picker.el, messages.el));
  return () => {
    picker.close();
    channel.close();
  };
}

export default { render };
