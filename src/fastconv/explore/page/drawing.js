// Colours and canvases: planes as pictures, numbers in pixels, marks over them.

// ---- colours -----------------------------------------------------------------------------------

// Scales are straight lines in OKLab, in which equal steps look equal, also to people who see few
// colours: lightness always tells the order. Signed scales run from blue to orange, which nobody
// confuses, and are neutral at zero.
function srgbOf([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((x) => {
    const clipped = Math.min(Math.max(x, 0), 1);
    return 255 * (clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055);
  });
}

function scaleThrough(stops) {
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1);
    const before = Math.min(Math.floor(place), stops.length - 2);
    const share = place - before;
    const mixed = stops[before].map((x, axis) => x + share * (stops[before + 1][axis] - x));
    table.set(srgbOf(mixed), 3 * i);
  }
  return table;
}

const BLUE = [0.45, -0.04, -0.17];
const ORANGE = [0.6, 0.12, 0.13];
export const SCALES = {
  gray: scaleThrough([[0, 0, 0], [1, 0, 0]]),
  signed: scaleThrough([BLUE, [0.97, 0, 0], ORANGE]),
  signedDark: scaleThrough([[0.75, -0.06, -0.13], [0.22, 0, 0], [0.78, 0.08, 0.13]]),
  heat: scaleThrough([[0.2, 0.01, -0.09], [0.5, 0.08, -0.02], [0.72, 0.09, 0.11], [0.95, -0.02, 0.15]]),
};

export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

// How a plane is shown: the values at the ends of the scale, and the scale.
export function rangeOf({ data }) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

export function signedLook(...planes) {
  const ends = planes.map(rangeOf);
  const most = Math.max(...ends.map(({ low, high }) => Math.max(-low, high))) || 1;
  return { low: -most, high: most, scale: isDark() ? SCALES.signedDark : SCALES.signed };
}

export const grayLook = (high) => ({ low: 0, high, scale: SCALES.gray });

const placeOn = ({ low, high }, value) =>
  high > low ? Math.min(Math.max(Math.round(((value - low) / (high - low)) * 255), 0), 255) : 0;

export function colorOf(look, value) {
  const at = 3 * placeOn(look, value);
  return `rgb(${look.scale[at]} ${look.scale[at + 1]} ${look.scale[at + 2]})`;
}

// Black or white, whichever is read better on a colour.
export function inkOn(look, value) {
  const at = 3 * placeOn(look, value);
  const [r, g, b] = look.scale.subarray(at, at + 3);
  return 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2 > 0.179
    ? "#000"
    : "#fff";
}

// ---- pixels ------------------------------------------------------------------------------------

const scratch = (height, width) => {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
};

export function imageOf({ height, width, data }, look, opacity = null) {
  const canvas = scratch(height, width);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const { low, high, scale } = look;
  const factor = high > low ? 255 / (high - low) : 0;
  // One write of four bytes for each pixel, from a table in the byte order of the machine.
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    bytes.set(scale.subarray(3 * i, 3 * i + 3), 4 * i);
    bytes[4 * i + 3] = opacity ? opacity(i / 255) : 255;
  }
  const table = new Uint32Array(bytes.buffer);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < data.length; i++) {
    // Compared before it is made whole: bitwise operators wrap around beyond 32 bits.
    const place = (data[i] - low) * factor + 0.5;
    pixels[i] = table[place < 0 ? 0 : place > 255 ? 255 : place | 0];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// A picture of one or three channels, as it looks.
export function pictureCanvas({ channels, height, width, high }) {
  if (channels.length === 1) {
    return imageOf({ height, width, data: channels[0] }, grayLook(high));
  }
  const canvas = scratch(height, width);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = (channels[c][i] / high) * 255;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Size a canvas for the screen and return its context, whose unit is a CSS pixel.
export function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  canvas.style.aspectRatio = `${width} / ${height}`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

export function drawScaled(context, image, x, y, width, height) {
  context.imageSmoothingEnabled = image.width > width * 1.5;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, width, height);
}

// A number in few letters.
export function brief(value, digits = 3) {
  if (value === 0) return "0";
  if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value).replace("-", "−");
  const text = Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
    ? value.toExponential(1)
    : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

const SMALLEST_CELL = 21;

// Write the values into the pixels where there is room.
export function drawNumbers(context, { height, width, data }, look, x, y, cell) {
  if (cell < SMALLEST_CELL) return;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let i = 0; i < data.length; i++) {
    const text = brief(data[i], 2);
    const size = Math.min(cell * 0.4, (cell * 1.45) / Math.max(text.length, 2));
    context.font = `${size}px system-ui, sans-serif`;
    context.fillStyle = inkOn(look, data[i]);
    const [row, column] = [Math.floor(i / width), i % width];
    context.fillText(text, x + (column + 0.5) * cell, y + (row + 0.52) * cell);
  }
}

// A frame that is seen on every colour: light around dark.
export function frame(context, x, y, width, height, color, thickness = 2) {
  context.lineJoin = "round";
  for (const [style, extra] of [["rgb(255 255 255 / 0.9)", 2], [color, 0]]) {
    context.strokeStyle = style;
    context.lineWidth = thickness + extra;
    context.strokeRect(x, y, width, height);
  }
}
