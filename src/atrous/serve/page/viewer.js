// The view of a result: what is painted, which class is alone, where the cursor is.

import { difference, paint, pixel } from "./maps.js";
import { drawLegend, drawTimes, make, Pane, percent } from "./parts.js";

const UNLIKE = pixel("#ff2d78");
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const at = (id) => document.getElementById(id);
const panes = [0, 1, 2].map(() => new Pane(at("pane"), at("pictures")));
const between = panes[2];
between.figure.classList.add("difference");

let picture = null;
let results = []; // of one model or two
let changes = null; // the difference of the two
let alone = null; // the name of the only class that is painted
let cursor = null; // column and row

/** Show a picture with the results of one model, or of two and their difference. */
export function show(next, itsResults) {
  if (picture !== next) [picture, cursor, alone] = [next, null, null];
  results = itsResults;
  changes = results.length > 1 ? difference(...results) : null;
  const fromEmpty = at("empty").contains(document.activeElement);
  const [width, height] = results[0].size;
  at("empty").hidden = true;
  at("result").hidden = false;
  at("result").classList.toggle("two", changes !== null);
  at("result").style.setProperty("--ratio", width / height);
  at("name").textContent = `${picture.name}, ${width} × ${height}`;
  panes.forEach(({ figure }, i) => (figure.hidden = i >= (changes ? 3 : 1)));
  drawTimes(at("times"), results);
  drawClasses();
  if (changes) drawDifference();
  if (fromEmpty) panes[0].stage.focus();
}

function drawClasses() {
  at("pictures").classList.toggle("alone", alone !== null);
  at("all").hidden = alone === null;
  at("hint").hidden = alone !== null;
  drawLegend(at("legend"), results, alone, pick);
  results.forEach((result, i) => {
    const { model, classes, small, about } = result;
    const colours = new Uint32Array(256);
    for (const { id, name, paint: colour, painted } of classes) {
      if (alone === null ? painted : name === alone) colours[id] = pixel(colour);
    }
    const what = classes.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
    panes[i].show(result, {
      title: model,
      about,
      label: `${picture.name} seen by ${model}: ${what}. Arrow keys move a cursor, with Shift by
        one pixel; Enter shows its class alone; Escape ends both.`,
      paint: paint(small.map, small.size, colours),
    });
  });
  point();
}

function drawDifference() {
  const [first, second] = results;
  const share = make("p", {}, make("b", { text: percent(changes.share) }), " of the pixels differ");
  const rows = changes.changes
    .slice(0, 5)
    .map(({ from, to, share }) => make("li", { text: `${percent(share)}  ${from} → ${to}` }));
  const about = document.createDocumentFragment();
  about.append(share, make("ul", {}, ...rows));
  const { size } = first.small;
  between.show(first, {
    title: `${first.model} → ${second.model}`,
    about,
    label: `Where ${first.model} and ${second.model} differ: ${share.textContent}`,
    paint: paint(changes.map, size, [0, UNLIKE], false),
  });
}

/** Show one class alone, or all again. */
function pick(name) {
  alone = name === alone ? null : name;
  drawClasses();
}

function under({ size: [width], map, classes }) {
  const id = map[cursor[1] * width + cursor[0]];
  return classes.find((one) => one.id === id).name;
}

/** Say what is under the cursor. */
function point() {
  if (!cursor) {
    for (const pane of panes) pane.point(null);
    at("readout").textContent = "Point at the picture, or use the arrow keys on it.";
    return;
  }
  const place = cursor.map((value, axis) => (value + 0.5) / results[0].size[axis]);
  const names = results.map(under);
  const same = names.every((name) => name === names[0]);
  names.forEach((name, i) => panes[i].point(place, name));
  if (changes) between.point(place, same ? "same" : names.join(" → "));
  const each = results.map(({ model }, i) => `${model}: ${names[i]}`);
  const said = same ? names[0] : each.join(", ");
  at("readout").textContent = `${said} · column ${cursor[0]}, row ${cursor[1]}`;
}

function moveTo(place) {
  cursor = place.map((value, axis) =>
    Math.min(results[0].size[axis] - 1, Math.max(0, Math.floor(value))),
  );
  point();
}

function steer(event) {
  const { size } = results[0];
  const arrow = ARROWS[event.key];
  if (arrow && !cursor) moveTo(size.map((length) => length / 2));
  else if (arrow) {
    const step = event.shiftKey ? 1 : Math.ceil(Math.max(...size) / 40);
    moveTo(cursor.map((value, axis) => value + step * arrow[axis]));
  } else if (event.key === "Enter" && cursor) pick(under(results[0]));
  else if (event.key === "Escape") {
    [cursor, alone] = [null, null];
    drawClasses();
  } else return;
  event.preventDefault();
}

/** Listen to pointer and keys; `save` is told which output of which model is wanted. */
export function listen(save) {
  panes.forEach(({ stage, saves }, i) => {
    const hover = (event) => {
      const box = stage.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      const [width, height] = results[0].size;
      moveTo([x * width, y * height]);
    };
    stage.addEventListener("pointerdown", hover);
    stage.addEventListener("pointermove", hover);
    stage.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType === "touch") return;
      cursor = null;
      point();
    });
    stage.addEventListener("keydown", steer);
    for (const button of saves)
      button.addEventListener("click", () =>
        save(picture, button.dataset.output, results[i].model),
      );
  });
  at("all").addEventListener("click", () => pick(alone));
  const opacity = at("opacity");
  const follow = () => {
    at("percent").textContent = `${opacity.value} %`;
    at("pictures").style.setProperty("--opacity", opacity.value / 100);
  };
  opacity.addEventListener("input", follow);
  follow();
}
