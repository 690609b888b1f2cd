// Where pictures come from: the list, files, dropped files, a drawing pad and the camera.

import { button, choice, h, labelled, setOptions } from "./elements.js";

export const MOST_SIDE = 1024;
const PAD_CELLS = 28;

// Decode an image that the browser has, shrunk to at most MOST_SIDE pixels a side.
function pictureFrom(source, width, height, name) {
  const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  // As on paper: black lines on nothing would else be black on black.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, w, h);
  context.drawImage(source, 0, 0, w, h);
  const { data } = context.getImageData(0, 0, w, h);
  const channels = [0, 1, 2].map((c) => Uint8Array.from({ length: w * h }, (_, i) => data[4 * i + c]));
  const isGray = channels[0].every((x, i) => x === channels[1][i] && x === channels[2][i]);
  return { name, high: 255, height: h, width: w, channels: isGray ? channels.slice(0, 1) : channels };
}

export async function pictureOfFile(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not an image that this browser can read`);
  }
  const picture = pictureFrom(bitmap, bitmap.width, bitmap.height, file.name);
  bitmap.close();
  return picture;
}

// The control "Image" and what stands below it. `use(picture)` takes a new picture.
export class PictureField {
  constructor(store, use) {
    this.store = store;
    this.use = use;
    this.select = choice([], "", (name) => {
      this.use(store.values.pictures.find((picture) => picture.name === name));
    });
    const input = h("input", {
      type: "file", accept: "image/*", hidden: true,
      onchange: () => {
        if (input.files[0]) this.read(input.files[0]);
        input.value = "";
      },
    });
    const buttons = [button("File …", () => input.click()), button("Draw", () => this.#toggle(this.pad))];
    if (navigator.mediaDevices?.getUserMedia) buttons.push(button("Camera", () => this.#capture()));
    this.pad = new DrawingPad((picture) => this.add(picture)).element;
    this.pad.hidden = true;
    this.element = h("fieldset", { className: "picture" }, h("legend", {}, "Picture"),
      labelled("Image", this.select), input, h("div", { className: "row buttons" }, ...buttons), this.pad);
    store.subscribe((_, changes) => {
      if (changes.pictures || changes.picture) this.show();
    });
    this.show();
  }

  show() {
    const { pictures, picture } = this.store.values;
    setOptions(this.select, pictures.map(({ name }) => name), picture.name);
  }

  // Add a picture to the list, in the place of one of its name, and use it.
  add(picture) {
    const others = this.store.values.pictures.filter(({ name }) => name !== picture.name);
    this.store.set({ pictures: [...others, picture] });
    this.use(picture);
  }

  async read(file) {
    try {
      this.add(await pictureOfFile(file));
    } catch (error) {
      this.store.set({ error: error.message });
    }
  }

  acceptDrops(element) {
    element.addEventListener("dragover", (event) => event.preventDefault());
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.read(file);
    });
  }

  #toggle(part) {
    part.hidden = !part.hidden;
  }

  async #capture() {
    let stream = null;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
      const video = h("video", { muted: true, srcObject: stream });
      await video.play();
      this.add(pictureFrom(video, video.videoWidth, video.videoHeight, "Camera"));
    } catch (error) {
      this.store.set({ error: `the camera gives no picture: ${error.message}` });
    } finally {
      for (const track of stream?.getTracks() ?? []) track.stop();
    }
  }
}

// A pad to draw on with a soft pen, bright on dark as the digits are.
class DrawingPad {
  #pixels = new Float64Array(PAD_CELLS ** 2);

  constructor(onpicture) {
    this.onpicture = onpicture;
    this.canvas = h("canvas", {
      className: "pad", width: PAD_CELLS, height: PAD_CELLS, role: "img",
      ariaLabel: "Drawing pad: draw with the pointer",
    });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.#draw(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && this.#draw(event));
    this.element = h("div", { className: "drawing" }, this.canvas, button("Clear", () => this.clear()));
    this.#show();
  }

  clear() {
    const isDrawn = this.#pixels.some((value) => value > 0);
    this.#pixels.fill(0);
    this.#show();
    if (isDrawn) this.#give();
  }

  #draw(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * PAD_CELLS - 0.5;
    const y = ((event.clientY - box.top) / box.height) * PAD_CELLS - 0.5;
    for (let i = 0; i < this.#pixels.length; i++) {
      const distance = Math.hypot((i % PAD_CELLS) - x, Math.floor(i / PAD_CELLS) - y);
      this.#pixels[i] = Math.max(this.#pixels[i], 255 * Math.min(Math.max(2.2 - distance, 0), 1));
    }
    this.#show();
    this.#give();
  }

  #give() {
    const data = Uint8Array.from(this.#pixels);
    this.onpicture({ name: "Drawing", high: 255, height: PAD_CELLS, width: PAD_CELLS, channels: [data] });
  }

  #show() {
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(PAD_CELLS, PAD_CELLS);
    this.#pixels.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    context.putImageData(image, 0, 0);
  }
}
