"""What Pillow opened, as RGB: the numbers that it would round to 8 bits are read as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from io import BytesIO
from typing import Any, cast
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from atrous.pictures import bands, profiles
from atrous.pictures.metadata import jpeg2000_profile, tagged_colours
from atrous.pictures.pam import PamImageFile
from atrous.pictures.samples import (
    Meaning,
    Notes,
    Picture,
    Pixels,
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
FEW_BITS = {"L;2": 85, "L;4": 17}
"""Greys of a PNG, and by how much they are spread over 8 bits."""
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
    _spread_transparency(picture)
    found = deep(picture)
    if found is None:
        if taking.bands is None:
            say_eight_bits(taking, notes, name)
            return Picture(_eight_bits(picture, profile, notes, name))
        found = _channels(picture)
    stored, high, alpha = found
    chosen = taking.chosen(len(stored), name)
    if chosen is not None:
        stored, alpha = stored[list(chosen)], len(chosen) in (2, 4)
    meaning = Meaning(high=high, opaque=high, alpha=alpha, profile=profile)
    look(thinned(stored), meaning, taking, notes, name)
    return to_picture(stored, meaning, taking, notes, name)


def _spread_transparency(picture: ImageFile) -> None:
    """Take the grey that is transparent in a PNG of 2 or 4 bits as Pillow takes the others."""
    raw = str(picture.tile[0].args) if picture.format == "PNG" and picture.tile else ""
    grey = picture.info.get("transparency")
    if raw in FEW_BITS and isinstance(grey, int):
        picture.info["transparency"] = grey * FEW_BITS[raw]


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
    found = deep(picture)
    stored, high, alpha = found or _channels(picture)
    high = tags.highest or high
    meaning = Meaning(
        high=high,
        opaque=high,
        marks=True,
        nodata=tags.nodata,
        # Of 8 bits Pillow has undone both.
        inverted=tags.photometric == 0 and found is not None,
        premultiplied=tags.premultiplied and found is not None,
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


def _eight_bits(picture: ImageFile, profile: bytes, notes: Notes, name: object) -> Pixels:
    """`(H, W, 3)` of a picture of at most 8 bits: inks and Lab as colours, in sRGB, over white."""
    picture.load()
    # Pillow takes all inks as Adobe stores them, negative.
    negative = picture.format == "JPEG" and "adobe" not in picture.info

    solid = _is_unseen(picture)
    if solid:
        notes.say(
            "transparency", f"{name}: is transparent everywhere: its colours are read all the same"
        )

    def all_grey() -> bool:
        return all(profiles.is_grey(part.convert("RGB")) for _, part in bands.parts(picture))

    grey, say = cache(all_grey), partial(notes.say, "profile")

    def in_srgb(part: Image.Image) -> Image.Image:
        return profiles.to_srgb(part, profile, grey, say, name) if profile else part

    def shown(part: Image.Image) -> Pixels:
        if solid:
            part = part.convert("RGBA").convert("RGB")
        return np.asarray(_shown(part, negative, in_srgb))

    return bands.array(picture, shown)


def _is_unseen(picture: ImageFile) -> bool:
    """Whether a picture has colours and is transparent everywhere: nobody filled that channel."""
    if not _has_alpha(picture):
        return False
    colours: list[tuple[int, int]] = []
    for _, part in bands.parts(picture):
        *found, alpha = cast(list[tuple[int, int]], part.convert("RGBA").getextrema())
        if alpha[1] > 1:  # 1 for who counts from 0 to 1
            return False
        pairs = zip(colours or found, found, strict=True)
        colours = [(min(one[0], other[0]), max(one[1], other[1])) for one, other in pairs]
    return any(low < high for low, high in colours)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in _ALPHA or "transparency" in picture.info


def _shown(
    part: Image.Image, negative: bool, in_srgb: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """A part of a picture as RGB."""
    mode = part.mode
    if _has_alpha(part):
        whole = part.convert("RGBA")
        shown, alpha = whole.convert("RGB"), whole.getchannel("A")
        return on_white(in_srgb(shown), alpha)
    if mode == "CMYK":
        if negative:
            part = Image.eval(part, lambda ink: 255 - ink)
        return in_srgb(part).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(part, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if mode not in ("L", "RGB"):
        part = part.convert("L" if mode == "1" else "RGB")
    return in_srgb(part).convert("RGB")


def _channels(picture: Image.Image) -> Found:
    """What a picture of at most 8 bits is made of; of a palette the colours."""
    alpha = _has_alpha(picture)
    mode = "LA" if picture.mode == "La" else picture.mode
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        mode = "L" if mode == "1" else "RGBA" if alpha else "RGB"
    pixels = bands.array(picture, lambda part: np.asarray(part.convert(mode)))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0), 255, alpha


def deep(picture: ImageFile) -> Found | None:
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
        return bands.array(picture, _sixteen_bits)[None], high, False
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
    values = bands.array(picture)[None]
    kinds = {"I;16S": np.int16, "I;16BS": np.int16, "I;32": np.uint32, "I;32N": np.uint32}
    return values.astype(kinds.get(raw, values.dtype))


def _png(picture: ImageFile) -> Found:
    """A PNG of 16 bits, of which Pillow keeps the upper byte where there are colours.

    The lower one it gives of the same bytes taken in the other order, so that never more is in
    memory than the samples and one of the two.
    """
    kept, depth = _chunks(_bytes(picture))
    mode, raw, transparent = picture.mode, picture.tile[0].args, picture.info.get("transparency")
    alpha = mode == "RGBA"
    marked = transparent is not None and not alpha
    count, (width, height) = len(picture.getbands()), picture.size
    stored = np.zeros((height, width, count + marked), np.uint16)
    samples = stored[..., :count]
    picture.load()
    if raw == "LA;16B":
        _forget(picture)
        for place, part in bands.parts(_opened(_as_colours(kept), picture, "RGBA")):
            grey_and_alpha = np.asarray(part).view(">u2")
            samples[place] = grey_and_alpha[..., [0, 0, 0, 1]]
    elif mode in ("RGB", "RGBA"):
        _add(samples, picture, 8)
        _forget(picture)
        _add(samples, _opened(kept, picture, f"{mode};16L"), 0)
    else:
        _add(samples, picture, 0)
    high = 65535
    if 8 < depth < 16 and samples.max() < 2**depth:
        high = 2**depth - 1  # not shifted up, as the format asks for
    if marked:
        colour = np.atleast_1d(np.asarray(transparent))
        for place in bands.places(height, width):
            through = (samples[place] == colour).all(-1)
            stored[place][..., -1] = np.where(through, 0, high)
    return np.moveaxis(stored, 2, 0), high, alpha or marked


def _chunks(data: bytes) -> tuple[list[bytes], int]:
    """What the pixels of a PNG are in, and how many bits of a sample say something."""
    kept, depth, at = [data[:8]], 16, 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in _PNG_KEPT:
            kept.append(data[at : at + 12 + size])
        elif kind == b"sBIT" and size:
            depth = max(data[at + 8 : at + 8 + size])
        at += 12 + size
    return kept, depth


def _opened(chunks: list[bytes], like: ImageFile, raw: str) -> ImageFile:
    """A PNG whose bytes are taken in another way."""
    picture = PngImageFile(BytesIO(b"".join(chunks)))
    picture.tile = [picture.tile[0]._replace(args=raw)]
    picture.decodermaxblock = like.decodermaxblock
    return picture


def _as_colours(chunks: list[bytes]) -> list[bytes]:
    """Grey and transparency of 16 bits as four bands of 8: byte for byte the same."""
    signature, head, *others = chunks
    said = head[4:16] + b"\x08\x06" + head[18:21]
    return [signature, head[:4] + said + crc32(said).to_bytes(4, "big"), *others]


def _forget(picture: ImageFile) -> None:
    """Let the pixels of a picture go, and nothing that is said of it."""
    picture.thumbnail((1, 1), Image.Resampling.NEAREST)


def _add(samples: NDArray[np.uint16], picture: ImageFile, shift: int) -> None:
    """Add the samples of a picture `(H, W)` or `(H, W, C)` to `(H, W, C)`, shifted up."""
    for place, part in bands.parts(picture):
        values = np.asarray(part).astype(np.uint16)
        samples[place] += values.reshape(*values.shape[:2], -1) << shift


def _sixteen_bits(part: Image.Image) -> NDArray[Any]:
    return np.asarray(part).astype(np.uint16)


def _by_opencv(data: bytes) -> NDArray[Any]:
    """`(C, H, W)` in the order red, green, blue, alpha."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise OSError("damaged, or of a kind that OpenCV cannot read")
    if pixels.ndim == 2:
        return np.asarray(pixels)[None]
    if pixels.shape[2] > 2:  # in place, as they may be many
        for place in bands.places(*pixels.shape[:2]):
            pixels[place][..., :3] = pixels[place][..., 2::-1].copy()
    return np.moveaxis(pixels, 2, 0)


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
    for outside in (values.min(initial=0), values.max(initial=0)):
        if not 0 <= outside <= most:
            raise OSError(f"its header says that {most} is white, but it holds {outside}")
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
