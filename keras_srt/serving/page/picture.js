// Image transforms, as in the server and the package, in the browser.
// A picture is {height, width, channels, values}, a Float32Array of rows of pixels in [0, 1].

const LUMA = [0.299, 0.587, 0.114];
const NOISE_SEED = 20200697;

/** Resizes RGBA bytes (ImageData) to the input size and channels of a model, as Pillow does. */
export function fromPixels({ data, width, height }, size) {
  const rows = resizeAxis(data, height, width, 4, size.width);
  const rgba = resizeAxis(rows, 1, height, 4 * size.width, size.height);
  const values = new Float32Array(size.height * size.width * size.channels);
  for (let pixel = 0; pixel < size.height * size.width; pixel++) {
    const rgb = rgba.subarray(4 * pixel, 4 * pixel + 3);
    if (size.channels === 1) {
      values[pixel] = clip(LUMA.reduce((sum, part, c) => sum + part * rgb[c], 0) / 255);
    } else {
      rgb.forEach((value, c) => (values[3 * pixel + c] = clip(value / 255)));
    }
  }
  return { height: size.height, width: size.width, channels: size.channels, values };
}

/** Inverts a picture: models of digits expect light strokes on a dark background. */
export function invert(picture) {
  return { ...picture, values: picture.values.map((value) => 1 - value) };
}

/** Rotates, shifts and adds noise, in this order, with zero fill. */
export function change(picture, { degrees, right, down, noise }) {
  const moved = degrees || right || down ? move(picture, degrees, right, down) : picture;
  return noise ? addNoise(moved, noise) : moved;
}

/** The difference of two pictures, magnified; 0 becomes medium gray. */
export function difference(after, before, magnification) {
  const values = after.values.map((value, i) =>
    clip(0.5 + magnification * (value - before.values[i])),
  );
  return { ...after, values };
}

/** Adds noise with a fixed seed, uniform in ±strength, and clips to [0, 1]. */
export function addNoise(picture, strength) {
  const random = uniform(NOISE_SEED);
  const values = picture.values.map((value) => clip(value + strength * (2 * random() - 1)));
  return { ...picture, values };
}

/**
 * Rotates about the center (positive degrees: counterclockwise), then shifts by pixels of the
 * model; one bilinear interpolation, as in keras_srt/neighborhoods/geometry.py.
 */
export function move(picture, degrees, right, down) {
  const { height, width, channels } = picture;
  const values = new Float32Array(picture.values.length);
  const cos = Math.cos((degrees * Math.PI) / 180);
  const sin = Math.sin((degrees * Math.PI) / 180);
  const [centerX, centerY] = [(width - 1) / 2, (height - 1) / 2];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [fromX, fromY] = [x - right - centerX, y - down - centerY];
      const sourceX = centerX + cos * fromX - sin * fromY;
      const sourceY = centerY + sin * fromX + cos * fromY;
      sample(picture, sourceX, sourceY, values, (y * width + x) * channels);
    }
  }
  return { ...picture, values };
}

/** Adds the four weighted neighbors of a point to `target`; pixels outside count as 0. */
function sample({ height, width, channels, values }, x, y, target, at) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  for (const [column, row] of [[left, top], [left + 1, top], [left, top + 1], [left + 1, top + 1]]) {
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const weight = (1 - Math.abs(x - column)) * (1 - Math.abs(y - row));
    for (let c = 0; c < channels; c++) {
      target[at + c] += weight * values[(row * width + column) * channels + c];
    }
  }
}

/** [outer, from, inner] -> [outer, to, inner]. */
function resizeAxis(values, outer, from, inner, to) {
  const result = new Float32Array(outer * to * inner);
  triangles(from, to).forEach(({ first, weights }, i) => {
    for (let o = 0; o < outer; o++) {
      const target = (o * to + i) * inner;
      weights.forEach((weight, k) => {
        const source = (o * from + first + k) * inner;
        for (let c = 0; c < inner; c++) result[target + c] += weight * values[source + c];
      });
    }
  });
  return result;
}

/** Bilinear weights with antialiasing: the source pixels of each result pixel. */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let x = first; x < end; x++) {
      weights.push(Math.max(0, 1 - Math.abs((x + 0.5 - center) / support)));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

function clip(value) {
  return Math.min(1, Math.max(0, value));
}

/** Mulberry32: random numbers in [0, 1) with a seed, which Math.random lacks. */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}
