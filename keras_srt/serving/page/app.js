// The page: an image, its transforms, and the prediction of the model, updated live.

import { hasCamera, takePicture } from "./camera.js";
import { BadFile, base64, readImage } from "./image_file.js";
import { change, fromPixels, invert } from "./picture.js";
import {
  ServerError,
  describe,
  listModels,
  predictFile,
  predictPicture,
  predictPictures,
} from "./server.js";
import { Bars, drawPicture, percent, signed, sweepChart } from "./view.js";

const SLIDERS = ["degrees", "right", "down", "noise"];
const ANGLES = Array.from({ length: 37 }, (_, i) => 10 * i - 180);
const WATCH = 4000; // ms between two requests for the status of the server
const WATCH_TROUBLE = 1000; // the same while the server has a problem
const QUIET = 700; // ms without a new prediction before it is announced to screen readers

const $ = (id) => document.getElementById(id);

class App {
  #model = null; // {name, version, size}
  #image = null; // {name, blob, pixels, redrawn}
  #subject = null; // the current input: {model, image, base, inverted, original}
  #sweep = null; // {key, moveTo} of the visible chart
  #opening = null; // the file being read
  #trouble = null; // kind of the ServerError in the message
  #frame = null;
  #quiet = null;
  #bars = new Bars($("bars"));
  #ask = newestWins((subject) => this.#guard(() => this.#answerOrRenew(subject)));

  async start() {
    this.#listen();
    $("camera").hidden = !hasCamera();
    await this.#watch();
  }

  #listen() {
    $("file").onchange = ({ target }) => {
      this.#open(target.files[0]);
      target.value = ""; // allows choosing the same file again
    };
    $("camera").onclick = () => this.#photograph();
    document.onpaste = (event) => this.#open(event.clipboardData.files[0]);
    document.ondragover = (event) => this.#drag(event, true);
    document.ondragleave = (event) => this.#drag(event, false);
    document.ondrop = (event) => {
      this.#drag(event, false);
      this.#open(event.dataTransfer.files[0]);
    };
    for (const id of SLIDERS) $(id).oninput = () => this.#update();
    $("invert").onchange = () => this.#prepare();
    $("reset").onclick = () => this.#reset();
    $("sweep-start").onclick = () => this.#tryAllRotations();
    $("model").onchange = ({ target }) => (location.hash = `model=${target.value}`);
    window.onhashchange = () => this.#guard(() => this.#choose(modelInAddress()));
  }

  // Server: models and status.

  /** Polls the server for its status and for new versions. */
  async #watch() {
    if (!document.hidden || this.#trouble) await this.#guard(() => this.#look());
    setTimeout(() => this.#watch(), this.#trouble ? WATCH_TROUBLE : WATCH);
  }

  async #look() {
    if (this.#model) await this.#adopt(await describe(this.#model.name));
    else await this.#connect();
    if (this.#trouble === "gone") this.#announce("The server is back.");
    else if (!this.#trouble || this.#subject) return; // the next prediction clears the problem
    this.#relax();
    this.#update();
  }

  async #connect() {
    const models = await listModels();
    $("model").replaceChildren(...models.map((name) => new Option(name)));
    $("model").disabled = models.length < 2;
    if (!models.length) throw new ServerError("empty", "has no model yet");
    const wanted = modelInAddress();
    await this.#choose(models.includes(wanted) ? wanted : models[0]);
  }

  async #choose(name) {
    if (!name || name === this.#model?.name) return;
    const model = await describe(name);
    $("model").value = name;
    this.#adopt(model);
  }

  #adopt(model) {
    if (model.name === this.#model?.name && model.version === this.#model.version) return;
    const sizeChanged = JSON.stringify(model.size) !== JSON.stringify(this.#model?.size);
    this.#model = model;
    $("version").textContent = `version ${model.version}`;
    if (sizeChanged) this.#limitSliders(model.size);
    this.#prepare();
  }

  #limitSliders(size) {
    $("controls").disabled = !size;
    $("no-size").hidden = Boolean(size);
    $("seen").parentElement.hidden = !size;
    $("sweep").hidden = !size;
    if (!size) return;
    $("size").textContent = `${size.width} × ${size.height}, ${size.channels === 1 ? "gray" : "color"}`;
    for (const [id, side] of [["right", size.width], ["down", size.height]]) {
      $(id).max = Math.ceil(side / 3);
      $(id).min = -$(id).max;
    }
  }

  // Image.

  async #photograph() {
    const parts = { dialog: $("camera-dialog"), video: $("camera-video") };
    await this.#guard(async () => {
      this.#open(await takePicture({ ...parts, take: $("camera-take"), cancel: $("camera-cancel") }));
    });
  }

  async #open(file) {
    if (!file) return;
    this.#close();
    this.#opening = file;
    await this.#guard(async () => {
      const image = await readImage(file);
      if (this.#opening !== file) return; // another file was chosen meanwhile
      this.#image = image;
      $("preview").src = URL.createObjectURL(this.#image.blob);
      $("file-name").textContent = this.#image.name;
      $("redrawn").hidden = !this.#image.redrawn;
      this.#reset();
      this.#prepare();
    });
  }

  /** Hides the prediction of the previous image while a new one is read. */
  #close() {
    URL.revokeObjectURL($("preview").src);
    this.#image = this.#subject = null;
    $("work").hidden = true;
    $("drop").classList.add("empty");
    this.#relax();
  }

  #drag(event, over) {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
  }

  #reset() {
    for (const id of SLIDERS) $(id).value = 0;
    this.#update();
  }

  /** Starts a new subject after a change of image, model, version or inversion. */
  #prepare() {
    if (!this.#model || !this.#image) return;
    const inverted = $("invert").checked && Boolean(this.#model.size);
    const read = this.#model.size && fromPixels(this.#image.pixels, this.#model.size);
    const base = inverted ? invert(read) : read;
    this.#subject = { model: this.#model, image: this.#image, base, inverted, original: null };
    this.#hideSweep();
    $("work").setAttribute("aria-busy", "true");
    $("work").hidden = false;
    $("drop").classList.remove("empty");
    this.#update();
  }

  // Prediction.

  #settings() {
    return Object.fromEntries(SLIDERS.map((id) => [id, Number($(id).value)]));
  }

  /** Applies the transforms and requests a prediction, at most once per frame. */
  #update() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      const settings = this.#settings();
      this.#showSettings(settings);
      if (!this.#subject) return;
      if (this.#subject.base) drawPicture($("seen"), change(this.#subject.base, settings));
      this.#ask(this.#subject);
    });
  }

  #showSettings({ degrees, right, down, noise }) {
    const turn = degrees > 0 ? " ↺" : degrees < 0 ? " ↻" : "";
    $("degrees-value").textContent = `${signed(degrees)}°${turn}`;
    $("right-value").textContent = `${signed(right)} px`;
    $("down-value").textContent = `${signed(down)} px`;
    $("noise-value").textContent = `± ${noise.toFixed(2)}`;
    if (this.#sweep?.key === sweepKey({ right, down, noise })) this.#sweep.moveTo(degrees);
    else this.#hideSweep();
  }

  async #answerOrRenew(subject) {
    try {
      await this.#answer(subject);
    } catch (error) {
      if (error.kind !== "unknown") throw error;
      await this.#look(); // a newer version replaced it and starts a new subject
      if (subject === this.#subject) throw error;
    }
  }

  async #answer(subject) {
    const original = subject.original ?? (await askOriginal(subject));
    if (!original.valid) return this.#refuse(subject);
    const settings = this.#settings();
    const changed = Boolean(subject.base) && Object.values(settings).some(Boolean);
    const answer = changed
      ? await predictPicture(subject.model, change(subject.base, settings))
      : original;
    if (subject !== this.#subject) return; // another image was chosen meanwhile
    if (!subject.original) this.#bars.reset(original);
    subject.original = original;
    this.#show(answer, original, changed);
  }

  #refuse(subject) {
    if (subject !== this.#subject) return;
    this.#close();
    this.#say(
      `The server can't read ${subject.image.name}: it may be damaged. ` +
        "Choose another image.",
    );
  }

  #show(answer, original, changed) {
    const flipped = answer.class_id !== original.class_id;
    const was = `${original.class_name}, ${percent(original.score)}`;
    const verdict = flipped
      ? `Flipped: without changes it is ${was}`
      : `The same as without changes (${percent(original.score)})`;
    this.#relax();
    $("class").textContent = answer.class_name;
    $("score").textContent = percent(answer.score);
    $("verdict").textContent = changed ? verdict : "Move a slider to see whether the answer holds";
    $("verdict").className = `verdict ${changed ? (flipped ? "flipped" : "kept") : ""}`;
    $("time").textContent = `${Math.round(answer.milliseconds)} ms there and back`;
    $("work").setAttribute("aria-busy", "false");
    this.#bars.show(answer);
    this.#announce(`${answer.class_name}, ${percent(answer.score)}. ${changed ? verdict : ""}`);
  }

  async #tryAllRotations() {
    const subject = this.#subject;
    if (!subject?.original) return;
    const settings = this.#settings();
    $("sweep-start").disabled = true;
    await this.#guard(async () => {
      const pictures = ANGLES.map((degrees) => change(subject.base, { ...settings, degrees }));
      const answers = await predictPictures(subject.model, pictures);
      const same = sweepKey(settings) === sweepKey(this.#settings());
      if (same && subject === this.#subject) this.#showSweep(answers, subject.original);
    });
    $("sweep-start").disabled = false;
  }

  #showSweep(answers, original) {
    const points = answers.map((answer, i) => ({
      degrees: ANGLES[i],
      score: answer.probabilities[original.class_id],
      kept: answer.class_id === original.class_id,
      className: answer.class_name,
    }));
    const figure = $("sweep-figure");
    figure.hidden = false; // only visible elements have a width
    const chart = sweepChart(points, original.class_name, figure.clientWidth);
    figure.replaceChildren(...chart.contents);
    this.#sweep = { key: sweepKey(this.#settings()), moveTo: chart.moveTo };
    chart.moveTo(this.#settings().degrees);
    this.#announce(chart.summary);
  }

  /** Hides the chart, which is valid for one image, shift and noise. */
  #hideSweep() {
    this.#sweep = null;
    $("sweep-figure").hidden = true;
  }

  // Messages.

  /** Runs an action and shows its error. */
  async #guard(action) {
    try {
      await action();
    } catch (error) {
      if (error instanceof BadFile) this.#say(error.message);
      else if (error instanceof ServerError) this.#explain(error);
      else throw error; // a bug of this page: for the console
    }
  }

  #explain({ kind, message, retryAfter }) {
    $("work").setAttribute("aria-busy", "true");
    this.#trouble = kind;
    if (kind === "gone" || kind === "empty") {
      this.#say(`The server ${message}. This page goes on by itself when that changes.`);
    } else if (kind === "busy") {
      this.#say(
        `The server can't answer now (503): “${message}” Trying again in ${retryAfter} s.`,
      );
      setTimeout(() => this.#update(), 1000 * retryAfter);
    } else {
      this.#say(`The server doesn't take the request: “${message}”`);
    }
  }

  #relax() {
    this.#trouble = null;
    this.#say("");
  }

  #say(text) {
    if ($("message").textContent !== text) $("message").textContent = text;
  }

  /** Announces a text to screen readers, once the sliders have stopped moving. */
  #announce(text) {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => ($("announcement").textContent = text), QUIET);
  }
}

function askOriginal({ model, image, base, inverted }) {
  // Send the file itself if possible, so that the server decodes it.
  return inverted
    ? predictPicture(model, base)
    : base64(image.blob).then((encoded) => predictFile(model, encoded));
}

/** Runs one job at a time; of the waiting jobs, only the newest is run. */
function newestWins(work) {
  let busy = false;
  let waiting = null;
  return async (job) => {
    waiting = job;
    if (busy) return;
    busy = true;
    while (waiting) {
      const next = waiting;
      waiting = null;
      await work(next).catch(reportError);
    }
    busy = false;
  };
}

function sweepKey({ right, down, noise }) {
  return `${right} ${down} ${noise}`;
}

/** The model name in `#model=name`. */
function modelInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("model");
}

new App().start();
