"""Preprocessing as Vastai's tool chain writes it: vdsp parameter files (JSON).

One fused operation, or a list holding one. What such a file says of the input image (`Iimage*`)
is nominal; the size of the real image rules. `Mean` and `Std` are kept as they stand, also where
they were rounded to fp16; they say themselves whether values are divided by 255 first.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

from atrous import texts
from atrous.errors import ConfigError
from atrous.preprocess import Fit, Normalisation, Preprocess
from atrous.resize import Interpolation
from atrous.vastai import statistics

_log = logging.getLogger("atrous")

_OP_TYPES: dict[str, Fit] = {
    "FUSION_OP_RGB_RESIZE_CVTCOLOR_NORM_TENSOR": "squash",
    "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR": "crop",
    "FUSION_OP_RGB_LETTERBOX_CVTCOLOR_NORM_TENSOR": "letterbox",
    "FUSION_OP_RGB_LETTERBOX_CVTCOLOR_NORM_TENSOR_EXT": "letterbox",
}
_RESIZES: dict[str, Interpolation] = {
    "BILINEAR_CV": "opencv-bilinear",
    "BILINEAR": "opencv-bilinear",
    "BICUBIC_CV": "opencv-bicubic",
    "BILINEAR_PILLOW": "pillow-bilinear",
    "BICUBIC_PILLOW": "pillow-bicubic",
}
_NORMALISATIONS: dict[str, Normalisation] = {
    "DIV255_MINUSMEAN_DIVSTD": "div255-mean-std",
    "MINUSMEAN_DIVSTD": "mean-std",
    "DIV255": "div255",
    "DIV1275_MINUSONE": "div127.5-minus-one",
    "EQUAL": "none",
}
# What the tensor holds, given what the decoder is told to deliver. Ours delivers RGB; a file that
# expects BGR pixels and converts nothing wants them as BGR.
_COLOURS = {
    ("RGB", "NO_CHANGE"): "rgb",
    ("RGB", "RGB2BGR"): "bgr",
    ("BGR", "NO_CHANGE"): "bgr",
    ("BGR", "BGR2RGB"): "rgb",
}
_NOMINAL = ("IimageWidth", "IimageHeight", "IimageWidthPitch", "IimageHeightPitch")
_NOMINAL_OUT = ("OimageWidthPitch", "OimageHeightPitch")
_SIDES = ("PaddingTop", "PaddingBottom", "PaddingLeft", "PaddingRight")
_FILL = ("PaddingR", "PaddingG", "PaddingB")
_KEYS = (
    "IimageFormat", *_NOMINAL, "OimageWidth", "OimageHeight", *_NOMINAL_OUT, "ResizeWidth",
    "ResizeHeight", "CropX", "CropY", *_SIDES, *_FILL, "Mean", "Std", "NormaType", "ColorCvtCode",
    "ResizeType",
)  # fmt: skip


def read(path: Path, size: tuple[int, int] | None = None) -> Preprocess:
    """Read a vdsp parameter file.

    Args:
        path: the JSON file.
        size: height and width of the network input, for files that do not name it.

    Raises:
        ConfigError: the file cannot be read, or says something that has no meaning here.
    """
    try:
        data = texts.read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable JSON file: {error}") from None
    try:
        return parse(data, size, str(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(
    data: object, size: tuple[int, int] | None = None, name: str = "vdsp parameters"
) -> Preprocess:
    """Turn the content of a vdsp parameter file into a `Preprocess`.

    Args:
        data: `{"OpType": …, "OpConfig": {…}}`, or a list of one such object.
        size: height and width of the network input, for files that do not name it.
        name: of the file, in notes.

    Raises:
        ConfigError: a key or value is unknown or missing; names it and what was expected.
    """
    if isinstance(data, list):
        if len(data) != 1:
            raise ConfigError(f"expected one operation, as there is one input, got {len(data)}")
        data = data[0]
    if not isinstance(data, dict) or not isinstance(data.get("OpConfig"), dict):
        raise ConfigError('expected {"OpType": ..., "OpConfig": {...}} or a list holding one')
    fit = _choose("OpType", data.get("OpType"), _OP_TYPES)
    config: dict[str, Any] = data["OpConfig"]
    for key in config:
        if key not in _KEYS:
            raise ConfigError(f"OpConfig: unknown key {key!r}{_nearest(key, _KEYS)}")

    settings: dict[str, Any] = {
        "fit": fit,
        "interpolation": _choose("ResizeType", config.get("ResizeType", "BILINEAR_CV"), _RESIZES),
        "normalisation": _choose("NormaType", config.get("NormaType"), _NORMALISATIONS),
        "colour": _colour(config),
    }
    if settings["normalisation"].endswith("mean-std") or {"Mean", "Std"} <= config.keys():
        settings |= {"mean": _triple(config, "Mean"), "std": _triple(config, "Std")}
    if settings["normalisation"].endswith("mean-std"):
        settings["normalisation"] = _formula(config["NormaType"], settings, name)
    size = _pair(config, "OimageHeight", "OimageWidth") or size
    if data["OpType"].endswith("_EXT"):
        inner = _required(config, "ResizeHeight", "ResizeWidth")
        top, bottom, left, right = (_whole(config, side, 0) for side in _SIDES)
        size = (inner[0] + top + bottom, inner[1] + left + right)
        settings |= {"resize": inner, "origin": (top, left)}
    elif fit == "crop":
        settings["resize"] = _required(config, "ResizeHeight", "ResizeWidth")
        settings["origin"] = _pair(config, "CropY", "CropX")
    if fit == "letterbox":
        settings["padding"] = [_number(config, key, 0.0) for key in _FILL]
    if size is None:
        raise ConfigError("OpConfig: OimageWidth and OimageHeight are missing; add them")
    return Preprocess.from_dict(settings | {"size": size})


def to_json(preprocess: Preprocess) -> dict[str, Any]:
    """The vdsp parameters that describe `preprocess`, for tools of that chain.

    Raises:
        ConfigError: that format cannot say it (fit `pad`, a crop after a resize that keeps the
            aspect ratio).
    """
    height, width = preprocess.size
    config: dict[str, Any] = {
        "IimageFormat": "RGB_PLANAR",
        "IimageWidth": width,
        "IimageHeight": height,
        "OimageWidth": width,
        "OimageHeight": height,
        "IimageWidthPitch": width,
        "IimageHeightPitch": height,
        "Mean": list(preprocess.mean),
        "Std": list(preprocess.std),
        "NormaType": _key_of(_NORMALISATIONS, preprocess.normalisation),
        "ColorCvtCode": "NO_CHANGE" if preprocess.colour == "rgb" else "RGB2BGR",
        "ResizeType": _key_of(_RESIZES, preprocess.interpolation),
    }
    if preprocess.fit == "pad" or (
        preprocess.fit == "crop" and not isinstance(preprocess.resize, tuple)
    ):
        raise ConfigError(
            f"vdsp parameters cannot describe fit {preprocess.fit} that keeps the aspect ratio; "
            "use squash or letterbox, or a crop after a resize to a fixed size"
        )
    op_type = _key_of(_OP_TYPES, preprocess.fit)
    if isinstance(preprocess.resize, tuple):
        inner = preprocess.resize
        config |= {"ResizeWidth": inner[1], "ResizeHeight": inner[0]}
        place = preprocess.place(*inner)
        top, left = round(place.rows.offset), round(place.columns.offset)
        if preprocess.fit == "crop":
            config |= {"CropX": -left, "CropY": -top}
        else:
            op_type += "_EXT"
            bottom, right = height - inner[0] - top, width - inner[1] - left
            config |= dict(zip(_SIDES, (top, bottom, left, right), strict=True))
    if preprocess.fit == "letterbox":
        config |= dict(zip(_FILL, preprocess.padding_value, strict=True))
    return {"OpType": op_type, "OpConfig": config}


def _formula(said: str, settings: dict[str, Any], name: str) -> Normalisation:
    """That of `NormaType`, unless the statistics are in another unit, which is told."""
    formula, notes = statistics.agreed(
        f"{name}: NormaType {said}",
        settings["mean"],
        settings["std"],
        divided=settings["normalisation"].startswith("div255"),
    )
    for note in notes:
        _log.warning("%s", note)
    return formula


def _colour(config: dict[str, Any]) -> str:
    image_format = str(config.get("IimageFormat", "RGB_PLANAR"))
    code = str(config.get("ColorCvtCode", "NO_CHANGE"))
    colour = _COLOURS.get((image_format[:3].upper(), code))
    if colour is None:
        raise ConfigError(
            f"OpConfig: IimageFormat {image_format!r} with ColorCvtCode {code!r}: expected RGB* "
            "with NO_CHANGE or RGB2BGR, or BGR* with NO_CHANGE or BGR2RGB"
        )
    return colour


def _choose(key: str, value: object, table: dict[str, Any]) -> Any:
    if value is None:
        raise ConfigError(f"{key} is missing: expected one of {', '.join(table)}")
    if not isinstance(value, str) or value not in table:
        raise ConfigError(f"{key} {value!r} is not supported{_nearest(str(value), table)}")
    return table[value]


def _nearest(word: str, known: Any) -> str:
    matches = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {matches[0]!r}?" if matches else f": expected one of {', '.join(known)}"


def _triple(config: dict[str, Any], key: str) -> tuple[float, float, float]:
    values = config.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
        raise ConfigError(f"OpConfig: {key} expected three numbers, got {values!r}")
    return (float(values[0]), float(values[1]), float(values[2]))


def _is_number(value: object) -> bool:
    """Whether it is one that fits into fp32."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e38


def _number(config: dict[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if not _is_number(value):
        raise ConfigError(f"OpConfig: {key} expected a number, got {value!r}")
    return float(value)


def _whole(config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"OpConfig: {key} expected a whole number of pixels, got {value!r}")
    return value


def _pair(config: dict[str, Any], first: str, second: str) -> tuple[int, int] | None:
    if first not in config and second not in config:
        return None
    return _whole(config, first), _whole(config, second)


def _required(config: dict[str, Any], first: str, second: str) -> tuple[int, int]:
    return _whole(config, first), _whole(config, second)


def _key_of(table: dict[str, Any], value: str) -> str:
    return next(key for key, known in table.items() if known == value)
