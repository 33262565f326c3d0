// Reads a file into pixels and the bytes to send, or throws an error with the reason.

// The limits of the server (keras_srt/core/images.py), checked before a long upload.
export const MAX_BYTES = 16 * 2 ** 20;
export const MAX_PIXELS = 2 ** 24;

const MAGIC = { png: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a], jpeg: [0xff, 0xd8, 0xff] };
const EXIF = 0x45786966;
const EXIF_ORIENTATION = 0x0112;
const UPRIGHT = 1;

/** An unusable image; the message is for the user. */
export class BadFile extends Error {}

/**
 * Reads a PNG or JPEG.
 *
 * The server ignores transparency and the EXIF orientation. If a file has them, the image is
 * redrawn as displayed (upright, on white) and sent as such, so that the user and the model see
 * the same image.
 *
 * Returns {name, blob, pixels: ImageData, redrawn}.
 */
export async function readImage(file) {
  const name = file.name || "The image";
  const kind = await checkedKind(file, name);
  const bitmap = await decoded(file, name);
  if (bitmap.width * bitmap.height > MAX_PIXELS) {
    const millions = (pixels) => (pixels / 1e6).toFixed(1);
    throw new BadFile(
      `${name} has ${millions(bitmap.width * bitmap.height)} megapixels; ` +
        `allowed: at most ${millions(MAX_PIXELS)}. Choose a smaller one.`,
    );
  }
  const { canvas, pixels } = draw(bitmap);
  const turned = kind === "jpeg" && orientation(await file.arrayBuffer()) !== UPRIGHT;
  if (!turned && !hasTransparency(pixels)) return { name, blob: file, pixels, redrawn: false };
  const flat = draw(canvas, "white");
  return { name, blob: await asPng(flat.canvas), pixels: flat.pixels, redrawn: true };
}

/** The bytes of a blob as base64. */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(new BadFile("The image can't be read any more."));
    reader.readAsDataURL(blob);
  });
}

/** The content of a canvas as PNG. */
export function asPng(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function checkedKind(file, name) {
  if (file.size > MAX_BYTES) {
    const mib = (file.size / 2 ** 20).toFixed(1);
    throw new BadFile(
      `${name} has ${mib} MiB; allowed: at most ${MAX_BYTES / 2 ** 20}. Choose a smaller image.`,
    );
  }
  const head = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  const kind = Object.keys(MAGIC).find((key) => MAGIC[key].every((byte, i) => head[i] === byte));
  if (!kind) throw new BadFile(`${name} is neither PNG nor JPEG. Choose a PNG or JPEG image.`);
  return kind;
}

async function decoded(file, name) {
  try {
    // The server ignores color profiles.
    return await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new BadFile(`${name} can't be read; it may be damaged. Choose another image.`);
  }
}

function draw(source, background) {
  const canvas = document.createElement("canvas");
  canvas.width = source.width;
  canvas.height = source.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (background) {
    context.fillStyle = background;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(source, 0, 0);
  return { canvas, pixels: context.getImageData(0, 0, canvas.width, canvas.height) };
}

function hasTransparency({ data }) {
  for (let at = 3; at < data.length; at += 4) if (data[at] < 255) return true;
  return false;
}

/** The EXIF orientation of a JPEG; upright if absent. */
function orientation(buffer) {
  const view = new DataView(buffer);
  try {
    let at = 2;
    while (view.getUint8(at) === 0xff && view.getUint8(at + 1) !== 0xda) {
      if (view.getUint32(at + 4) === EXIF) return orientationIn(view, at + 10);
      at += 2 + view.getUint16(at + 2);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // truncated: no orientation
  }
  return UPRIGHT;
}

function orientationIn(view, start) {
  const littleEndian = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, littleEndian);
  const count = view.getUint16(directory, littleEndian);
  for (let entry = directory + 2; entry < directory + 2 + 12 * count; entry += 12) {
    if (view.getUint16(entry, littleEndian) === EXIF_ORIENTATION) {
      return view.getUint16(entry + 8, littleEndian);
    }
  }
  return UPRIGHT;
}
