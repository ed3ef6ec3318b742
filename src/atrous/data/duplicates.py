"""Find pictures that are the same to the eye, whatever their file, size or compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 32
_LOW = 8
MAX_DISTANCE = 6
"""Differing bits of 64 up to which two hashes are looked at again."""

MAX_DIFFERENCE = 6.0
"""Mean difference of two thumbnails, grey levels, up to which they are the same picture."""


@dataclass(frozen=True, slots=True)
class Print:
    """What is remembered of a picture.

    Attributes:
        hash: 64 bits: which low frequencies of its cosine transform are over their median.
        thumbnail: `(32, 32)` uint8 grey.
    """

    hash: np.uint64
    thumbnail: NDArray[np.uint8]


def fingerprint(image: NDArray[np.uint8]) -> Print:
    """Take the print of a picture.

    Args:
        image: `(H, W, 3)` uint8 RGB.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    frequencies = np.asarray(cv2.dct(thumbnail.astype(np.float32)))[:_LOW, :_LOW].reshape(-1)
    bits = frequencies > np.median(frequencies[1:])
    packed = np.packbits(bits).view(np.uint64)[0]
    return Print(packed, np.asarray(thumbnail, np.uint8))


def same_pictures(first: list[Print], second: list[Print]) -> list[tuple[int, int]]:
    """Pairs of indices, one into each list, of pictures that look the same.

    Skies and seas share their low frequencies: near hashes are confirmed on the thumbnails.
    """
    if not first or not second:
        return []
    hashes = np.array([one.hash for one in second], np.uint64)
    pairs = []
    for index, one in enumerate(first):
        distance = np.bitwise_count(hashes ^ one.hash)
        for other in np.flatnonzero(distance <= MAX_DISTANCE):
            there = second[int(other)].thumbnail.astype(np.int16)
            if np.abs(there - one.thumbnail).mean() <= MAX_DIFFERENCE:
                pairs.append((index, int(other)))
    return pairs
