// The page that a server serves.

import { App } from "./app.js";
import { ServerBackend, picturesOf } from "./messages.js";

const root = document.getElementById("fastconv");
try {
  const backend = new ServerBackend();
  const start = await backend.start();
  window.fastconv = new App(root, backend, { pictures: picturesOf(start) }).script;
} catch (error) {
  root.textContent = error.message;
}
