// Class maps: arrays with a class id for every pixel, row by row. No page in here.

/** The class map of `[id, length]` runs. */
export function unroll(runs, length) {
  const map = new Uint8Array(length);
  let at = 0;
  for (const [id, count] of runs) {
    map.fill(id, at, at + count);
    at += count;
  }
  return map;
}

/** The size at which a picture is shown: at most `longest` pixels on its longer side. */
export function shownSize([width, height], longest = 2048) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** A map in another size; every pixel takes the nearest one's class. */
export function resize(map, [width, height], [toWidth, toHeight]) {
  if (width === toWidth && height === toHeight) return map;
  const columns = Uint32Array.from({ length: toWidth }, (_, x) =>
    Math.floor(((x + 0.5) * width) / toWidth),
  );
  const result = new Uint8Array(toWidth * toHeight);
  for (let y = 0, at = 0; y < toHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / toHeight) * width;
    for (let x = 0; x < toWidth; x++) result[at++] = map[row + columns[x]];
  }
  return result;
}

/** `#rrggbb` as a pixel of ImageData. */
export function pixel(colour, alpha = 255) {
  const value = parseInt(colour.slice(1), 16);
  const bytes = [value >> 16, (value >> 8) & 255, value & 255, alpha];
  return new Uint32Array(new Uint8Array(bytes).buffer)[0];
}

/**
 * Paint a map: `colours[id]` is the pixel of a class, 0 for none.
 *
 * Where a painted class ends, it has a white line.
 */
export function paint(map, [width, height], colours, outlined = true) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const white = pixel("#ffffff");
  const reach = outlined ? Math.max(1, Math.round(Math.max(width, height) / 500)) : 0;
  for (let y = 0, at = 0; y < height; y++) {
    const down = y + reach < height ? reach * width : 0;
    for (let x = 0; x < width; x++, at++) {
      const colour = colours[map[at]];
      const right = colours[map[x + reach < width ? at + reach : at]];
      const below = colours[map[at + down]];
      pixels[at] = colour !== right || colour !== below ? white : colour;
    }
  }
  return image;
}

/**
 * Compare the maps of two results, class by class name.
 *
 * Returns `map`, 1 where the small maps differ, `share` of all pixels that do, 0–1, and `changes`,
 * the names and the share of every change, the largest first.
 */
export function difference(first, second) {
  const names = [first, second].map(({ classes }) => {
    const found = [];
    for (const { id, name } of classes) found[id] = name;
    return found;
  });
  const differs = new Uint8Array(2 ** 16);
  for (const a of names[0].keys())
    for (const b of names[1].keys()) differs[a * 256 + b] = names[0][a] !== names[1][b] ? 1 : 0;
  const length = first.map.length;
  const counts = new Uint32Array(2 ** 16);
  for (let at = 0; at < length; at++) counts[first.map[at] * 256 + second.map[at]]++;
  const map = first.small.map.map((id, at) => differs[id * 256 + second.small.map[at]]);
  const changes = [];
  counts.forEach((count, pair) => {
    if (!count || !differs[pair]) return;
    const [from, to] = [names[0][pair >> 8], names[1][pair & 255]];
    changes.push({ from, to, share: count / length });
  });
  changes.sort((a, b) => b.share - a.share);
  return { map, share: changes.reduce((sum, { share }) => sum + share, 0), changes };
}
