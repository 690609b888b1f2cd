// The page as a widget of a notebook: questions travel as the widget's own messages.

import { App } from "./app.js";
import { ServerBackend, packMessage, picturesOf, unpackMessage } from "./messages.js";

class NotebookBackend extends ServerBackend {
  #waiting = new Map();
  #count = 0;

  constructor(model) {
    super();
    this.model = model;
    model.on("msg:custom", (content, buffers) => {
      const waiting = this.#waiting.get(content.id);
      this.#waiting.delete(content.id);
      if (content.error) {
        const error = new Error(content.error);
        error.isForgotten = content.status === 410;
        waiting?.reject(error);
      }
      // A copy, because arrays must begin at a multiple of 8 bytes.
      else if (waiting) {
        const { buffer, byteOffset, byteLength } = buffers[0];
        waiting.resolve(unpackMessage(buffer.slice(byteOffset, byteOffset + byteLength)));
      }
    });
  }

  ask(question, settings = {}, arrays = {}) {
    const id = `${Date.now()}-${(this.#count += 1)}-${Math.random()}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      const bytes = packMessage(settings, arrays);
      this.model.send({ id, question }, undefined, [bytes.buffer]);
    });
  }
}

async function render({ model, el }) {
  const backend = new NotebookBackend(model);
  const start = await backend.start();
  const { shape, data } = start.arrays.kernel;
  const kernel = { height: shape[0], width: shape[1], data: Float64Array.from(data) };
  const page = document.createElement("div");
  el.append(page);
  const { script } = new App(page, backend, { pictures: picturesOf(start), kernel });
  await script.ready();
  page.explore = script;
}

export default { render };
