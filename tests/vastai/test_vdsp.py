import json
from pathlib import Path
from typing import Any

import pytest

from atrous.errors import ConfigError
from atrous.preprocess import Preprocess
from atrous.vastai import vdsp

SEED: dict[str, Any] = {
    "OpType": "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR",
    "OpConfig": {
        "IimageFormat": "RGB_PLANAR",
        "IimageWidth": 513,
        "IimageHeight": 513,
        "OimageWidth": 513,
        "OimageHeight": 513,
        "IimageWidthPitch": 513,
        "IimageHeightPitch": 513,
        "Mean": [0.485107421875, 0.4560546875, 0.406005859375],
        "Std": [0.22900390625, 0.2239990234375, 0.2249755859375],
        "NormaType": "DIV255_MINUSMEAN_DIVSTD",
        "ColorCvtCode": "NO_CHANGE",
        "ResizeType": "BILINEAR_CV",
    },
}


IN_BYTES = {"Mean": [123.675, 116.28, 103.53], "Std": [58.395, 57.12, 57.375]}


def changed(op_type: str | None = None, **config: Any) -> dict[str, Any]:
    merged = {k: v for k, v in (SEED["OpConfig"] | config).items() if v is not None}
    return {"OpType": op_type or SEED["OpType"], "OpConfig": merged}


def test_reads_the_seeds_file() -> None:
    assert vdsp.parse(SEED) == Preprocess(
        size=(513, 513),
        fit="squash",
        interpolation="opencv-bilinear",
        mean=(0.485107421875, 0.4560546875, 0.406005859375),
        std=(0.22900390625, 0.2239990234375, 0.2249755859375),
    )


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x]], ids=["one operation", "list"])
def test_file_round_trip(wrap: Any, tmp_path: Path) -> None:
    path = tmp_path / "vdsp.json"
    path.write_text(json.dumps(wrap(SEED)))
    assert vdsp.to_json(vdsp.read(path)) == SEED


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        ({"NormaType": "DIV255"}, "normalisation", "div255"),
        ({"NormaType": "DIV255", "Mean": None, "Std": None}, "normalisation", "div255"),
        ({"NormaType": "MINUSMEAN_DIVSTD", **IN_BYTES}, "normalisation", "mean-std"),
        ({"NormaType": "DIV1275_MINUSONE"}, "normalisation", "div127.5-minus-one"),
        ({"NormaType": "EQUAL"}, "normalisation", "none"),
        ({"ResizeType": "BILINEAR_PILLOW"}, "interpolation", "pillow-bilinear"),
        ({"ResizeType": "BICUBIC_PILLOW"}, "interpolation", "pillow-bicubic"),
        ({"ResizeType": "BILINEAR"}, "interpolation", "opencv-bilinear"),
        ({"ColorCvtCode": "RGB2BGR"}, "colour", "bgr"),
        ({"IimageFormat": "BGR888", "ColorCvtCode": "BGR2RGB"}, "colour", "rgb"),
        ({"IimageFormat": "BGR888"}, "colour", "bgr"),
        ({"OimageWidth": 769}, "size", (513, 769)),
    ],
)
def test_values(config: dict[str, Any], field: str, value: object) -> None:
    assert getattr(vdsp.parse(changed(**config)), field) == value


@pytest.mark.parametrize(
    ("config", "formula", "said"),
    [
        ({"NormaType": "MINUSMEAN_DIVSTD"}, "div255-mean-std",
         "units of 0–1, so values are divided by 255 first"),
        (IN_BYTES, "mean-std", "units of 0–255, so values are not divided by 255 first"),
        ({**IN_BYTES, "NormaType": "MINUSMEAN_DIVSTD"}, "mean-std", ""),
        ({"Mean": [0, 0, 0], "Std": [1, 1, 1]}, "div255-mean-std", ""),
        ({**IN_BYTES, "NormaType": "DIV255"}, "div255", ""),
        ({}, "div255-mean-std", ""),
    ],
)  # fmt: skip
def test_statistics_say_their_unit_themselves(
    config: dict[str, Any],
    formula: str,
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "vdsp.json"
    path.write_text(json.dumps(changed(**config)))
    assert vdsp.read(path).normalisation == formula
    kind = config.get("NormaType", SEED["OpConfig"]["NormaType"])
    note = f"{path}: NormaType {kind}: mean and std are in {said}"
    assert [record.message for record in caplog.records] == ([note] if said else [])


@pytest.mark.parametrize(("left", "top"), [(16, 20), (0, 0)])
def test_crop(left: int, top: int) -> None:
    op = "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR"
    size = {"OimageWidth": 224, "OimageHeight": 200, "ResizeWidth": 256, "ResizeHeight": 240}
    preprocess = vdsp.parse(changed(op, CropX=left, CropY=top, **size))
    assert (preprocess.size, preprocess.resize, preprocess.origin) == (
        (200, 224),
        (240, 256),
        (top, left),
    )
    assert vdsp.parse(vdsp.to_json(preprocess)) == preprocess


def test_letterbox() -> None:
    preprocess = vdsp.parse(changed("FUSION_OP_RGB_LETTERBOX_CVTCOLOR_NORM_TENSOR", PaddingR=114))
    assert (preprocess.fit, preprocess.padding) == ("letterbox", (114, 0, 0))
    assert vdsp.parse(vdsp.to_json(preprocess)) == preprocess


def test_letterbox_with_sides() -> None:
    sides = {"PaddingTop": 2, "PaddingBottom": 4, "PaddingLeft": 1, "PaddingRight": 3}
    inner = {"ResizeWidth": 20, "ResizeHeight": 10}
    op = "FUSION_OP_RGB_LETTERBOX_CVTCOLOR_NORM_TENSOR_EXT"
    preprocess = vdsp.parse(changed(op, **sides, **inner))
    assert (preprocess.size, preprocess.resize, preprocess.origin) == ((16, 24), (10, 20), (2, 1))
    written = vdsp.to_json(preprocess)
    assert written["OpType"] == op
    assert {key: written["OpConfig"][key] for key in sides} == sides
    assert vdsp.parse(written) == preprocess


def test_letterbox_padded_with_the_mean_says_its_value() -> None:
    written = vdsp.to_json(Preprocess(size=(8, 8), fit="letterbox"))
    assert written["OpConfig"]["PaddingR"] == pytest.approx(255 * 0.485)


def test_size_may_come_from_outside() -> None:
    data = changed(OimageWidth=None, OimageHeight=None)
    assert vdsp.parse(data, size=(321, 481)).size == (321, 481)
    with pytest.raises(ConfigError, match="OimageWidth and OimageHeight are missing"):
        vdsp.parse(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([SEED, SEED], "expected one operation, as there is one input, got 2"),
        ("x", 'expected {"OpType": ..., "OpConfig"'),
        (changed("FUSION_OP_RGB_RESIZE"), "OpType 'FUSION_OP_RGB_RESIZE' is not supported"),
        (changed(NormType="EQUAL"), "unknown key 'NormType': did you mean 'NormaType'?"),
        (changed(NormaType="DIV256"), "NormaType 'DIV256' is not supported: did you mean 'DIV255'"),
        (changed(NormaType=None), "NormaType is missing"),
        (changed(Mean=[1, 2]), r"Mean expected three numbers, got \[1, 2\]"),
        (changed(Std=[0, 1, 1]), "std must be positive"),
        (changed(ColorCvtCode="BGR2RGB"), "'RGB_PLANAR' with ColorCvtCode 'BGR2RGB': expected"),
        (changed(OimageWidth=-5), "OimageWidth expected a whole number of pixels, got -5"),
    ],
)
def test_errors_name_the_key(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vdsp.parse(data)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "vdsp.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"vdsp\.json: not a readable JSON file"):
        vdsp.read(path)


@pytest.mark.parametrize("settings", [{"fit": "pad"}, {"fit": "crop", "resize": 600}])
def test_what_the_format_cannot_say_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot describe fit"):
        vdsp.to_json(Preprocess.from_dict(settings))
