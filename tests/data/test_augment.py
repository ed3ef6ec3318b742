"""Changed crops: where pixels go, and what decides it."""

import dataclasses

import numpy as np
import pytest

from atrous.data.augment import Augment, generator, order

MEAN = (123.675, 116.28, 103.53)
PLAIN = Augment(crop=16, padding=MEAN)


def picture(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Red grows to the right, green downwards; the label says which quarter."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = np.arange(width) * 3
    image[:, :, 1] = np.arange(height)[:, None] * 3
    label = np.zeros((height, width), np.uint8)
    label[height // 2 :] += 2
    label[:, width // 2 :] += 1
    return image, label


def test_a_crop_is_a_part_of_the_image() -> None:
    image, label = picture()
    corners = set()
    for place in range(40):
        pixels, _ = PLAIN(image, label, generator(0, 0, place))
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
        left, top = int(pixels[0, 0, 0]) // 3, int(pixels[0, 0, 1]) // 3
        corners.add((top, left))
        np.testing.assert_allclose(pixels, image[top : top + 16, left : left + 16], atol=3)
    assert len(corners) > 30


def test_whole_pixels_are_not_interpolated() -> None:
    image, label = picture(16, 16)
    pixels, classes = PLAIN(image, label, generator(0, 0, 0))
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(classes, label)
    mirrored = dataclasses.replace(PLAIN, flip=1.0)
    pixels, classes = mirrored(image, label, generator(0, 0, 0))
    np.testing.assert_array_equal(pixels, image[:, ::-1])
    np.testing.assert_array_equal(classes, label[:, ::-1])


def test_beyond_the_image_the_label_is_ignored_and_the_image_its_mean() -> None:
    image, label = picture(10, 12)
    for place in range(10):
        pixels, classes = PLAIN(image, label, generator(0, 0, place))
        outside = classes == 255
        assert 16 * 16 - 12 * 13 <= outside.sum() <= 16 * 16 - 9 * 11
        far = pixels[outside & (np.abs(pixels - np.rint(MEAN)).sum(-1) == 0)]
        assert len(far) > 0.7 * outside.sum()
        assert (pixels[:, :, 0] == 124).sum() >= 16 * 16 - 14 * 12


@pytest.mark.parametrize(("scale", "spread"), [((2.0, 2.0), 1.5), ((0.5, 0.5), 6.0)])
def test_scale_and_label_stay_together(scale: tuple[float, float], spread: float) -> None:
    image, label = picture(64, 64)
    pixels, classes = dataclasses.replace(PLAIN, scale=scale)(image, label, generator(1, 0, 0))
    assert np.diff(pixels[8, 4:12, 0].astype(float)).mean() == pytest.approx(spread, abs=0.2)
    right, lower = pixels[:, :, 0] >= 96, pixels[:, :, 1] >= 96
    expected = right + 2 * lower
    assert (expected == classes)[classes != 255].mean() > 0.9


def test_rotation_turns_image_and_label_alike() -> None:
    image, label = picture(64, 64)
    seen = set()
    for place in range(8):
        turned = dataclasses.replace(PLAIN, crop=32, rotation=90.0)
        pixels, classes = turned(image, label, generator(0, 0, place))
        inside = (classes != 255) & (pixels[:, :, 2] < 20)
        expected = (pixels[:, :, 0] >= 96) + 2 * (pixels[:, :, 1] >= 96)
        assert (expected == classes)[inside].mean() > 0.9
        seen.add(tuple(np.diff(pixels[16, 14:18, 1].astype(int))))
    assert len(seen) > 3


@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation", "hue"])
def test_colours_change_the_image_alone(change: str) -> None:
    image, label = picture(16, 16)
    image[:, :, 2] = 90
    one = dataclasses.replace(PLAIN, **{change: 0.5})
    crops = [one(image, label, generator(0, 0, place)) for place in range(6)]
    assert len({pixels.tobytes() for pixels, _ in crops}) >= 4
    for _, classes in crops:
        np.testing.assert_array_equal(classes, label)


def test_brightness_is_a_factor_and_grey_has_no_hue() -> None:
    grey, label = np.full((16, 16, 3), 100, np.uint8), np.zeros((16, 16), np.uint8)
    bright = dataclasses.replace(PLAIN, brightness=0.3)
    values = [bright(grey, label, generator(0, 0, n))[0][0, 0].tolist() for n in range(50)]
    assert all(value[0] == value[1] == value[2] for value in values)
    assert 70 <= min(values)[0] < 80
    assert 120 < max(values)[0] <= 130
    for change in ("contrast", "saturation", "hue"):
        one = dataclasses.replace(PLAIN, **{change: 0.5})
        pixels, _ = one(grey, label, generator(0, 0, 0))
        assert np.abs(pixels.astype(int) - 100).max() <= 1


def test_the_three_numbers_decide_all() -> None:
    image, label = picture()
    every = Augment(24, (0.5, 2.0), 0.5, 20.0, 0.3, 0.3, 0.3, 0.1, MEAN)
    first = every(image, label, generator(3, 1, 7))
    again = every(image, label, generator(3, 1, 7))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for other in ((4, 1, 7), (3, 2, 7), (3, 1, 8)):
        assert not np.array_equal(every(image, label, generator(*other))[0], first[0])


def test_order_takes_each_image_once_an_epoch() -> None:
    first, second = order(0, 0, 50), order(0, 1, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, order(0, 0, 50))
    assert not np.array_equal(first, order(1, 0, 50))


def test_weights_decide_how_often() -> None:
    weights = np.array([1.0, 3.0, 0.5, 3.5])
    counts = sum(np.bincount(order(0, epoch, 4, weights), minlength=4) for epoch in range(200))
    np.testing.assert_allclose(counts / 200, weights / 2, atol=0.1)
    one = np.bincount(order(0, 0, 4, weights), minlength=4)
    assert one.sum() == 4
    assert all(abs(one - weights / 2) < 1)
