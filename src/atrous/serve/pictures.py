"""Uploaded pictures in, masks and overlays out, all in memory."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic_core import to_json

from atrous import image
from atrous.errors import InputError
from atrous.labels import LabelSet
from atrous.pictures import opening
from atrous.pictures.samples import Picture
from atrous.serve.body import Body
from atrous.serve.legend import describe
from atrous.serve.refusal import Refusal

Pixels = NDArray[np.uint8]
MOST_RUNS = 2**22
"""Of equal pixels, in an answer as JSON."""

_PIECE = 2**13


def decode(data: Body, reading: image.Reading) -> Picture:
    """An image as a person would see it, as `atrous.image.read` reads files.

    Args:
        data: content of an image file.
        reading: how; larger images are refused by their header, before they are decoded.

    Raises:
        Refusal: it is no image, damaged or too large.
    """
    if not data:
        raise Refusal(400, "expected an image file as the body of the request, got nothing")
    try:
        return reading.picture(BytesIO(data), "the image")
    except opening.TooManyPixels as error:
        raise Refusal(413, str(error)) from None
    except InputError as error:
        raise Refusal(422, str(error).replace("`value_range`", "`range`")) from None


def mask_png(class_map: Pixels, labels: LabelSet) -> bytes:
    """A class map as a palette PNG: the pixel values are the class ids."""
    picture = Image.fromarray(class_map)
    picture.putpalette(labels.palette())
    return _png(picture, 3)


def overlay_png(pixels: Pixels, class_map: Pixels, labels: LabelSet, opacity: float) -> bytes:
    """The classes painted over the image, with a legend, as a PNG."""
    return _png(Image.fromarray(image.overlay(pixels, class_map, labels, opacity)), 1)


def runs(class_map: Pixels) -> NDArray[np.int64]:
    """`(n, 2)` class id and length of the runs of equal pixels, row by row over the whole map.

    Raises:
        Refusal: there are too many.
    """
    flat = class_map.reshape(-1)
    changes = flat[1:] != flat[:-1]
    if (count := np.count_nonzero(changes) + 1) > MOST_RUNS:
        raise Refusal(
            413, f"the mask has {count} runs, the limit as JSON is {MOST_RUNS}; ask for output=mask"
        )
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts].astype(np.int64), lengths], axis=1)


def runs_json(found: NDArray[np.int64]) -> bytes:
    """The same as JSON; in pieces, as no other thread comes between in one."""
    starts = range(0, len(found), _PIECE)
    return b"[" + b",".join(to_json(found[at : at + _PIECE].tolist())[1:-1] for at in starts) + b"]"


def classes_of(
    class_map: Pixels, labels: LabelSet, valid: NDArray[np.bool_] | None = None
) -> list[dict[str, Any]]:
    """The classes that occur, the largest first; of the pixels that have data."""
    total = class_map.size if valid is None else int(valid.sum())
    return [
        {**describe(labels, i), "pixels": round(share * total), "share": share}
        for i, share in image.class_shares(class_map, valid).items()
    ]


def _png(picture: Image.Image, level: int) -> bytes:
    file = BytesIO()
    picture.save(file, format="PNG", compress_level=level)
    return file.getvalue()
