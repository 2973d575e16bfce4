/** What a figure is made of: pictures and numbers, fetched once, in messages that servers let pass. */

/** Named bytes that arrive in pieces. */
export class Blobs {
  /** @param {number} total Bytes in all. */
  constructor(total) {
    this.total = total;
    this.arrived = 0;
    this.parts = new Map();
    this.whole = new Map();
  }

  /**
   * Fetch everything, one message after the other; nothing, if it is all there.
   * @param {{request: Function}} channel
   * @param {number} messages
   * @param {() => void} onMessage Called after each message.
   * @param {(name: string) => void} onWhole Called for each name that is complete.
   */
  async load(channel, messages, onMessage, onWhole) {
    if (this.arrived === this.total) this.whole.forEach((_, name) => onWhole(name));
    for (let number = 0; this.arrived < this.total && number < messages; number++) {
      const { value, buffers } = await channel.request("data", { number });
      value.pieces.forEach((piece, place) => this.add(piece, buffers[place], onWhole));
      onMessage();
    }
  }

  add({ name, start, total }, buffer, onWhole) {
    if (!this.parts.has(name)) this.parts.set(name, { bytes: new Uint8Array(total), done: 0 });
    const part = this.parts.get(name);
    const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    part.bytes.set(bytes, start);
    part.done += bytes.length;
    this.arrived += bytes.length;
    if (part.done === total) {
      this.parts.delete(name);
      this.whole.set(name, part.bytes);
      onWhole(name);
    }
  }

  /** Return a blob as float32 numbers; undefined while it is not whole. */
  floats(name) {
    const bytes = this.whole.get(name);
    return bytes && new Float32Array(bytes.buffer);
  }

  /** Return a blob as int32 numbers. */
  integers(name) {
    const bytes = this.whole.get(name);
    return bytes && new Int32Array(bytes.buffer);
  }

  /** Return a blob's bytes. */
  bytes(name) {
    return this.whole.get(name);
  }
}

const loaded = new WeakMap();

/**
 * Return the blobs of a figure: those that another view of it has, if that has all.
 * @param {Object} figure The very object that the model holds.
 * @returns {Blobs}
 */
export function blobsOf(figure) {
  const known = loaded.get(figure);
  if (known && known.arrived === known.total) return known;
  const blobs = new Blobs(figure.bytes);
  loaded.set(figure, blobs);
  return blobs;
}
