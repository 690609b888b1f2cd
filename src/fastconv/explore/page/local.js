// Answers the page's questions without a server, from what is embedded in the page.

import { backward, forward } from "./arithmetic.js";
import { classActivation, inputOf, runLayers, softmax } from "./network_arithmetic.js";

export class LocalBackend {
  constructor({ settings, arrays }) {
    this.arrays = arrays;
    this.network = settings.network;
    this.layers = (settings.layers ?? []).map((layer, i) => ({
      ...layer,
      W: arrays[`W${i}`],
      b: arrays[`b${i}`],
    }));
  }

  async forward(image, kernel, settings) {
    return forward(image, kernel, settings);
  }

  async backward(image, kernel, settings, pictures, place) {
    return backward(image, kernel, settings, pictures, place);
  }

  #outputs(picture) {
    // Moving over one picture asks for its maps again and again.
    if (this.known?.picture !== picture) {
      const input = inputOf(picture, this.network.shape);
      this.known = { picture, input, outputs: runLayers(this.layers, input) };
    }
    return this.known;
  }

  async maps(picture) {
    const { input, outputs } = this.#outputs(picture);
    const scores = outputs.at(-1);
    const arrays = { input, scores, probabilities: { ...scores, data: softmax(scores.data) } };
    outputs.forEach((output, i) => (arrays[`map${i}`] = output));
    const heat = classActivation(this.layers, outputs, this.network.shape.slice(1));
    const noHeat = "a saved page computes it for networks that end with means and a product";
    return heat ? { settings: {}, arrays: { ...arrays, heat } } : { settings: { noHeat }, arrays };
  }

  async channel(picture, name, channel) {
    const place = this.#place(name);
    const { shape, data } = this.#outputs(picture).outputs[place];
    const [height, width] = shape.length === 3 ? shape.slice(1) : [1, 1];
    const map = data.slice(channel * height * width, (channel + 1) * height * width);
    const arrays = { map: { shape: [height, width], data: map } };
    for (const part of ["filter", "filterBefore"]) {
      const weights = this.arrays[`${part}${place}`];
      if (weights) arrays[part] = partOf(weights, channel);
    }
    const places = this.arrays[`best${place}`];
    const values = this.arrays[`bestValues${place}`];
    const [count, channels] = places.shape;
    const chosen = Array.from({ length: count }, (_, i) => i * channels + channel);
    arrays.bestValues = { shape: [count], data: Float32Array.from(chosen, (i) => values.data[i]) };
    const images = chosen.map((i) => partOf(this.arrays.images, places.data[i]));
    const best = new Uint8Array(count * images[0].data.length);
    images.forEach((image, i) => best.set(image.data, i * image.data.length));
    arrays.best = { shape: [count, ...images[0].shape], data: best };
    return { settings: {}, arrays };
  }

  async maximum(name, channel) {
    const of = this.layers[this.#place(name)].of;
    const place = this.#place(of);
    const activations = partOf(this.arrays[`activations${place}`], channel);
    const image = partOf(this.arrays[`maximum${place}`], channel);
    return { settings: { of, activations: Array.from(activations.data) }, arrays: { image } };
  }

  #place(name) {
    return this.layers.findIndex((layer) => layer.name === name);
  }
}

function partOf({ shape, data }, place) {
  const size = shape.slice(1).reduce((a, b) => a * b, 1);
  return { shape: shape.slice(1), data: data.subarray(place * size, (place + 1) * size) };
}
