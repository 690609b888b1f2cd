// The arithmetic of the page, without the page: windows, padding, convolution, pooling, gradients,
// and the layers of small networks.
//
// A plane is { height, width, data }, its data a typed array, row by row. Where a server computes,
// these functions only explain single pixels; in a saved page they compute everything. The sums
// run in double precision over the taps in row-major order.

export const plane = (height, width, data = new Float64Array(height * width)) => ({
  height,
  width,
  data,
});

// Where the pixels of a padded axis come from; -1 stands for zeros. The names are numpy.pad's, and
// so is what happens if the padding is larger than the image: it folds again and again.
export function paddedIndices(size, padding, mode) {
  const modulo = (a, n) => ((a % n) + n) % n;
  const source = {
    constant: (i) => (i < 0 || i >= size ? -1 : i),
    edge: (i) => Math.min(Math.max(i, 0), size - 1),
    wrap: (i) => modulo(i, size),
    symmetric: (i) => {
      const place = modulo(i, 2 * size);
      return place < size ? place : 2 * size - 1 - place;
    },
    reflect: (i) => {
      if (size === 1) return 0;
      const period = 2 * size - 2;
      const place = modulo(i, period);
      return place < size ? place : period - place;
    },
  }[mode];
  return Int32Array.from({ length: size + 2 * padding }, (_, i) => source(i - padding));
}

export function outputSize(size, kernel, stride, padding = 0, dilation = 1) {
  return Math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
}

export function padded(image, padding, mode) {
  const rows = paddedIndices(image.height, padding, mode);
  const columns = paddedIndices(image.width, padding, mode);
  const result = plane(rows.length, columns.length);
  for (let r = 0; r < rows.length; r++) {
    if (rows[r] < 0) continue;
    const from = rows[r] * image.width;
    const to = r * result.width;
    for (let c = 0; c < columns.length; c++) {
      if (columns[c] >= 0) result.data[to + c] = image.data[from + columns[c]];
    }
  }
  return result;
}

export function convolve(image, kernel, { stride, padding, dilation, padMode }) {
  const height = outputSize(image.height, kernel.height, stride, padding, dilation);
  const width = outputSize(image.width, kernel.width, stride, padding, dilation);
  if (height < 1 || width < 1) {
    throw new RangeError(
      `kernel (${kernel.height}, ${kernel.width}) with dilation ${dilation} does not fit the ` +
        `padded input (${image.height + 2 * padding}, ${image.width + 2 * padding})`,
    );
  }
  const source = padding ? padded(image, padding, padMode) : image;
  const result = plane(height, width);
  // One tap after the other over whole rows, which browsers compile to fast loops.
  for (let kh = 0; kh < kernel.height; kh++) {
    for (let kw = 0; kw < kernel.width; kw++) {
      const weight = kernel.data[kh * kernel.width + kw];
      if (weight === 0) continue;
      for (let r = 0; r < height; r++) {
        let from = (r * stride + kh * dilation) * source.width + kw * dilation;
        const to = r * width;
        for (let c = 0; c < width; c++, from += stride) {
          result.data[to + c] += weight * source.data[from];
        }
      }
    }
  }
  return result;
}

export const rectify = (input) =>
  plane(input.height, input.width, Float64Array.from(input.data, (x) => (x > 0 ? x : 0)));

// Pool a plane. Of equal maxima, the first in row-major order wins.
export function pool(input, { kind, size, stride }) {
  const height = outputSize(input.height, size, stride);
  const width = outputSize(input.width, size, stride);
  if (height < 1 || width < 1) {
    throw new RangeError(
      `a pool of size ${size} does not fit an input of (${input.height}, ${input.width})`,
    );
  }
  const result = plane(height, width);
  const indices = new Int32Array(height * width);
  for (let r = 0; r < height; r++) {
    for (let c = 0; c < width; c++) {
      let best = r * stride * input.width + c * stride;
      let sum = 0;
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) {
          const place = (r * stride + i) * input.width + c * stride + j;
          sum += input.data[place];
          if (input.data[place] > input.data[best]) best = place;
        }
      }
      indices[r * width + c] = best;
      result.data[r * width + c] = kind === "max" ? input.data[best] : sum / (size * size);
    }
  }
  return { ...result, indices };
}

// All of the kernel view: image -> response -> rectified -> pooled.
export function forward(image, kernel, settings) {
  const response = convolve(image, kernel, settings);
  const rectified = settings.relu ? rectify(response) : response;
  const pooled = settings.pool.kind === "none" ? rectified : pool(rectified, settings.pool);
  return { response, rectified, pooled };
}

// The gradient of one pixel of the last picture with respect to all pictures before it.
export function backward(image, kernel, settings, { response, rectified }, { row, column }) {
  const kind = settings.pool.kind;
  const gradRectified = plane(rectified.height, rectified.width);
  if (kind === "none") {
    gradRectified.data[row * rectified.width + column] = 1;
  } else {
    for (const { row: r, column: c } of poolTaps(rectified, settings.pool, row, column)) {
      gradRectified.data[r * rectified.width + c] = 1 / settings.pool.size ** 2;
    }
  }
  if (kind === "max") {
    const { indices, width } = pool(rectified, settings.pool);
    gradRectified.data.fill(0);
    gradRectified.data[indices[row * width + column]] = 1;
  }
  const gradResponse = plane(response.height, response.width, gradRectified.data.slice());
  if (settings.relu) {
    gradResponse.data.forEach((_, i) => {
      if (!(response.data[i] > 0)) gradResponse.data[i] = 0;
    });
  }
  const gradImage = plane(image.height, image.width);
  gradResponse.data.forEach((grad, i) => {
    if (grad === 0) return;
    const place = { row: Math.floor(i / response.width), column: i % response.width };
    for (const tap of convolutionTaps(image, kernel, settings, place.row, place.column)) {
      if (tap.source) {
        gradImage.data[tap.source.row * image.width + tap.source.column] += grad * tap.weight;
      }
    }
  });
  return { gradImage, gradResponse, gradRectified };
}

// The taps of one output: the place in the padded image, the pixel of the image that is read there
// (none in zero padding), its value and the weight.
export function convolutionTaps(image, kernel, settings, row, column) {
  const { stride, padding, dilation, padMode } = settings;
  const rows = paddedIndices(image.height, padding, padMode);
  const columns = paddedIndices(image.width, padding, padMode);
  const taps = [];
  for (let kh = 0; kh < kernel.height; kh++) {
    for (let kw = 0; kw < kernel.width; kw++) {
      const at = { row: row * stride + kh * dilation, column: column * stride + kw * dilation };
      const source = { row: rows[at.row], column: columns[at.column] };
      const isPixel = source.row >= 0 && source.column >= 0;
      taps.push({
        row: at.row - padding,
        column: at.column - padding,
        source: isPixel ? source : null,
        value: isPixel ? image.data[source.row * image.width + source.column] : 0,
        weight: kernel.data[kh * kernel.width + kw],
      });
    }
  }
  return taps;
}

export function poolTaps(input, { size, stride }, row, column) {
  const taps = [];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const place = { row: row * stride + i, column: column * stride + j };
      taps.push({ ...place, value: input.data[place.row * input.width + place.column] });
    }
  }
  return taps;
}

// ---- kernels -----------------------------------------------------------------------------------

const joined = (a, b) => {
  const result = new Array(a.length + b.length - 1).fill(0);
  a.forEach((x, i) => b.forEach((y, j) => (result[i + j] += x * y)));
  return result;
};

function binomial(size) {
  let row = [1];
  while (row.length < size) row = joined(row, [1, 1]);
  return row;
}

const derivative = (size) => (size === 1 ? [1] : joined(binomial(size - 1), [-1, 1]));

const square = (size, value) =>
  plane(
    size,
    size,
    Float64Array.from({ length: size * size }, (_, i) => value(Math.floor(i / size), i % size)),
  );

function laplacian(size, row, column) {
  const middle = Math.floor((size - 1) / 2);
  const isCentre = row === middle && column === middle;
  if (size === 3) {
    return isCentre ? -4 : Number(row === middle || column === middle);
  }
  return isCentre ? 1 - size * size : 1;
}

const isMiddle = (size, row, column) =>
  Number(row === Math.floor((size - 1) / 2) && column === Math.floor((size - 1) / 2));

// The kernels to begin with, for every size. At 3x3 they are the well-known ones.
export const PRESETS = {
  identity: (n) => square(n, (r, c) => isMiddle(n, r, c)),
  "horizontal edges": (n) => square(n, (r, c) => derivative(n)[r] * binomial(n)[c]),
  "vertical edges": (n) => square(n, (r, c) => binomial(n)[r] * derivative(n)[c]),
  Laplacian: (n) => square(n, (r, c) => laplacian(n, r, c)),
  sharpen: (n) => square(n, (r, c) => isMiddle(n, r, c) - laplacian(n, r, c)),
  emboss: (n) => square(n, (r, c) => (isMiddle(n, r, c) ? 1 : r + c - (n - 1))),
  box: (n) => square(n, () => 1 / (n * n)),
  Gaussian: (n) => square(n, (r, c) => (binomial(n)[r] * binomial(n)[c]) / 4 ** (n - 1)),
  random: (n) => square(n, () => Math.floor(Math.random() * 7) - 3),
};

// Divide by the sum, so that flat areas keep their brightness; if it is 0, by the magnitudes.
export function normalized(kernel) {
  const sum = kernel.data.reduce((a, b) => a + b, 0);
  const magnitude = kernel.data.reduce((a, b) => a + Math.abs(b), 0);
  const divisor = Math.abs(sum) > 1e-9 * magnitude ? sum : magnitude;
  if (divisor === 0) return kernel;
  return plane(kernel.height, kernel.width, kernel.data.map((x) => x / divisor));
}
