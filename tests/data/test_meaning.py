"""What stored values and colours stand for, in masks as tools leave them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from atrous.data import meaning, open_dataset
from atrous.data.dataset import Dataset
from atrous.errors import ConfigError, InputError

TWO = ["ground", "road"]
BLACK_AND_WHITE = {"ground": [0, 0, 0], "road": [255, 255, 255]}
COLOURS = {"background": [0, 0, 0], "road": [128, 64, 128]}
TRUTH = np.uint8([[0, 0, 1], [0, 1, 1]])


def palette(indices: Any, colours: list[int]) -> Image.Image:
    mask = Image.fromarray(np.uint8(indices), mode="P")
    mask.putpalette(colours)
    return mask


def opened(root: Path, masks: Any, **said: Any) -> Dataset:
    """A data set of these masks, arrays or pictures, described by these keys."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number, mask in enumerate(masks):
        picture = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask))
        ending = "tif" if picture.mode in ("F", "I") else "png"
        picture.save(root / f"masks/t{number}.{ending}")
        Image.new("RGB", picture.size).save(root / f"images/t{number}.png")
    content = {"images": "images", "masks": "masks", **said}
    (root / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return open_dataset(f"folder:{root / 'own.yaml'}:all")


def read(data: Dataset) -> list[Any]:
    return [data.read_label(sample).tolist() for sample in data.samples]


RIGHT = TRUTH.tolist()
WHITE = TRUTH * 255


@pytest.mark.parametrize(
    "masks",
    [
        [WHITE],
        [np.zeros((2, 3), np.uint8), WHITE],
        [palette(WHITE, [0, 0, 0, *[255] * 765])],
        [np.dstack([WHITE] * 3)],
        [np.dstack([*[WHITE] * 3, np.full((2, 3), 255, np.uint8)])],
        [np.uint16(WHITE)],
        [np.float32(WHITE)],
        [np.int32(WHITE)],
    ],
    ids=["grey", "one empty", "palette", "RGB", "RGBA", "16 bits", "float", "32 bits"],
)
@pytest.mark.parametrize("kind", [{}, {"mask_type": "ids"}])
def test_0_and_255_of_two_classes(
    masks: Any, kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = opened(tmp_path, masks, classes=TWO, **kind)
    assert read(data)[-1] == RIGHT
    assert "hold 0 and 255, taken as values: {0: ground, 255: road}; write that" in caplog.text
    Image.fromarray(np.uint8([[0, 1, 255]])).save(tmp_path / "masks/t0.png")
    with pytest.raises(InputError, match="holds 1 on 1 pixels, of which nothing is said; add"):
        data.decode(tmp_path / "masks/t0.png")


def test_a_mask_that_alone_could_be_0_and_255_is_read_as_the_others(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.uint8([[0, 255]]), np.uint8([[1, 255]])], classes=TWO)
    assert read(data) == [[[0, 255]], [[1, 255]]]


@pytest.mark.parametrize(
    ("masks", "said", "message"),
    [
        (
            [WHITE],
            {"classes": TWO, "ignore_index": 255},
            r"leaves nothing of 'road'; take ignore_index out and write values: \{0: ground, 255: ",
        ),
        ([WHITE], {"classes": ["road"]}, r"names 'road' alone; name what 0 is too: values: \{0: b"),
        ([TRUTH, WHITE], {"classes": TWO}, r"t0.png holds 1 and t1.png holds 255; write values: "),
        (
            [2 * TRUTH, WHITE],
            {"classes": [*TWO, "sky"]},
            r"t0.png holds 2 and t1.png holds 255; say in values which class 255 is, or write ign",
        ),
    ],
)
def test_255_is_never_lost_in_silence(masks: Any, said: Any, message: str, tmp_path: Path) -> None:
    masks = [np.uint8(mask) for mask in masks]
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, masks, **said)


@pytest.mark.parametrize(
    ("classes", "values", "advice"),
    [
        (["a", "b", "c"], [0, 127, 255], r"as values: \{0: a, 127: b, 255: c\}"),
        (["a", "b"], [0, 38], r"as values: \{0: a, 38: b\}"),
        (["a", "b", "c"], [1, 2, 3], r"nothing is 0: write ignore: \[0\], and 1\.\.3 are the"),
        (["a", "b", "c"], [0, 1, 2, 3], r"name what 0 is, or write ignore: \[0\] if it is nothing"),
        (["a", "b"], [7, 8, 11], "in values, and what is not scored in ignore"),
    ],
)
def test_values_that_are_no_ids_are_refused_with_what_helps(
    classes: list[str], values: list[int], advice: str, tmp_path: Path
) -> None:
    data = opened(tmp_path, [np.uint8([values])], classes=classes)
    with pytest.raises(InputError, match=advice):
        data.read_label(data.samples[0])


@pytest.mark.parametrize(
    ("said", "stored", "right"),
    [
        ({"classes": TWO, "values": {0: "ground", 255: "road"}}, [0, 255], [0, 1]),
        ({"values": {0: "ground", 255: "road"}}, [0, 255], [0, 1]),
        ({"classes": TWO, "values": {7: "road", 8: "road", 9: 0, 10: None, 11: "ignore"}},
         [7, 8, 9, 10, 11], [1, 1, 0, 255, 255]),
        ({"classes": TWO, "values": {7: "road", 8: "ground"}, "ignore": "others"},
         [7, 8, 0, 255], [1, 0, 255, 255]),
        ({"classes": TWO, "values": {7: "road", 8: "ground"}, "ignore": [0]}, [7, 8, 0],
         [1, 0, 255]),
        ({"classes": TWO, "values": {1000: "road", 26001: "ground"}}, [1000, 26001], [1, 0]),
        ({"classes": TWO, "values": {-1: "ignore", 5: "road", 6: "ground"}}, [-1, 5, 6],
         [255, 1, 0]),
        ({"classes": ["a", "b", "c"], "ignore": [0]}, [0, 1, 2, 3, 255], [255, 0, 1, 2, 255]),
        ({"classes": ["a", "b", "c"], "ignore": [1]}, [0, 1, 2, 3], [0, 255, 1, 2]),
        ({"classes": ["void", "a", "b"], "ignore": ["void"]}, [0, 1, 2], [255, 0, 1]),
        ({"classes": ["a", "void", "b"], "ignore": ["void"], "ignore_index": 9}, [0, 1, 2, 9],
         [0, 9, 1, 9]),
        ({"classes": COLOURS, "ignore": [0]}, [0, 1, 2], [255, 0, 1]),
    ],
)  # fmt: skip
def test_values(said: Any, stored: list[int], right: list[int], tmp_path: Path) -> None:
    if "background" in said.get("classes", ()):
        said = said | {"classes": {"lawn": [0, 0, 0], "road": [1, 1, 1]}}
    kind: Any = np.uint8 if 0 <= min(stored) <= max(stored) <= 255 else np.int32
    data = opened(tmp_path, [np.array([stored], kind)], **said)
    assert read(data) == [[right]]
    assert data.labels.names[data.labels.num_classes - 1] in ("road", "b", "c")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"classes": TWO, "values": {0: "ground", 255: "raod"}}, r"values\.255: no class 'raod'"),
        ({"classes": TWO, "values": {0: "ground"}}, "no value stands for road"),
        ({"classes": TWO, "values": {0: 0, 1: 7}}, r"values\.1: expected a class or its id 0\.\.1"),
        ({"classes": TWO, "values": {0: 0, 1: 1}, "ignore": [1]}, "1 is in values and in ignore"),
        ({"classes": TWO, "ignore": "others"}, "ignore: others needs values"),
        ({"classes": TWO, "ignore": ["sky"]}, "ignore: no class 'sky'"),
        ({"classes": ["void", "a"], "ignore": [0]}, r"write ignore: \[void\] if 0 is void"),
        ({"classes": ["a", "b", "c"], "ignore_index": 0},
         r"where 0 is no class and 1, 2, 3 are a, b, c, write ignore: \[0\] instead"),
        ({"classes": COLOURS, "mask_type": "rgb", "values": {0: 0}}, "values is for stored values"),
        ({"values": {"0": "a"}}, "values"),
        ({"classes": ["a", "a"]}, "names 'a' twice"),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit(said: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, [TRUTH], **said)


def test_a_value_of_which_nothing_is_said(tmp_path: Path) -> None:
    data = opened(tmp_path, [TRUTH], values={0: "a", 255: "b"})
    with pytest.raises(InputError, match=r"t0.png: holds 1 on 3 pixels, of which nothing is said"):
        read(data)


TURNED = [128, 64, 128, 0, 0, 0]


def test_a_palette_in_another_order_than_the_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = [palette(TRUTH, [0, 0, 0, 128, 64, 128]), palette(1 - TRUTH, TURNED)]
    data = opened(tmp_path, masks, classes=COLOURS)
    assert read(data) == [RIGHT, RIGHT]
    assert "the palette of t1.png has the colours of the classes in another order" in caplog.text


def test_a_palette_in_the_order_of_the_classes_is_read_by_number(tmp_path: Path) -> None:
    """Of colours that belong to no class, the numbers count too."""
    mask = palette([[0, 1, 255]], [0, 0, 0, 128, 64, 128, *[7] * 762])
    assert read(opened(tmp_path, [mask], classes=COLOURS)) == [[[0, 1, 255]]]


def test_a_coloured_mask_among_grey_ones_is_refused(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.dstack([TRUTH] * 3)], classes=TWO)
    assert read(data) == [RIGHT]
    Image.fromarray(np.dstack([TRUTH, TRUTH, 0 * TRUTH])).save(tmp_path / "masks/t0.png")
    with pytest.raises(
        InputError, match=r"t0\.png: its pixels are RGB, expected class ids in a gr"
    ):
        read(data)


def test_the_file_has_the_last_word_on_palettes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = [palette(1 - TRUTH, TURNED)]
    data = opened(tmp_path, masks, classes=COLOURS, mask_type="ids")
    assert read(data) == [(1 - TRUTH).tolist()]
    assert "the numbers are taken, as mask_type: ids says" in caplog.text


def test_a_palette_that_turns_up_later_is_refused(tmp_path: Path) -> None:
    data = opened(tmp_path, [palette(TRUTH, [0, 0, 0, 128, 64, 128])], classes=COLOURS)
    palette(1 - TRUTH, TURNED).save(tmp_path / "masks/t0.png")
    with pytest.raises(InputError, match="write mask_type: rgb if the colours are right, mask_"):
        read(data)


def test_palettes_that_disagree_need_colours(tmp_path: Path) -> None:
    masks = [palette(TRUTH, [0, 0, 0, 128, 64, 128]), palette(1 - TRUTH, TURNED)]
    with pytest.raises(ConfigError, match=r"0 is \(0, 0, 0\) in t0.png and \(128, 64, 128\) in t1"):
        opened(tmp_path, masks, classes=TWO)


def test_indices_beyond_the_classes_whose_colours_are_classes(tmp_path: Path) -> None:
    """As pngquant and GIMP number them."""
    masks = [palette(TRUTH + 4, [9, 9, 9] * 4 + [0, 0, 0, 128, 64, 128])]
    assert read(opened(tmp_path, masks, classes=COLOURS)) == [RIGHT]


def test_an_ignored_index_has_any_colour(tmp_path: Path) -> None:
    indices = 1 - TRUTH
    indices[0, 0] = 255
    mask = palette(indices, [*TURNED, *[7, 7, 7] * 254])
    assert read(opened(tmp_path, [mask], classes=COLOURS))[0][0] == [255, 0, 1]


@pytest.mark.parametrize("classes", [BLACK_AND_WHITE, dict(reversed(BLACK_AND_WHITE.items()))])
@pytest.mark.parametrize("kind", [{}, {"mask_type": "rgb"}])
def test_greys_that_are_the_colours_of_classes(kind: Any, classes: Any, tmp_path: Path) -> None:
    data = opened(tmp_path, [WHITE], classes=classes, **kind)
    road = data.labels.names.index("road")
    assert read(data) == [[[road if value else 1 - road for value in row] for row in RIGHT]]


def test_three_greys(tmp_path: Path) -> None:
    classes = {"a": [0, 0, 0], "b": [128, 128, 128], "c": [255, 255, 255]}
    masks = [np.uint8([[0, 0]]), np.uint8([[255, 128]])]
    assert read(opened(tmp_path, masks, classes=classes)) == [[[0, 0]], [[2, 1]]]
    (tmp_path / "x").mkdir()
    data = opened(tmp_path / "x", masks, classes=classes, mask_type="ids")
    assert read(data) == [[[0, 0]], [[2, 1]]]


def test_classes_of_one_colour_are_told_apart_by_number_alone(tmp_path: Path) -> None:
    classes = {"road": [128, 64, 128], "path": [128, 64, 128]}
    mask = palette(TRUTH, [128, 64, 128] * 2)
    assert read(opened(tmp_path, [mask], classes=classes)) == [RIGHT]
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match=r"the colour \(128, 64, 128\) is given twice$"):
        opened(tmp_path / "x", [mask], classes=classes, mask_type="rgb")


def test_of_more_than_two_classes_255_is_none(tmp_path: Path) -> None:
    """Also where the others do not occur in what was looked at."""
    assert read(opened(tmp_path, [WHITE], classes=[*TWO, "sky"])) == [WHITE.tolist()]


def test_of_very_large_masks_few_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path, [TRUTH] * 3, classes=TWO)
    masks = sorted((tmp_path / "masks").iterdir())
    assert len(meaning.looks(masks, 6)) == 3
    monkeypatch.setattr(meaning, "MOST_PIXELS", TRUTH.size)
    assert [path for path, _ in meaning.looks(masks, 6)] == masks[:2]


def test_16_bits_are_no_colours(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.uint16(WHITE)], classes=BLACK_AND_WHITE, mask_type="rgb")
    with pytest.raises(InputError, match="expected colours of 8 bits"):
        read(data)


def test_fractions_are_no_ids(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.float32([[0.5, 1]])], classes=TWO)
    with pytest.raises(InputError, match="holds fractions"):
        read(data)


def test_one_limit_of_pixels_for_image_and_mask(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.zeros((5, 5), np.uint8)], classes=TWO, max_pixels=24)
    for broken in (data.read_label, data.read_image):
        with pytest.raises(
            InputError, match=r"is 25 pixels, the limit is 24; .* raise `max_pixels`"
        ):
            broken(data.samples[0])


def test_white_of_16_bits_has_a_way_out(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.uint16(TRUTH) * 65535], classes=TWO)
    with pytest.raises(InputError, match=r"as values: {0: ground, 65535: road}"):
        read(data)


def test_a_value_below_0_has_a_way_out(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.int32(TRUTH) * -1], classes=TWO)
    with pytest.raises(InputError, match=r"as values: {-1: ground, 0: road}"):
        read(data)


@pytest.mark.parametrize("classes", [TWO, [*TWO, "sky"]])
def test_blurred_edges_are_recognised(classes: list[str], tmp_path: Path) -> None:
    white = np.repeat(np.uint8([0] * 6 + [30, 128, 230] + [255] * 6)[None], 4, 0)
    data = opened(tmp_path, [white], classes=classes)
    with pytest.raises(InputError, match="black and white with greys between them"):
        read(data)


def test_raw_ids_are_not_blurred(tmp_path: Path) -> None:
    data = opened(tmp_path, [np.uint8([[0, 0, 0, 255, 255, 11, 20, 33]])], classes=TWO)
    with pytest.raises(InputError, match="say what they stand for in values"):
        read(data)


@pytest.mark.parametrize(
    ("classes", "said", "message"),
    [
        (TWO, {}, r"t1\.png: holds nothing but 0 and 255, .* write values: {0: ground, 1: road, 2"),
        ([*TWO, "sky"], {}, r"t1\.png: .* hold no 255; say in values which class 255 is, or write"),
        (TWO, {"ignore_index": 255}, ""),
    ],
)
def test_255_in_a_mask_that_was_not_looked_at(
    classes: Any, said: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "LOOKED_AT", 1)
    data = opened(tmp_path, [TRUTH, WHITE], classes=classes, **said)
    if not message:
        assert read(data) == [RIGHT, WHITE.tolist()]
        return
    with pytest.raises(InputError, match=message):
        read(data)


@pytest.mark.parametrize("looked_at", [1, 64])
def test_a_picture_that_nobody_labelled_beside_others(
    looked_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meaning, "LOOKED_AT", looked_at)
    nothing = np.full_like(TRUTH, 255)
    data = opened(tmp_path, [TRUTH, nothing], classes=[*TWO, "sky"])
    assert read(data) == [RIGHT, nothing.tolist()]


@pytest.mark.parametrize(
    ("marked", "said", "right", "message"),
    [
        (0, {"classes": TWO}, RIGHT, r"t0\.tif marks 0 as no data, but it is taken as ground; write"
         r" ignore: \[ground\] if it is not labelled, or name it in values if it is"),
        (1, {"classes": ["ground"]}, (TRUTH * 255).tolist(),
         r"t0\.tif marks 1 as no data, taken as not labelled\n"),
        (1, {"classes": ["ground"], "ignore": [1]}, (TRUTH * 255).tolist(), ""),
        (0, {"values": {0: "ground", 1: "road"}}, RIGHT, ""),
        (1, {"classes": ["ground"], "ignore_index": 1}, RIGHT, ""),
    ],
)  # fmt: skip
def test_what_becomes_of_no_data_is_said(
    marked: int, said: Any, right: Any, message: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    opened(tmp_path, [TRUTH], classes=TWO)
    Image.fromarray(TRUTH).save(tmp_path / "masks/t0.tif", tiffinfo={42113: str(marked)})
    (tmp_path / "masks/t0.png").unlink()
    content = {"images": "images", "masks": "masks", "mask_type": "ids", **said}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    caplog.clear()
    assert read(open_dataset(f"folder:{tmp_path / 'own.yaml'}:all")) == [right]
    assert re.search(message, caplog.text) if message else "no data" not in caplog.text
