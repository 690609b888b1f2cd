// The page in one file: what it shows is embedded in it.

import { App } from "./app.js";
import { LocalBackend } from "./local.js";
import { picturesOf, unpackMessage } from "./messages.js";

const embedded = atob(document.getElementById("data").textContent);
const message = unpackMessage(Uint8Array.from(embedded, (letter) => letter.charCodeAt(0)).buffer);
const { script } = new App(document.getElementById("page"), new LocalBackend(message), {
  pictures: picturesOf(message),
  network: message.settings.network,
});
await script.ready();
window.fastconv = script;
