import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.data import duplicates
from atrous.data.duplicates import Fingerprint, Pair, alike, fingerprint
from atrous.data.synthetic import draw

Picture = NDArray[np.uint8]


def jpeg(picture: Picture, quality: int, scale: float = 1.0) -> Picture:
    image = Image.fromarray(picture)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def sky(spot: tuple[int, int], seed: int) -> Picture:
    """A gradient with a bird: what a careless hash takes for one and the same picture."""
    grey = np.linspace(200, 120, 96)[:, None] + np.zeros(128)
    grey += np.random.default_rng(seed).normal(0, 1.5, grey.shape)
    cv2.circle(grey, spot, 14, 40.0, cv2.FILLED)
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def kinds(one: Picture, two: Picture) -> list[bool]:
    return [pair.same for pair in alike([fingerprint(one)], [fingerprint(two)])]


@pytest.mark.parametrize(("quality", "scale"), [(90, 1.0), (20, 1.0), (75, 0.5), (75, 1.7)])
def test_copies(quality: int, scale: float) -> None:
    for number in range(6):
        picture = draw(0, number)[0]
        assert kinds(picture, jpeg(picture, quality, scale)) == [True]


def test_other_pictures() -> None:
    prints = [fingerprint(draw(0, number)[0]) for number in range(60)]
    assert [pair for pair in alike(prints, prints) if pair.first != pair.second] == []


def test_the_same_scene_again_is_no_copy() -> None:
    picture = draw(0, 1)[0]
    moved = np.roll(picture, 2, axis=1)
    assert kinds(picture, moved) == [False]
    darker = (picture * 0.8).astype(np.uint8)
    assert kinds(picture, darker) == [False]


def test_little_contrast_makes_no_copy() -> None:
    dim = (draw(0, 1)[0] * 0.2).astype(np.uint8) + np.uint8(100)
    assert kinds(dim, jpeg(dim, 90)) == [True]
    assert kinds(dim, np.roll(dim, 2, axis=1)) == [False]


def test_near_hashes_of_other_pictures() -> None:
    one, two = (fingerprint(draw(0, number)[0]) for number in (1, 2))
    assert list(alike([one], [Fingerprint(one.bits, two.thumbnail)])) == []


def test_skies_and_blank_pictures() -> None:
    assert kinds(sky((30, 30), 0), sky((100, 60), 1)) == []
    blank: Any = np.full((50, 60, 3), 128, np.uint8)
    assert kinds(blank, blank) == []


def test_indices_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 2)
    prints = [fingerprint(draw(0, number)[0]) for number in range(5)]
    found = list(alike(prints, [prints[4], prints[1]]))
    assert found == [Pair(1, 1, True), Pair(4, 0, True)]
    assert list(alike([], prints)) == list(alike(prints, [])) == []
