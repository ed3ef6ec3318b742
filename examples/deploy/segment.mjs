// Segment a photograph: node segment.mjs STANDALONE.onnx PHOTOGRAPH CLASSES.png
// Before: npm ci --ignore-scripts

import { existsSync, readFileSync } from "node:fs";

import { env, InferenceSession, Tensor } from "onnxruntime-node";
import sharp from "sharp";

const [model, photograph, output] = process.argv.slice(2);
// Without VNNI, int8 overflows; with it, this option only takes time.
const cpu = "/proc/cpuinfo";
const vnni = existsSync(cpu) && readFileSync(cpu, "utf8").includes("vnni");
const exact = { session: { x64quantprecision: "1" } };
const session = await InferenceSession.create(model, vnni ? {} : { extra: exact });
const [, height, width] = session.inputMetadata[0].shape; // of a graph for any size they are names
let picture = sharp(photograph).autoOrient().toColourspace("srgb").removeAlpha();
if (typeof width === "number") picture = picture.resize(width, height, { fit: "fill" });
const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true });
const image = new Tensor("uint8", data, [1, info.height, info.width, 3]);
await session.run({ image }); // the first time takes longer
const began = performance.now();
const { classes } = await session.run({ image });
console.log(`onnxruntime-node ${env.versions.node}: ${(performance.now() - began).toFixed(1)} ms`);
await sharp(classes.data, { raw: { ...info, channels: 1 } })
  .toColourspace("b-w")
  .png()
  .toFile(output);
