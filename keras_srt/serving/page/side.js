// One model with the current image. A side is {model, base, original, latest}: base, the image as
// the input of the model; original, the answer to it; latest, the answer to the changed image.

import { base64 } from "./image_file.js";
import { change, fromPixels, invert } from "./picture.js";
import { predictFile, predictPicture } from "./server.js";
import { percent } from "./view.js";

/** An image as the input of a model; `base` is null if the model doesn't say its size. */
export function sideOf(model, image, inverted) {
  const read = model.size && fromPixels(image.pixels, model.size);
  return { model, base: inverted && read ? invert(read) : read, original: null, latest: null };
}

/** The changed input of a side; shifts are in pixels of the first model. */
export function changed({ sides: [first] }, { base }, { right, down, ...others }) {
  const scale = (axis) => (first.base ? base[axis] / first.base[axis] : 1);
  return change(base, { ...others, right: right * scale("width"), down: down * scale("height") });
}

/** The answer of a model; that for the unchanged image is requested once. */
export async function answerOf(subject, number, settings) {
  const side = subject.sides[number];
  side.original ??= await askOriginal(subject, side);
  const isChanged = Boolean(side.base) && Object.values(settings).some(Boolean);
  if (!isChanged || !side.original.valid) return side.original;
  return predictPicture(side.model, changed(subject, side, settings));
}

function askOriginal({ image, inverted }, { model, base }) {
  // Send the file itself if possible, so that the server decodes it.
  return inverted && base
    ? predictPicture(model, base)
    : base64(image.blob).then((encoded) => predictFile(model, encoded));
}

/** A sentence with the answer of the other model to the attacked image, if it fits. */
export async function transferred(picture, side, other) {
  if (JSON.stringify(other.model.size) !== JSON.stringify(side.model.size)) return "";
  const answer = await predictPicture(other.model, picture);
  return ` The other model, ${other.model.name}, says ${answer.class_name}, ${percent(answer.score)}.`;
}
