import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous import image as images
from atrous.data.masks import read_ids
from atrous.errors import InputError
from atrous.labels import CITYSCAPES, VOC

Pixels = NDArray[np.uint8]


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def test_reads_rgb_exactly(tmp_path: Path, image: Pixels) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(image))
    np.testing.assert_array_equal(images.read(path), image)
    np.testing.assert_array_equal(images.read(str(path)), image)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param(Image.new("L", (2, 2), 77), (77, 77, 77), id="grey"),
        pytest.param(Image.new("1", (2, 2), 1), (255, 255, 255), id="one bit"),
        pytest.param(Image.new("I;16", (2, 2), 0x1234), (0x12,) * 3, id="16-bit grey"),
        pytest.param(Image.new("RGBA", (2, 2), (9, 8, 7, 255)), (9, 8, 7), id="opaque"),
        pytest.param(Image.new("RGBA", (2, 2), (9, 8, 7, 0)), (255,) * 3, id="transparent"),
        pytest.param(Image.new("LA", (2, 2), (0, 128)), (127,) * 3, id="half transparent grey"),
        pytest.param(Image.new("P", (2, 2), 0), (0, 0, 0), id="palette"),
    ],
)
def test_every_kind_of_png(
    picture: Image.Image, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    pixels = images.read(saved(tmp_path / "a.png", picture))
    assert pixels.shape == (2, 2, 3)
    assert pixels.dtype == np.uint8
    assert tuple(pixels[0, 0]) == expected


def test_16_bit_rgb_png_keeps_the_upper_byte(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 2, 3), (0x0A00, 0x1400, 0x1E00), np.uint16))
    assert tuple(images.read(tmp_path / "a.png")[0, 0]) == (0x1E, 0x14, 0x0A)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=95)
    red, green, blue = images.read(path)[8, 8]
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int, tmp_path: Path) -> None:
    upright = Image.new("RGB", (20, 10), "blue")
    upright.paste("red", (0, 0, 5, 5))  # the top left corner
    turned = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = images.read(saved(tmp_path / "a.png", turned, exif=exif.tobytes()))
    np.testing.assert_array_equal(pixels, np.asarray(upright))


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert tuple(images.read(path)[0, 0]) == (255, 0, 0)


def test_broken_files_are_named(tmp_path: Path, image: Pixels) -> None:
    whole = saved(tmp_path / "whole.jpg", Image.fromarray(image)).read_bytes()
    broken = {
        "truncated.jpg": (whole[: len(whole) // 2], "cannot be read: "),
        "empty.jpg": (b"", "the file is empty"),
        "text.png": (b"this is text\n", "not a picture of a known kind"),
        "cut.png": (b"\x89PNG\r\n\x1a\n", "cannot be read"),
    }
    for name, (content, message) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: ({message})"):
            images.read(tmp_path / name)
    with pytest.raises(InputError, match=r"missing\.jpg: cannot be read: No such file"):
        images.read(tmp_path / "missing.jpg")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.new("F", (2, 2), 0.5))
    with pytest.raises(
        InputError,
        match=r"a\.tif: samples of the type float32 have no agreed black and white \(here they go "
        r"from 0\.5 to 0\.5\); `value_range` LOW,HIGH says which values they are",
    ):
        images.read(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("L", (2000, 1000)))
    with pytest.raises(
        InputError, match=r"2000×1000 is 2000000 pixels, the limit is 1000000; .*`max_pixels`"
    ):
        images.read(path, max_pixels=1_000_000)


def test_only_our_own_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow fails over twice that
    path = saved(tmp_path / "a.png", Image.new("L", (30, 10)))
    assert images.read(path, max_pixels=300).shape == (10, 30, 3)
    with pytest.raises(InputError, match="the limit is"):
        images.read(path, max_pixels=299)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillow_s_limit_is_there_again_whatever_threads_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that take it away at once would leave it away: the second finds nothing to put back."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = saved(tmp_path / "a.png", Image.new("L", (30, 10)))
    both, plain = threading.Barrier(2, timeout=0.3), Image.open

    def slow(*arguments: Any, **options: Any) -> Image.Image:
        with suppress(threading.BrokenBarrierError):
            both.wait()
        return plain(*arguments, **options)

    monkeypatch.setattr(Image, "open", slow)
    with ThreadPoolExecutor(2) as pool:
        shapes = [*pool.map(lambda read: read(path).shape, (images.read, read_ids))]
    assert shapes == [(10, 30, 3), (10, 30)]
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("labels", [VOC, CITYSCAPES], ids=lambda labels: labels.name)
def test_mask_keeps_ids_and_carries_colours(labels, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ids = np.array([[0, 1, 15], [18, 255, 2]], np.uint8)
    images.write_mask(tmp_path / "sub" / "m.png", ids, labels)
    with Image.open(tmp_path / "sub" / "m.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), ids)
        assert mask.convert("RGB").getpixel((2, 0)) == labels.colours[15]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["m.png"]


def test_overlay_paints_classes_and_leaves_the_background(image: Pixels) -> None:
    class_map = np.zeros((40, 60), np.uint8)
    class_map[:, 30:] = VOC.names.index("person")
    picture = images.overlay(image, class_map, VOC, opacity=0.5)
    assert picture.shape[1] == 60
    assert picture.shape[0] > 40  # the legend
    assert tuple(picture[20, 5]) == (200, 0, 0)
    assert picture[20, 50].tolist() == pytest.approx([102, 160, 84], abs=1)  # person (204,121,167)
    assert tuple(picture[20, 30]) == (255, 255, 255)  # the outline


def test_overlay_of_a_large_image_is_smaller() -> None:
    picture = images.overlay(
        np.zeros((100, 5000, 3), np.uint8), np.ones((100, 5000), np.uint8), VOC
    )
    assert picture.shape[1] == 2048


def test_legend_wraps_in_narrow_pictures() -> None:
    class_map = np.repeat(np.arange(21, dtype=np.uint8), 5)[None].repeat(30, 0)
    narrow = images.overlay(np.zeros((30, 105, 3), np.uint8), class_map, VOC)
    assert narrow.shape[0] > 30 + 10 * 12


def test_shares() -> None:
    assert images.class_shares(np.array([[2, 2, 0, 255]], np.uint8)) == {2: 0.5, 0: 0.25, 255: 0.25}
    large = np.zeros((1500, 1500), np.uint8)  # more than one block
    large[:, :375] = 7
    assert images.class_shares(large) == {0: 0.75, 7: 0.25}


def test_names_of_pixel_values() -> None:
    assert [images.class_name(VOC, i) for i in (15, 255, 99)] == ["person", "ignored", "class 99"]
