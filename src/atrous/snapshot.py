"""What the configuration in a snapshot of Hugging Face's hub means: classes and preprocessing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous import hub
from atrous.errors import ArtifactError, ConfigError, InputError
from atrous.labels import LABEL_SETS, LabelSet, interleaved_colour
from atrous.preprocess import Preprocess

_log = logging.getLogger("atrous")

_BYTE = 1 / 255
_RESAMPLE = {2: "pillow-bilinear", 3: "pillow-bicubic"}
"""Pillow's numbers of the kinds that are here; others are taken for the first, which is said."""


def labels(model: Path) -> LabelSet | None:
    """The classes that `config.json` beside a model names, `None` where it names none.

    Args:
        model: the ONNX file or checkpoint.

    Raises:
        ArtifactError: they are not numbered from 0, or are no classes of a mask.
    """
    path = hub.beside(model, hub.CONFIG)
    names = hub.configuration(path).get("id2label")
    if not isinstance(names, Mapping) or not names:
        return None
    ids = {str(index) for index in range(len(names))}
    if set(names) != ids:
        raise ArtifactError(
            f"{path}: expected id2label to number its {len(names)} classes from 0, found "
            f"{', '.join(sorted(names)[:5])}, …"
        )
    ordered = tuple(str(names[str(index)]) for index in range(len(names)))
    for known in LABEL_SETS.values():
        if ordered == known.names:
            return known
    colours = tuple(map(interleaved_colour, range(len(ordered))))
    try:
        return LabelSet(path.resolve().parent.name, ordered, colours)
    except InputError as error:
        raise ArtifactError(f"{path}: id2label: {error}") from None


def preprocess(
    model: Path, size: tuple[int | None, int | None] = (None, None)
) -> Preprocess | None:
    """How `preprocessor_config.json` beside a model prepares pictures, `None` without one.

    Args:
        model: the ONNX file or checkpoint.
        size: height and width of the network's input, `None` where they are free.

    Raises:
        ArtifactError: it describes what cannot be done.
    """
    path = hub.beside(model, hub.PROCESSOR)
    settings = hub.processor(path)
    if not settings or not hub.configuration(hub.beside(model, hub.CONFIG)):
        return None
    try:
        fields = {**_geometry(settings), **_values(settings)}
        kind = settings.get("resample", 2)
        if settings.get("do_resize", True) and kind not in _RESAMPLE:
            _log.warning(
                "%s: resample %s: expected 2 (bilinear) or 3 (bicubic): using bilinear", path, kind
            )
        made = Preprocess.from_dict(fields)
        height, width = size[0] or made.size[0], size[1] or made.size[1]
        if (height, width) != made.size:
            _log.warning(
                "%s says %d×%d, the network takes %d×%d: using the latter",
                path, *made.size, height, width,
            )  # fmt: skip
            fields["size"] = (height, width)
            if isinstance(resize := fields.get("resize"), int):
                fields["resize"] = max(resize, height, width)
            elif resize is not None:
                fields["resize"] = (max(resize[0], height), max(resize[1], width))
            made = Preprocess.from_dict(fields)
    except (ConfigError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise ArtifactError(f"{path}: cannot be followed: {error}; `preprocess` says it") from None
    return made


def _geometry(settings: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "interpolation": _RESAMPLE.get(settings.get("resample", 2), _RESAMPLE[2])
    }
    size = settings.get("size") if settings.get("do_resize", True) else None
    short = size.get("shortest_edge") if isinstance(size, Mapping) else None
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    if crop is not None:
        tall, wide = _pair(crop)
        fields |= {"fit": "crop", "size": (tall, wide)}
        if short is not None:
            fields["resize"] = max(int(short), tall, wide)
        elif size is not None:
            fields["resize"] = _pair(size)
        return fields
    if short is not None:
        return fields | {"fit": "letterbox", "size": (int(short), int(short))}
    if size is not None:
        fields["size"] = _pair(size)
    return fields


def _pair(size: object) -> tuple[int, int]:
    if isinstance(size, Mapping):
        if not {"height", "width"} <= size.keys():
            raise ValueError(f"expected a size of height and width, found {json.dumps(dict(size))}")
        return int(size["height"]), int(size["width"])
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[-1])
    return int(size), int(size)  # type: ignore[call-overload]


def _values(settings: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if settings.get("do_flip_channel_order"):
        fields["colour"] = "bgr"
    factor = float(settings.get("rescale_factor", _BYTE)) if settings.get("do_rescale", True) else 1
    normalise = settings.get("do_normalize", "image_mean" in settings)
    mean = _triple(settings.get("image_mean", 0.0)) if normalise else (0.0,) * 3
    std = _triple(settings.get("image_std", 1.0)) if normalise else (1.0,) * 3
    if abs(factor - _BYTE) < 1e-9:
        kind = "div255-mean-std" if normalise else "div255"
        return fields | ({"normalisation": kind, "mean": mean, "std": std} if normalise else
                         {"normalisation": kind})  # fmt: skip
    if factor == 1 and not normalise:
        return fields | {"normalisation": "none"}
    # (x · factor - mean) / std with the factor drawn into both.
    return fields | {
        "normalisation": "mean-std",
        "mean": tuple(value / factor for value in mean),
        "std": tuple(value / factor for value in std),
    }


def _triple(value: object) -> tuple[float, float, float]:
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3 or None in values:
        raise ValueError(f"expected a number for each of three channels, found {json.dumps(value)}")
    red, green, blue = map(float, values)
    return red, green, blue
