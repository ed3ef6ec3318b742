import numpy as np
import pytest

from atrous import resize
from atrous.resize import resized


@pytest.mark.parametrize(
    "kind",
    ["opencv-bilinear", "opencv-bicubic", "pillow-bilinear", "pillow-bicubic", "nearest"],
)
@pytest.mark.parametrize("size", [(60, 900), (5, 77), (31, 400), (13, 30)])
def test_a_part_is_that_of_the_whole(
    kind: resize.Interpolation, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 200, 3), np.uint8)
    rows, columns = (2, size[0] - 1), (0, size[1] // 3)
    whole = resized(image, size, kind)[2 : size[0] - 1, : size[1] // 3]
    monkeypatch.setattr(resize, "_MOST", 0)
    part = resize._part(image, size, kind, rows, columns)
    assert part.shape == whole.shape
    difference = np.abs(part.astype(int) - whole)
    # OpenCV computes with 11 bits, Pillow rounds between the axes.
    assert difference.max() <= (0 if kind == "nearest" else 3)
    assert difference.mean() < 0.5


@pytest.mark.parametrize("kind", ["opencv-bilinear", "pillow-bicubic", "nearest"])
def test_no_more_room_than_the_part_needs(kind: resize.Interpolation) -> None:
    """The whole would take 2 GB, in the mask 650 MB."""
    strip = np.zeros((4, 40_000, 3), np.uint8)
    strip[:, 20_000:] = 255
    part = resized(strip, (256, 2_560_000), kind, (0, 256), (1_279_872, 1_280_128))
    assert part.shape == (256, 256, 3)
    assert (part[:, 0] == 0).all()
    assert (part[:, -1] == 255).all()


def test_ordinary_sizes_are_the_libraries_own() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    whole = resized(image, (64, 86), "pillow-bilinear")
    part = resized(image, (64, 86), "pillow-bilinear", (0, 64), (11, 75))
    np.testing.assert_array_equal(part, whole[:, 11:75])
