import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.errors import ConfigError, InputError
from atrous.preprocess import Preprocess

Pixels = NDArray[np.uint8]


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def plain(size: tuple[int, int], **settings: object) -> Preprocess:
    return Preprocess.from_dict({"size": size, "normalisation": "none", **settings})


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("div255-mean-std", [(1.0 - 0.5) / 0.25, (0.2 - 0.4) / 0.5, (0.0 - 0.25) / 1.0]),
        ("mean-std", [(255 - 0.5) / 0.25, (51 - 0.4) / 0.5, (0 - 0.25) / 1.0]),
        ("div255", [1.0, 0.2, 0.0]),
        ("div127.5-minus-one", [1.0, -0.6, -1.0]),
        ("none", [255, 51, 0]),
    ],
)
def test_normalisations(normalisation: str, expected: list[float]) -> None:
    preprocess = Preprocess.from_dict(
        {
            "size": (1, 1),
            "normalisation": normalisation,
            "mean": (0.5, 0.4, 0.25),
            "std": (0.25, 0.5, 1.0),
        }
    )
    pixel = np.array([[[255, 51, 0]]], np.uint8)
    np.testing.assert_allclose(preprocess(pixel)[:, 0, 0], expected, rtol=1e-6)


def test_bgr_swaps_the_channels_and_not_the_statistics() -> None:
    preprocess = plain((1, 1), colour="bgr", normalisation="mean-std", mean=(1, 2, 3), std=(1,) * 3)
    assert preprocess(np.array([[[30, 20, 10]]], np.uint8))[:, 0, 0].tolist() == [9, 18, 27]


def test_equals_the_torchvision_formula_bit_by_bit() -> None:
    image = picture(5, 7)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    expected = ((image.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    np.testing.assert_array_equal(Preprocess(size=(5, 7))(image), expected)


@pytest.mark.parametrize("size", [(6, 9), (40, 30)], ids=["smaller", "larger"])
@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [
        ("opencv-bilinear", lambda i, h, w: cv2.resize(i, (w, h), interpolation=cv2.INTER_LINEAR)),
        ("opencv-bicubic", lambda i, h, w: cv2.resize(i, (w, h), interpolation=cv2.INTER_CUBIC)),
        ("pillow-bilinear", lambda i, h, w: Image.fromarray(i).resize((w, h), 2)),
        ("pillow-bicubic", lambda i, h, w: Image.fromarray(i).resize((w, h), 3)),
    ],
)
def test_resizes_are_the_libraries_own(  # type: ignore[no-untyped-def]
    interpolation: str, expected, size: tuple[int, int]
) -> None:
    image = picture(20, 15)
    made = plain(size, interpolation=interpolation)(image)
    np.testing.assert_array_equal(made, np.asarray(expected(image, *size)).transpose(2, 0, 1))


def test_pillow_and_opencv_differ_when_they_shrink() -> None:
    image = picture(40, 40)
    ours = [plain((10, 10), interpolation=f"{lib}-bilinear")(image) for lib in ("opencv", "pillow")]
    assert np.abs(ours[0] - ours[1]).max() > 20


@pytest.mark.parametrize(
    ("settings", "shape", "rows", "columns"),
    [
        # (first and last input row that shows the image, the same for columns)
        pytest.param({"fit": "squash"}, (10, 40), (0, 20), (0, 20), id="squash fills"),
        pytest.param({"fit": "letterbox"}, (10, 40), (7, 12), (0, 20), id="letterbox centres"),
        pytest.param({"fit": "letterbox"}, (5, 5), (0, 20), (0, 20), id="letterbox enlarges"),
        pytest.param({"fit": "pad"}, (10, 12), (0, 10), (0, 12), id="pad keeps small images"),
        pytest.param({"fit": "pad"}, (40, 20), (0, 20), (0, 10), id="pad shrinks large ones"),
        pytest.param({"fit": "crop"}, (10, 40), (0, 20), (0, 20), id="crop fills"),
        pytest.param(
            {"fit": "letterbox", "resize": (4, 6), "origin": (1, 2)}, (10, 40), (1, 5), (2, 8),
            id="letterbox at a fixed place",
        ),
    ],
)  # fmt: skip
def test_where_the_image_lies(
    settings: dict[str, object],
    shape: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    made = plain((20, 20), padding=(-1, -1, -1), **settings)(np.full((*shape, 3), 9, np.uint8))
    shown = np.argwhere(made[0] == 9)
    assert (shown[0][0], shown[-1][0] + 1) == rows
    assert (shown[0][1], shown[-1][1] + 1) == columns
    outside = np.ones((20, 20), bool)
    outside[rows[0] : rows[1], columns[0] : columns[1]] = False
    assert (made[:, outside] == -1).all()


def test_crop_follows_torchvision() -> None:
    # Resize(513): the long side is int(513 * 500 / 375) = 684; CenterCrop: round((684-513)/2) = 86.
    image = picture(375, 500)
    made = plain((513, 513), fit="crop", interpolation="pillow-bilinear")(image)
    resized = np.asarray(Image.fromarray(image).resize((684, 513), 2))
    np.testing.assert_array_equal(made, resized[:, 86 : 86 + 513].transpose(2, 0, 1))


@pytest.mark.parametrize(
    "settings",
    [
        {"fit": "squash"},
        {"fit": "letterbox"},
        {"fit": "pad"},
        {"fit": "crop"},
        {"fit": "crop", "resize": (40, 50), "origin": (3, 9)},
        {"fit": "letterbox", "resize": (16, 24), "origin": (5, 1)},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
@pytest.mark.parametrize("shape", [(64, 96), (70, 48), (24, 32)])
def test_placement_points_at_the_same_spot(
    settings: dict[str, object], shape: tuple[int, int]
) -> None:
    """A bright square in the image shows up in the input where the placement says."""
    preprocess = plain((32, 32), interpolation="pillow-bilinear", padding=(0, 0, 0), **settings)
    place = preprocess.place(*shape)
    at_rows = place.rows.scale * np.arange(shape[0]) + place.rows.offset
    at_columns = place.columns.scale * np.arange(shape[1]) + place.columns.offset
    row, column = shape[0] // 2 - 5, shape[1] // 2 + 3
    image = np.zeros((*shape, 3), np.uint8)
    image[row - 2 : row + 3, column - 2 : column + 3] = 255
    weight = preprocess(image)[0].astype(np.float64)
    grid = np.mgrid[0:32, 0:32]
    centre = [(axis * weight).sum() / weight.sum() for axis in grid]
    assert centre == pytest.approx([at_rows[row], at_columns[column]], abs=0.6)
    top, bottom, left, right = place.seen
    assert ((at_rows > -0.5) & (at_rows < 31.5)).sum() == bottom - top
    assert ((at_columns > -0.5) & (at_columns < 31.5)).sum() == right - left


def test_padding_with_the_mean_is_exactly_zero() -> None:
    made = Preprocess(size=(8, 8), fit="pad")(picture(3, 3))
    assert (made[:, 3:] == 0).all()
    assert (made[:, :, 3:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1)])
@pytest.mark.parametrize("fit", ["squash", "crop", "letterbox", "pad"])
def test_extreme_shapes(fit: str, shape: tuple[int, int]) -> None:
    made = plain((32, 32), fit=fit)(picture(*shape))
    assert made.shape == (3, 32, 32)
    assert np.isfinite(made).all()


def test_writes_into_a_given_array() -> None:
    batch = np.zeros((2, 3, 8, 8), np.float32)
    image = picture(9, 9)
    returned = plain((8, 8))(image, out=batch[1])
    assert returned.base is batch
    np.testing.assert_array_equal(batch[1], plain((8, 8))(image))
    assert not batch[0].any()


def test_survives_json() -> None:
    preprocess = plain((20, 30), fit="letterbox", padding=(1, 2, 3), resize=(10, 12), origin=(1, 2))
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fitt": "crop"}, "preprocess: fitt: Extra inputs are not permitted"),
        ({"size": (0, 5)}, r"size\.0: Input should be greater than or equal to 1"),
        ({"std": (1, 0, 1)}, r"std must be positive, found \(1\.0, 0\.0, 1\.0\)"),
        ({"resize": 600}, "resize belongs to fit crop or letterbox, found fit squash"),
        ({"origin": (1, 1)}, "origin belongs to fit crop or letterbox, found fit squash"),
        ({"fit": "crop", "resize": 500}, r"\(513, 513\) does not fit into a short side 500"),
        ({"fit": "letterbox", "resize": 500}, r"takes resize as \(height, width\)"),
        (
            {"fit": "crop", "resize": (520, 520), "origin": (8, 0)},
            r"\(513, 513\) at \(8, 0\) does not fit into \(520, 520\)",
        ),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocess.from_dict(settings)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_bad_images_are_named(image: Pixels) -> None:
    with pytest.raises(InputError, match=r"image: expected uint8 \(height, width, 3\), got"):
        Preprocess()(image)


@pytest.mark.parametrize("fit", ["squash", "letterbox", "pad", "crop"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_uint8_holds_the_same_values(fit: str, colour: str, image: Pixels) -> None:
    settings = {"size": (50, 70), "fit": fit, "colour": colour, "normalisation": "none"}
    preprocess = Preprocess.from_dict({**settings, "padding": (124, 116, 104)})
    out = preprocess.empty("uint8")
    assert preprocess(image, out) is out
    assert (out.dtype, out.shape) == (np.uint8, (3, 50, 70))
    np.testing.assert_array_equal(out, preprocess(image))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected normalisation none, found div255-mean-std"),
        (
            {"normalisation": "none", "padding": (123.675, 116, 104)},
            r"expected whole numbers 0–255 as padding, found \(123.675, 116.0, 104.0\)",
        ),
        ({"normalisation": "none", "padding": (0, 0, 256)}, "expected whole numbers 0–255"),
    ],
    ids=str,
)
def test_uint8_is_refused_where_it_would_lose(
    settings: dict[str, object], message: str, image: Pixels
) -> None:
    preprocess = Preprocess.from_dict(settings)
    with pytest.raises(ConfigError, match=message):
        preprocess(image, preprocess.empty("uint8"))


def test_a_thin_strip_is_resized_only_where_the_crop_sees_it() -> None:
    """Whole it would take 2 GB; each column of the strip is 64 wide in the crop."""
    strip = np.zeros((4, 40_000, 3), np.uint8)
    strip[:, 19_998:20_000] = 255
    crop = Preprocess(size=(256, 256), fit="crop", interpolation="pillow-bilinear",
                      normalisation="none")(strip)  # fmt: skip
    assert crop.shape == (3, 256, 256)
    assert crop[0, 128].tolist()[40:90] == [255.0] * 50
    assert crop[0, 128].tolist()[170:] == [0.0] * 86


def test_a_range_of_stored_values_is_kept_and_left_out_where_there_is_none() -> None:
    assert "value_range" not in Preprocess().to_dict()
    assert "value_range" not in Preprocess().model_dump_json()
    told = Preprocess(value_range=(0, 4095))
    assert Preprocess.from_dict(told.to_dict()) == told
    with pytest.raises(ConfigError, match="value_range must be low and high"):
        Preprocess.from_dict({"value_range": [5, 5]})
