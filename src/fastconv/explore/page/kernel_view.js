// The kernel view: a picture, its response, rectified and pooled, and how each pixel came about.

import { PRESETS, convolutionTaps, normalized, padded, plane, poolTaps } from "./arithmetic.js";
import { brief, colorOf, grayLook, inkOn, signedLook } from "./drawing.js";
import { button, choice, h, labelled, show } from "./elements.js";
import { Stage } from "./stage.js";
import {
  LIMITS, PAD_MODES, POOLS, grayOf, realNumber, settingsOf, wholeNumber,
} from "./state.js";

const MARK = "#d6005c";
const OWN = "#0b6bcb";
const TITLES = { image: "Picture", response: "Response", rectified: "Rectified", pooled: "Pooled" };
const SWEEP_SECONDS = 12;
const sizeText = ({ height, width }) => `${height} × ${width}`;

// Asks for the pictures whenever what they depend on changes. While one question is on its way,
// only the newest of those behind it is kept.
export class KernelComputation {
  #busy = null;
  #again = false;

  constructor(store, backend) {
    this.store = store;
    this.backend = backend;
  }

  request() {
    this.#again = true;
    this.#busy ??= this.#run().finally(() => (this.#busy = null));
    return this.#busy;
  }

  get idle() {
    return this.#busy ?? Promise.resolve();
  }

  async #run() {
    while (this.#again) {
      this.#again = false;
      const { picture, kernel, selected, direction, ...rest } = this.store.values;
      const settings = settingsOf(rest);
      const image = grayOf(picture);
      try {
        const results = await this.backend.forward(image, kernel, settings);
        const shown = { image, high: picture.high, kernel, settings, ...results };
        const gradients =
          direction === "backward" ? await this.#gradients(shown, selected) : null;
        this.store.set({ shown, gradients, error: "" });
      } catch (error) {
        if (!this.#again) this.store.set({ error: error.message });
      }
    }
  }

  async #gradients(shown, selected) {
    const { pooled, image, kernel, settings } = shown;
    const row = Math.min(selected?.row ?? 0, pooled.height - 1);
    const column = Math.min(selected?.column ?? 0, pooled.width - 1);
    const place = { row, column };
    return { place, planes: await this.backend.backward(image, kernel, settings, shown, place) };
  }
}

export class KernelView {
  #sweep = null;

  constructor(store, computation) {
    this.store = store;
    this.computation = computation;
    this.stages = {
      image: new Stage(TITLES.image, null),
      ...Object.fromEntries(
        ["response", "rectified", "pooled"].map((name) => [
          name,
          new Stage(TITLES[name], (row, column) => this.select(name, row, column)),
        ]),
      ),
    };
    this.explanation = h("div", { className: "explanation" });
    this.sentence = h("output", { className: "sentence", ariaLive: "polite" });
    this.element = h(
      "div",
      { className: "view kernel-view" },
      h("aside", { className: "controls" }, ...this.#controls()),
      h(
        "div",
        { className: "main" },
        this.#toolbar(),
        h("div", { className: "stages" }, ...Object.values(this.stages).map((s) => s.element)),
        h("section", { className: "card", ariaLabel: "Arithmetic" }, this.sentence, this.explanation),
      ),
    );
    store.subscribe((values, changes) => this.#update(changes));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // ---- controls --------------------------------------------------------------------------------

  // Run a change; if it is refused, nothing but the error changes.
  #try(control, change) {
    try {
      this.store.set({ ...change(), error: "" });
      control?.removeAttribute("aria-invalid");
      this.computation.request();
    } catch (error) {
      control?.setAttribute("aria-invalid", "true");
      this.store.set({ error: error.message });
    }
  }

  // Who leaves a control whose text is refused sees again what counts.
  #restore(control) {
    if (!control.hasAttribute("aria-invalid")) return;
    control.removeAttribute("aria-invalid");
    this.store.set({ error: "" });
    this.computation.request();
  }

  #number(name, value, change) {
    const [min, max] = LIMITS[name];
    const input = h("input", {
      type: "number", min, max, value, inputMode: "numeric",
      oninput: () => this.#try(input, () => change(wholeNumber(name, input.value))),
      onblur: () => this.#restore(input),
    });
    return input;
  }

  #controls() {
    const { store } = this;
    const values = store.values;
    const pool = (change) => ({ pool: { ...store.values.pool, ...change } });
    this.inputs = {
      preset: choice([...Object.keys(PRESETS), "custom"], values.preset, (preset) => {
        const make = PRESETS[preset];
        const size = Math.max(store.values.kernel.height, store.values.kernel.width);
        // A random kernel is one's own from then on, so that another can be chosen.
        const known = preset === "random" ? "custom" : preset;
        this.#try(null, () => (make ? { preset: known, kernel: make(size) } : { preset }));
      }),
      kernelSize: this.#number("Kernel size", values.kernel.height, (size) => this.#resized(size)),
      stride: this.#number("Stride", values.stride, (stride) => ({ stride })),
      dilation: this.#number("Dilation", values.dilation, (dilation) => ({ dilation })),
      padding: this.#number("Padding", values.padding, (padding) => ({ padding })),
      padMode: choice(PAD_MODES, values.padMode, (padMode) => this.#try(null, () => ({ padMode }))),
      relu: h("input", {
        type: "checkbox",
        onchange: (event) => this.#try(null, () => ({ relu: event.target.checked })),
      }),
      poolKind: choice(POOLS, values.pool.kind, (kind) => this.#try(null, () => pool({ kind }))),
      poolSize: this.#number("Pool size", values.pool.size, (size) => pool({ size })),
      poolStride: this.#number("Pool stride", values.pool.stride, (stride) => pool({ stride })),
    };
    this.grid = h("div", { className: "kernel-grid", role: "group", ariaLabel: "Kernel" });
    const i = this.inputs;
    return [
      h("fieldset", {}, h("legend", {}, "Kernel"),
        labelled("Preset", i.preset),
        labelled("Kernel size", i.kernelSize),
        this.grid,
        button("Normalise", () =>
          this.#try(null, () => ({ kernel: normalized(store.values.kernel), preset: "custom" })))),
      h("fieldset", {}, h("legend", {}, "Convolution"),
        h("div", { className: "row" }, labelled("Stride", i.stride), labelled("Dilation", i.dilation)),
        h("div", { className: "row" }, labelled("Padding", i.padding), labelled("Pad mode", i.padMode))),
      h("fieldset", {}, h("legend", {}, "Behind it"),
        labelled("ReLU", i.relu, "check"),
        labelled("Pooling", i.poolKind),
        h("div", { className: "row" }, labelled("Pool size", i.poolSize), labelled("Pool stride", i.poolStride))),
    ];
  }

  #resized(size) {
    const { preset, kernel } = this.store.values;
    if (PRESETS[preset]) return { kernel: PRESETS[preset](size) };
    // A kernel of one's own keeps its cells around the middle.
    const result = plane(size, size);
    const shift = (old) => Math.floor((size - 1) / 2) - Math.floor((old - 1) / 2);
    kernel.data.forEach((value, i) => {
      const row = Math.floor(i / kernel.width) + shift(kernel.height);
      const column = (i % kernel.width) + shift(kernel.width);
      if (row >= 0 && row < size && column >= 0 && column < size) result.data[row * size + column] = value;
    });
    return { kernel: result };
  }

  #toolbar() {
    this.sweepButton = button("Sweep", () => (this.#sweep ? this.stop() : this.sweep()));
    this.backwardButton = button("Backward", () => this.#turn(), { ariaPressed: "false" });
    return h("div", { className: "toolbar" }, this.sweepButton, this.backwardButton,
      h("p", { className: "hint" }, "Point at a pixel, or move with the arrow keys: its window is marked before it."));
  }

  #turn() {
    const backward = this.store.values.direction === "forward";
    this.store.set({ direction: backward ? "backward" : "forward", gradients: null });
    this.stop();
    if (backward) this.select("pooled", ...this.#place("pooled"));
    else this.draw();
  }

  #place(stage) {
    const { selected, shown } = this.store.values;
    if (selected?.stage === stage) return [selected.row, selected.column];
    return [Math.floor(shown[stage].height / 2), Math.floor(shown[stage].width / 2)];
  }

  // ---- pointing --------------------------------------------------------------------------------

  select(stage, row, column) {
    const { direction, selected } = this.store.values;
    if (direction === "backward" && stage !== "pooled") return;
    if (selected?.stage === stage && selected.row === row && selected.column === column
      && !(direction === "backward" && !this.store.values.gradients)) return;
    this.store.set({ selected: { stage, row, column } });
    if (direction === "backward") this.computation.request();
  }

  sweep() {
    const { selected, shown, direction } = this.store.values;
    const stage = direction === "backward" ? "pooled" : selected?.stage ?? "response";
    const { height, width } = shown[stage];
    const pause = Math.max((1000 * SWEEP_SECONDS) / (height * width), 60);
    const step = Math.max(Math.round((height * width * pause) / (4000 * SWEEP_SECONDS)), 1);
    let place = 0;
    this.sweepButton.textContent = "Stop";
    this.sentence.ariaLive = "off"; // Nobody can listen as fast as it moves.
    this.#sweep = setInterval(() => {
      if (place >= height * width) return this.stop();
      this.select(stage, Math.floor(place / width), place % width);
      place += step;
    }, pause);
  }

  stop() {
    clearInterval(this.#sweep);
    this.#sweep = null;
    this.sweepButton.textContent = "Sweep";
    this.sentence.ariaLive = "polite";
  }

  // ---- showing ---------------------------------------------------------------------------------

  #update(changes) {
    const values = this.store.values;
    const { inputs } = this;
    show(inputs.preset, values.preset);
    show(inputs.kernelSize, Math.max(values.kernel.height, values.kernel.width));
    for (const name of ["stride", "dilation", "padding", "padMode", "relu"]) show(inputs[name], values[name]);
    show(inputs.poolKind, values.pool.kind);
    show(inputs.poolSize, values.pool.size);
    show(inputs.poolStride, values.pool.stride);
    if (changes.kernel) this.#showKernel();
    if ("shown" in changes || "gradients" in changes) this.draw();
    else if ("selected" in changes) this.#explain();
    this.backwardButton.ariaPressed = String(values.direction === "backward");
  }

  #showKernel() {
    const { kernel } = this.store.values;
    const { height, width, data } = kernel;
    if (this.cells?.length !== data.length || this.cellsWide !== width) {
      this.cellsWide = width;
      this.grid.style.gridTemplateColumns = `repeat(${width}, 1fr)`;
      this.grid.classList.toggle("dense", width > 5);
      this.cells = Array.from(data, (_, i) => this.#cell(i, Math.floor(i / width), i % width));
      this.grid.replaceChildren(...this.cells);
    }
    const look = signedLook(kernel);
    this.cells.forEach((cell, i) => {
      show(cell, Number(data[i].toFixed(4)));
      cell.title = String(data[i]);
      cell.style.background = colorOf(look, data[i]);
      cell.style.color = inkOn(look, data[i]);
    });
  }

  #cell(i, row, column) {
    const name = `Kernel row ${row + 1} column ${column + 1}`;
    const cell = h("input", {
      inputMode: "decimal", ariaLabel: name, autocomplete: "off",
      oninput: () =>
        this.#try(cell, () => {
          const { kernel } = this.store.values;
          const data = kernel.data.slice();
          data[i] = realNumber(name, cell.value);
          return { kernel: { ...kernel, data }, preset: "custom" };
        }),
      onblur: () => {
        this.#showKernel();
        this.#restore(cell);
      },
    });
    return cell;
  }

  draw() {
    const { shown, gradients, direction } = this.store.values;
    if (!shown) return;
    if (direction === "backward" && gradients) this.#drawGradients(shown, gradients);
    else this.#drawValues(shown);
    this.#explain();
  }

  #drawValues({ image, high, kernel, settings, response, rectified, pooled }) {
    const { stride: s, dilation: d, padding: p, padMode, relu, pool } = settings;
    const source = this.#paddedPicture(image, p, padMode);
    this.stages.image.show(source, grayLook(high), {
      margin: p,
      size: sizeText(image),
      formula: p ? `padded to ${sizeText(source)}` : "no padding",
    });
    const formulaOf = (size, k) =>
      `⌊(${size} + 2·${p} − ${d}·(${k}−1) − 1) / ${s}⌋ + 1`;
    const look = signedLook(response, rectified, pooled);
    const sides = (rows, columns, { height, width }) =>
      `${rows} = ${height}` + (rows === columns ? "" : `, ${columns} = ${width}`);
    this.stages.response.show(response, look, {
      size: sizeText(response),
      formula: sides(formulaOf(image.height, kernel.height), formulaOf(image.width, kernel.width), response),
    });
    this.stages.rectified.show(rectified, look, {
      size: sizeText(rectified),
      formula: relu ? "max(0, x)" : "ReLU is off: the same",
    });
    const pooledOf = (size) => `⌊(${size} − ${pool.size}) / ${pool.stride}⌋ + 1`;
    this.stages.pooled.show(pooled, look, {
      size: sizeText(pooled),
      formula: pool.kind === "none"
        ? "no pooling: the same"
        : sides(pooledOf(rectified.height), pooledOf(rectified.width), pooled),
    });
  }

  // Padding a picture, and drawing it, is only needed when it or its padding has changed.
  #paddedPicture(image, padding, padMode) {
    const key = `${padding} ${padMode}`;
    if (this.padded?.of.data !== image.data || this.padded.key !== key) {
      this.padded = { of: image, key, plane: padding ? padded(image, padding, padMode) : image };
    }
    return this.padded.plane;
  }

  #drawGradients({ pooled }, { place, planes }) {
    const last = plane(pooled.height, pooled.width);
    last.data[place.row * pooled.width + place.column] = 1;
    const all = { image: planes.gradImage, response: planes.gradResponse, rectified: planes.gradRectified, pooled: last };
    const look = signedLook(...Object.values(all));
    for (const [name, grad] of Object.entries(all)) {
      const count = grad.data.reduce((sum, x) => sum + (x !== 0), 0);
      this.stages[name].show(grad, look, {
        size: sizeText(grad),
        formula: `gradient: ${count} ${count === 1 ? "pixel" : "pixels"} not 0`,
      });
    }
  }

  #explain() {
    const { selected, shown, direction, gradients } = this.store.values;
    for (const stage of Object.values(this.stages)) stage.mark([]);
    this.explanation.replaceChildren();
    if (!selected || !shown) {
      this.sentence.textContent = "No pixel is chosen yet.";
      return;
    }
    const { stage } = selected;
    const row = Math.min(selected.row, shown[stage].height - 1);
    const column = Math.min(selected.column, shown[stage].width - 1);
    this.stages[stage].place = { row, column };
    this.stages[stage].mark([{ row, column, color: OWN }]);
    if (direction === "backward") this.#explainBackward(gradients, row, column);
    else if (stage === "response") this.#explainResponse(shown, row, column);
    else if (stage === "rectified") this.#explainRectified(shown, row, column);
    else this.#explainPooled(shown, row, column);
  }

  #say(stage, row, column, text) {
    this.sentence.textContent = `${TITLES[stage]}, row ${row + 1}, column ${column + 1}: ${text}`;
  }

  #explainResponse({ image, high, kernel, settings, response }, row, column) {
    const taps = convolutionTaps(image, kernel, settings, row, column);
    const value = response.data[row * response.width + column];
    const products = taps.map(({ value: x, weight }) => `${brief(x)}·${brief(weight)}`).join(" + ");
    this.#say("response", row, column, `${products} = ${brief(value, 6)}`);
    const d = settings.dilation;
    this.stages.image.mark(
      d === 1
        ? [{ ...taps[0], height: kernel.height, width: kernel.width, color: MARK }]
        : taps.map((tap) => ({ row: tap.row, column: tap.column, color: MARK, thin: true })),
    );
    const table = (title, look, valueOf) => numberTable(title, kernel.width, taps.map(valueOf), look);
    const sums = { data: Float64Array.from(taps, ({ value: x, weight }) => x * weight) };
    this.explanation.append(
      table("Window", grayLook(high), (tap) => tap.value),
      h("span", { className: "sign" }, "·"),
      table("Kernel", signedLook(kernel), (tap) => tap.weight),
      h("span", { className: "sign" }, "="),
      table("Products", signedLook(sums), ({ value: x, weight }) => x * weight),
      h("span", { className: "sign" }, `sum ${brief(value, 6)}`),
    );
  }

  #explainRectified({ response, rectified, settings }, row, column) {
    const at = row * response.width + column;
    const [x, y] = [brief(response.data[at], 6), brief(rectified.data[at], 6)];
    this.#say("rectified", row, column, settings.relu ? `max(0, ${x}) = ${y}` : `${x}, as ReLU is off`);
    this.stages.response.mark([{ row, column, color: MARK }]);
  }

  #explainPooled({ rectified, pooled, settings }, row, column) {
    const { pool } = settings;
    const value = pooled.data[row * pooled.width + column];
    if (pool.kind === "none") {
      this.#say("pooled", row, column, `${brief(value, 6)}, as there is no pooling`);
      this.stages.rectified.mark([{ row, column, color: MARK }]);
      return;
    }
    const taps = poolTaps(rectified, pool, row, column);
    const marks = [{ ...taps[0], height: pool.size, width: pool.size, color: MARK }];
    const texts = taps.map((tap) => brief(tap.value));
    if (pool.kind === "max") {
      const best = taps.find((tap) => tap.value === value);
      marks.push({ row: best.row, column: best.column, color: OWN });
      const where = `at row ${best.row + 1}, column ${best.column + 1}`;
      this.#say("pooled", row, column, `max(${texts.join(", ")}) = ${brief(value, 6)} ${where}`);
    } else {
      this.#say("pooled", row, column, `(${texts.join(" + ")}) / ${taps.length} = ${brief(value, 6)}`);
    }
    this.stages.rectified.mark(marks);
    const look = signedLook(pooled, rectified);
    this.explanation.append(numberTable("Window", pool.size, taps.map((tap) => tap.value), look));
  }

  #explainBackward(gradients, row, column) {
    if (!gradients) return;
    const { gradRectified, gradImage } = gradients.planes;
    const count = ({ data }) => data.reduce((sum, x) => sum + (x !== 0), 0);
    this.#say("pooled", row, column,
      `a gradient of 1 here reaches ${count(gradRectified)} of the rectified pixels, and through ` +
      `the kernel ${count(gradImage)} pixels of the picture`);
  }
}

function numberTable(title, columns, values, look) {
  const rows = [];
  for (let i = 0; i < values.length; i += columns) {
    const cells = values.slice(i, i + columns).map((value) => {
      const cell = h("td", {}, brief(value));
      cell.style.background = colorOf(look, value);
      cell.style.color = inkOn(look, value);
      return cell;
    });
    rows.push(h("tr", {}, ...cells));
  }
  return h("table", {}, h("caption", {}, title), h("tbody", {}, ...rows));
}
