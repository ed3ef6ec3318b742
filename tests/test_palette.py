"""The colours that classes are painted with."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from atrous.labels import CITYSCAPES, VOC, LabelSet, generic, interleaved_colour
from atrous.palette import COLOURS


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).parents[1] / "recipes" / "palette.py"
    spec = importlib.util.spec_from_file_location("palette_maker", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_what_their_maker_makes(maker: ModuleType) -> None:
    """The order of the first and some of those behind them; finding them takes a minute."""
    first = np.array(COLOURS[: maker.FIRST])
    assert {*maker.OKABE_ITO} <= {*COLOURS[: maker.FIRST]}
    np.testing.assert_array_equal(maker.ordered(first), first)
    assert len({*COLOURS}) == len(COLOURS) == 256


@pytest.mark.parametrize(
    ("count", "normal", "fewer"), [(8, 0.11, 0.085), (20, 0.09, 0.06), (256, 0.02, 0.01)]
)
def test_no_two_are_alike_for_any_eye(
    maker: ModuleType, count: int, normal: float, fewer: float
) -> None:
    views = maker.seen(np.array(COLOURS[:count]))
    one, other = np.triu_indices(count, 1)
    least = np.linalg.norm(views[one] - views[other], axis=-1).min(0)
    assert least[0] > normal
    assert least[1:].min() > fewer
    beside = np.linalg.norm(views[1:] - views[:-1], axis=-1)
    assert beside[:, 0].min() > 0.07
    if count == 20:
        vocs = maker.seen(np.array([interleaved_colour(i) for i in range(1, count + 1)]))
        assert (least > 2 * np.linalg.norm(vocs[one] - vocs[other], axis=-1).min(0)).all()


def test_they_are_bright_enough_to_be_seen(maker: ModuleType) -> None:
    lightness = maker.seen(np.array(COLOURS))[:, 0, 0]
    assert lightness.min() > 0.35
    assert lightness[:20].min() > 0.44
    assert lightness.max() < 0.97


def test_labels_without_colours_of_their_own_are_painted_with_them() -> None:
    paint = np.frombuffer(VOC.paint(), np.uint8).reshape(256, 3)
    assert tuple(paint[0]) == (0, 0, 0)  # the background
    np.testing.assert_array_equal(paint[1:255], COLOURS[:254])
    assert tuple(paint[255]) == (224, 224, 192)
    assert VOC.unpainted == (255, 0)
    plain = generic(256)
    np.testing.assert_array_equal(np.frombuffer(plain.paint(), np.uint8).reshape(256, 3), COLOURS)
    assert plain.unpainted == (255,)


def test_own_colours_stay() -> None:
    own = LabelSet("own", ("a", "b"), ((1, 2, 3), (4, 5, 6)))
    for labels in (own, CITYSCAPES):
        assert labels.paint() == labels.palette()
