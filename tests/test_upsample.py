from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from atrous import upsample
from atrous.errors import InputError
from atrous.geometry import Axis, CoordinateRule

Logits = NDArray[np.float32]
compiled = pytest.mark.skipif(upsample.KERNEL != "c", reason="atrous._upsample is not built")


@pytest.fixture(params=[pytest.param("c", marks=compiled), "numpy", "sparse", "dense"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each implementation in turn; NumPy also with one of its two ways wherever it can."""
    name = str(request.param)
    monkeypatch.setattr(upsample, "KERNEL", "c" if name == "c" else "numpy")
    if name == "sparse":
        monkeypatch.setattr(upsample, "_PIXEL_WORK", 0)
        monkeypatch.setattr(upsample, "_CONTENDER_WORK", 0)
    if name == "dense":
        monkeypatch.setattr(upsample, "_PIXEL_WORK", 1 << 40)
    return name


def brute(logits: Logits, rows: Axis, columns: Axis) -> NDArray[np.uint8]:
    """Every class at every pixel by the formula, one pixel after the other."""
    _, height, width = logits.shape

    def taps(axis: Axis, grid: int) -> Iterator[tuple[int, int, np.float32, np.float32]]:
        for position in axis.positions(grid).tolist():
            near = min(int(position), max(grid - 2, 0))
            second = np.float32(position - near)
            yield near, min(near + 1, grid - 1), np.float32(1) - second, second

    out = np.empty((rows.size, columns.size), np.uint8)
    for j, (left, right, first, second) in enumerate(taps(columns, width)):
        column = first * logits[:, :, left] + second * logits[:, :, right]
        for i, (top, bottom, upper, lower) in enumerate(taps(rows, height)):
            out[i, j] = (upper * column[:, top] + lower * column[:, bottom]).argmax()
    return out


def smooth(seed: int, classes: int = 21, grid: int = 32) -> Logits:
    """Logits as a network makes them: a few large areas, with soft borders."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((classes, 6, 6)).astype(np.float32)
    fine = [cv2.resize(plane, (grid, grid), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    return 8 * np.stack(fine)


@pytest.mark.parametrize(
    ("logits", "rows", "columns", "expected"),
    [
        pytest.param([[[3, 0]], [[0, 1]]], Axis(1), Axis(5, 0.25), [[0, 0, 0, 0, 1]], id="border"),
        pytest.param([[[3, 0]], [[0, 3]]], Axis(1), Axis(3, 0.5), [[0, 0, 1]], id="tie: lowest id"),
        pytest.param([[[0, 3]], [[3, 0]]], Axis(1), Axis(3, 0.5), [[1, 0, 0]], id="tie, swapped"),
        pytest.param([[[1, 1]], [[1, 1]]], Axis(1), Axis(2), [[0, 0]], id="all equal"),
        pytest.param([[[4, 0]], [[3, 3]], [[0, 4]]], Axis(1), Axis(3, 0.5), [[0, 1, 2]],
                     id="a class that wins at no corner wins between"),
        pytest.param([[[0]], [[2]], [[1]]], Axis(2), Axis(3), [[1, 1, 1], [1, 1, 1]], id="1x1"),
        pytest.param([[[3], [0]], [[0], [1]]], Axis(5, 0.25), Axis(1), [[0], [0], [0], [0], [1]],
                     id="one column"),
        pytest.param([[[3, 0]], [[0, 3]]], Axis(2, 1, -4), Axis(4, 3, -4), [[0, 0, 1, 1]] * 2,
                     id="outside: the nearest pixel"),
    ],
)  # fmt: skip
def test_argmax(
    kernel: str, logits: list[object], rows: Axis, columns: Axis, expected: list[list[int]]
) -> None:
    assert upsample.argmax(np.array(logits, np.float32), rows, columns).tolist() == expected


@pytest.mark.parametrize("classes", [1, 2, 21, 256])
@pytest.mark.parametrize("values", ["noise", "few", "near ties", "extremes"])
def test_argmax_is_the_brute_force(kernel: str, classes: int, values: str) -> None:
    rng = np.random.default_rng(classes)
    for _ in range(12):
        height, width = rng.integers(1, 10, 2).tolist()
        logits = rng.standard_normal((classes, height, width)).astype(np.float32)
        if values == "few":
            logits = logits.round()
        elif values == "near ties":
            ulps = rng.integers(0, 3, logits.shape).astype(np.int32)
            logits = (np.ones_like(logits).view(np.int32) + ulps).view(np.float32)
        elif values == "extremes":
            logits *= np.float32(10.0) ** rng.integers(-44, 36, logits.shape).astype(np.float32)
        rows, columns = (
            Axis(int(rng.integers(1, 41)), rng.normal(), rng.uniform(-3, 12)) for _ in range(2)
        )
        if rng.random() < 0.5:
            rows, columns = Axis.resized(height, rows.size), Axis.resized(width, columns.size)
        found = upsample.argmax(logits, rows, columns)
        np.testing.assert_array_equal(found, brute(logits, rows, columns))
        np.testing.assert_array_equal(found, upsample.enlarge(logits, rows, columns).argmax(0))


def test_ties_made_by_rounding(kernel: str) -> None:
    """Class 1 is above class 0 at every grid pixel, by so little that some pixels between tie."""
    rng = np.random.default_rng(0)
    axis, ties = Axis.resized(2, 20), 0
    for _ in range(20):
        low = np.full((2, 2), rng.uniform(1, 2), np.float32)
        logits = np.stack([low, np.nextafter(low, np.float32(3))])
        expected = brute(logits, axis, axis)
        ties += int((expected == 0).sum())
        np.testing.assert_array_equal(upsample.argmax(logits, axis, axis), expected)
    assert ties > 0


@pytest.mark.parametrize("grid", [9, 33, 65])
@pytest.mark.parametrize("shape", [(65, 65), (130, 171), (20, 500)])
def test_argmax_is_that_of_enlarge(kernel: str, grid: int, shape: tuple[int, int]) -> None:
    rows, columns = (Axis.resized(grid, size) for size in shape)
    noise = np.random.default_rng(grid).standard_normal((21, grid, grid)).astype(np.float32)
    for logits in (smooth(grid, grid=grid), noise):
        found = upsample.argmax(logits, rows, columns)
        np.testing.assert_array_equal(found, upsample.enlarge(logits, rows, columns).argmax(0))


@pytest.mark.parametrize("rule", ["half_pixel", "pytorch_half_pixel", "align_corners"])
def test_agrees_with_torch(kernel: str, rule: CoordinateRule) -> None:
    differing = pixels = 0
    for seed, shape in enumerate([(513, 513), (375, 500), (9, 40), (1, 7), (64, 1)]):
        if rule == "pytorch_half_pixel" and 1 in shape:
            continue  # ONNX then reads pixel 0, PyTorch itself the middle as `half_pixel` does
        logits = smooth(seed)
        aligned = rule == "align_corners"
        large = interpolate(
            torch.from_numpy(logits)[None], shape, mode="bilinear", align_corners=aligned
        )[0].numpy()
        rows, columns = (Axis(size).on_grid(32, size, rule) for size in shape)
        if kernel == "numpy":
            np.testing.assert_allclose(
                upsample.enlarge(logits, rows, columns), large, rtol=0, atol=2e-4
            )
        differing += int((upsample.argmax(logits, rows, columns) != large.argmax(0)).sum())
        pixels += shape[0] * shape[1]
    assert differing <= 1e-5 * pixels


def test_agrees_with_opencv(kernel: str) -> None:
    logits = smooth(7)
    large = cv2.resize(logits.transpose(1, 2, 0), (500, 375), interpolation=cv2.INTER_LINEAR)
    found = upsample.argmax(logits, Axis.resized(32, 375), Axis.resized(32, 500))
    assert (found != large.argmax(-1)).mean() <= 1e-5


def test_bands_change_nothing(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, rows, columns = smooth(3), Axis.resized(32, 97), Axis.resized(32, 101)
    whole = upsample.argmax(logits, rows, columns)
    monkeypatch.setattr(upsample, "_BAND", 707)
    np.testing.assert_array_equal(upsample.argmax(logits, rows, columns), whole)


def test_any_strides(kernel: str) -> None:
    batch = np.stack([smooth(1), smooth(2)])
    axis = Axis.resized(32, 50)
    expected = upsample.argmax(batch[1].copy(), axis, axis)
    last = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(upsample.argmax(last[1].transpose(2, 0, 1), axis, axis), expected)
    np.testing.assert_array_equal(
        upsample.argmax(batch[1, :, ::-1, ::-1], axis, axis), expected[::-1, ::-1]
    )


def test_writes_to_out(kernel: str) -> None:
    logits, rows, columns = smooth(4), Axis.resized(32, 40), Axis.resized(32, 30)
    expected = upsample.argmax(logits, rows, columns)
    canvas = np.full((2, 44, 34), 99, np.uint8)
    for out in (canvas[0, :40, :30], canvas[1, 2:42, 2:32]):
        assert upsample.argmax(logits, rows, columns, out) is out
        np.testing.assert_array_equal(out, expected)
    assert (canvas[1, :2] == 99).all()
    assert (canvas[1, :, 32:] == 99).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_logits_give_some_class(kernel: str, bad: float) -> None:
    logits, axis = smooth(5), Axis.resized(32, 64)
    expected = upsample.argmax(logits, axis, axis)
    logits[np.random.default_rng(0).random(logits.shape) < 0.2] = bad
    assert upsample.argmax(logits, axis, axis).max() < 21
    logits = smooth(5)
    logits[:, 0, 0] = bad
    found = upsample.argmax(logits, axis, axis)
    np.testing.assert_array_equal(found[4:], expected[4:])
    assert (upsample.argmax(np.full((3, 4, 4), bad, np.float32), axis, axis) < 3).all()


@pytest.mark.parametrize(
    ("logits", "out", "message"),
    [
        (np.zeros((2, 3, 3)), None,
         r"logits are float64 \(2, 3, 3\), expected float32 \(C, h, w\)"),
        (np.zeros((3, 3), np.float32), None, r"logits are float32 \(3, 3\), expected float32"),
        (np.zeros((2, 0, 3), np.float32), None, r"logits are float32 \(2, 0, 3\), expected"),
        (np.zeros((257, 1, 1), np.float32), None, "logits hold 257 classes, .* at most 256"),
        (np.zeros((2, 3, 3), np.float32), np.zeros((4, 4), np.uint8),
         r"out is uint8 \(4, 4\), expected uint8 \(4, 5\)"),
        (np.zeros((2, 3, 3), np.float32), np.zeros((4, 5), np.int64),
         r"out is int64 \(4, 5\), expected uint8 \(4, 5\)"),
    ],
)  # fmt: skip
def test_bad_input_is_named(logits: Logits, out: NDArray[np.uint8] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        upsample.argmax(logits, Axis(4), Axis(5), out)


@compiled
def test_the_kernel_checks_its_buffers() -> None:
    from atrous import _upsample

    cells, ones, out = np.zeros(2, np.int32), np.ones(2, np.float32), np.zeros((2, 2), np.uint8)
    grid = np.zeros((2, 3, 3), np.float32)
    _upsample.argmax(grid, (2, 3, 3), cells, ones, ones, cells, ones, ones, out)
    for shape, rows, target in [
        ((2, 3, 4), cells, out),
        ((2, 3, 3), cells + 2, out),
        ((2, 3, 3), cells - 1, out),
        ((2, 3, 3), cells, out[:1]),
    ]:
        with pytest.raises(ValueError, match="buffers do not fit each other"):
            _upsample.argmax(grid, shape, rows, ones, ones, cells, ones, ones, target)
