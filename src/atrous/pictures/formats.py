"""The picture formats that Atrous reads: one list for files, folders, tiles, masks and the server.

Pictures alone: what describes pages or drawings (PDF, PostScript, SVG, WMF) or names other files
(VRT) is never opened, whatever its ending, as readers of such files start programs and fetch what
the file names.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEIC = "pip install 'atrous[heic]'"


@dataclass(frozen=True, slots=True)
class Format:
    """A picture format.

    Attributes:
        name: of its reader in Pillow.
        suffixes: endings of file names, in lower case.
        begins: pattern of the first bytes; `None` where they say too little.
        module: has the reader, once it is imported.
        drivers: its readers in GDAL, which reads it in rows.
        missing: how to get the reader where it is not there.
    """

    name: str
    suffixes: tuple[str, ...]
    begins: bytes | None
    module: str
    drivers: tuple[str, ...] = ()
    missing: str = "pip install -U pillow"


def _box(*brands: str) -> bytes:
    """A file of ISO boxes that begins with one of these brands."""
    return rb"....ftyp(" + "|".join(brands).encode() + rb")"


FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"), rb"\xff\xd8\xff",
           "PIL.JpegImagePlugin", ("JPEG",)),
    Format("PNG", (".png", ".apng"), rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", ("PNG",)),
    Format("WEBP", (".webp",), rb"RIFF....WEBP", "PIL.WebPImagePlugin", ("WEBP",)),
    Format("TIFF", (".tif", ".tiff"), rb"(II[*+]\0|MM\0[*+])", "PIL.TiffImagePlugin", ("GTiff",)),
    Format("GIF", (".gif",), rb"GIF8[79]a", "PIL.GifImagePlugin", ("GIF", "BIGGIF")),
    Format("BMP", (".bmp",), rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0",
           "PIL.BmpImagePlugin", ("BMP",)),
    Format("DIB", (".dib",), None, "PIL.BmpImagePlugin"),
    Format("JPEG2000", (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
           rb"(\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)", "PIL.Jpeg2KImagePlugin",
           ("JP2OpenJPEG",)),
    Format("AVIF", (".avif", ".avifs"), _box("avif", "avis"), "PIL.AvifImagePlugin"),
    Format("HEIF", (".heic", ".heics", ".heif", ".heifs", ".hif"),
           _box("hei[cxms]", "hev[cxms]", "mif1", "msf1"), "pi_heif.HeifImagePlugin",
           missing=HEIC),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), rb"P([1-6]\s|f\n)",
           "PIL.PpmImagePlugin", ("PNM",)),
    Format("PAM", (".pam",), rb"P7\n", "atrous.pictures.pam"),
    Format("TGA", (".tga",), None, "PIL.TgaImagePlugin", ("TGA",)),
    Format("SGI", (".sgi",), rb"\x01\xda[\0\x01][\x01\x02]",
           "PIL.SgiImagePlugin"),
    Format("PCX", (".pcx",), rb"\n[\0\x02\x03\x05]\x01[\x01\x02\x04\x08]", "PIL.PcxImagePlugin"),
    Format("QOI", (".qoi",), rb"qoif", "PIL.QoiImagePlugin"),
)  # fmt: skip
"""In the order in which they are tried."""

SUFFIXES = frozenset(suffix for one in FORMATS for suffix in one.suffixes)
"""File name endings, in lower case, that count as pictures when a folder is searched."""

HEAD = 512
"""Bytes at the beginning of a file that tell what it is."""

_VIDEO = "a video, which makes a video: atrous predict VIDEO -o masked.mp4"
_RAW = "raw data of a camera, which are not read; develop them, or export the picture as PNG"
_TGA_ENDS = b"TRUEVISION-XFILE.\0"

# What is not a picture, or none of ours: pattern of the first bytes → what is said of it.
_OTHERS = (
    (rb"%PDF", "a PDF, which is not opened; export its pages as PNG"),
    (rb"(%!|\xc5\xd0\xd3\xc6|\x04%!)", "PostScript, which is not opened; export it as PNG"),
    (rb"(\xd7\xcd\xc6\x9a|\x01\0\x09\0|\x01\0\0\0.{36} EMF)",
     "a Windows metafile, which is not opened; export it as PNG"),
    (rb"(<\?xml.*)?<VRTDataset",
     "a list of other files (VRT), which is not opened; name those, or make one file of it: "
     "gdal_translate THE.vrt whole.tif"),
    (rb"(<\?xml.*)?(<!--.*)?(<!DOCTYPE svg.*)?<[s]vg", "a drawing (SVG); export it as PNG"),
    (rb"(?i:<[!]doctype html|<[h]tml)", "a web page and no picture; get the file itself"),
    (rb"(\xff\x0a|\0\0\0\x0cJXL )", "JPEG XL, which is not read; convert it to PNG"),
    (rb"PF\s", "a PFM of three colours, which is not read; convert it to TIFF"),
    (rb"8BPS", "a Photoshop document; export it as PNG"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "an icon of several sizes; export one as PNG"),
    (rb"(PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!)", "an archive; unpack it"),
    (rb"version https://git-lfs", "what Git LFS leaves in place of a file; `git lfs pull` gets it"),
    (rb"(....ftypcrx |FUJIFILMCCD-RAW|IIRO|IIRS|IIU\0|FOVb)", _RAW),
    (rb"(....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3|FLV\x01|OggS|\0\0\x01\xba)", _VIDEO),
    (rb"\0*$", "empty but for zeros; get it again"),
)  # fmt: skip


def of_suffix(suffix: str) -> Format | None:
    """The format of a file name's ending, in any case."""
    return next((one for one in FORMATS if suffix.lower() in one.suffixes), None)


def of_head(head: bytes) -> Format | None:
    """The format of a file by its first bytes; `None` also where they do not tell."""
    return next((one for one in FORMATS if one.begins and re.match(one.begins, head, re.S)), None)


def what_else(head: bytes) -> str:
    """What a file is that is none of these pictures, and what helps; empty if that is unknown."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n") or head
    if re.match(_box("avif", "avis", "hei", "hev", "mif1", "msf1"), head, re.S):
        return ""
    return next((said for begins, said in _OTHERS if re.match(begins, head, re.S)), "")


def ends_as_tga(tail: bytes) -> bool:
    """Whether a file whose last bytes these are says that it is a TGA, whose first bytes do not."""
    return tail.endswith(_TGA_ENDS)


@cache
def readable() -> frozenset[str]:
    """Names of the formats whose readers are here, which this makes known to Pillow."""
    from PIL import Image

    for one in FORMATS:
        try:
            importlib.import_module(one.module)
        except ImportError:
            continue
        if one.name == "HEIF":
            importlib.import_module("pi_heif").register_heif_opener(thumbnails=False)
    _quiet_libtiff()
    return frozenset(one.name for one in FORMATS if _works(one, Image.OPEN))


def _quiet_libtiff() -> None:
    """Keep Pillow's libtiff from printing what it also reports, without the file's name.

    It is found among the libraries of this process; where it is not, nothing happens.
    """
    try:
        loaded = Path("/proc/self/maps").read_text(errors="replace")
        for library in set(re.findall(r"/\S*/libtiff[^/\s]*\.so\S*", loaded)):
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                ctypes.CDLL(library)[name](None)
    except (OSError, AttributeError):
        pass


def _works(one: Format, known: Collection[str]) -> bool:
    from PIL import features

    optional = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
    need = optional.get(one.name)
    return one.name in known and (need is None or bool(features.check(need)))


def missing(suffix: str) -> str:
    """How to get the reader of files of this ending; empty if it is here, or there is none."""
    one = of_suffix(suffix)
    return "" if one is None or one.name in readable() else one.missing
