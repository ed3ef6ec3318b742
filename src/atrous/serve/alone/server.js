// In the place of the server: the same questions, answered by the model inside this browser.

import { paint, pixel, resize } from "./maps.js";
import { make } from "./parts.js";

const LONGEST = 1024; // of a picture that the graph sees; its scores fill memory
const WORDS = ["drawing", "all"]; // of the times, where nothing is sent

/** The browser cannot do what it was asked; `status` as a server would say it. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No key is ever asked for. */
export function useKey() {}

let opened = null; // a promise of the model
const seen = new WeakMap(); // blob → what became of it

async function fetched(path) {
  const answer = await fetch(path).catch(() => null);
  if (!answer?.ok) throw new Refusal(0, `${path} of this page does not come; is its folder whole`);
  return answer;
}

/** The model and its runtime: on the graphics processor where that works, else in WebAssembly. */
async function open() {
  const about = await (await fetched("model.json")).json();
  const graph = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  if (about.precision !== "int8" && (await usesGraphics())) {
    try {
      const runtime = await load("webgpu");
      const session = await runtime.InferenceSession.create(graph, { executionProviders: ["webgpu"] });
      const model = { about, runtime, session, engine: "WebGPU" };
      await infer(model, new ImageData(32, 32)); // what it cannot compute is refused at a run
      return model;
    } catch {
      // What WebGPU cannot do, WebAssembly can; the page says which of them it is.
    }
  }
  const runtime = await load("wasm");
  const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency ?? 1, 8) : 1;
  runtime.env.wasm.numThreads = threads;
  runtime.env.wasm.proxy = true; // in a worker, so that the page can be used meanwhile
  const session = await runtime.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  const engine = `WebAssembly, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
  return { about, runtime, session, engine };
}

/** Whether to try WebGPU: `?engine=wasm` and `?engine=webgpu` decide, else whether there is one. */
async function usesGraphics() {
  const asked = new URLSearchParams(location.search).get("engine");
  if (asked === "wasm") return false;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter || adapter?.info?.architecture === "swiftshader";
  return Boolean(adapter) && (asked === "webgpu" || !software);
}

async function load(kind) {
  const runtime = await import(`./runtime/ort.${kind}.min.mjs`);
  runtime.env.wasm.wasmPaths = new URL("runtime/", location.href).href;
  return runtime;
}

function ready() {
  opened ??= open().catch((error) => {
    opened = null; // the next question tries again
    throw error instanceof Refusal ? error : new Refusal(0, `the model cannot run here: ${error.message}`);
  });
  return opened;
}

/** The one model, as the server lists its own. */
export async function models() {
  const { about, engine } = await ready();
  return [{ ...about, engine }];
}

/** A picture to begin with. */
export async function sample() {
  return (await fetched("sample.jpg")).blob();
}

/** Segment a picture: its runs, classes and seconds, and milliseconds in all. */
export async function segment(blob, _, signal) {
  const began = performance.now();
  const model = await ready();
  const start = performance.now();
  const { image, size } = await decode(blob);
  signal?.throwIfAborted();
  const decoded = performance.now();
  const small = await infer(model, image);
  signal?.throwIfAborted();
  const inferred = performance.now();
  const map = resize(small, [image.width, image.height], size);
  const counts = new Uint32Array(256);
  for (const id of map) counts[id]++;
  const classes = model.about.labels.classes
    .filter(({ id }) => counts[id])
    .map((one) => ({ ...one, pixels: counts[one.id], share: counts[one.id] / map.length }));
  seen.set(blob, { map, size, classes });
  const runs = rolled(map);
  const ended = performance.now();
  const seconds = {
    open: (start - began) / 1e3,
    decode: (decoded - start) / 1e3,
    infer: (inferred - decoded) / 1e3,
    count: (ended - inferred) / 1e3,
  };
  if (seconds.open < 1e-3) delete seconds.open;
  const { name } = model.about;
  const [width, height] = size;
  return { model: name, width, height, classes, seconds, runs, words: WORDS, roundTrip: ended - began };
}

/** The pixels of a picture, upright, at most `LONGEST` on a side; and its own size. */
async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Refusal(422, "this browser cannot read it as a picture");
  }
  const size = [bitmap.width, bitmap.height];
  const scale = Math.min(1, LONGEST / Math.max(...size));
  const [width, height] = size.map((length) => Math.max(1, Math.round(length * scale)));
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { image: context.getImageData(0, 0, width, height), size };
}

async function infer({ runtime, session }, { data, width, height }) {
  const pixels = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; to < pixels.length; from += 4, to += 3)
    for (let channel = 0; channel < 3; channel++) pixels[to + channel] = data[from + channel];
  const image = new runtime.Tensor("uint8", pixels, [1, height, width, 3]);
  const { classes } = await session.run({ image });
  return new Uint8Array(await classes.getData());
}

function rolled(map) {
  const runs = [];
  for (let at = 0, from = 0; at < map.length; from = at) {
    while (at < map.length && map[at] === map[from]) at++;
    runs.push([map[from], at - from]);
  }
  return runs;
}

/** A picture to save: the mask, whose grey is the class id, or the photograph under its paint. */
export async function render(blob, { output, opacity }) {
  if (!seen.has(blob)) await segment(blob);
  const { map, size, classes } = seen.get(blob);
  const [width, height] = size;
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const colours = new Uint32Array(256);
  if (output === "mask") {
    for (let id = 0; id < 256; id++) colours[id] = pixel(`#${id.toString(16).padStart(2, "0").repeat(3)}`);
    context.putImageData(paint(map, size, colours, false), 0, 0);
  } else {
    for (const { id, paint: colour, painted } of classes)
      if (painted) colours[id] = pixel(colour);
    const layer = make("canvas", { width, height });
    layer.getContext("2d").putImageData(paint(map, size, colours), 0, 0);
    context.drawImage(await createImageBitmap(blob, { imageOrientation: "from-image" }), 0, 0);
    context.globalAlpha = opacity;
    context.drawImage(layer, 0, 0);
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
