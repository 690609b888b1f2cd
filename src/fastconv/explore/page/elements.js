// Elements of the page in one call each.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria")) element.setAttribute(`aria-${name.slice(4).toLowerCase()}`, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

let controls = 0;

// A control beside its label, not within it: the options of a select would belong to its name.
export function labelled(name, control, className = "field") {
  control.id = `fastconv-control-${(controls += 1)}`;
  return h("div", { className }, h("label", { htmlFor: control.id }, name), control);
}

export const choice = (options, value, onchange) => {
  const select = h("select", { onchange: () => onchange(select.value) });
  setOptions(select, options, value);
  return select;
};

export function setOptions(select, options, value) {
  select.replaceChildren(...options.map((name) => h("option", { value: name }, name)));
  select.value = value;
}

export const button = (text, onclick, properties = {}) =>
  h("button", { type: "button", onclick, ...properties }, text);

// A control that a user is typing in is left alone.
export function show(input, value) {
  if (document.activeElement !== input || input.type === "checkbox") {
    if (input.type === "checkbox") input.checked = value;
    else if (input.value !== String(value)) input.value = String(value);
  }
}
