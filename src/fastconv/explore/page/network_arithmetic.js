// The layers of small networks, for pages that have no server to compute them.
//
// A volume is { shape: [C, H, W], data }, or { shape: [C], data } behind the last feature maps.

import { outputSize } from "./arithmetic.js";

// Weights of old pixels for each new one along an axis: linear where it grows, a triangle over all
// old pixels where it shrinks. fastconv.explore's server has the same in _catalog.py.
function resamplingWeights(old, size) {
  const scale = old / size;
  const support = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale - 0.5;
    const row = Array.from({ length: old }, (_, j) => Math.max(0, 1 - Math.abs(j - centre) / support));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((x) => x / sum);
  });
}

export function resampled({ shape: [count, height, width], data }, [newHeight, newWidth]) {
  const down = resamplingWeights(height, newHeight);
  const across = resamplingWeights(width, newWidth);
  const result = new Float64Array(count * newHeight * newWidth);
  const line = new Float64Array(width);
  for (let c = 0; c < count; c++) {
    for (let r = 0; r < newHeight; r++) {
      line.fill(0);
      down[r].forEach((weight, i) => {
        if (weight === 0) return;
        const from = (c * height + i) * width;
        for (let j = 0; j < width; j++) line[j] += weight * data[from + j];
      });
      across.forEach((weights, j) => {
        let sum = 0;
        for (let k = 0; k < width; k++) sum += weights[k] * line[k];
        result[(c * newHeight + r) * newWidth + j] = sum;
      });
    }
  }
  return { shape: [count, newHeight, newWidth], data: result };
}

// Turn a picture of any size into an input of pixels from 0 to 1.
export function inputOf({ channels, height, width, high }, shape) {
  const scaled = channels.map((channel) => Float64Array.from(channel, (x) => x / high));
  let planes = scaled;
  if (shape[0] === 1 && scaled.length === 3) {
    const [red, green, blue] = scaled;
    planes = [red.map((_, i) => 0.299 * red[i] + 0.587 * green[i] + 0.114 * blue[i])];
  } else if (scaled.length !== shape[0]) {
    planes = Array.from({ length: shape[0] }, (_, c) => scaled[c % scaled.length]);
  }
  const data = new Float64Array(planes.length * height * width);
  planes.forEach((values, c) => data.set(values, c * height * width));
  const input = resampled({ shape: [planes.length, height, width], data }, shape.slice(1));
  return { shape: input.shape, data: Float32Array.from(input.data) };
}

function convolution({ shape: [channels, height, width], data }, { W, b, stride, pad }) {
  const [filters, , kernelHeight, kernelWidth] = W.shape;
  const outHeight = outputSize(height, kernelHeight, stride, pad);
  const outWidth = outputSize(width, kernelWidth, stride, pad);
  const result = new Float64Array(filters * outHeight * outWidth);
  for (let f = 0; f < filters; f++) {
    result.fill(b.data[f], f * outHeight * outWidth, (f + 1) * outHeight * outWidth);
    for (let c = 0; c < channels; c++) {
      for (let kh = 0; kh < kernelHeight; kh++) {
        for (let kw = 0; kw < kernelWidth; kw++) {
          const weight = W.data[((f * channels + c) * kernelHeight + kh) * kernelWidth + kw];
          for (let r = 0; r < outHeight; r++) {
            const row = r * stride + kh - pad;
            if (row < 0 || row >= height) continue;
            for (let q = 0; q < outWidth; q++) {
              const column = q * stride + kw - pad;
              if (column < 0 || column >= width) continue;
              const value = data[(c * height + row) * width + column];
              result[(f * outHeight + r) * outWidth + q] += weight * value;
            }
          }
        }
      }
    }
  }
  return { shape: [filters, outHeight, outWidth], data: result };
}

function maxPooling({ shape: [channels, height, width], data }, { size, stride }) {
  const outHeight = outputSize(height, size[0], stride);
  const outWidth = outputSize(width, size[1], stride);
  const result = new Float64Array(channels * outHeight * outWidth);
  for (let i = 0; i < result.length; i++) {
    const q = i % outWidth;
    const r = Math.floor(i / outWidth) % outHeight;
    const c = Math.floor(i / (outWidth * outHeight));
    let best = -Infinity;
    for (let kh = 0; kh < size[0]; kh++) {
      for (let kw = 0; kw < size[1]; kw++) {
        const place = (c * height + r * stride + kh) * width + q * stride + kw;
        if (data[place] > best) best = data[place];
      }
    }
    result[i] = best;
  }
  return { shape: [channels, outHeight, outWidth], data: result };
}

function affine({ data }, { W, b }) {
  const [inputs, outputs] = W.shape;
  const result = Float64Array.from(b.data);
  for (let i = 0; i < inputs; i++) {
    for (let j = 0; j < outputs; j++) result[j] += data[i] * W.data[i * outputs + j];
  }
  return { shape: [outputs], data: result };
}

function means({ shape: [channels, height, width], data }) {
  const size = height * width;
  const result = new Float64Array(channels);
  data.forEach((value, i) => (result[Math.floor(i / size)] += value / size));
  return { shape: [channels], data: result };
}

const COMPUTE = {
  Convolution: convolution,
  Pooling: maxPooling,
  Affine: affine,
  Relu: ({ shape, data }) => ({ shape, data: data.map((x) => (x > 0 ? x : 0)) }),
  Flatten: ({ data }) => ({ shape: [data.length], data }),
  Dropout: (input) => input,
  GlobalAveragePooling: means,
};

// The outputs of all layers.
export function runLayers(layers, input) {
  const outputs = [];
  let volume = { shape: input.shape, data: Float64Array.from(input.data) };
  for (const layer of layers) {
    volume = COMPUTE[layer.kind](volume, layer);
    outputs.push(volume);
  }
  return outputs;
}

export function softmax(scores) {
  const most = Math.max(...scores);
  const powers = scores.map((x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

// The class activation map (CAM) of a network that ends with means of its last feature maps and a
// product: what the product weighs the means with, the map weighs the channels with.
export function classActivation(layers, outputs, [height, width]) {
  const last = layers.at(-1);
  if (last.kind !== "Affine" || layers.at(-2)?.kind !== "GlobalAveragePooling") return null;
  const { shape: [channels, h, w], data } = outputs.at(-3);
  const scores = outputs.at(-1).data;
  const chosen = scores.indexOf(Math.max(...scores));
  const heat = new Float64Array(h * w);
  for (let c = 0; c < channels; c++) {
    const weight = last.W.data[c * last.W.shape[1] + chosen];
    for (let i = 0; i < h * w; i++) heat[i] += weight * data[c * h * w + i];
  }
  const positive = heat.map((x) => Math.max(x, 0));
  const { data: large } = resampled({ shape: [1, h, w], data: positive }, [height, width]);
  return { shape: [height, width], data: large };
}
