// The page: pictures come in, go to the server, and their classes are shown.

import { resize, shownSize, unroll } from "./maps.js";
import { make } from "./parts.js";
import { models, Refusal, render, sample, segment, useKey } from "./server.js";
import { listen as listenToView, show } from "./viewer.js";

const BUSY_TRIES = 3;
const OUR_FAULT = [400, 413, 415, 422]; // of the picture: once more would not help

const at = (id) => document.getElementById(id);

let known = []; // the server's models
let picture = null; // the last that was shown
let running = new AbortController();
let again = null; // what the server refused

// ---- Pictures in ----

async function open(file) {
  const name = file.name || "picture";
  let blob;
  try {
    // A copy: the file may change before it is sent.
    blob = new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    return report(new Error(`${name} cannot be read; choose an image file`));
  }
  const next = taken(blob, name);
  return attempt(() => look(next), `${name}: `);
}

function taken(blob, name) {
  return { blob, name, photo: photograph(blob), results: new Map() };
}

/** Ask the chosen models about a picture, one after the other: together they would be slower. */
async function look(next) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  if (!known.length) await start();
  const names = [at("first").value, at("second").value].filter(Boolean);
  for (const name of names) {
    if (!next.results.has(name)) {
      const answer = await patiently(() => segment(next.blob, name, signal), signal, name);
      next.results.set(name, unpack(answer, await next.photo));
    }
    signal.throwIfAborted();
    picture = next;
    at("bar").classList.remove("bare");
    show(next, names.map((one) => next.results.get(one)).filter(Boolean));
  }
  return "Done";
}

/** Come again, a few times, when the server is busy and says when. */
async function patiently(work, signal, name) {
  for (let left = BUSY_TRIES; ; left--) {
    say(`Segmenting with ${name} …`, true);
    try {
      return await work();
    } catch (error) {
      if (error.status !== 503 || !left) throw error;
      const seconds = error.wait || 1;
      say(`The server is busy, trying again in ${seconds} s …`, true);
      await new Promise((resolve) => setTimeout(resolve, 1e3 * seconds));
      signal.throwIfAborted();
    }
  }
}

/** The picture as the server saw it, upright and still; `null` if this browser cannot show it. */
async function photograph(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
  const size = [bitmap.width, bitmap.height];
  const [width, height] = shownSize(size);
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { canvas, size };
}

function unpack({ runs, width, height, ...answer }, photo) {
  const size = [width, height];
  const fits = photo !== null && photo.size.join() === size.join();
  const { precision, engine, labels } = known.find(({ name }) => name === answer.model);
  const about = [precision, engine, fits ? "" : "this browser cannot show the picture itself"];
  const map = unroll(runs, width * height);
  const small = shownSize(size);
  return {
    ...answer,
    size,
    map,
    small: { size: small, map: resize(map, size, small) },
    photo: fits ? photo.canvas : null,
    about: about.filter(Boolean).join(" · "),
  };
}

async function save({ blob, name }, output, model) {
  say(`Making the ${output} …`, true);
  const made = await render(blob, { model, output, opacity: at("opacity").value / 100 });
  const link = make("a", { href: URL.createObjectURL(made) });
  link.download = `${name.replace(/\.[^.]*$/, "")}-${model}-${output}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 6e4);
  return `Saved ${link.download}`;
}

// ---- Messages ----

function say(text, busy = false) {
  at("status").textContent = text;
  document.body.ariaBusy = String(busy);
}

/** Do something that the server may refuse; then keep what is shown, and say why. */
async function attempt(work, about = "") {
  at("notice").hidden = true;
  try {
    say((await work()) ?? "");
  } catch (error) {
    if (error.name === "AbortError") return;
    say("");
    report(error, work, OUR_FAULT.includes(error.status) ? about : "");
  }
}

function report(error, work = null, about = "") {
  const { message, status } = error;
  if (!(error instanceof Refusal) && work) console.error(error);
  again = work;
  const start = about || message[0].toUpperCase();
  at("message").textContent = `${start}${message.slice(about ? 0 : 1)}.`;
  at("key").hidden = status !== 401;
  at("again").hidden = !work || status === 401 || OUR_FAULT.includes(status);
  at("dismiss").hidden = status === 401;
  at("notice").hidden = false;
  if (status === 401) at("secret").focus();
}

// ---- Start ----

/** The second select offers the models that the first has not. */
function offer() {
  const options = known.map(({ name, precision }) => {
    const more = precision && !name.includes(precision) ? ` (${precision})` : "";
    return new Option(name + more, name);
  });
  const [first, second] = [at("first"), at("second")];
  if (!first.length) first.append(...options.map((option) => option.cloneNode(true)));
  const before = second.value;
  const others = options.filter(({ value }) => value !== first.value);
  second.replaceChildren(new Option("nothing", ""), ...others);
  second.value = before === first.value ? "" : before;
}

function reconsider() {
  if (picture) attempt(() => look(picture));
}

async function start() {
  known = await models();
  offer();
  at("compare").hidden = known.length < 2;
  at("bar").hidden = false;
  at("empty").hidden = picture !== null;
}

function listen() {
  const file = at("file");
  for (const button of document.querySelectorAll(".choose"))
    button.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) open(file.files[0]);
    file.value = "";
  });
  const showSample = async () => look(taken(await sample(), "cat.jpg"));
  at("sample").addEventListener("click", () => attempt(showSample));
  document.addEventListener("paste", ({ clipboardData: { files } }) => {
    if (files.length) open(files[0]);
  });
  const dropping = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    dropping(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dropping(false);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false);
    const { files } = event.dataTransfer;
    if (files.length) open(files[0]);
    else report(new Error("that was no image file"));
  });
  at("first").addEventListener("change", () => {
    offer();
    reconsider();
  });
  at("second").addEventListener("change", reconsider);
  at("rerun").addEventListener("click", () => {
    picture.results.clear();
    reconsider();
  });
  at("again").addEventListener("click", () => attempt(again));
  at("dismiss").addEventListener("click", () => (at("notice").hidden = true));
  at("key").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(at("secret").value);
    attempt(again);
  });
}

listen();
listenToView((...wanted) => attempt(() => save(...wanted)));
attempt(start);
