"""What the files of masks store: numbers that viewers show otherwise, and what is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from atrous.data.dataset import MaskError
from atrous.data.masks import ColourTable, IdReader, look, read_ids
from atrous.data.stored import NO_CLASS, NOT_PLAIN
from atrous.errors import InputError

IDS = np.uint8([[0, 1, 2, 3], [3, 2, 1, 0]])
BLACK_AND_WHITE = ColourTable.of({(0, 0, 0): 0, (255, 255, 255): 1})


def png(depth: int, row: bytes) -> bytes:
    """A grey PNG of four pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


def tiff(values: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **how)
    return file.getvalue()


def packed(bits: int, white_is_zero: bool, row: bytes) -> bytes:
    """A grey TIFF of four pixels of 2 or 4 bits."""
    tags = [(256, 4), (257, 1), (258, bits), (259, 1), (262, int(not white_is_zero))]
    tags += [(273, 8), (277, 1), (278, 1), (279, len(row))]
    body = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = 8 + len(row) + len(row) % 2
    pixels = row.ljust(start - 8, b"\0")
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", 9) + body + bytes(4)


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (png(1, b"\x50"), [0, 1, 0, 1]),
        (png(2, b"\x1b"), [0, 1, 2, 3]),
        (png(4, b"\x01\x2f"), [0, 1, 2, 15]),
        (png(8, b"\0\1\2\xff"), [0, 1, 2, 255]),
        (packed(2, False, b"\x1b"), [0, 1, 2, 3]),
        (packed(4, False, b"\x01\x2f"), [0, 1, 2, 15]),
        (packed(4, True, b"\x01\x2f"), [0, 1, 2, 15]),
        (tiff(IDS[:1], photometric="miniswhite"), [0, 1, 2, 3]),
        (tiff(IDS[:1], photometric="miniswhite", compression="zlib"), [0, 1, 2, 3]),
        (tiff(np.uint16(IDS[:1]), photometric="miniswhite"), [0, 1, 2, 3]),
        (b"P5 4 1 3\n\0\1\2\3", [0, 1, 2, 3]),
        (b"P2 4 1 20\n0 1 2 20\n", [0, 1, 2, 20]),
        (b"P5 4 1 300\n\0\0\0\1\0\2\0\xff", [0, 1, 2, 255]),
        (
            b"P7\nWIDTH 4\nHEIGHT 1\nDEPTH 1\nMAXVAL 3\nTUPLTYPE GRAYSCALE\nENDHDR\n\0\1\2\3",
            [0, 1, 2, 3],
        ),
    ],
    ids=[
        "1 bit", "2 bits", "4 bits", "8 bits", "TIFF of 2", "TIFF of 4", "4, white is 0",
        "8, white is 0", "the same, compressed", "16, white is 0", "PGM", "PGM of text",
        "PGM of 16 bits", "PAM",
    ],
)  # fmt: skip
def test_the_stored_numbers_count(content: bytes, right: list[int], tmp_path: Path) -> None:
    path = tmp_path / "mask"
    path.write_bytes(content)
    assert read_ids(path).tolist() == [right]
    assert (look(path).values or {}).keys() == {*right}


def test_colours_of_few_bits_are_those_that_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(png(2, b"\xcc"))
    assert BLACK_AND_WHITE(path).tolist() == [[1, 0, 1, 0]]


def saved(*pages: Any, kind: str = "png", **how: Any) -> Callable[[Path], None]:
    pictures = [Image.fromarray(np.asarray(page)) for page in pages]
    more: Any = {"save_all": True, "append_images": pictures[1:]} if len(pages) > 1 else {}
    return lambda path: pictures[0].save(path, format=kind, **more, **how)


def with_alpha(colour: Any, alpha: Any) -> Any:
    return np.dstack([np.broadcast_to(np.uint8(colour), (*np.shape(alpha), 3)), np.uint8(alpha)])


def turned(stored: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = stored
    return exif


HOLES = np.where(IDS > 0, 255, 0)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (saved(with_alpha(255, HOLES)), r"all of one colour, .*getchannel\('A'\)"),
        (saved(with_alpha(0, HOLES)), "all of one colour, and differ in their transparency"),
        (saved(np.dstack([0 * IDS, np.uint8(HOLES)])), "all of one colour"),
        (saved(with_alpha([[[0] * 3] * 3 + [[255] * 3]] * 2, HOLES)), "are RGBA, some of them tr"),
        (saved(with_alpha(IDS[..., None], 128 + 0 * IDS)), "are RGBA, some of them transparent"),
        (saved(*[HOLES.astype(np.uint8)] * 3, kind="tiff"), "holds 3 pages, expected one"),
        (saved(IDS, 3 - IDS, kind="gif"), "holds 2 frames, expected one; .* 2 where the second"),
        (saved(IDS, 3 - IDS, kind="png"), "holds 2 frames, expected one"),
        (
            saved(np.uint8(HOLES), exif=turned(3)),
            r"shown turned \(orientation 3\), but masks .*exiftool",
        ),
    ],
)
@pytest.mark.parametrize("read", [read_ids, BLACK_AND_WHITE], ids=["ids", "colours"])
def test_what_could_be_read_in_two_ways_is_refused(
    save: Callable[[Path], None], message: str, read: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mask"
    save(path)
    with pytest.raises(MaskError, match=f"{path}: .*{message}") as caught:
        read(path)
    assert caught.value.kind == NOT_PLAIN
    assert look(path).mode


@pytest.mark.parametrize("read", [read_ids, BLACK_AND_WHITE], ids=["ids", "colours"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_of_16_bits_are_refused(ending: str, read: Any, tmp_path: Path) -> None:
    import cv2

    path = tmp_path / f"mask.{ending}"
    cv2.imwrite(str(path), np.dstack([IDS] * 3).astype(np.uint16))
    with pytest.raises(MaskError, match=r"16 bits a channel, .* store class ids in one channel"):
        read(path)


def test_previews_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(IDS)
        file.write(IDS[::2, ::2], subfiletype=1)
        file.write(IDS[:1, :1])
        file.write(np.full((2, 4), True), subfiletype=4)
    assert read_ids(path).tolist() == IDS.tolist()


def test_a_palette_with_transparency_is_read_by_number(tmp_path: Path) -> None:
    mask = Image.fromarray(IDS, mode="P")
    mask.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 7, 7, 7])
    mask.save(tmp_path / "mask.png", transparency=0)
    assert read_ids(tmp_path / "mask.png").tolist() == IDS.tolist()


def test_transparent_pixels_of_a_colour_of_their_own_are_read_by_it(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    saved(with_alpha(np.where(IDS > 0, 255, 0)[..., None], HOLES))(path)
    assert BLACK_AND_WHITE(path).tolist() == (IDS > 0).astype(int).tolist()


def test_opaque_masks_with_alpha_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    saved(with_alpha(IDS[..., None], 255 + 0 * IDS))(path)
    assert IdReader(grey=True)(path).tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        (IDS.astype(np.int64), {}, "1 band of 64 bits, expected one of 8, 16 or 32; store one"),
        (IDS.astype(float), {}, "1 band of 64 bits"),
        (np.dstack([IDS] * 5), {"planarconfig": "contig"}, "5 bands of 8 bits, .* gdal_translate"),
        (np.dstack([IDS] * 2), {"planarconfig": "contig"}, "holds 2 bands, expected one; store"),
    ],
)
def test_samples_that_no_reader_takes_are_named(
    values: Any, how: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff(values, photometric="minisblack", **how))
    with pytest.raises(MaskError, match=f"{path}: {message}") as caught:
        read_ids(path)
    assert caught.value.kind == NOT_PLAIN


def test_a_damaged_tiff_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff(IDS)[:30])
    for read in (read_ids, look):
        with pytest.raises(InputError, match=r"mask\.tif: cannot be read") as caught:
            read(path)
        assert not isinstance(caught.value, MaskError)


def with_nodata(path: Path, values: Any, nodata: str) -> Path:
    path.write_bytes(tiff(values, extratags=[(42113, "s", 0, nodata, True)]))
    return path


NAN = np.float32([[0, 1, np.nan, 2]])


@pytest.mark.parametrize(
    ("values", "nodata", "right", "seen"),
    [
        (np.uint8([[0, 1, 9, 2]]), "9", [0, 1, 7, 2], {0: 1, 1: 1, 2: 1}),
        (np.int32([[0, 1, -9999, 2]]), "-9999", [0, 1, 7, 2], {0: 1, 1: 1, 2: 1}),
        (np.float32([[0, 1, -3.4e38, 2]]), str(float(np.float32(-3.4e38))), [0, 1, 7, 2],
         {0: 1, 1: 1, 2: 1}),
        (NAN, "nan", [0, 1, 7, 2], {0: 1, 1: 1, 2: 1}),
        (np.uint8([[0, 1, 0, 2]]), "0", [0, 1, 0, 2], {0: 2, 1: 1, 2: 1}),
        (np.float32([[0, 1, 9, 2]]), "1e300", [0, 1, 9, 2], {0: 1, 1: 1, 2: 1, 9: 1}),
        (np.uint8([[0, 1, 9, 2]]), "none", [0, 1, 9, 2], {0: 1, 1: 1, 2: 1, 9: 1}),
    ],
)  # fmt: skip
def test_no_data_counts_as_not_labelled(
    values: Any, nodata: str, right: list[int], seen: dict[int, int], tmp_path: Path
) -> None:
    path = with_nodata(tmp_path / "mask.tif", values, nodata)
    assert IdReader(classes=3, unlabelled=7)(path).tolist() == [right]
    assert look(path).values == seen


def test_no_data_in_a_table(tmp_path: Path) -> None:
    path = with_nodata(tmp_path / "mask.tif", np.uint8([[5, 6, 9]]), "9")
    assert IdReader(table=((5, 1), (6, 0)))(path).tolist() == [[1, 0, 255]]
    assert IdReader(table=((5, 1), (6, 0), (9, 2)))(path).tolist() == [[1, 0, 2]]
    assert IdReader(table=((26001, 3), (5, 1), (6, 0)))(path).tolist() == [[1, 0, 255]]
    assert IdReader(table=((-1, 3), (5, 1), (6, 0)))(path).tolist() == [[1, 0, 255]]


def test_fractions_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff(np.float32([[0.5, np.nan]])))
    with pytest.raises(MaskError, match="holds fractions") as caught:
        read_ids(path)
    assert caught.value.kind == NO_CLASS
