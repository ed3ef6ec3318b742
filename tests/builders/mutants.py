"""Damaged pictures, the same ones every time: a few bytes changed, cut off, doubled or left out."""

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from atrous.pictures import formats
from tests.builders import odd

KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF")


def mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files, each with the name of what it was."""
    random = np.random.default_rng(seed)
    whole = originals()
    for number in range(count):
        name, data = whole[number % len(whole)]
        yield f"{number}.{name}", mutated(data, random)


@cache
def originals() -> list[tuple[str, bytes]]:
    """Small pictures in many ways, names and contents."""
    random = np.random.default_rng(1)
    rgb = np.kron(random.integers(0, 256, (6, 8, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    picture = Image.fromarray(rgb)
    exif = odd.exif(6, *odd.TAGS["a resolution over zero"])
    frames = [Image.fromarray(np.roll(rgb, step, 1)) for step in (4, 8)]
    ways: dict[str, tuple[str, Image.Image, dict[str, object]]] = {
        "jpg": ("JPEG", picture, {"exif": exif, "icc_profile": bytes(200)}),
        "progressive.jpg": ("JPEG", picture, {"progressive": True, "comment": b"x" * 40}),
        "cmyk.jpg": ("JPEG", picture.convert("CMYK"), {}),
        "mpo.jpg": ("MPO", picture, {"save_all": True, "append_images": frames}),
        "png": ("PNG", picture, {"exif": exif}),
        "palette.png": ("PNG", picture.quantize(16), {"transparency": 3}),
        "sixteen.png": ("PNG", Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 256), {}),
        "animated.png": ("PNG", picture, {"save_all": True, "append_images": frames}),
        "webp": ("WEBP", picture, {"exif": exif}),
        "lossless.webp": ("WEBP", picture.convert("RGBA"), {"lossless": True}),
        "animated.webp": ("WEBP", picture, {"save_all": True, "append_images": frames}),
        "tif": ("TIFF", picture, {}),
        "lzw.tif": ("TIFF", picture, {"compression": "tiff_lzw"}),
        "jpeg.tif": ("TIFF", picture, {"compression": "jpeg"}),
        "deflate.tif": ("TIFF", picture.convert("RGBA"), {"compression": "tiff_adobe_deflate"}),
        "fax.tif": ("TIFF", picture.convert("1"), {"compression": "group4"}),
        "float.tif": ("TIFF", picture.convert("F"), {}),
        "gif": ("GIF", picture, {}),
        "animated.gif": ("GIF", picture, {"save_all": True, "append_images": frames}),
    }
    if "AVIF" in formats.readable():
        ways["avif"] = ("AVIF", picture, {"exif": exif})
        ways["animated.avif"] = ("AVIF", picture, {"save_all": True, "append_images": frames})
    made = []
    for name, (kind, image, options) in ways.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append((name, file.getvalue()))
    return made


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A few of: bytes changed, most of them near the beginning; a cut; a piece twice, or not."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        reach = len(changed) if random.random() < 0.5 else min(len(changed), 200)
        at = int(random.integers(0, reach))
        length = int(random.integers(1, 9))
        match random.integers(0, 6):
            case 0 | 1 | 2:
                edge = random.choice([0, 1, 127, 128, 255], 1)[0]
                wild = random.integers(0, 256, 1)[0]
                changed[at] = int(edge if random.random() < 0.3 else wild)
            case 3:
                changed[at : at + length] = random.bytes(length)
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                del changed[at : at + (length if random.random() < 0.7 else len(changed))]
        if not changed:
            changed = bytearray(data[:1])
    return bytes(changed)
