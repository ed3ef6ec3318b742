import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from atrous.errors import InputError
from atrous.geometry import Axis, CoordinateRule


@pytest.mark.parametrize(
    ("axis", "source", "positions"),
    [
        pytest.param(Axis(3), 3, [0, 1, 2], id="itself"),
        pytest.param(Axis(3), 2, [0, 1, 1], id="beyond the end: the last pixel"),
        pytest.param(Axis(3, 1, -1.5), 3, [0, 0, 0.5], id="before the start: the first pixel"),
        pytest.param(Axis(2, 1, 1), 4, [1, 2], id="crop"),
        pytest.param(Axis(3, -1, 2), 3, [2, 1, 0], id="flip"),
        pytest.param(Axis.resized(2, 4), 2, [0, 0.25, 0.75, 1], id="enlarged twice"),
        pytest.param(Axis.resized(4, 2), 4, [0.5, 2.5], id="half the size"),
        pytest.param(Axis.resized(1, 3), 1, [0, 0, 0], id="from one pixel"),
        pytest.param(Axis.resized(5, 1), 5, [2], id="to one pixel: the middle"),
        pytest.param(Axis.resized(2, 4).part(1, 3), 2, [0.25, 0.75], id="part"),
    ],
)
def test_positions(axis: Axis, source: int, positions: list[float]) -> None:
    assert axis.positions(source).tolist() == positions


@pytest.mark.parametrize(
    ("rule", "grid", "extent", "positions"),
    [
        pytest.param("half_pixel", 2, 4, [0, 0.25, 0.75, 1], id="half_pixel"),
        pytest.param("pytorch_half_pixel", 2, 4, [0, 0.25, 0.75, 1], id="pytorch_half_pixel"),
        pytest.param("align_corners", 3, 5, [0, 0.5, 1, 1.5, 2], id="align_corners"),
        pytest.param("half_pixel", 5, 1, [2], id="half_pixel to 1: the middle"),
        pytest.param("pytorch_half_pixel", 5, 1, [0], id="pytorch_half_pixel to 1: the first"),
        pytest.param("align_corners", 5, 1, [0], id="align_corners to 1: the first"),
        pytest.param("align_corners", 1, 3, [0, 0, 0], id="align_corners from 1"),
    ],
)
def test_on_grid(rule: CoordinateRule, grid: int, extent: int, positions: list[float]) -> None:
    assert Axis(extent).on_grid(grid, extent, rule).positions(grid).tolist() == positions


@pytest.mark.parametrize("rule", ["half_pixel", "pytorch_half_pixel", "align_corners"])
def test_on_grid_is_what_torch_reads(rule: CoordinateRule) -> None:
    # To one pixel, ONNX's "pytorch_half_pixel" reads pixel 0 and PyTorch itself the middle.
    smallest = 2 if rule == "pytorch_half_pixel" else 1
    for grid in range(1, 10):
        ramp = torch.arange(grid, dtype=torch.float64)[None, None]
        for extent in range(smallest, 41):
            aligned = rule == "align_corners"
            expected = interpolate(ramp, extent, mode="linear", align_corners=aligned)[0, 0]
            positions = Axis(extent).on_grid(grid, extent, rule).positions(grid)
            np.testing.assert_allclose(positions, expected.numpy(), rtol=0, atol=1e-12)


def test_on_grid_carries_a_crop_on() -> None:
    whole = Axis(8).on_grid(4, 8, "half_pixel")
    crop = Axis(3, 1, 2).on_grid(4, 8, "half_pixel")
    np.testing.assert_array_equal(crop.positions(4), whole.positions(4)[2:5])


@pytest.mark.parametrize(
    ("size", "scale", "message"),
    [
        (0, 1.0, "an axis has 0 pixels, expected at least 1"),
        (2, np.nan, r"an axis reads at nan \* i \+ 0\.0, expected numbers"),
        (2, np.inf, r"an axis reads at inf \* i \+ 0\.0, expected numbers"),
    ],
)
def test_bad_axis_is_named(size: int, scale: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Axis(size, scale)
