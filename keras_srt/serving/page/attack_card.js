// Display of an attack: the image before and after it, and the magnified difference.

import { difference } from "./picture.js";
import { drawPicture, percent } from "./view.js";

const MAXIMUM = 255;

const $ = (id) => document.getElementById(id);

export class AttackCard {
  constructor() {
    $("epsilon").oninput = () => this.#showEpsilon();
    this.#showEpsilon();
  }

  get epsilon() {
    return Number($("epsilon").value);
  }

  /** Shows the card for a model that can be attacked; its name is shown only if there are two. */
  setTarget(queries, name) {
    $("attack").hidden = !queries;
    $("attack-queries").textContent = queries;
    $("attack-model").textContent = name && ` of ${name}`;
  }

  set busy(isBusy) {
    $("attack-start").disabled = isBusy;
    if (isBusy) this.say("Searching…");
  }

  /** Hides the result, which is valid for one input of the model. */
  clear() {
    this.say("");
    $("attack-pictures").hidden = true;
  }

  say(text, kind = "") {
    $("attack-result").textContent = text;
    $("attack-result").className = `verdict ${kind}`;
  }

  /**
   * Shows a result and returns it as a text.
   *
   * Args: found: from the server. before: {picture, answer}. epsilon: as sent. other: the
   * sentence about the other model, or "".
   */
  show(found, before, epsilon, other) {
    const size = `± ${epsilon.toFixed(2)}`;
    const { picture, prediction, queries } = found;
    const text = found.flipped
      ? `Flipped to ${prediction.class_name} by ${size}, found with ${tries(queries)}.${other}`
      : `No change of ${size} found with ${tries(queries)}.`;
    this.say(text, found.flipped ? "flipped" : "kept");
    $("attack-pictures").hidden = !found.flipped;
    if (!found.flipped) return text;
    const magnification = 0.5 / epsilon; // the largest change becomes black or white
    drawPicture($("attack-before"), before.picture);
    drawPicture($("attack-change"), difference(picture, before.picture, magnification));
    drawPicture($("attack-after"), picture);
    $("attack-before-text").textContent = named(before.answer);
    $("attack-change-text").textContent = `magnified ×${Number(magnification.toFixed(1))}`;
    $("attack-after-text").textContent = named(prediction);
    return text;
  }

  #showEpsilon() {
    const levels = Math.round(this.epsilon * MAXIMUM);
    $("epsilon-value").textContent = `± ${this.epsilon.toFixed(2)} (${levels} of ${MAXIMUM})`;
  }
}

function named({ class_name: name, score }) {
  return `${name}, ${percent(score)}`;
}

function tries(count) {
  return count === 1 ? "1 try" : `${count} tries`;
}
