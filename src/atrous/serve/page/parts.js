// The parts of the view: pictures with their paint, the legend, the times.

/** A share of 0–1 in words: `48.2 %`. */
export function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** An element with text and children. */
export function make(tag, { text, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/** A photograph, paint over it, and a cursor. */
export class Pane {
  constructor(template, parent) {
    this.figure = template.content.firstElementChild.cloneNode(true);
    for (const name of ["stage", "photo", "paint", "cursor", "about"])
      this[name] = this.figure.querySelector(`.${name}`);
    this.saves = this.figure.querySelectorAll("[data-output]");
    this.title = this.figure.querySelector("strong");
    parent.append(this.figure);
  }

  /** The photograph may be missing: no browser reads all that the server does. */
  show({ photo, size: [width, height] }, { title, about, label, paint }) {
    this.title.textContent = title;
    this.about.replaceChildren(about);
    this.stage.ariaLabel = label;
    this.figure.style.setProperty("--ratio", width / height);
    for (const canvas of [this.photo, this.paint]) {
      canvas.width = paint.width;
      canvas.height = paint.height;
    }
    if (photo) this.photo.getContext("2d").drawImage(photo, 0, 0);
    this.paint.getContext("2d").putImageData(paint, 0, 0);
  }

  /** Put the cursor at fractions of the picture, `null` for nowhere. */
  point(place, text = "") {
    this.cursor.hidden = !place;
    if (!place) return;
    const [x, y] = place;
    this.cursor.style.left = `${100 * x}%`;
    this.cursor.style.top = `${100 * y}%`;
    this.cursor.classList.toggle("right", x > 0.6);
    this.cursor.classList.toggle("bottom", y > 0.8);
    this.cursor.firstElementChild.textContent = text;
  }
}

/** The classes of all results with their shares, the largest of the first result first. */
export function drawLegend(table, results, alone, pick) {
  const rows = new Map();
  results.forEach(({ classes }, column) => {
    for (const { name, paint, painted, share } of classes) {
      const colour = painted || name === alone ? paint : "none";
      if (!rows.has(name)) rows.set(name, { name, colour, shares: results.map(() => 0) });
      rows.get(name).shares[column] = share;
    }
  });
  const sorted = [...rows.values()].sort((a, b) => b.shares[0] - a.shares[0]);
  const focused = document.activeElement?.dataset.name;
  const body = make("tbody");
  for (const { name, colour, shares } of sorted) {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour;
    const button = make("button", { type: "button", className: "class" }, swatch, name);
    button.dataset.name = name;
    button.ariaPressed = String(name === alone);
    button.addEventListener("click", () => pick(name));
    const cells = shares.map((share) => make("td", { text: share ? percent(share) : "–" }));
    body.append(make("tr", {}, make("th", { scope: "row" }, button), ...cells));
  }
  table.replaceChildren(...heads(results, "class"), body);
  if (focused) table.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

/** Milliseconds of every step, of what lies between the server and here, and of all.
 *
 * `words` of a result names the last two where there is no server. */
export function drawTimes(table, results) {
  const steps = new Map();
  const [between, all] = results[0].words ?? ["transfer", "round trip"];
  const put = (step, column, ms) => {
    if (!steps.has(step)) steps.set(step, results.map(() => undefined));
    steps.get(step)[column] = ms;
  };
  results.forEach(({ seconds, roundTrip }, column) => {
    let rest = roundTrip;
    for (const [step, value] of Object.entries(seconds)) {
      put(step, column, 1e3 * value);
      rest -= 1e3 * value;
    }
    put(between, column, Math.max(0, rest));
  });
  results.forEach(({ roundTrip }, column) => put(all, column, roundTrip));
  const longest = Math.max(...results.map(({ roundTrip }) => roundTrip));
  const bar = (step, ms) => (step === all || !(ms > longest / 25) ? 0 : ms / longest);
  const body = make("tbody");
  for (const [step, values] of steps) {
    const cells = values.map((ms) => {
      const cell = make("td", { text: ms === undefined ? "–" : ms.toFixed(ms < 9.95 ? 1 : 0) });
      cell.style.setProperty("--part", `${90 * bar(step, ms)}%`);
      return cell;
    });
    body.append(make("tr", {}, make("th", { scope: "row", text: step }), ...cells));
  }
  table.replaceChildren(...heads(results, "step"), body);
}

function heads(results, first) {
  if (results.length < 2) return [];
  const cells = results.map(({ model }) => make("th", { scope: "col", text: model }));
  const corner = make("th", { scope: "col" }, make("span", { className: "unseen", text: first }));
  return [make("thead", {}, make("tr", {}, corner, ...cells))];
}
