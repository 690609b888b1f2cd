// How questions reach fastconv and answers come back: the format of messages, and the server.

import { rectify } from "./arithmetic.js";

const DTYPES = {
  uint8: Uint8Array,
  int32: Int32Array,
  float32: Float32Array,
  float64: Float64Array,
};
const ALIGNMENT = 8;

const alignedSize = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
const dtypeOf = (data) =>
  Object.keys(DTYPES).find((name) => data.constructor.name === DTYPES[name].name);

// Settings and arrays { name: { shape, data } } as the bytes of a message.
export function packMessage(settings, arrays = {}) {
  const entries = Object.entries(arrays);
  const described = entries.map(([name, { shape, data }]) => ({ name, shape, dtype: dtypeOf(data) }));
  const text = new TextEncoder().encode(JSON.stringify({ settings, arrays: described }));
  const start = alignedSize(4 + text.length);
  const total = entries.reduce((sum, [, { data }]) => sum + alignedSize(data.byteLength), start);
  const bytes = new Uint8Array(total);
  new DataView(bytes.buffer).setUint32(0, start - 4, true);
  bytes.fill(32, 4, start);
  bytes.set(text, 4);
  let at = start;
  for (const [, { data }] of entries) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += alignedSize(data.byteLength);
  }
  return bytes;
}

// The reverse. The arrays are views of the buffer.
export function unpackMessage(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  let at = 4 + length;
  for (const { name, dtype, shape } of header.arrays) {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = new DTYPES[dtype](buffer, at, size);
    arrays[name] = { shape, data };
    at += alignedSize(data.byteLength);
  }
  return { settings: header.settings, arrays };
}

export const asArray = ({ height, width, data }) => ({ shape: [height, width], data });
export const asPlane = ({ shape: [height, width], data }) => ({ height, width, data });

// The pictures of the first answer.
export function picturesOf({ settings, arrays }) {
  return settings.pictures.map(({ name, high }, i) => {
    const { shape, data } = arrays[`picture${i}`];
    return pictureOf(name, high, shape, data);
  });
}

export function pictureOf(name, high, [count, height, width], data) {
  const size = height * width;
  const channels = Array.from({ length: count }, (_, c) => data.slice(c * size, (c + 1) * size));
  return { name, high, height, width, channels };
}

export const pictureArray = ({ channels, height, width }) => {
  const data = new channels[0].constructor(channels.length * height * width);
  channels.forEach((channel, c) => data.set(channel, c * height * width));
  return { shape: [channels.length, height, width], data };
};

// Asks the server that the page comes from.
export class ServerBackend {
  #names = new WeakMap();

  async ask(question, settings = {}, arrays = {}) {
    let response;
    try {
      response = await fetch(question, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: packMessage(settings, arrays),
      });
    } catch {
      throw new Error("fastconv does not answer: is it still running?");
    }
    if (!response.ok) {
      const error = new Error((await response.json()).error);
      error.isForgotten = response.status === 410;
      throw error;
    }
    return unpackMessage(await response.arrayBuffer());
  }

  start() {
    return this.ask("start");
  }

  // The server keeps images for a while under names, so that they are sent only once.
  async #askOf(image, question, settings, arrays) {
    const name = this.#names.get(image.data);
    let answer;
    try {
      answer = name
        ? await this.ask(question, { ...settings, image: name }, arrays)
        : await this.ask(question, settings, { ...arrays, image: asArray(image) });
    } catch (error) {
      if (!error.isForgotten) throw error;
      answer = await this.ask(question, settings, { ...arrays, image: asArray(image) });
    }
    this.#names.set(image.data, answer.settings.image);
    return answer.arrays;
  }

  async forward(image, kernel, settings) {
    const arrays = await this.#askOf(image, "forward", settings, { kernel: asArray(kernel) });
    // The rectified picture, and a pooled one that is the same, are not sent: to receive a megabyte
    // takes a browser longer than fastconv takes for all pictures.
    const response = asPlane(arrays.response);
    const rectified = settings.relu ? rectify(response) : response;
    return { response, rectified, pooled: arrays.pooled ? asPlane(arrays.pooled) : rectified };
  }

  async backward(image, kernel, settings, pictures, place) {
    const all = { ...settings, ...place };
    const arrays = await this.#askOf(image, "backward", all, { kernel: asArray(kernel) });
    return Object.fromEntries(Object.entries(arrays).map(([name, a]) => [name, asPlane(a)]));
  }

  maps(picture) {
    return this.ask("maps", { high: picture.high }, { image: pictureArray(picture) });
  }

  channel(picture, layer, channel) {
    const image = pictureArray(picture);
    return this.ask("channel", { high: picture.high, layer, channel }, { image });
  }

  maximum(layer, channel) {
    return this.ask("maximum", { layer, channel });
  }
}
