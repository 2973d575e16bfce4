/** Numbers in the binary buffers of messages, which come as views at any offset. */

/** @param {DataView} view @returns {Uint8Array} */
export function bytes(view) {
  return new Uint8Array(own(view));
}

/** @param {DataView} view @returns {Uint32Array} */
export function words(view) {
  return new Uint32Array(own(view));
}

/** @param {DataView} view @returns {Float32Array} */
export function floats(view) {
  return new Float32Array(own(view));
}

function own(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}
