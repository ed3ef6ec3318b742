"""Stamps of results: what Atrous made is known, and nothing else is taken for it."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from atrous import stamp

MADE_FROM = "a" * 64


def jpeg() -> bytes:
    content = BytesIO()
    Image.new("RGB", (8, 8), (90, 60, 30)).save(content, "JPEG")
    return content.getvalue()


def test_a_stamped_jpeg_is_known_and_shows_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(stamp.stamp_jpeg(jpeg(), MADE_FROM))
    found = stamp.of_jpeg(path)
    assert found is not None
    assert found.made_from == MADE_FROM
    assert stamp.is_stamped(path)
    with Image.open(path) as shown, Image.open(BytesIO(jpeg())) as before:
        assert shown.tobytes() == before.tobytes()


@pytest.mark.parametrize("where", [-3, -30])
def test_a_jpeg_that_was_changed_has_a_stamp_that_is_not_valid(where: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    data = bytearray(stamp.stamp_jpeg(jpeg(), MADE_FROM))
    data[where] ^= 1
    path.write_bytes(data)
    assert stamp.of_jpeg(path) is None
    assert stamp.is_stamped(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8\xff\xe0", id="cut short"),
        pytest.param(b"\xff\xd8\xff\xe1\0\x08Exif\0\0", id="of a camera"),
        pytest.param(jpeg(), id="of somebody else"),
    ],
)
def test_what_is_not_ours_has_no_stamp(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert stamp.of_jpeg(path) is None
    assert not stamp.is_stamped(path)


def test_what_is_no_file_has_no_stamp(tmp_path: Path) -> None:
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for name in ("none.jpg", "endless.jpg", "loop.jpg", "."):
        assert stamp.of_jpeg(tmp_path / name) is None
        assert not stamp.is_stamped(tmp_path / name)
