"""Make the colours of `atrous.palette`: python recipes/palette.py (one minute on a CPU).

Colours to paint classes with, as far apart as can be for every eye. Distances are Euclidean in
Oklab (B. Ottosson, "A perceptual color space for image processing", 2020), the smallest of what is
seen with normal, deuteranopic, protanopic and tritanopic eyes (G. M. Machado et al., "A
Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 15, 2009, severity
1). Seven colours are those of M. Okabe and K. Ito, "Color Universal Design", 2008; thirteen were
found for them by simulated annealing. Their order, and the colours behind them, are greedy: each is
the one that is farthest from all before it, where the last few count twice, as neighbouring ids
often meet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
             (213, 94, 0), (204, 121, 167))  # fmt: skip
FIRST, ALL = 20, 256
# (colours up to, lightness from, to, chroma from): bright first, then whatever is left.
STAGES = ((FIRST, 0.45, 0.95, 0.09), (64, 0.45, 0.95, 0.08), (ALL, 0.36, 0.96, 0.05))
STEPS, TRIALS, HEAT, LAST = 15_000, 3, 0.004, 6

_TO_CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                      [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                    [1.9779984951, -2.4285922050, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
EYES = {
    "normal": np.eye(3),
    "deuteranopic": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "protanopic": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "tritanopic": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
_WEIGHTS = np.array([1.0, 1.15, 1.15, 1.4])  # others see less, and can have no more than that


def seen(colours: NDArray[np.generic]) -> Floats:
    """`(n, 3)` sRGB, 0–255 → `(n, 4, 3)` Oklab, by each of `EYES`."""
    share = np.asarray(colours, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    views = [np.clip(linear @ eye.T, 0, 1) for eye in EYES.values()]
    return np.stack([np.cbrt(view @ _TO_CONES.T) @ _TO_LAB.T for view in views], axis=1)


def distances(some: Floats, others: Floats) -> Floats:
    """`(n, 4, 3)` and `(m, 4, 3)` as `seen` → `(n, m)`."""
    apart = np.full((len(some), len(others)), np.inf)
    for eye, weight in enumerate(_WEIGHTS):
        between = some[:, None, eye] - others[None, :, eye]
        apart = np.minimum(apart, np.linalg.norm(between, axis=-1) * weight)
    return apart


def candidates(low: float, high: float, chroma: float) -> NDArray[np.int64]:
    """`(n, 3)` colours of a grid in sRGB that are neither too dark nor too pale."""
    steps = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = seen(grid)[:, 0].T
    return grid[(lightness > low) & (lightness < high) & (np.hypot(a, b) > chroma)]


def annealed() -> NDArray[np.int64]:
    """`(FIRST, 3)`: the seven and those that fit them best."""
    kept = len(OKABE_ITO)
    colours = np.vstack([OKABE_ITO, candidates(*STAGES[0][1:])])
    apart, rng = distances(seen(colours), seen(colours)), np.random.default_rng(1)
    pairs = np.triu_indices(FIRST, 1)

    def worth(chosen: NDArray[np.int64]) -> float:
        nearest = np.sort(apart[np.ix_(chosen, chosen)][pairs])[:12]
        return float(nearest[0] + nearest.mean()) / 2

    best: tuple[float, NDArray[np.int64]] = (0.0, np.arange(FIRST))
    for _ in range(TRIALS):
        chosen = [*range(kept)]
        while len(chosen) < FIRST:
            chosen.append(int(apart[chosen].min(0).argmax()))
        now = np.array(chosen)
        value = worth(now)
        for step in range(STEPS):
            at = rng.integers(kept, FIRST)
            old = now[at]
            near = np.argsort(apart[old])[:30] if rng.random() < 0.5 else None
            now[at] = rng.integers(kept, len(colours)) if near is None else rng.choice(near)
            new = worth(now)
            if new > value or rng.random() < np.exp(
                (new - value) / (HEAT * (1 - step / STEPS) + 1e-6)
            ):
                value = new
            else:
                now[at] = old
        if value > best[0]:
            best = (value, now.copy())
    return colours[best[1]]


def ordered(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same colours, so that the first few are farthest apart, beginning with the first."""
    apart, order = distances(seen(colours), seen(colours)), [0]
    while len(order) < len(colours):
        rest = [i for i in range(len(colours)) if i not in order]
        worth = [min(apart[i, order].min(), apart[i, order[-4:]].min() / 2) for i in rest]
        order.append(rest[int(np.argmax(worth))])
    return colours[order]


def extended(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    """`ALL` colours that begin with these."""
    for count, *limits in STAGES[1:]:
        more = candidates(*limits)
        views = seen(more)
        while len(colours) < count:
            apart = distances(views, seen(colours))
            worth = np.minimum(apart.min(1), apart[:, -LAST:].min(1) / 2)
            colours = np.vstack([colours, more[int(worth.argmax())]])
    return colours


def main() -> None:
    """Print the colours, and as a comment how far apart they are."""
    colours = extended(ordered(annealed()))
    for start in range(0, ALL, 12):
        print("   ", " ".join("".join(f"{v:02x}" for v in c) for c in colours[start : start + 12]))
    for count in (8, 20, 64, ALL):
        views = seen(colours[:count])
        pairs = np.triu_indices(count, 1)
        least = {
            name: np.linalg.norm(views[pairs[0], eye] - views[pairs[1], eye], axis=-1).min()
            for eye, name in enumerate(EYES)
        }
        print(f"# {count}:", ", ".join(f"{name} {value:.3f}" for name, value in least.items()))


if __name__ == "__main__":
    main()
