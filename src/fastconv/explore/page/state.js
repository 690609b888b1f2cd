// What the page knows: settings, pictures and results, and who wants to hear of changes.

import { PRESETS } from "./arithmetic.js";

export const PAD_MODES = ["constant", "edge", "reflect", "symmetric", "wrap"];
export const POOLS = ["none", "max", "average"];
export const STAGES = ["image", "response", "rectified", "pooled"];

// The whole numbers that can be set: the least and the largest.
export const LIMITS = {
  "Kernel size": [1, 7],
  Stride: [1, 16],
  Dilation: [1, 16],
  Padding: [0, 32],
  "Pool size": [1, 16],
  "Pool stride": [1, 16],
};

export const DEFAULTS = {
  stride: 1,
  dilation: 1,
  padding: 1,
  padMode: "constant",
  relu: true,
  pool: { kind: "max", size: 2, stride: 2 },
};

export class Store {
  #values;
  #listeners = new Set();

  constructor(values) {
    this.#values = values;
  }

  get values() {
    return this.#values;
  }

  set(changes) {
    this.#values = { ...this.#values, ...changes };
    for (const listener of this.#listeners) listener(this.#values, changes);
  }

  subscribe(listener) {
    this.#listeners.add(listener);
  }
}

export function initialState(pictures) {
  return {
    view: "kernel",
    pictures,
    picture: pictures[0],
    preset: "vertical edges",
    kernel: PRESETS["vertical edges"](3),
    ...DEFAULTS,
    direction: "forward",
    selected: null, // { stage, row, column }
    shown: null, // the last results, with the picture and the settings that they are of
    gradients: null,
    error: "",
  };
}

export const settingsOf = ({ stride, dilation, padding, padMode, relu, pool }) => ({
  stride,
  dilation,
  padding,
  padMode,
  relu,
  pool: { ...pool },
});

// Read a control. What is no number of the kind is an error, which changes nothing else.
export function wholeNumber(name, text) {
  const [low, high] = LIMITS[name];
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name} must be a whole number from ${low} to ${high}`);
  }
  return value;
}

export function realNumber(name, text) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    throw new RangeError(`${name} must be a number`);
  }
  return value;
}

// The picture as one plane: of colours, the brightness that the eye sees (Rec. 601), rounded.
export function grayOf(picture) {
  const { channels, height, width } = picture;
  if (channels.length === 1) return { height, width, data: channels[0] };
  if (!grays.has(picture)) {
    const [red, green, blue] = channels;
    const gray = (_, i) => Math.round(0.299 * red[i] + 0.587 * green[i] + 0.114 * blue[i]);
    grays.set(picture, red.map(gray));
  }
  return { height, width, data: grays.get(picture) };
}

const grays = new WeakMap();

export function nested({ height, width, data }) {
  return Array.from({ length: height }, (_, row) =>
    Array.from(data.subarray(row * width, (row + 1) * width)),
  );
}

// What window.fastconv.state() returns: of one computation, never half of the next.
export function snapshot({ shown, view, error, direction, gradients }) {
  if (!shown) return null;
  const { image, kernel, settings, response, rectified, pooled } = shown;
  const planes = { image, kernel, response, rectified, pooled };
  const arrays = Object.fromEntries(
    Object.entries(planes).map(([name, plane]) => [name, nested(plane)]),
  );
  const result = { view, error, ...settings, ...arrays };
  if (direction === "backward" && gradients) {
    for (const [name, plane] of Object.entries(gradients.planes)) result[name] = nested(plane);
  }
  return result;
}
