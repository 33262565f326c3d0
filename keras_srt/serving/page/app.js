// The page: an image, its transforms, and the predictions of one or two models, updated live.

import { AttackCard } from "./attack_card.js";
import { hasCamera, takePicture } from "./camera.js";
import { BadFile, readImage } from "./image_file.js";
import { Panel } from "./panel.js";
import { change } from "./picture.js";
import {
  ServerError,
  about,
  attack,
  describe,
  listModels,
  predictPictures,
} from "./server.js";
import { answerOf, changed, sideOf, transferred } from "./side.js";
import { drawPicture, signed, sweepChart } from "./view.js";

const SLIDERS = ["degrees", "right", "down", "noise"];
const ANGLES = Array.from({ length: 37 }, (_, i) => 10 * i - 180);
const WATCH = 4000; // ms between two requests for the status of the server
const WATCH_TROUBLE = 1000; // the same while the server has a problem
const QUIET = 700; // ms without a new prediction before it is announced to screen readers

const $ = (id) => document.getElementById(id);

class App {
  #names = []; // of the served models
  #chosen = []; // one or two of them
  #models = []; // the chosen ones: {name, version, size, samples, queries}
  #image = null; // {name, blob, pixels, redrawn}
  #subject = null; // the current input: {image, inverted, sides}, see side.js
  #standing = null; // the newest input with an answer: {image, settings}
  #sweep = null; // {key, moveTo} of the visible chart
  #attacked = null; // key of the input of the visible attack
  #opening = null; // the file being read
  #trouble = null; // kind of the ServerError in the message
  #frame = null;
  #quiet = null;
  #panels = [new Panel(""), new Panel("-2")];
  #card = new AttackCard();
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
    for (const id of SLIDERS) $(id).oninput = () => this.#slide();
    $("invert").onchange = () => this.#prepare();
    $("reset").onclick = () => this.#reset();
    $("sweep-start").onclick = () => this.#tryAllRotations();
    $("attack-start").onclick = () => this.#attack();
    $("model").onchange = $("second").onchange = () => chooseInAddress();
    window.onhashchange = () => this.#guard(() => this.#choose());
  }

  // Server: models and status.

  /** Polls the server for its status and for new versions. */
  async #watch() {
    if (!document.hidden || this.#trouble) await this.#guard(() => this.#look());
    setTimeout(() => this.#watch(), this.#trouble ? WATCH_TROUBLE : WATCH);
  }

  async #look() {
    if (this.#models.length) await this.#adopt();
    else await this.#connect();
    if (this.#trouble === "gone") this.#announce("The server is back.");
    else if (!this.#trouble || this.#subject) return; // the next prediction clears the problem
    this.#relax();
    this.#update();
  }

  async #connect() {
    this.#names = await listModels();
    $("model").replaceChildren(...this.#names.map((name) => new Option(name)));
    $("model").disabled = this.#names.length < 2;
    $("comparison").hidden = this.#names.length < 2;
    if (!this.#names.length) throw new ServerError("empty", "has no model yet");
    await this.#choose();
  }

  /** Chooses the models in the address, by default the first one alone. */
  async #choose() {
    const wanted = modelsInAddress().filter((name) => this.#names.includes(name));
    const [first = this.#names[0], second = ""] = wanted;
    const others = this.#names.filter((name) => name !== first);
    const options = others.map((name) => new Option(name));
    $("second").replaceChildren(new Option("no other", ""), ...options);
    $("model").value = first;
    $("second").value = second;
    this.#chosen = second ? [first, second] : [first];
    await this.#adopt();
  }

  /** Takes over the newest versions of the chosen models. */
  async #adopt() {
    const [chosen, before] = [this.#chosen, this.#models];
    const models = await Promise.all(chosen.map((name) => renewed(name, before)));
    if (chosen !== this.#chosen) return; // others were chosen meanwhile
    if (models.length === before.length && models.every((model, i) => model === before[i])) return;
    this.#models = models;
    this.#showModels();
    if (JSON.stringify(models[0].size) !== JSON.stringify(before[0]?.size)) {
      this.#limitSliders(models[0].size);
    }
    this.#prepare();
  }

  #showModels() {
    const [first, second] = this.#models;
    $("version").textContent = `version ${first.version}`;
    $("version-2").textContent = second ? `version ${second.version}` : "";
    $("side-2").hidden = $("bars-2").hidden = !second;
    this.#panels.forEach((panel, i) => panel.setName(second ? this.#models[i].name : ""));
    this.#card.setTarget(first.size ? first.queries : 0, second ? first.name : "");
    $("samples").hidden = !first.samples.length;
    $("sample-list").replaceChildren(...first.samples.map((file) => this.#sampleButton(file)));
  }

  #sampleButton(file) {
    const button = document.createElement("button");
    const image = new Image();
    image.src = URL.createObjectURL(file);
    image.onload = () => URL.revokeObjectURL(image.src);
    image.alt = `Sample image: ${file.name}`;
    button.type = "button";
    button.className = "sample";
    button.onclick = () => this.#open(new File([file], `${file.name} (sample)`));
    button.append(image);
    return button;
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

  /** Opens a file; a bad one leaves the previous image. */
  async #open(file) {
    if (!file) return;
    this.#opening = file;
    await this.#guard(async () => {
      const image = await readImage(file);
      if (this.#opening !== file) return; // another file was chosen meanwhile
      this.#relax();
      this.#change(image, Object.fromEntries(SLIDERS.map((id) => [id, 0])));
    });
  }

  #change(image, settings) {
    URL.revokeObjectURL($("preview").src);
    this.#image = image;
    $("preview").src = URL.createObjectURL(image.blob);
    $("file-name").textContent = image.name;
    $("redrawn").hidden = !image.redrawn;
    for (const id of SLIDERS) $(id).value = settings[id];
    this.#prepare();
  }

  #close() {
    URL.revokeObjectURL($("preview").src);
    this.#image = this.#subject = null;
    $("work").hidden = true;
    $("drop").classList.add("empty");
  }

  #drag(event, over) {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
  }

  #reset() {
    for (const id of SLIDERS) $(id).value = 0;
    this.#slide();
  }

  #slide() {
    if (!this.#trouble) this.#say(""); // a message about a bad file
    this.#update();
  }

  /** Starts a new subject after a change of image, model, version or inversion. */
  #prepare() {
    if (!this.#models.length || !this.#image) return;
    const inverted = $("invert").checked && Boolean(this.#models[0].size);
    const sides = this.#models.map((model) => sideOf(model, this.#image, inverted));
    this.#subject = { image: this.#image, inverted, sides };
    this.#hideSweep();
    this.#hideAttack();
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
      const [side] = this.#subject.sides;
      if (side.base) drawPicture($("seen"), change(side.base, settings));
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
    if (this.#attacked !== attackKey({ degrees, right, down, noise })) this.#hideAttack();
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
    const settings = this.#settings();
    const answers = await Promise.all(subject.sides.map((_, i) => answerOf(subject, i, settings)));
    if (subject !== this.#subject) return; // another image was chosen meanwhile
    if (!subject.sides[0].original.valid) this.#refuse(subject);
    else this.#show(subject, answers, settings);
  }

  /** Returns to the previous image, if there is one. */
  #refuse({ image }) {
    if (this.#standing && this.#standing.image !== image) {
      this.#change(this.#standing.image, this.#standing.settings);
    } else {
      this.#close();
    }
    this.#relax();
    this.#say(`The server can't read ${image.name}: it may be damaged. Choose another image.`);
  }

  #show(subject, answers, settings) {
    if (this.#trouble) this.#relax();
    this.#standing = { image: subject.image, settings };
    const texts = subject.sides.map((side, i) => {
      side.latest = answers[i];
      const isChanged = Boolean(side.base) && Object.values(settings).some(Boolean);
      const text = this.#panels[i].show(answers[i], side.original, isChanged);
      return subject.sides.length > 1 ? `${side.model.name}: ${text}` : text;
    });
    $("time").textContent = `${Math.round(answers[0].milliseconds)} ms there and back`;
    $("work").setAttribute("aria-busy", "false");
    this.#announce(texts.join(" "));
  }

  // Rotations and attack.

  async #tryAllRotations() {
    const subject = this.#subject;
    if (!subject?.sides[0].original) return;
    const settings = this.#settings();
    const sides = subject.sides.filter((side) => side.base);
    $("sweep-start").disabled = true;
    await this.#guard(async () => {
      const answers = await Promise.all(
        sides.map((side) => {
          const turned = (degrees) => changed(subject, side, { ...settings, degrees });
          return predictPictures(side.model, ANGLES.map(turned));
        }),
      );
      const same = sweepKey(settings) === sweepKey(this.#settings());
      if (same && subject === this.#subject) this.#showSweep(sides, answers);
    });
    $("sweep-start").disabled = false;
  }

  #showSweep(sides, answers) {
    const series = sides.map(({ model, original }, i) => ({
      points: answers[i].map((answer, k) => ({
        degrees: ANGLES[k],
        score: answer.probabilities[original.class_id],
        kept: answer.class_id === original.class_id,
        className: answer.class_name,
      })),
      className: original.class_name,
      model: sides.length > 1 ? model.name : "",
    }));
    const figure = $("sweep-figure");
    figure.hidden = false; // only visible elements have a width
    const settings = this.#settings();
    const chart = sweepChart(series, conditions(settings), figure.clientWidth);
    figure.replaceChildren(...chart.contents);
    this.#sweep = { key: sweepKey(settings), moveTo: chart.moveTo };
    chart.moveTo(settings.degrees);
    this.#announce(chart.summary);
  }

  /** Hides the chart, which is valid for one image, shift and noise. */
  #hideSweep() {
    this.#sweep = null;
    $("sweep-figure").hidden = true;
  }

  async #attack() {
    const subject = this.#subject;
    if (!subject?.sides[0].latest) return;
    const settings = this.#settings();
    const key = (this.#attacked = attackKey(settings));
    this.#card.clear();
    this.#card.busy = true;
    await this.#guard(() => this.#attackOrExplain(subject, settings, key));
    this.#card.busy = false;
    if (key !== this.#attacked || subject !== this.#subject) this.#hideAttack();
  }

  async #attackOrExplain(subject, settings, key) {
    const [side, other] = subject.sides;
    const epsilon = this.#card.epsilon;
    const picture = changed(subject, side, settings);
    try {
      const found = await attack(side.model, picture, epsilon);
      const more = found.flipped && other ? await transferred(found.picture, side, other) : "";
      if (key !== this.#attacked || subject !== this.#subject) return;
      const before = { picture, answer: side.latest };
      this.#announce(this.#card.show(found, before, epsilon, more));
    } catch (error) {
      this.#card.clear();
      if (error.kind === "unknown") await this.#look(); // a newer version replaced it
      else if (["busy", "refused"].includes(error.kind)) this.#card.say(error.message);
      else throw error;
    }
  }

  #hideAttack() {
    this.#attacked = null;
    this.#card.clear();
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
      this.#say(`The server ${message}. The page updates itself when that changes.`);
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

/** A model, with its samples if its version is new; one of `known` itself if it is not. */
async function renewed(name, known) {
  const model = await describe(name);
  const before = known.find((one) => one.name === name && one.version === model.version);
  return before ?? { ...model, ...(await about(model)) };
}

/** The shift and noise of a chart of all rotations. */
function conditions({ right, down, noise }) {
  const shift = right || down ? `shift ${signed(right)} px right, ${signed(down)} px down` : "no shift";
  return `With ${shift} and ${noise ? `noise ± ${noise.toFixed(2)}` : "no noise"}.`;
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

function attackKey({ degrees, right, down, noise }) {
  return `${degrees} ${right} ${down} ${noise}`;
}

/** The names in `#model=name&second=name`. */
function modelsInAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const [first, second] = [address.get("model"), address.get("second")];
  return [...new Set([first, second])];
}

function chooseInAddress() {
  const [model, second] = [$("model").value, $("second").value];
  location.hash = new URLSearchParams(second && second !== model ? { model, second } : { model });
}

new App().start();
