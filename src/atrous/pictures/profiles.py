"""Colour profiles embedded in pictures (ICC), converted to sRGB."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

NEAR = 3
"""A profile that moves no colour by more than so many of 255 is sRGB: it is left unconverted."""

_SPACES = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}


def to_srgb(
    picture: Image.Image,
    profile: bytes,
    all_grey: Callable[[], bool],
    say: Callable[[str], object],
    name: object,
) -> Image.Image:
    """A picture in sRGB.

    Args:
        picture: of mode L, RGB or CMYK, whole or a part.
        profile: the colour space of its values, as an ICC profile.
        all_grey: whether the whole picture `is_grey`, of mode RGB.
        say: called with a sentence where the profile cannot be used.
        name: of the picture, for the sentence.

    Returns:
        One of mode RGB, or `picture` as it is where nothing is to be converted.
    """
    try:
        space, transform = _transform(profile, picture.mode)
    except Exception as error:  # a library of C behind it, and anything in the profile
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"{name}: its colour profile is damaged ({reason}): its colours are taken as sRGB")
        return picture
    if space == "RGB" and picture.mode == "L":  # of a picture that was turned grey
        return to_srgb(picture.convert("RGB"), profile, all_grey, say, name)
    if space == "L" and picture.mode == "RGB" and all_grey():  # of grey with transparency
        return to_srgb(picture.getchannel(0), profile, all_grey, say, name).convert("RGB")
    if space != picture.mode:
        say(
            f"{name}: its colour profile is for {space or 'another kind of'} values and not for "
            f"{picture.mode}: its colours are taken as sRGB"
        )
        return picture
    if transform is None:
        return picture
    from PIL import ImageCms

    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None
    return converted


def is_grey(picture: Image.Image) -> bool:
    """Whether red, green and blue are the same everywhere."""
    pixels = np.asarray(picture)
    return bool((pixels == pixels[..., :1]).all())


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> tuple[str, Any]:
    """Which mode a profile is for, and what converts such a picture; `None` if it is sRGB."""
    from PIL import ImageCms

    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    space = _SPACES.get(opened.profile.xcolor_space, "")
    if space != mode:
        return space, None
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode != "CMYK":
        probe = _probe(mode)
        shown = ImageCms.applyTransform(probe, transform)
        assert shown is not None
        moved = np.asarray(shown, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
        if np.abs(moved).max() <= NEAR:
            return space, None
    return space, transform


def _probe(mode: str) -> Image.Image:
    """All greys, and of RGB colours from everywhere."""
    greys = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(greys[None])
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return Image.fromarray(np.concatenate([np.stack([greys] * 3, -1)[None], colours], axis=1))
