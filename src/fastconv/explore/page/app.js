// The page around the views, the same whether a server, a notebook or the page itself computes.

import { choice, h, labelled } from "./elements.js";
import { KernelComputation, KernelView } from "./kernel_view.js";
import { NetworkView } from "./network_view.js";
import { PictureField } from "./pictures.js";
import { Store, initialState, snapshot } from "./state.js";

export class App {
  constructor(root, backend, { pictures, network = null, kernel = null }) {
    const state = initialState(pictures);
    this.store = new Store(kernel ? { ...state, kernel, preset: "custom" } : state);
    this.computation = new KernelComputation(this.store, backend);
    const use = (picture) => {
      this.store.set({ picture, error: "" });
      this.computation.request();
      if (this.store.values.view === "network") this.networkView.request();
    };
    this.field = new PictureField(this.store, use);
    this.kernelView = new KernelView(this.store, this.computation);
    this.networkView = network ? new NetworkView(this.store, backend, network) : null;
    this.error = h("p", { className: "error", role: "alert" });
    const views = h("main", {}, this.kernelView.element, this.networkView?.element ?? null);
    root.classList.add("fastconv");
    root.replaceChildren(this.#header(), this.error, views);
    this.field.acceptDrops(root);
    this.store.subscribe((values) => this.#update(values));
    this.store.set({ kernel: this.store.values.kernel, selected: null });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    use(this.store.values.picture);
  }

  #header() {
    this.view = choice(this.networkView ? ["kernel", "network"] : ["kernel"], "kernel", (view) => {
      this.kernelView.stop();
      this.store.set({ view });
      this.#redraw();
      if (view === "network") this.networkView.request();
    });
    return h("header", {}, h("h1", {}, h("b", {}, "fastconv"), " explore"), labelled("View", this.view));
  }

  #update({ view, error }) {
    const isKernel = view === "kernel";
    this.error.textContent = error;
    this.kernelView.element.hidden = !isKernel;
    if (this.networkView) this.networkView.element.hidden = isKernel;
    const shown = isKernel ? this.kernelView : this.networkView;
    const place = shown.element.querySelector(".controls");
    if (this.field.element.parentElement !== place) place.prepend(this.field.element);
  }

  #redraw() {
    this.store.set({ kernel: this.store.values.kernel });
    this.kernelView.draw();
    this.networkView?.draw();
  }

  // What scripts use; docs/explore.md tells what it holds.
  get script() {
    return {
      state: () => ({ ...snapshot(this.store.values), network: this.networkView?.snapshot() ?? null }),
      ready: async () => {
        await this.computation.idle;
        await this.networkView?.idle;
      },
    };
  }
}
