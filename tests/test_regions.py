import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.errors import InputError
from atrous.labels import VOC, generic, named
from atrous.regions import Region, Ring, regions

LABELS = generic(4)


def painted(found: list[Region], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The class map that outlines give back, at eight times the size so that edges are pixels."""
    result = np.full(shape, 255, np.uint8)
    for region in found:
        inside = np.zeros((shape[0] * 8, shape[1] * 8), np.uint8)
        rings: list[Ring] = [region.polygon, *region.holes]
        corners = [np.round(np.array(ring) * 8 - 0.5).astype(np.int32) for ring in rings]
        cv2.fillPoly(inside, corners, 1)
        result[inside[4::8, 4::8] == 1] = region.class_id
    return result


def test_a_square_with_a_hole() -> None:
    class_map = np.full((5, 6), 3, np.uint8)
    class_map[1:4, 1:4] = 1
    class_map[2, 2] = 2
    wall, square, middle = regions(class_map, LABELS)
    assert (wall.class_id, wall.area, wall.box) == (3, 21, (0, 0, 6, 5))
    assert set(wall.polygon) == {(0, 0), (6, 0), (6, 5), (0, 5)}
    assert (square.name, square.area, square.box) == ("class 1", 8, (1, 1, 4, 4))
    assert set(square.polygon) == {(1, 1), (4, 1), (4, 4), (1, 4)}
    [hole] = square.holes
    assert set(hole) == set(middle.polygon) == {(2, 2), (3, 2), (3, 3), (2, 3)}
    assert repr(middle) == "Region(class 2, 1 pixels, box (2, 2, 3, 3))"


def test_pixels_that_touch_at_a_corner_are_two_regions() -> None:
    found = regions(np.array([[1, 0], [0, 1]], np.uint8), LABELS)
    assert [region.area for region in found] == [1] * 4
    assert all(len(region.polygon) == 4 for region in found)


@pytest.mark.parametrize("seed", range(6))
def test_outlines_enclose_exactly_their_pixels(seed: int) -> None:
    class_map = np.random.default_rng(seed).integers(0, 4, (17, 23)).astype(np.uint8)
    if seed % 2:
        class_map = class_map.repeat(3, 0).repeat(2, 1)
    found = regions(class_map, LABELS)
    assert sum(region.area for region in found) == class_map.size
    np.testing.assert_array_equal(painted(found, class_map.shape), class_map)


def test_neither_background_nor_what_is_ignored_is_a_region() -> None:
    class_map = np.array([[0, 0, 255], [8, 8, 255]], np.uint8)
    [cat] = regions(class_map, VOC, certainty=np.array([[0, 0, 0], [0.5, 0.7, 0]], np.float32))
    assert (cat.name, cat.area) == ("cat", 2)
    assert cat.score == pytest.approx(0.6)
    assert regions(class_map, VOC, min_area=3) == []


def test_simple_outlines_stay_near() -> None:
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    disc = ((across - 100) ** 2 + (down - 100) ** 2 < 80**2).astype(np.uint8)
    labels = named(("background", "disc"))
    [exact] = regions(disc, labels)
    [simple] = regions(disc, labels, tolerance=1)
    assert len(simple.polygon) < len(exact.polygon) / 5
    ring = np.array(simple.polygon, np.float32)
    assert cv2.contourArea(ring) == pytest.approx(exact.area, rel=0.02)


def test_a_negative_area() -> None:
    with pytest.raises(InputError, match=r"`min_area` -1, .* expected 0 pixels or more"):
        regions(np.zeros((2, 2), np.uint8), LABELS, min_area=-1)
