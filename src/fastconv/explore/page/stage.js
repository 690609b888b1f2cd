// One picture of the kernel view: a canvas whose pixels can be pointed at, and what stands around it.

import { drawNumbers, drawScaled, frame, imageOf, inkOn, sized } from "./drawing.js";
import { h } from "./elements.js";

const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class Stage {
  // What is shown: { plane, look, margin }; the margin are rows and columns of padding around it.
  #shown = null;
  #marks = [];

  constructor(title, onselect, label = title) {
    this.title = title;
    this.label = label;
    this.onselect = onselect;
    this.place = null;
    this.canvas = h("canvas", { role: "img", tabIndex: onselect ? 0 : -1 });
    this.size = h("span", { className: "size" });
    this.formula = h("p", { className: "formula" });
    this.element = h(
      "figure",
      { className: "stage" },
      h("figcaption", {}, h("strong", {}, title), this.size),
      this.canvas,
      this.formula,
    );
    if (onselect) {
      this.canvas.addEventListener("pointermove", (event) => this.#point(event));
      this.canvas.addEventListener("pointerdown", (event) => this.#point(event));
      this.canvas.addEventListener("keydown", (event) => this.#press(event));
    }
  }

  show(plane, look, { margin = 0, size, formula = "" }) {
    // What has been turned into colours stays, as long as it is shown in the same ones.
    const before = this.#shown;
    const isSame =
      before?.plane === plane && before.look.scale === look.scale &&
      before.look.low === look.low && before.look.high === look.high;
    this.#shown = { plane, look, margin, image: isSame ? before.image : undefined };
    this.size.textContent = size;
    this.formula.textContent = formula;
    const move = this.onselect ? " Arrow keys move over its pixels." : "";
    this.canvas.setAttribute("aria-label", `${this.label}, ${size}.${move}`);
    this.draw();
  }

  // Marks are rectangles in pixels of the picture: { row, column, height, width, color }.
  mark(marks) {
    this.#marks = marks;
    this.draw();
  }

  get #cell() {
    const { plane } = this.#shown;
    const box = this.element.clientWidth || 200;
    return Math.min(box / plane.width, box / plane.height);
  }

  draw() {
    if (!this.#shown) return;
    const { plane, look, margin } = this.#shown;
    const cell = this.#cell;
    const [width, height] = [plane.width * cell, plane.height * cell];
    const context = sized(this.canvas, width, height);
    this.canvas.style.width = `${width}px`;
    this.#shown.image ??= imageOf(plane, look);
    drawScaled(context, this.#shown.image, 0, 0, width, height);
    if (margin) this.#shade(context, plane, margin * cell, width, height);
    drawNumbers(context, plane, look, 0, 0, cell);
    for (const { row, column, height: rows = 1, width: columns = 1, color, thin } of this.#marks) {
      const [x, y] = [(column + margin) * cell, (row + margin) * cell];
      frame(context, x, y, columns * cell, rows * cell, color, thin ? 1 : 2);
    }
  }

  #shade(context, plane, edge, width, height) {
    const isLight = inkOn(this.#shown.look, 0) === "#000";
    context.fillStyle = isLight ? "rgb(120 120 130 / 0.35)" : "rgb(150 150 165 / 0.3)";
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(edge, edge, width - 2 * edge, height - 2 * edge);
    context.fill("evenodd");
  }

  #point(event) {
    if (!this.#shown) return;
    const { plane } = this.#shown;
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * plane.height);
    const column = Math.floor(((event.clientX - box.left) / box.width) * plane.width);
    if (row >= 0 && row < plane.height && column >= 0 && column < plane.width) {
      this.onselect(row, column);
    }
  }

  #press(event) {
    const move = KEYS[event.key];
    if (!move || !this.#shown) return;
    event.preventDefault();
    const { height, width } = this.#shown.plane;
    const [row, column] = this.place ? [this.place.row + move[0], this.place.column + move[1]] : [0, 0];
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.onselect(within(row, height), within(column, width));
  }
}
