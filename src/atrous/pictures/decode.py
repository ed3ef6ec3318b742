"""What Pillow opened, as RGB: the numbers that it would round to 8 bits are read as they are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from atrous.pictures import profiles
from atrous.pictures.metadata import jpeg2000_profile, tagged_colours
from atrous.pictures.pam import PamImageFile
from atrous.pictures.samples import (
    Meaning,
    Notes,
    Picture,
    Taking,
    is_empty,
    look,
    opaque_value,
    say_eight_bits,
    say_no_transparency,
    thinned,
)
from atrous.pictures.shown import on_white, to_picture
from atrous.pictures.tiff import Tags

_PNG_KEPT = (b"IHDR", b"IDAT", b"IEND")
_SIZ = b"\xff\x4f\xff\x51"  # begins the code stream of a JPEG 2000
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_TAGGED = ("PNG", "AVIF", "HEIF")
_WIDE = ({9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}, {16: "PQ", 18: "HLG"})
"""Primaries and transfers of H.273 that differ most from those of sRGB."""
_BAND = 2**22
"""Pixels."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

Found = tuple[NDArray[Any], int, bool]
"""Samples `(C, H, W)`, the largest that can be stored, and whether the last band is alpha."""


def decode(picture: ImageFile, taking: Taking, notes: Notes, name: object) -> Picture:
    """The pixels of an opened picture, not yet turned as its orientation says.

    Args:
        picture: not decoded yet.
        taking: how samples are taken where the file does not say.
        notes: where decisions are said.
        name: of the picture.

    Raises:
        InputError: its samples have no agreed range, or it has not the bands that are wanted.
        OSError: it is damaged, or another one of `image.UNREADABLE`.
    """
    profile = _profile(picture, notes, name)
    found = _deep(picture)
    if found is None:
        if taking.bands is None:
            say_eight_bits(taking, notes, name)
            return Picture(_pixels(_eight_bits(picture, profile, notes, name)))
        found = _channels(picture)
    stored, high, alpha = found
    chosen = taking.chosen(len(stored), name)
    if chosen is not None:
        stored, alpha = stored[list(chosen)], len(chosen) in (2, 4)
    meaning = Meaning(high=high, opaque=high, alpha=alpha, profile=profile)
    look(thinned(stored), meaning, taking, notes, name)
    return to_picture(stored, meaning, taking, notes, name)


def _profile(picture: ImageFile, notes: Notes, name: object) -> bytes:
    """The colour profile; says where colours are named that are not sRGB, and are taken as that."""
    profile: bytes = picture.info.get("icc_profile") or b""
    if profile or picture.fp is None:
        return profile
    if picture.format == "JPEG2000":
        at = picture.fp.tell()
        profile = jpeg2000_profile(picture.fp)
        picture.fp.seek(at)
    elif picture.format in _TAGGED:
        codes = tagged_colours(picture.fp)
        wide = codes and [known.get(code) for known, code in zip(_WIDE, codes, strict=True)]
        if wide and any(wide):
            notes.say(
                "tagged",
                f"{name}: its colours are {' '.join(filter(None, wide))}, but are taken as sRGB, "
                "which makes other classes likely; convert it to sRGB, 8 bits",
            )
    return profile


def decode_tiff(
    picture: ImageFile, tags: Tags, taking: Taking, notes: Notes, name: object
) -> Picture:
    """The pixels of an opened TIFF of plain samples, as `geotiff` reads them.

    Args:
        picture: not decoded yet.
        tags: its tags.
        taking: as for `decode`, like the others.
    """
    deep = _deep(picture)
    stored, high, alpha = deep or _channels(picture)
    high = tags.highest or high
    meaning = Meaning(
        high=high,
        opaque=high,
        marks=True,
        nodata=tags.nodata,
        # Of 8 bits Pillow has undone both.
        inverted=tags.photometric == 0 and deep is not None,
        premultiplied=tags.premultiplied and deep is not None,
        profile=picture.info.get("icc_profile") or b"",
    )
    chosen = taking.chosen(len(stored), name)
    if chosen is not None:
        stored, alpha = stored[list(chosen)], len(chosen) in (2, 4)
    if alpha:
        values = thinned(stored[-1])
        opaque = opaque_value(values, high)
        empty = is_empty(values, thinned(stored[:-1]))
        if opaque is None and chosen is None and not (tags.premultiplied or empty):
            say_no_transparency(notes, name, len(stored), values)
            stored = stored[:-1]
        else:
            meaning = replace(meaning, alpha=True, opaque=opaque or high)
    look(thinned(stored), meaning, taking, notes, name)
    return to_picture(stored, meaning, taking, notes, name)


def _eight_bits(picture: Image.Image, profile: bytes, notes: Notes, name: object) -> Image.Image:
    """A picture of at most 8 bits: inks and Lab as colours, in sRGB, over white."""
    mode, info = picture.mode, picture.info
    if mode in _ALPHA or "transparency" in info:
        whole = picture.convert("RGBA")
        shown, alpha = whole.convert("RGB"), whole.getchannel("A")
        return on_white(_srgb(shown, profile, notes, name), alpha)
    if mode == "CMYK":
        if picture.format == "JPEG" and "adobe" not in info:
            # Pillow takes all inks as Adobe stores them, negative.
            picture = Image.eval(picture, lambda ink: 255 - ink)
        return _srgb(picture, profile, notes, name).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if profile:
        if mode not in ("L", "RGB"):
            picture = picture.convert("L" if mode == "1" else "RGB")
        return _srgb(picture, profile, notes, name).convert("RGB")
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # it would copy


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """`(H, W, 3)` of an RGB picture; by bands, as Pillow hands over what it has copied twice."""
    width, height = picture.size
    if width * height <= _BAND:
        return np.asarray(picture)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels


def _srgb(picture: Image.Image, profile: bytes, notes: Notes, name: object) -> Image.Image:
    if not profile:
        return picture
    return profiles.to_srgb(picture, profile, lambda text: notes.say("profile", text), name)


def _channels(picture: Image.Image) -> Found:
    """What a picture of at most 8 bits is made of; of a palette the colours."""
    alpha = picture.mode in _ALPHA or "transparency" in picture.info
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        picture = picture.convert("L" if picture.mode == "1" else "RGBA" if alpha else "RGB")
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), 255, alpha


def _deep(picture: ImageFile) -> Found | None:
    """Samples of another kind than 8 bits; `None` if there are none: Pillow keeps those."""
    codec, _, _, arguments = picture.tile[0] if picture.tile else ("", None, 0, "")
    raw = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    if picture.format == "PNG" and raw.endswith(";16B"):
        return _png(picture)
    portable = picture.format == "PPM" and codec.startswith("ppm")
    if portable and isinstance(arguments, tuple) and arguments[1] not in (1, 255):
        return _portable(picture, codec == "ppm_plain", int(arguments[1]))
    if picture.format == "JPEG2000" and picture.mode in ("RGB", "RGBA"):
        depth = jpeg2000_depth(picture)
        if depth > 8:
            return _by_opencv(_bytes(picture)), 2**depth - 1, picture.mode == "RGBA"
    if isinstance(picture, PamImageFile) and picture.most != 255:
        values = np.moveaxis(picture.values(), 2, 0)
        return values, picture.most, picture.mode in _ALPHA
    if picture.mode in _SIXTEEN_BIT or (picture.mode == "I" and raw == "I;16B"):
        bits = re.fullmatch(r"I;(\d+)[A-Z]*", raw)
        high = 2 ** int(bits[1] if bits else 16) - 1
        return np.asarray(picture)[None].astype(np.uint16), high, False
    if picture.mode in ("I", "F"):
        return _wide(picture, raw), 0, False
    if picture.format == "TIFF" and ";16" in raw and picture.mode in ("RGB", "RGBA"):
        return _by_opencv(_bytes(picture)), 65535, picture.mode == "RGBA"
    return None


def jpeg2000_depth(picture: ImageFile) -> int:
    """Bits of a sample, 8 where the file does not tell."""
    data = _bytes(picture)
    at = data.find(_SIZ)
    if at < 0 or len(data) < at + 43:
        return 8
    bands = int.from_bytes(data[at + 40 : at + 42], "big")
    return max((byte & 127) + 1 for byte in data[at + 42 : at + 42 + 3 * bands : 3])


def _wide(picture: Image.Image, raw: str) -> NDArray[Any]:
    """Numbers with sign or with a fraction, in the type that the file has."""
    values = np.asarray(picture)[None]
    kinds = {"I;16S": np.int16, "I;16BS": np.int16, "I;32": np.uint32, "I;32N": np.uint32}
    return values.astype(kinds.get(raw, values.dtype))


def _png(picture: ImageFile) -> Found:
    """A PNG of 16 bits; OpenCV keeps those of colours, without the chunks that it warns of."""
    data = _bytes(picture)
    chunks, depth = [data[:8]], 16
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in _PNG_KEPT:
            chunks.append(data[at : at + 12 + size])
        elif kind == b"sBIT" and size:
            depth = max(data[at + 8 : at + 8 + size])
        at += 12 + size
    transparent = picture.info.get("transparency")
    picture.load()  # finds damage
    if picture.mode in ("RGB", "RGBA", "LA"):
        stored = _by_opencv(b"".join(chunks))
        if picture.mode == "LA" and len(stored) == 4:
            stored = stored[2:]
    else:
        stored = np.asarray(picture)[None].astype(np.uint16)
    alpha = picture.mode in ("RGBA", "LA")
    high = 65535
    if 8 < depth < 16 and stored.max() < 2**depth:
        high = 2**depth - 1  # not shifted up, as the format asks for
    if transparent is not None and not alpha:
        through = (stored == np.reshape(transparent, (-1, 1, 1))).all(0)
        stored = np.concatenate([stored, np.where(through, 0, high)[None].astype(np.uint16)])
        alpha = True
    return stored, high, alpha


def _by_opencv(data: bytes) -> NDArray[Any]:
    """`(C, H, W)` in the order red, green, blue, alpha."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("damaged, or of a kind that OpenCV cannot read")
    if pixels.ndim == 2:
        return np.asarray(pixels)[None]
    order = {2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    return np.moveaxis(pixels[..., order], 2, 0)


def _portable(picture: ImageFile, plain: bool, most: int) -> Found:
    """A portable map whose maximum is not 255: its numbers as they are."""
    width, height = picture.size
    bands = 3 if picture.mode == "RGB" else 1
    data = _bytes(picture)[picture.tile[0][2] :]
    count = width * height * bands
    if plain:
        text = re.sub(rb"#[^\n\r]*", b" ", data)
        values = np.array(text.split()[:count], dtype=np.int64)
    else:
        kind = ">u2" if most > 255 else "u1"
        values = np.frombuffer(data, kind, min(count, len(data) // np.dtype(kind).itemsize))
    if len(values) < count:
        raise OSError("image file is truncated")
    if values.max(initial=0) > most or values.min(initial=0) < 0:
        raise OSError(f"its header says that {most} is white, but it holds {values.max()}")
    stored = values.astype(np.uint16 if most > 255 else np.uint8)
    return np.moveaxis(stored.reshape(height, width, bands), 2, 0), most, False


def _bytes(picture: ImageFile) -> bytes:
    """The file that a picture is opened from."""
    assert picture.fp is not None
    at = picture.fp.tell()
    picture.fp.seek(0)
    data: bytes = picture.fp.read()
    picture.fp.seek(at)
    return data
