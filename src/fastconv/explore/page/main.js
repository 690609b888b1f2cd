// The page that a server serves.

import { App } from "./app.js";
import { ServerBackend, picturesOf } from "./messages.js";

const root = document.getElementById("page");
try {
  const backend = new ServerBackend();
  const start = await backend.start();
  const { network } = start.settings;
  const { script } = new App(root, backend, { pictures: picturesOf(start), network });
  await script.ready();
  window.fastconv = script;
} catch (error) {
  root.textContent = error.message;
}
