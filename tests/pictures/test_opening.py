"""Files that are odd, and none of which may cost the others anything."""

import contextlib
import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from atrous import image as images
from atrous.data.masks import read_ids
from atrous.errors import InputError
from atrous.pictures import formats
from tests.builders import odd
from tests.builders.mutants import KINDS, mutants, originals

Pixels = NDArray[np.uint8]


@pytest.fixture
def stored(image: Pixels) -> Image.Image:
    """The picture as a camera that was held on its side leaves it (orientation 6)."""
    return Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", odd.TAGS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_odd_tags_do_not_hide_how_a_picture_is_turned(
    name: str, kind: str, stored: Image.Image, image: Pixels, tmp_path: Path
) -> None:
    behind = kind == "TIFF" and name == "a tag that points behind the end"
    if behind and int(Image.__version__.partition(".")[0]) < 13:
        pytest.skip("this Pillow reads no tag of a TIFF of which one points behind its end")
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(odd.with_exif(stored, kind, odd.exif(6, *odd.TAGS[name])))
    pixels = images.read(path)
    assert pixels.shape == image.shape
    assert np.abs(pixels.astype(int) - image).mean() < 12


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM"]
)
def test_no_sense_in_exif_is_upright(block: bytes, image: Pixels, tmp_path: Path) -> None:
    data = odd.jpeg(Image.fromarray(image))
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    assert images.read(tmp_path / "a.jpg").shape == image.shape


SEGMENTS = [
    pytest.param(b"\xff\xe0\0\x07JFIF\0", id="JFIF"),
    pytest.param(b"\xff\xed\0\x14Photoshop 3.0\x008BIM", id="Photoshop"),
    pytest.param(b"\xff\xe2\0\x10MPF\0II*\0\x08\0\0\0\xff\xff", id="MPF"),
    pytest.param(b"\xff\xee\0\x07Adobe", id="Adobe"),
]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_segments_cut_short(segment: bytes, image: Pixels, tmp_path: Path) -> None:
    data = odd.jpeg(Image.fromarray(image))
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    np.testing.assert_array_equal(
        images.read(tmp_path / "a.jpg"), np.asarray(Image.open(io.BytesIO(data)))
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "segment", [*SEGMENTS, pytest.param(b"\xff\xe1\0\x0eExif\0\0II*\0\x08\0", id="EXIF")]
)
def test_xmp_says_how_a_picture_is_turned_whatever_else_is_cut_short(
    segment: bytes, stored: Image.Image, image: Pixels, tmp_path: Path
) -> None:
    whole = io.BytesIO()
    stored.save(whole, "JPEG", quality=100, xmp=b'<x tiff:Orientation="6"/>')
    data = whole.getvalue()
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    pixels = images.read(tmp_path / "a.jpg")
    assert pixels.shape == image.shape
    assert np.abs(pixels.astype(int) - image).mean() < 12


def long_text(kind: str) -> list[tuple[bytes, bytes]]:
    text = zlib.compress(bytes(3_000_000))
    chunk = {
        "zTXt": b"Comment\0\0" + text,
        "iTXt": b"XML:com.adobe.xmp\0\x01\0\0\0" + text,
        "iCCP": b"profile\0\0" + text,
    }[kind]
    return [(kind.encode(), chunk)]


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
@pytest.mark.parametrize("behind", [False, True])
def test_texts_of_any_size_are_no_obstacle(
    kind: str, behind: bool, image: Pixels, tmp_path: Path
) -> None:
    if kind == "iCCP" and behind:
        pytest.skip("has to come before the pixels")
    data = odd.png(Image.fromarray(image))
    (tmp_path / "a.png").write_bytes(odd.with_chunks(data, long_text(kind), behind=behind))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), image)
    assert PngImagePlugin.MAX_TEXT_CHUNK == 2**20


def test_many_texts_and_a_damaged_one(image: Pixels, tmp_path: Path) -> None:
    many = [(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20 - 1)))] * 65
    data = odd.with_chunks(odd.png(Image.fromarray(image)), many)
    (tmp_path / "many.png").write_bytes(data)
    wrong = odd.with_chunks(odd.png(Image.fromarray(image)), [(b"tEXt", b"Comment\0fine")])
    (tmp_path / "wrong.png").write_bytes(wrong.replace(b"fine", b"fire"))  # its checksum is not
    for name in ("many.png", "wrong.png"):
        np.testing.assert_array_equal(images.read(tmp_path / name), image)


def test_a_mask_with_a_long_text(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids)
    picture.putpalette(bytes(range(256)) * 3)
    (tmp_path / "m.png").write_bytes(odd.with_chunks(odd.png(picture), long_text("zTXt")))
    np.testing.assert_array_equal(read_ids(tmp_path / "m.png"), ids)


def test_a_text_too_long_may_still_say_how_a_picture_is_turned(
    stored: Image.Image, image: Pixels, tmp_path: Path
) -> None:
    xmp = b'<x tiff:Orientation="6"/>' + bytes(2_000_000)
    chunk = b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(xmp)
    (tmp_path / "a.png").write_bytes(odd.with_chunks(odd.png(stored), [(b"iTXt", chunk)]))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), image)


def test_pages_and_programs_are_never_opened(
    image: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EPS would start Ghostscript, whatever its file is called."""

    def started(*arguments: object, **options: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    Image.fromarray(image).save(tmp_path / "a.eps")
    contents = {
        "eps": (tmp_path / "a.eps").read_bytes(),
        "pdf": b"%PDF-1.7\n",
        "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "vrt": b'<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>',
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "html": b"<!DOCTYPE html><html></html>",
        "pfm": b"PF\n1 1\n-1.0\n" + bytes(12),
    }
    for kind, content in contents.items():
        for name in (f"a.{kind}", f"{kind}.jpg", f"{kind}.tif"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(
                InputError, match=f"{name}: .*(not opened|SVG|web page|convert it to TIFF)"
            ):
                images.read(tmp_path / name)


@pytest.mark.parametrize(
    ("begins", "said"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw data of a camera"),
        (b"FUJIFILMCCD-RAW 0201", "raw data of a camera"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video, which makes a video"),
        (b"RIFF\x10\0\0\0AVI LIST", "a video, which makes a video"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", "a video, which makes a video"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<VRTDataset>", "a list of other files (VRT)"),
    ],
)
def test_other_files_are_told_apart_by_how_they_begin(
    begins: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(begins + bytes(99))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {said}')}"):
        images.read(path)


def heads() -> dict[str, tuple[str, dict[str, object]]]:
    return {
        ".jfif": ("JPEG", {}), ".jpe": ("JPEG", {}), ".mpo": ("MPO", {}), ".apng": ("PNG", {}),
        ".webp": ("WEBP", {}), ".tiff": ("TIFF", {}), ".gif": ("GIF", {}), ".bmp": ("BMP", {}),
        ".dib": ("DIB", {}), ".jp2": ("JPEG2000", {}), ".j2k": ("JPEG2000", {"no_jp2": True}),
        ".jpx": ("JPEG2000", {}), ".avif": ("AVIF", {}), ".ppm": ("PPM", {}), ".tga": ("TGA", {}),
        ".sgi": ("SGI", {}), ".pcx": ("PCX", {}), ".qoi": ("QOI", {}),
    }  # fmt: skip


@pytest.mark.parametrize("ending", heads())
def test_every_format_by_its_content(ending: str, image: Pixels, tmp_path: Path) -> None:
    kind, options = heads()[ending]
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    path = tmp_path / f"a{ending}"
    Image.fromarray(image).save(path, kind, **options)
    assert ending in formats.SUFFIXES
    for other in (path, tmp_path / "b.jpg", tmp_path / "without"):
        if kind == "DIB" and other != path:
            continue
        other.write_bytes(path.read_bytes())
        pixels = images.read(other)
        assert pixels.shape == image.shape
        assert np.abs(pixels.astype(int) - image).mean() < 12
    known = formats.of_head(path.read_bytes()[: formats.HEAD])
    assert (known is None) == (kind in ("TGA", "DIB"))


@pytest.mark.parametrize(
    ("header", "values", "expected"),
    [
        ("DEPTH 1\nMAXVAL 255", b"\x07\x08", (7, 7, 7)),
        ("DEPTH 3\nMAXVAL 255\n# a remark\nTUPLTYPE RGB", bytes(range(6)), (0, 1, 2)),
        ("DEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE", b"\x01\x00", (255, 255, 255)),
        ("DEPTH 3\nMAXVAL 4095", struct.pack(">6H", 4095, 0, 2048, 0, 0, 0), (255, 0, 128)),
        ("DEPTH 4\nMAXVAL 255", bytes([9, 9, 9, 0] * 2), (255, 255, 255)),
    ],
)
def test_pam(header: str, values: bytes, expected: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.pam"
    path.write_bytes(f"P7\nWIDTH 2\nHEIGHT 1\n{header}\nENDHDR\n".encode() + values)
    assert tuple(images.read(path)[0, 0]) == expected
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"a\.pam: cannot be read: image file is truncated"):
        images.read(path)


def test_a_pam_that_holds_more_than_its_maximum(tmp_path: Path) -> None:
    path = tmp_path / "a.pam"
    path.write_bytes(b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nENDHDR\n\x01\xff")
    with pytest.raises(InputError, match="its header says that 1 is white, but it holds 255"):
        images.read(path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("WIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\n", "a damaged PAM"),
        ("WIDTH 2\nHEIGHT 1\nDEPTH 1\nENDHDR\n", "a damaged PAM"),
        ("WIDTH 2\nHEIGHT one\nDEPTH 1\nMAXVAL 255\nENDHDR\n", "a damaged PAM"),
        (
            "WIDTH 2\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nENDHDR\n",
            "a PAM file of 2×1 with 5 channels up to 255, expected pixels, 1 to 4 channels and at "
            "most 65535",
        ),
    ],
)
def test_what_is_wrong_with_a_pam(header: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pam"
    path.write_bytes(f"P7\n{header}".encode() + bytes(16))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: cannot be read: {said}')}$"):
        images.read(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("1 2 3", "image file is truncated"),
        ("1 2 3 2000", "its header says that 1000 is white, but it holds 2000"),
        ("1 2 3 -4", "its header says that 1000 is white, but it holds -4"),
    ],
)
def test_what_is_wrong_with_a_portable_map(values: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_text(f"P2\n2 2\n1000\n{values}\n")
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: cannot be read: {said}')}$"):
        images.read(path)


def test_room_is_made_only_for_what_the_limit_allows(tmp_path: Path) -> None:
    """A WebP's reader makes room when the file is opened, a TIFF's for a whole tile."""
    Image.new("RGB", (300, 200)).save(tmp_path / "a.webp")
    Image.new("RGB", (300, 200)).save(tmp_path / "b.webp", lossless=True)
    rgba = Image.new("RGBA", (300, 200), (0, 0, 0, 9))
    rgba.save(tmp_path / "c.webp", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    tile = [(tag, 4, 1, struct.pack("<I", 2**14)) for tag in (322, 323)]
    tiff = odd.with_exif(Image.new("L", (8, 8)), "TIFF", odd.exif(1, *tile))
    (tmp_path / "d.tif").write_bytes(tiff)
    for name in ("a.webp", "b.webp", "c.webp", "d.tif"):
        with pytest.raises(InputError, match="the limit is 59999"):
            images.read(tmp_path / name, 59_999)


@pytest.mark.parametrize(
    "raised", [KeyError("x"), struct.error("cut"), RecursionError(), TypeError()]
)
def test_whatever_a_reader_raises_names_the_file(
    raised: Exception, image: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise raised

    Image.fromarray(image[:, :, 0]).save(tmp_path / "a.bmp")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    read: Callable[[Path], object]
    for read in (images.read, read_ids):
        with pytest.raises(InputError, match=r"a\.bmp: cannot be read: ."):
            read(tmp_path / "a.bmp")


def test_heic(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(odd.HEIC)
        pixels = images.read(tmp_path / name)
        assert pixels.shape == (32, 64, 3)
        assert pixels[4, 4, 0] > 150
        assert pixels[4, 40, 2] > 150


def test_heic_without_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "readable", lambda: frozenset({"JPEG", "PNG"}))
    (tmp_path / "a.heic").write_bytes(odd.HEIC)
    with pytest.raises(InputError, match=r"a\.heic: .* pip install 'atrous\[heic\]'"):
        images.read(tmp_path / "a.heic")


def damaged(count: int, seed: int, folder: Path) -> None:
    for name, data in mutants(count, seed):
        path = folder / name
        path.write_bytes(data)
        for read in (images.read, read_ids):
            with contextlib.suppress(InputError):
                assert read(path).dtype == np.uint8
        path.unlink()


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_pictures_or_errors(tmp_path: Path) -> None:
    damaged(300, 1, tmp_path)


def test_all_kinds_are_damaged() -> None:
    assert {Image.open(io.BytesIO(data)).format for _, data in originals()} >= set(KINDS)


def test_long_rows_are_read_at_once() -> None:
    """Else what was read of a row is copied for each of its blocks: 45 s for a small WebP."""

    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counted()
    Image.new("RGB", (2_000_000, 2)).save(file, "BMP")
    pixels = images.Reading().picture(file, "it").pixels
    assert pixels.shape == (2, 2_000_000, 3)
    assert file.reads < 60  # 12 MB are 184 blocks of 64 KB


@pytest.mark.filterwarnings("error")
def test_pillow_s_limit_does_not_come_back_where_a_tiff_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (64, 64)).save(tmp_path / "a.tif", compression="group4")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_ids(tmp_path / "a.tif").shape == (64, 64)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_has_no_end_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (Path("/dev/zero"), tmp_path / "pipe.png"):
        with pytest.raises(InputError, match=f"{path}: cannot be read: a pipe or a device"):
            images.read(path)
