// TF Serving's REST protocol, with the addition of `/models` and its subpaths.

const TIMEOUT = 40_000; // ms; the limit of the server, 30 s, applies first and has a clearer message
const RETRY_AFTER = 2; // seconds, if a busy server sends no Retry-After
const VALUES_PER_REQUEST = 200_000; // about 1.5 MB of JSON

/** A failed request; `kind` is gone, busy, unknown (404), empty or refused. */
export class ServerError extends Error {
  constructor(kind, message, retryAfter = RETRY_AFTER) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The names of the served models. */
export async function listModels() {
  return (await request("/models")).models;
}

/** {name, version, size}: size is {height, width, channels}, or null if unknown. */
export async function describe(name) {
  const { model_spec: spec, metadata } = await request(`${modelPath(name)}/metadata`);
  const signatures = metadata.signature_def.signature_def;
  return { name, version: spec.version, size: sizeOf(signatures.image?.inputs?.image) };
}

/** {samples: [File], queries}: sample images, and the images per attack, 0 if there are none. */
export async function about(model) {
  const { samples, attack_queries: queries } = await request(ownPath(model, "page"));
  return { samples: samples.map(sampleFile), queries };
}

/**
 * The server's search for a change of at most epsilon that flips the class.
 *
 * Returns {flipped, queries} and, if flipped, {picture, prediction}.
 */
export async function attack(model, picture, epsilon) {
  const body = JSON.stringify({ instances: [nested(picture)], epsilon });
  const found = await request(ownPath(model, "attack"), { method: "POST", body });
  return { ...found, picture: found.flipped && { ...picture, values: flat(found.image) } };
}

/** The prediction for an encoded file, and its duration in ms. */
export async function predictFile(model, encoded) {
  const start = performance.now();
  const [answer] = await predict(model, "serving_default", [{ b64: encoded }]);
  return { ...answer, milliseconds: performance.now() - start };
}

/** The prediction for a picture, and its duration in ms. */
export async function predictPicture(model, picture) {
  const start = performance.now();
  const [answer] = await predict(model, "image", [nested(picture)]);
  return { ...answer, milliseconds: performance.now() - start };
}

/** Predictions for many pictures, in as few requests as possible. */
export async function predictPictures(model, pictures) {
  const together = Math.max(1, Math.floor(VALUES_PER_REQUEST / pictures[0].values.length));
  const answers = [];
  for (let i = 0; i < pictures.length; i += together) {
    answers.push(...(await predict(model, "image", pictures.slice(i, i + together).map(nested))));
  }
  return answers;
}

// With the version, so that the prediction is from the version that the page shows.
async function predict(model, signature, instances) {
  const path = `${modelPath(model.name)}/versions/${model.version}:predict`;
  const body = JSON.stringify({ signature_name: signature, instances });
  const { predictions } = await request(path, { method: "POST", body });
  return predictions;
}

function modelPath(name) {
  return `/v1/models/${encodeURIComponent(name)}`;
}

function ownPath({ name, version }, action) {
  return `/models/${encodeURIComponent(name)}/versions/${version}/${action}`;
}

function sampleFile({ name, b64 }) {
  const bytes = Uint8Array.from(atob(b64), (character) => character.charCodeAt(0));
  return new File([bytes], name, { type: "image/png" });
}

async function request(path, options = {}) {
  const response = await reach(path, options);
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const text = answer?.error ?? `HTTP ${response.status} without a text`;
  if (response.status === 503) {
    const seconds = Number(response.headers.get("Retry-After"));
    throw new ServerError("busy", text, seconds || RETRY_AFTER);
  }
  throw new ServerError(response.status === 404 ? "unknown" : "refused", text);
}

async function reach(path, options) {
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  try {
    return await fetch(path, { ...options, headers, signal: AbortSignal.timeout(TIMEOUT) });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new ServerError("gone", late ? "takes too long to answer" : "can't be reached");
  }
}

function sizeOf(input) {
  const dims = (input?.tensor_shape?.dim ?? []).map((dim) => Number(dim.size));
  const [, height, width, channels] = dims;
  const known = dims.length === 4 && height > 0 && width > 0 && [1, 3].includes(channels);
  return known ? { height, width, channels } : null;
}

function flat(rows) {
  return Float32Array.from(rows.flat(2));
}

function nested({ height, width, channels, values }) {
  // Rounded to 1/40 of a gray level, which saves two thirds of the bytes.
  const rounded = Array.from(values, (value) => Math.round(value * 1e4) / 1e4);
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) =>
      rounded.slice((y * width + x) * channels, (y * width + x + 1) * channels),
    ),
  );
}
