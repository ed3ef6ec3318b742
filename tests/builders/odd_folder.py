"""A folder of good pictures and one of each odd kind beside them."""

import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.pictures import formats
from tests.builders import odd

GOOD = 20
SIZE = (64, 48)


@dataclass
class OddFolder:
    """What was made.

    Attributes:
        path: the folder.
        right: names, without ending, of pictures whose left half is red and right half green.
        broken: file name → what is said of it.
        nowhere: names of links to nothing.
        left_out: how many files are no pictures.
    """

    path: Path
    right: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    nowhere: tuple[str, ...] = ("gone.jpg", "folder_gone")
    left_out: int = 2

    def failures(self) -> int:
        """How many lines say that something failed."""
        return len(self.broken) + len(self.nowhere)


def upright() -> Image.Image:
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:, : SIZE[0] // 2, 0] = 200
    pixels[:, SIZE[0] // 2 :, 1] = 200
    return Image.fromarray(pixels)


def make(folder: Path) -> OddFolder:
    """Fill a new folder, beside it one that is linked."""
    folder.mkdir(parents=True)
    made = OddFolder(folder)
    picture = upright()
    for number in range(GOOD):
        picture.save(folder / f"good{number}.png")
        made.right.append(f"good{number}")
    _odd_but_right(made, picture)
    _broken(made, picture)
    (folder.parent / "elsewhere").mkdir()
    picture.save(folder.parent / "elsewhere" / "linked.png")
    for link, target in (("in_link", "../elsewhere"), ("loop", "."), ("gone.jpg", "nowhere.jpg"),
                         ("folder_gone", "../nowhere")):  # fmt: skip
        (folder / link).symlink_to(target)
    made.right.append("in_link/linked")
    (folder / "notes.txt").write_text("no picture")
    os.mkfifo(folder / "pipe.png")
    return made


def _odd_but_right(made: OddFolder, picture: Image.Image) -> None:
    turned = picture.transpose(Image.Transpose.ROTATE_90)

    def put(name: str, data: bytes) -> None:
        (made.path / name).write_bytes(data)
        made.right.append(Path(name).with_suffix("").name)

    for number, tags in enumerate(odd.TAGS.values()):
        put(f"exif{number}.jpg", odd.with_exif(turned, "JPEG", odd.exif(6, *tags)))
    behind = odd.exif(6, *odd.TAGS["a directory behind the end"])
    put("exif_in.tif", odd.with_exif(turned, "TIFF", behind))
    text = zlib.compress(bytes(3_000_000))
    put("text.png", odd.with_chunks(odd.png(picture), [(b"zTXt", b"Comment\0\0" + text)]))
    put("without_ending", odd.png(picture))
    put("wrong_ending.tmp", odd.png(picture))
    put("really_a.jpg", odd.png(picture))
    put("n" * 240 + ".png", odd.png(picture))
    kinds = {"jfif": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "dib": "DIB",
             "tga": "TGA", "ppm": "PPM", "sgi": "SGI", "pcx": "PCX", "jp2": "JPEG2000"}  # fmt: skip
    if "AVIF" in formats.readable():
        unknown = odd.exif(6, *odd.TAGS["an unknown type"])
        put("exif_as.avif", odd.with_exif(turned, "AVIF", unknown))
    for ending, kind in kinds.items():
        file = io.BytesIO()
        picture.save(file, kind)
        put(f"as_{ending}.{ending}", file.getvalue())
    width, height = SIZE
    header = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH 3\nMAXVAL 255\nENDHDR\n"
    put("as_pam.pam", header.encode() + np.asarray(picture).tobytes())


def _broken(made: OddFolder, picture: Image.Image) -> None:
    eps = io.BytesIO()
    picture.save(eps, "EPS")
    vrt = b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>'
    contents: dict[str, tuple[bytes, str]] = {
        "broken_eps.jpg": (eps.getvalue(), "PostScript, which is not opened"),
        "broken_vrt.tif": (vrt, "a list of other files"),
        "broken_svg.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing"),
        "broken_page.jpg": (b"<!DOCTYPE html><html></html>", "a web page"),
        "broken_none.jpg": (b"", "the file is empty"),
        "broken_words.png": (b"hello", "not a picture of a known kind"),
        "broken_cut.jpg": (odd.jpeg(picture)[:500], "cannot be read"),
        "broken_short.png": (odd.png(picture)[:60], "cannot be read"),
        "broken_bomb.png": (_bomb(60_000, 60_000), "3600000000 pixels, the limit is"),
    }
    for name, (content, said) in contents.items():
        (made.path / name).write_bytes(content)
        made.broken[name] = said


def _bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
             (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )  # fmt: skip


def is_right(class_map: NDArray[np.uint8]) -> bool:
    """Whether a class map is that of `upright`: 0 on the left, 1 on the right."""
    half = SIZE[0] // 2
    if class_map.shape != (SIZE[1], SIZE[0]):
        return False
    return bool((class_map[:, : half - 4] == 0).all() and (class_map[:, half + 4 :] == 1).all())
