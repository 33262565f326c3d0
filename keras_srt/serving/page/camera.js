// A picture from the camera, as a file.

import { BadFile, asPng } from "./image_file.js";

const SIDE = 512; // pixels; models use far fewer

/** Browsers allow the camera only on localhost and over HTTPS. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Shows the camera in a dialog; returns a square PNG, or null if canceled. */
export async function takePicture({ dialog, video, take, cancel }) {
  const stream = await openCamera();
  video.srcObject = stream;
  dialog.showModal();
  try {
    await video.play();
    const taken = await choice(dialog, take, cancel);
    return taken ? new File([await asPng(middle(video))], "Camera picture") : null;
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    dialog.close();
  }
}

async function openCamera() {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    throw new BadFile(
      refused
        ? "The browser may not use the camera. Allow it for this page, or choose a file."
        : "The camera can't be used. Connect one that is free, or choose a file.",
    );
  }
}

function choice(dialog, take, cancel) {
  return new Promise((resolve) => {
    take.onclick = () => resolve(true);
    cancel.onclick = () => resolve(false);
    dialog.oncancel = () => resolve(false); // Escape
  });
}

/** Crops the largest centered square of the video. */
function middle(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const side = Math.min(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.min(side, SIDE);
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  canvas.getContext("2d").drawImage(video, left, top, side, side, 0, 0, canvas.width, canvas.width);
  return canvas;
}
