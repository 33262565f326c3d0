// Display of predictions and pictures.

const FEW_CLASSES = 12;
const LONG_NAME = 12; // characters
const CHART = { height: 220, left: 62, right: 8, top: 10, bottom: 46 }; // px

/** 0.98765 -> "98.8%". */
export function percent(fraction) {
  return `${(100 * fraction).toFixed(1)}%`;
}

/** Draws a picture, with one canvas pixel per model pixel. */
export function drawPicture(canvas, { height, width, channels, values }) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let c = 0; c < 3; c++) {
      const value = values[pixel * channels + (channels === 1 ? 0 : c)];
      pixels.data[4 * pixel + c] = Math.round(255 * value);
    }
    pixels.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** One bar per class, with a tick at the probability of the unchanged image. */
export class Bars {
  #list;
  #order = [];
  #rows = [];

  constructor(list) {
    this.#list = list;
  }

  /** Creates the bars; their order stays fixed while the image changes. */
  reset({ classes, probabilities }) {
    this.#order = classes.map((_, id) => id);
    // Many classes are sorted by probability; few keep their own order.
    if (classes.length > FEW_CLASSES) {
      this.#order.sort((a, b) => probabilities[b] - probabilities[a]);
    }
    this.#rows = this.#order.map((id) => barRow(classes[id], probabilities[id]));
    const longest = Math.max(...classes.map((name) => name.length));
    this.#list.style.setProperty("--name", `${Math.min(longest, LONG_NAME) + 1}ch`);
    this.#list.replaceChildren(...this.#rows.map(({ row }) => row));
    const scrolls = classes.length > FEW_CLASSES;
    this.#list.classList.toggle("scrolls", scrolls);
    this.#list.tabIndex = scrolls ? 0 : -1; // scrollable elements must be reachable by keyboard
  }

  show({ class_id: top, probabilities }) {
    this.#rows.forEach(({ row, bar, number }, i) => {
      const id = this.#order[i];
      bar.style.width = percent(probabilities[id]);
      number.textContent = percent(probabilities[id]);
      row.classList.toggle("top", id === top);
    });
  }
}

function barRow(name, originally) {
  const bar = element("span", { class: "bar" });
  const tick = element("span", { class: "tick" });
  tick.style.left = percent(originally);
  const track = element("span", { class: "track", "aria-hidden": "true" }, bar, tick);
  const number = element("span", { class: "number" });
  const label = element("span", { class: "name", title: name }, name);
  return { row: element("li", {}, label, track, number), bar, number };
}

/**
 * Draws the probability of the original answer against the angle, a line for each model.
 *
 * Args: series: [{points, className, model}], where points: [{degrees, score, kept}], sorted by
 * degrees; kept: whether the class is still predicted; model: its name, or "" for a single one.
 * conditions: the shift and noise of all points, as a text. width: in pixels.
 *
 * Returns {contents, summary, moveTo(degrees)}.
 */
export function sweepChart(series, conditions, width) {
  const x = (degrees) => CHART.left + ((degrees + 180) / 360) * (width - CHART.left - CHART.right);
  const y = (score) => CHART.top + (1 - score) * (CHART.height - CHART.top - CHART.bottom);
  const texts = series.map(
    ({ points, className, model }) =>
      (model ? `${model}: ` : "") + sweepSummary(points, className),
  );
  const summary = `${texts.join(" ")} ${conditions}`;
  const answer = series.length === 1 ? shortened(series[0].className) : "the answer";
  const cursor = svg("line", { class: "cursor", y1: CHART.top, y2: y(0) });
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${width} ${CHART.height}`, role: "img", "aria-label": summary },
    ...axes(x, y, `Probability of ${answer}`),
    cursor,
    ...series.map(({ points }, i) => line(points, i, x, y)),
  );
  const moveTo = (degrees) => {
    cursor.setAttribute("x1", x(degrees));
    cursor.setAttribute("x2", x(degrees));
  };
  const captions = [...texts, conditions].map((text, i) => {
    const key = series.length > 1 && i < series.length ? [element("span", { class: `key-${i}` })] : [];
    return element("div", {}, ...key, text);
  });
  return { contents: [chart, element("figcaption", {}, ...captions)], summary, moveTo };
}

/** "Still 3 from −40° to 60°, and at 24 of 37 angles in all." */
export function sweepSummary(points, name) {
  const upright = points.findIndex(({ degrees }) => degrees === 0);
  if (!points[upright].kept) return `Not ${name} even without a rotation.`;
  let [first, last] = [upright, upright];
  while (points[first - 1]?.kept) first--;
  while (points[last + 1]?.kept) last++;
  const kept = points.filter((point) => point.kept).length;
  const range = `from ${signed(points[first].degrees)}° to ${signed(points[last].degrees)}°`;
  return `Still ${name} ${range}, and at ${kept} of ${points.length} angles in all.`;
}

/** 5 -> "5", -5 -> "−5", with a minus sign as wide as a digit. */
export function signed(number) {
  return String(number).replace("-", "−");
}

function axes(x, y, title) {
  const scores = [0, 0.5, 1].flatMap((score) => [
    svg("line", { class: "grid", x1: x(-180), x2: x(180), y1: y(score), y2: y(score) }),
    svg("text", { x: CHART.left - 6, y: y(score) + 4, "text-anchor": "end" }, `${100 * score}%`),
  ]);
  const angles = [-180, -90, 0, 90, 180].map((degrees) => {
    const anchor = { [-180]: "start", 180: "end" }[degrees] ?? "middle";
    const place = { x: x(degrees), y: y(0) + 18, "text-anchor": anchor };
    return svg("text", place, `${signed(degrees)}°`);
  });
  const middle = { "text-anchor": "middle" };
  const below = { x: x(0), y: CHART.height - 4, ...middle };
  const left = { transform: `translate(12 ${y(0.5)}) rotate(-90)`, ...middle };
  return [
    ...scores,
    ...angles,
    svg("text", below, "Rotation (positive: counterclockwise)"),
    svg("text", left, title),
  ];
}

function line(points, number, x, y) {
  const path = points.map(({ degrees, score }) => `${x(degrees)},${y(score)}`).join(" ");
  return svg(
    "g",
    { class: `series-${number}` },
    svg("polyline", { class: "line", points: path }),
    ...points.map((point) => mark(point, x, y)),
  );
}

function shortened(name) {
  return name.length > LONG_NAME + 2 ? `${name.slice(0, LONG_NAME)}…` : name;
}

// Filled if the prediction is unchanged, hollow if it flipped, for color-blind users.
function mark({ degrees, score, kept, className }, x, y) {
  const title = svg("title", {}, `${signed(degrees)}°: ${className}, ${percent(score)}`);
  const place = { cx: x(degrees), cy: y(score), r: 3, class: kept ? "kept" : "flipped" };
  return svg("circle", place, title);
}

function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
