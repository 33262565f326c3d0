// Display of the answer of one model, of which there can be two side by side.

import { Bars, percent } from "./view.js";

/** The answer of one model; `suffix` is that of the ids of its elements. */
export class Panel {
  #suffix;
  #bars;
  #original = null;

  constructor(suffix) {
    this.#suffix = suffix;
    this.#bars = new Bars(this.#find("bars"));
  }

  /** Shows the name of the model; "" for a single model, which needs no heading. */
  setName(name) {
    for (const id of ["name", "bars-name"]) {
      this.#find(id).textContent = name;
      this.#find(id).hidden = !name;
    }
  }

  /** Shows an answer beside that for the unchanged image; returns both as a text. */
  show(answer, original, changed) {
    if (this.#original !== original) this.#bars.reset(original);
    this.#original = original;
    const flipped = answer.class_id !== original.class_id;
    const verdict = flipped
      ? `Flipped: without changes it is ${original.class_name}, ${percent(original.score)}`
      : `The same as without changes (${percent(original.score)})`;
    this.#find("class").textContent = answer.class_name || "no answer";
    this.#find("score").textContent = percent(answer.score);
    this.#find("verdict").textContent = changed
      ? verdict
      : "Move a slider to see whether the answer holds";
    this.#find("verdict").className = `verdict ${changed ? (flipped ? "flipped" : "kept") : ""}`;
    this.#bars.show(answer);
    return `${answer.class_name}, ${percent(answer.score)}. ${changed ? verdict : ""}`;
  }

  #find(id) {
    return document.getElementById(id + this.#suffix);
  }
}
