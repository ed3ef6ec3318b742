"""From small logits to the class map: a bilinear enlargement and its argmax in one pass.

The full-size logits are never written, and mostly never computed. Between four neighbouring logit
pixels every output pixel takes a convex combination, which keeps the order of the classes: where
the four agree on the winner it wins everywhere between them, and elsewhere only the few classes
that can win are computed. The result is exact: `argmax` equals `enlarge(...).argmax(0)` bit by bit.

NaN and infinite logits give an arbitrary class id in the cells they touch.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.geometry import Axis

try:
    from atrous import _upsample
except ImportError:
    KERNEL: Literal["c", "numpy"] = "numpy"
else:
    KERNEL = "c"

MAX_CLASSES = 256
"""Class ids are written as `uint8`."""

_BAND = 3 << 17
"""Output pixels that the NumPy way looks at in one go: some 50 MB of indices if all are mixed."""

_BLOCK = 1 << 19
"""Floats that the dense NumPy way holds at once, in each of its arrays: of the order of a cache."""

_PIXEL_WORK, _CONTENDER_WORK = 30, 15
"""Work of the sparse NumPy way per pixel and per class of a pixel; 1 for each in the dense way."""


class _Taps(NamedTuple):
    """One output axis on a grid: pixel `i` is `first * grid[cell] + second * grid[cell + 1]`.

    The last cell ends at the last grid pixel; a grid of one pixel has one cell, all of it.
    """

    cell: NDArray[np.int32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]

    def part(self, start: int, stop: int) -> _Taps:
        """The output pixels `start .. stop - 1` alone."""
        rows = slice(start, stop)
        return _Taps(self.cell[rows], self.first[rows], self.second[rows])


@lru_cache(maxsize=64)
def _taps(axis: Axis, grid: int) -> _Taps:
    """Where each pixel of `axis` reads a grid of `grid` pixels, and with which weights."""
    positions = axis.positions(grid)
    cell = np.minimum(positions.astype(np.int32), max(grid - 2, 0))
    second = (positions - cell).astype(np.float32)
    return _Taps(cell, np.float32(1) - second, second)


def argmax(
    logits: NDArray[np.float32],
    rows: Axis,
    columns: Axis,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The class of every output pixel, from bilinearly interpolated logits.

    Args:
        logits: `(C, h, w)` float32, at most 256 classes; any strides.
        rows: the output's rows, as positions on the logits' rows; clamped to the grid.
        columns: the same for the columns.
        out: `(H, W)` uint8 array to write to, if there is one.

    Returns:
        `(H, W)` uint8 class ids, `out` if given; of equal logits the lowest id wins.

    Raises:
        InputError: an array has another type or shape than expected.
    """
    values = _checked(logits)
    if len(values) > MAX_CLASSES:
        raise InputError(f"logits hold {len(values)} classes, a class map at most {MAX_CLASSES}")
    shape = (rows.size, columns.size)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.dtype != np.uint8 or out.shape != shape:
        raise InputError(f"out is {out.dtype} {out.shape}, expected uint8 {shape}")
    target = out if out.flags.c_contiguous else np.empty(shape, np.uint8)
    down, across = _taps(rows, values.shape[1]), _taps(columns, values.shape[2])
    if KERNEL == "c":
        _upsample.argmax(values, values.shape, *down, *across, target)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            _argmax_numpy(values, down, across, target)
    if target is not out:
        out[...] = target
    return out


def enlarge(logits: NDArray[np.float32], rows: Axis, columns: Axis) -> NDArray[np.float32]:
    """The interpolated logits themselves, columns first: what `argmax` is the argmax of.

    Args:
        logits: `(C, h, w)` float32; any strides.
        rows: the output's rows, as positions on the logits' rows; clamped to the grid.
        columns: the same for the columns.

    Returns:
        `(C, H, W)` float32.

    Raises:
        InputError: the logits have another type or shape than expected.
    """
    values = _checked(logits)
    down, across = _taps(rows, values.shape[1]), _taps(columns, values.shape[2])
    out = np.empty((len(values), rows.size, columns.size), np.float32)
    far = np.minimum(down.cell + 1, values.shape[1] - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        for plane, target in zip(values, out, strict=True):
            wide = _columns(plane, across)
            np.multiply(wide.take(down.cell, 0), down.first[:, None], out=target)
            target += wide.take(far, 0) * down.second[:, None]
    return out


def _checked(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits as a contiguous array, if they are what they should be."""
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape:
        raise InputError(f"logits are {logits.dtype} {logits.shape}, expected float32 (C, h, w)")
    return np.ascontiguousarray(logits)


def _columns(values: NDArray[np.float32], across: _Taps) -> NDArray[np.float32]:
    """Interpolate `(n, w)` along its rows to `(n, W)`, transposed so that whole lines are moved."""
    grid = _transposed(values)
    wide = grid.take(across.cell, 0)
    wide *= across.first[:, None]
    other = grid.take(np.minimum(across.cell + 1, len(grid) - 1), 0)
    other *= across.second[:, None]
    wide += other
    return _transposed(wide)


def _transposed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A transposed copy; OpenCV makes it several times faster than NumPy."""
    return np.asarray(cv2.transpose(values), np.float32).reshape(values.shape[::-1])


def _argmax_numpy(
    values: NDArray[np.float32], down: _Taps, across: _Taps, out: NDArray[np.uint8]
) -> None:
    """What the C kernel does, in bands of output rows."""
    cells = _cells(values)
    step = max(1, _BAND // out.shape[1])
    for start in range(0, len(out), step):
        band, part = down.part(start, start + step), out[start : start + step]
        winner = cells.take(across.cell, 1).take(band.cell, 0)
        part[...] = winner
        mixed = np.flatnonzero(winner < 0)
        if not _argmax_sparse(values, band, across, mixed, part):
            _argmax_dense(values, band, across, part)


def _cells(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """The class that wins everywhere in a cell between four logit pixels, or -1."""
    best = values.max(0)
    near = ~(values < _level(best))
    alone = near.sum(0, dtype=np.uint8) == 1
    winner = np.where(alone, _lowest(near, 0), np.int16(-1))
    for axis in (0, 1):
        if winner.shape[axis] > 1:
            ahead = np.delete(winner, 0, axis)
            winner = np.where(np.delete(winner, -1, axis) == ahead, ahead, np.int16(-1))
    return winner


def _level(high: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits below this stay below `high` through the rounding of the interpolation.

    That is by at most `4 * 2**-24` of either, and where products underflow by a tiny constant.
    """
    return high - (np.abs(high) * np.float32(2**-18) + np.float32(2e-37))


def _lowest(flags: NDArray[np.bool_], axis: int) -> NDArray[np.uint8]:
    """The lowest class flagged along an axis, as a maximum over marks that fall with the class.

    Overwrites the flags.
    """
    last = flags.shape[axis] - 1
    marks = np.arange(last, -1, -1, dtype=np.uint8)
    marked = flags.view(np.uint8)
    marked *= marks.reshape(-1, *[1] * (flags.ndim - axis - 1))
    return np.asarray(last - marked.max(axis), np.uint8)


def _argmax_dense(
    values: NDArray[np.float32], down: _Taps, across: _Taps, out: NDArray[np.uint8]
) -> None:
    """Every class at every pixel, a few rows at a time to stay in the cache."""
    classes, height, width = values.shape
    step = max(1, _BLOCK // (classes * out.shape[1]))
    # Arrays of this size made anew for every few rows would cost as much as what is done in them.
    block, other = np.empty((2, step, classes * out.shape[1]), np.float32)
    flags = np.empty((step, classes, out.shape[1]), np.bool_)
    for start in range(0, len(out), step):
        part, rows = out[start : start + step], down.part(start, start + step)
        ends = np.stack([rows.cell, np.minimum(rows.cell + 1, height - 1)])
        read = np.zeros(height, np.bool_)
        read[ends] = True
        top, bottom = (np.cumsum(read) - 1)[ends].tolist()
        wide = _columns(values.transpose(1, 0, 2)[read].reshape(-1, width), across)
        wide = wide.reshape(-1, block.shape[1])
        edges = [0, *(np.flatnonzero(np.diff(rows.cell)) + 1).tolist(), len(part)]
        for i, end in itertools.pairwise(edges):
            some = slice(end - i)
            np.multiply(rows.first[i:end, None], wide[top[i]], out=block[some])
            np.multiply(rows.second[i:end, None], wide[bottom[i]], out=other[some])
            block[some] += other[some]
            logits = block[some].reshape(flags[some].shape)
            np.equal(logits, logits.max(1, keepdims=True), out=flags[some])
            part[i:end] = _lowest(flags[some], 1)


def _argmax_sparse(
    values: NDArray[np.float32],
    down: _Taps,
    across: _Taps,
    mixed: NDArray[np.intp],
    out: NDArray[np.uint8],
) -> bool:
    """Classify the output pixels `mixed`, unless that is more work than the dense way."""
    classes, height, width = values.shape
    right, below = int(width > 1), width * int(height > 1)
    dense = out.size * classes
    if (_PIXEL_WORK + 3 * _CONTENDER_WORK) * mixed.size > dense:
        return False
    i, j = np.divmod(mixed, out.shape[1])
    # The grid pixel at its upper left stands for a cell.
    where = down.cell[i] * np.intp(width) + across.cell[j]
    corner, cell = np.unique(where, return_inverse=True)
    if classes * corner.size > _BLOCK:
        return False
    planes = values.reshape(classes, -1)
    corners = np.stack([planes.take(corner + d, 1) for d in (0, right, below, below + right)])
    contends = ~(corners.max(0) < _level(corners.min(0).max(0)))
    count = contends.sum(0, dtype=np.int16)
    if _PIXEL_WORK * mixed.size + _CONTENDER_WORK * int(count[cell].sum()) > dense:
        return False
    # With the pixels of most contenders first, those that have an n-th one are a slice.
    order = np.argsort(-count[cell], kind="stable")
    i, j, where, cell = i[order], j[order], where[order], cell[order]
    ids = np.nonzero(contends.T)[1]
    begin = np.cumsum(count, dtype=np.intp) - count
    best = np.full(mixed.size, -np.inf, np.float32)
    winner = np.zeros(mixed.size, np.uint8)
    first, second = across.first[j], across.second[j]
    upper, lower = down.first[i], down.second[i]
    reach = np.searchsorted(-count[cell], -np.arange(count.max(initial=0)))
    for nth, n in enumerate(reach.tolist()):
        contender = ids[begin[cell[:n]] + nth]
        at = contender * (height * width) + where[:n]
        top = first[:n] * values.take(at) + second[:n] * values.take(at + right)
        at += below
        bottom = first[:n] * values.take(at) + second[:n] * values.take(at + right)
        value = upper[:n] * top + lower[:n] * bottom
        above = value > best[:n]
        np.copyto(best[:n], value, where=above)
        np.copyto(winner[:n], contender, where=above, casting="unsafe")
    out.ravel()[mixed[order]] = winner
    return True
