// The network view: feature maps of all layers, and all about one channel.

import { SCALES, brief, drawScaled, frame, grayLook, imageOf, pictureCanvas, rangeOf, signedLook, sized } from "./drawing.js";
import { button, choice, h, labelled, setOptions } from "./elements.js";
import { asPlane, pictureOf } from "./messages.js";

const FIELD = "#d6005c";
const THUMBNAIL_PIXELS = 88;
const TOP_SCORES = 10;
const STRIP_PADDING = 16;

const planeAt = ({ shape, data }, channel) => {
  const [height, width] = shape.length === 3 ? shape.slice(1) : [1, 1];
  return { height, width, data: data.subarray(channel * height * width, (channel + 1) * height * width) };
};

export class NetworkView {
  #busy = null;
  #again = false;
  #maps = null;
  #channel = null;
  #maximum = null;
  #pointed = null; // { row, column } in the chosen map

  constructor(store, backend, network) {
    this.store = store;
    this.backend = backend;
    this.network = network;
    this.layer = network.layers[0].name;
    this.place = 0;
    this.opacity = 0.6;
    this.overlay = "channel";
    this.element = h("div", { className: "view network-view" }, this.#controls(), this.#main());
    this.element.hidden = true;
  }

  // ---- questions -------------------------------------------------------------------------------

  request() {
    this.#again = true;
    this.#busy ??= this.#run().finally(() => (this.#busy = null));
    return this.#busy;
  }

  get idle() {
    return this.#busy ?? Promise.resolve();
  }

  async #run() {
    let mapped = this.#maps?.picture;
    while (this.#again) {
      this.#again = false;
      const { picture } = this.store.values;
      const { layer, place } = this;
      try {
        if (mapped !== picture) {
          this.#maps = { ...(await this.backend.maps(picture)), picture };
          mapped = picture;
        }
        const channel = await this.backend.channel(picture, layer, place);
        const isOther = this.#channel?.layer !== layer || this.#channel.place !== place;
        this.#channel = { ...channel, layer, place };
        if (isOther) {
          this.#maximum = null;
          this.#pointed = null;
        }
        this.store.set({ error: "" });
        this.draw();
        if (isOther) this.#reveal();
        if (!this.#maximum && this.network.canMaximize && !this.#again) {
          this.#maximum = await this.backend.maximum(layer, place);
          this.draw();
        }
      } catch (error) {
        if (!this.#again) this.store.set({ error: error.message });
      }
    }
  }

  choose(layer, place) {
    const { shape } = this.#entry(layer);
    this.layer = layer;
    this.place = Math.min(Math.max(place, 0), shape[0] - 1);
    this.layerSelect.value = layer;
    this.channelInput.max = shape[0] - 1;
    if (document.activeElement !== this.channelInput) this.channelInput.value = this.place;
    this.request();
  }

  // Deep networks are wider than any screen.
  #reveal() {
    const buttons = this.thumbs?.get(this.#channel.layer);
    if (!buttons) return;
    const column = buttons[0].element.closest(".layer").getBoundingClientRect();
    const strip = this.strip.getBoundingClientRect();
    if (column.left < strip.left || column.right > strip.right) {
      this.strip.scrollLeft += column.left - strip.left - STRIP_PADDING;
    }
  }

  #entry(name) {
    return this.network.layers.find((layer) => layer.name === name);
  }

  // ---- elements --------------------------------------------------------------------------------

  #controls() {
    const names = this.network.layers.map(({ name }) => name);
    this.layerSelect = choice(names, this.layer, (name) => this.choose(name, 0));
    this.channelInput = h("input", {
      type: "number", min: 0, max: this.network.layers[0].shape[0] - 1, value: 0,
      oninput: () => {
        const place = Number(this.channelInput.value);
        const count = this.#entry(this.layer).shape[0];
        if (this.channelInput.value === "" || !Number.isInteger(place) || place < 0 || place >= count) {
          this.channelInput.setAttribute("aria-invalid", "true");
          this.store.set({ error: `Channel must be a whole number from 0 to ${count - 1}` });
        } else {
          this.channelInput.removeAttribute("aria-invalid");
          this.choose(this.layer, place);
        }
      },
      onblur: () => {
        if (!this.channelInput.hasAttribute("aria-invalid")) return;
        this.channelInput.removeAttribute("aria-invalid");
        this.channelInput.value = this.place;
        this.store.set({ error: "" });
      },
    });
    this.overlaySelect = choice(["channel", "class activation map"], "channel", (overlay) => {
      this.overlay = overlay;
      this.draw();
    });
    this.opacityInput = h("input", {
      type: "range", min: 0, max: 1, step: 0.05, value: this.opacity,
      oninput: () => {
        this.opacity = Number(this.opacityInput.value);
        this.draw();
      },
    });
    this.scores = h("div", { className: "scores" });
    return h("aside", { className: "controls" },
      h("fieldset", {}, h("legend", {}, "Channel"),
        h("div", { className: "row" }, labelled("Layer", this.layerSelect), labelled("Channel", this.channelInput))),
      h("fieldset", {}, h("legend", {}, "Heat map"),
        labelled("Shows", this.overlaySelect), labelled("Opacity", this.opacityInput)),
      h("section", { className: "card", ariaLabel: "Scores" }, h("h2", {}, "Probability of each class"), this.scores));
  }

  #main() {
    this.strip = h("div", { className: "strip", role: "group", ariaLabel: "Layers" });
    this.overlayText = h("p", { className: "formula" });
    this.overlayCanvas = h("canvas", { className: "big", role: "img" });
    this.mapCanvas = h("canvas", { className: "big", role: "img", tabIndex: 0 });
    const point = (event) => this.#point(event);
    this.mapCanvas.addEventListener("pointermove", point);
    this.mapCanvas.addEventListener("pointerdown", point);
    this.mapCanvas.addEventListener("keydown", (event) => this.#press(event));
    this.mapCaption = h("strong");
    this.fieldText = h("output", { className: "formula", ariaLive: "polite" });
    this.filterPart = h("div", { className: "tiles" });
    this.bestPart = h("div", { className: "tiles" });
    this.maximumPart = h("div", { className: "tiles" });
    const part = (title, content) => h("section", { className: "part" }, h("h2", {}, title), content);
    this.filterSection = part("Filter", this.filterPart);
    return h("div", { className: "main" },
      h("p", { className: "hint" }, this.network.title),
      this.strip,
      h("section", { className: "card chosen", ariaLabel: "Chosen channel" },
        h("figure", { className: "stage" }, h("figcaption", {}, this.mapCaption), this.mapCanvas, this.fieldText),
        h("figure", { className: "stage" }, h("figcaption", {}, h("strong", {}, "Over the picture")), this.overlayCanvas, this.overlayText),
        h("div", { className: "parts" },
          this.filterSection,
          part("What excites it most", this.bestPart),
          part("What would maximise it", this.maximumPart))));
  }

  #columns() {
    const { shape, data } = this.#maps.arrays.input;
    const input = pictureOf("input", 1, shape, data);
    this.thumbs = new Map();
    const inputCanvas = h("canvas", { width: THUMBNAIL_PIXELS * 2, height: THUMBNAIL_PIXELS * 2, role: "img", ariaLabel: "What the network sees" });
    this.inputThumb = { canvas: inputCanvas, image: pictureCanvas(input), height: shape[1], width: shape[2] };
    const inputColumn = h("div", { className: "layer" }, h("h2", {}, "Input"),
      h("p", { className: "size" }, shape.join(" × ")), inputCanvas);
    const columns = this.network.layers.map((layer, i) => this.#column(layer, this.#maps.arrays[`map${i}`]));
    this.strip.replaceChildren(inputColumn, ...columns);
  }

  #column({ name, shape, parameters, window: text }, maps) {
    const grid = h("div", { className: "maps" });
    const buttons = [];
    for (let c = 0; c < maps.shape[0]; c++) {
      const canvas = h("canvas", { width: THUMBNAIL_PIXELS, height: maps.shape.length === 1 ? 24 : THUMBNAIL_PIXELS });
      const element = button("", () => this.choose(name, c), { ariaLabel: `${name}, channel ${c}`, className: "map" });
      element.append(canvas);
      buttons.push({ element, canvas });
    }
    // Four rows of maps, or twelve of single values, keep the columns of all layers about as high.
    const rows = maps.shape.length === 1 ? 12 : 4;
    const columns = Math.min(Math.ceil(maps.shape[0] / rows), 8);
    grid.style.gridTemplateColumns = `repeat(${columns}, 44px)`;
    grid.append(...buttons.map(({ element }) => element));
    this.thumbs.set(name, buttons);
    const count = parameters ? `${parameters.toLocaleString("en")} parameters` : "";
    return h("div", { className: "layer" }, h("h2", {}, name),
      h("p", { className: "size" }, shape.join(" × "), h("br"), count || text, count && text ? h("br") : "", count ? text : ""),
      grid,
      shape[0] > maps.shape[0] ? h("p", { className: "size" }, `and ${shape[0] - maps.shape[0]} more`) : "");
  }

  // ---- pointing --------------------------------------------------------------------------------

  #point(event) {
    if (!this.#channel) return;
    const [height, width] = this.#channel.arrays.map.shape;
    const box = this.mapCanvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    if (row >= 0 && row < height && column >= 0 && column < width) this.#pointAt(row, column);
  }

  #press(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!move || !this.#channel) return;
    event.preventDefault();
    const [height, width] = this.#channel.arrays.map.shape;
    const { row, column } = this.#pointed ?? { row: -move[0], column: -move[1] };
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.#pointAt(within(row + move[0], height), within(column + move[1], width));
  }

  #pointAt(row, column) {
    if (this.#pointed?.row === row && this.#pointed.column === column) return;
    this.#pointed = { row, column };
    this.draw();
  }

  // The pixels of an earlier layer that the pixel pointed at depends on, without its padding.
  #field(name, height, width) {
    const field = this.#pointed && this.#entry(this.layer).fields[name];
    if (!field) return null;
    const [size, stride, offset] = field;
    const { row, column } = this.#pointed;
    const top = Math.max(offset[0] + row * stride[0], 0);
    const left = Math.max(offset[1] + column * stride[1], 0);
    const bottom = Math.min(offset[0] + row * stride[0] + size[0], height);
    const right = Math.min(offset[1] + column * stride[1] + size[1], width);
    return { top, left, height: bottom - top, width: right - left };
  }

  #markField(context, name, [height, width], scaleX, scaleY) {
    const field = this.#field(name, height, width);
    if (!field) return;
    frame(context, field.left * scaleX, field.top * scaleY, field.width * scaleX, field.height * scaleY, FIELD);
  }

  // ---- drawing ---------------------------------------------------------------------------------

  draw() {
    if (!this.#maps || !this.#channel || this.element.hidden) return;
    if (this.drawnMaps !== this.#maps) {
      this.#columns();
      this.#reveal();
      this.#showScores();
      this.drawnMaps = this.#maps;
    }
    this.#drawStrip();
    this.#drawMap();
    this.#drawOverlay();
    this.#drawDetails();
  }

  #drawStrip() {
    const { canvas, image, height, width } = this.inputThumb;
    const context = canvas.getContext("2d");
    drawScaled(context, image, 0, 0, canvas.width, canvas.height);
    this.#markField(context, "input", [height, width], canvas.width / width, canvas.height / height);
    this.network.layers.forEach(({ name, shape }, i) => {
      const maps = this.#maps.arrays[`map${i}`];
      const look = signedLook(maps);
      this.thumbs.get(name).forEach(({ element, canvas: thumb }, c) => {
        const drawing = thumb.getContext("2d");
        drawScaled(drawing, imageOf(planeAt(maps, c), look), 0, 0, thumb.width, thumb.height);
        if (shape.length === 3) this.#markField(drawing, name, shape.slice(1), thumb.width / shape[2], thumb.height / shape[1]);
        element.ariaPressed = String(name === this.#channel.layer && c === this.#channel.place);
      });
    });
  }

  #drawMap() {
    const map = asPlane(this.#channel.arrays.map);
    const { layer, place } = this.#channel;
    const box = this.mapCanvas.parentElement.clientWidth || 240;
    const cell = Math.min(box / map.width, box / map.height);
    const context = sized(this.mapCanvas, map.width * cell, map.height * cell);
    this.mapCanvas.style.width = `${map.width * cell}px`;
    drawScaled(context, imageOf(map, signedLook(map)), 0, 0, map.width * cell, map.height * cell);
    this.mapCaption.textContent = `${layer}, channel ${place}`;
    this.mapCanvas.setAttribute("aria-label", `Feature map of ${layer}, channel ${place}, ${map.height} by ${map.width}. Arrow keys move over its pixels.`);
    if (!this.#pointed) {
      this.fieldText.textContent = "Point at a pixel to see what it depends on.";
      return;
    }
    const { row, column } = this.#pointed;
    frame(context, column * cell, row * cell, cell, cell, FIELD);
    const field = this.#entry(layer).fields.input;
    const sees = field ? `depends on ${field[0][0]} × ${field[0][1]} pixels of the input` : "depends on all pixels, or they are not known";
    this.fieldText.textContent = `Row ${row + 1}, column ${column + 1}: ${brief(map.data[row * map.width + column])}, ${sees}`;
  }

  #drawOverlay() {
    const { image, height, width } = this.inputThumb;
    const box = this.overlayCanvas.parentElement.clientWidth || 240;
    const cell = Math.min(box / width, box / height);
    const [w, h2] = [width * cell, height * cell];
    const context = sized(this.overlayCanvas, w, h2);
    this.overlayCanvas.style.width = `${w}px`;
    drawScaled(context, image, 0, 0, w, h2);
    const heat = this.overlay === "channel" ? this.#channel.arrays.map : this.#maps.arrays.heat;
    if (heat && heat.data.length > 1) {
      const plane = asPlane(heat);
      const { high } = rangeOf(plane);
      const over = imageOf(plane, { low: 0, high: Math.max(high, 1e-9), scale: SCALES.heat }, (share) => 255 * Math.sqrt(share));
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = true;
      context.drawImage(over, 0, 0, w, h2);
      context.globalAlpha = 1;
    }
    const isMissing = this.overlay !== "channel" && !heat;
    this.overlayText.textContent = isMissing ? this.#maps.settings.noHeat ?? "" : "";
    const what = this.overlay === "channel" ? "the channel's response" : "the class activation map";
    this.overlayCanvas.setAttribute("aria-label", `The picture with ${what} over it`);
    this.#markField(context, "input", [height, width], cell, cell);
  }

  #drawDetails() {
    const { arrays } = this.#channel;
    this.filterSection.hidden = !arrays.filter;
    if (arrays.filter) {
      const rows = [["before training", arrays.filterBefore], ["after", arrays.filter]].filter(([, a]) => a);
      this.filterPart.replaceChildren(...rows.map(([title, array]) => this.#filterRow(title, array)));
    }
    const { shape, data } = arrays.best;
    const [count, ...size] = shape;
    const values = arrays.bestValues.data;
    const step = size.reduce((a, b) => a * b, 1);
    this.bestPart.replaceChildren(
      ...Array.from({ length: count }, (_, i) => {
        const picture = pictureOf(`example ${i + 1}`, 255, size, data.subarray(i * step, (i + 1) * step));
        const element = tile(pictureCanvas(picture), brief(values[i], 3));
        return element;
      }));
    if (!this.network.canMaximize) {
      this.maximumPart.replaceChildren("This network has no gradients to climb along.");
    } else if (!this.#maximum) {
      this.maximumPart.replaceChildren("…");
    } else {
      const { settings, arrays: found } = this.#maximum;
      const image = found.image;
      const planes = image.shape[0] === 3 ? [coloured(image)] : Array.from({ length: Math.min(image.shape[0], 4) }, (_, c) => imageOf(planeAt(image, c), grayRange(planeAt(image, c))));
      const [start, end] = settings.activations;
      this.maximumPart.replaceChildren(...planes.map((canvas) => tile(canvas, "", true)),
        h("p", { className: "size" }, `${settings.of}: mean ${brief(start)} → ${brief(end)}`));
    }
  }

  #filterRow(title, array) {
    const [count, height, width] = array.shape;
    const look = signedLook(array);
    const tiles = Array.from({ length: Math.min(count, 32) }, (_, c) =>
      tile(imageOf({ height, width, data: array.data.subarray(c * height * width, (c + 1) * height * width) }, look), ""));
    return h("div", { className: "tile-row" }, h("span", { className: "size" }, title), ...tiles);
  }

  #showScores() {
    const { data } = this.#maps.arrays.probabilities;
    const order = Array.from(data.keys());
    if (data.length > TOP_SCORES) order.sort((a, b) => data[b] - data[a]).splice(TOP_SCORES);
    const best = data.indexOf(Math.max(...data));
    this.scores.replaceChildren(
      ...order.map((i) => {
        const bar = h("span", { className: "bar" });
        bar.style.width = `${100 * data[i]}%`;
        return h("div", { className: i === best ? "score best" : "score" },
          h("span", {}, String(i)), h("span", { className: "track" }, bar), h("span", {}, `${(100 * data[i]).toFixed(1)} %`));
      }));
  }

  // What window.fastconv.state().network holds.
  snapshot() {
    if (!this.#maps || !this.#channel) return null;
    const { arrays, layer, place } = this.#channel;
    const plain = ({ shape, data }) => ({ shape: [...shape], data: Array.from(data) });
    return {
      layer,
      channel: place,
      opacity: this.opacity,
      scores: Array.from(this.#maps.arrays.scores.data),
      probabilities: Array.from(this.#maps.arrays.probabilities.data),
      map: plain(arrays.map),
      filter: arrays.filter ? plain(arrays.filter) : null,
      filterBefore: arrays.filterBefore ? plain(arrays.filterBefore) : null,
      heat: this.#maps.arrays.heat ? plain(this.#maps.arrays.heat) : null,
      exciting: Array.from(arrays.bestValues.data),
      maximum: this.#maximum ? { ...this.#maximum.settings, ...plain(this.#maximum.arrays.image) } : null,
      pointed: this.#pointed,
      field: this.#field("input", Infinity, Infinity),
    };
  }
}

const grayRange = (plane) => ({ ...grayLook(1), ...rangeOf(plane) });

function coloured(image) {
  const { low, high } = rangeOf(image);
  const data = Float32Array.from(image.data, (x) => (x - low) / (high - low || 1));
  return pictureCanvas(pictureOf("maximum", 1, image.shape, data));
}

function tile(canvas, caption, large = false) {
  canvas.className = large ? "tile large" : "tile";
  return h("figure", { className: "tile-frame" }, canvas, caption ? h("figcaption", { className: "size" }, caption) : "");
}
