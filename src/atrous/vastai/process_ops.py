"""Preprocessing as a compile file writes it: a list of steps, turned into a `Preprocess`.

The steps have the names, parameters and defaults of mmclassification's pipelines. Images are
decoded as RGB, statistics are those of the channels at that point of the list, and `Normalize`
divides by 255 unless it says otherwise, as the files of VastModelZOO presuppose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from atrous.errors import ConfigError
from atrous.preprocess import Preprocess
from atrous.record import Record
from atrous.resize import Interpolation
from atrous.vastai import statistics

WHERE = "dataset.process_ops"


def _pair(value: object) -> object:
    return [value, value] if isinstance(value, int) else value


def _triple(value: object) -> object:
    return [value] * 3 if isinstance(value, int | float) else value


def _null(value: object) -> object:
    # `None` is how files spell it that were written in Python; for YAML that is a word.
    return None if value == "None" else value


Library = Literal["opencv", "cv2", "pillow", "pil"]
_PairOfInts = Annotated[tuple[StrictInt, StrictInt], BeforeValidator(_pair)]
_ThreeFloats = Annotated[tuple[float, float, float], BeforeValidator(_triple)]


class _Op(Record):
    """One step; `unused` names the parameters that do nothing here."""

    unused: ClassVar[tuple[str, ...]] = ()


class DecodeImage(_Op):
    """Read a file as RGB, 0–255; `cv2_flags` 1 is colour, the only kind there is here."""

    unused = ("backend",)

    type: Literal["DecodeImage"]
    cv2_flags: Literal[1] = 1
    backend: Library = "opencv"


class CvtColor(_Op):
    """Turn the order of the channels round."""

    type: Literal["CvtColor"]
    code: Literal["COLOR_RGB2BGR", "COLOR_BGR2RGB"]


class Resize(_Op):
    """Resize to `(height, width)`, or `(N, -1)`: one side to N, keeping the aspect ratio."""

    type: Literal["Resize"]
    size: _PairOfInts
    adaptive_side: Literal["short", "long", "height", "width"] = "short"
    interpolation: Literal["bilinear", "bicubic", "nearest", "area", "lanczos"] = "bilinear"
    backend: Library = "opencv"

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.size[0] < 1 or (self.size[1] < 1 and self.size[1] != -1):
            raise ValueError(f"size: expected [height, width] or [N, -1], found {list(self.size)}")
        return self


class CenterCrop(_Op):
    """Cut `(height, width)` out of the centre."""

    unused = ("backend",)

    type: Literal["CenterCrop"]
    crop_size: _PairOfInts
    backend: Library = "opencv"

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size: expected pixels, found {list(self.crop_size)}")
        return self


class Pad(_Op):
    """Pad with black at the bottom or at the right until the image is square."""

    type: Literal["Pad"]
    pad_to_square: StrictBool = False


class ChannelSplit(_Op):
    """Keep one channel; known so that it can be refused."""

    type: Literal["ChannelSplit"]
    index: StrictInt = 0


class Normalize(_Op):
    """Divide by 255 if `div255`, then by `(x - mean) / std` unless `norm_type` is null."""

    type: Literal["Normalize"]
    mean: _ThreeFloats | None = None
    std: _ThreeFloats | None = None
    div255: StrictBool = True
    norm_type: Annotated[Literal["mean_std"] | None, BeforeValidator(_null)] = "mean_std"


class ToTensor(_Op):
    """Height, width, channel → channel, height, width; values stay as they are."""

    type: Literal["ToTensor"]


ProcessOp = Annotated[
    DecodeImage | CvtColor | Resize | CenterCrop | Pad | ChannelSplit | Normalize | ToTensor,
    Field(discriminator="type"),
]

STEPS: dict[str, type[_Op]] = {
    step.__name__: step
    for step in (DecodeImage, CvtColor, Resize, CenterCrop, Pad, ChannelSplit, Normalize, ToTensor)
}
"""Every step by its `type`."""

# A `Preprocess` does these in this order; the channels may be turned round anywhere before the
# statistics.
_ORDER = ("DecodeImage", "Resize", "CenterCrop", "Pad", "Normalize", "ToTensor")


def convert(steps: Sequence[ProcessOp]) -> tuple[Preprocess, tuple[str, ...]]:
    """Say the same as a `Preprocess`.

    Args:
        steps: as the file lists them.

    Returns:
        The preprocessing, and what had to be decided, one sentence each.

    Raises:
        ConfigError: the steps describe what a `Preprocess` cannot do; names the step.
    """
    _check_order(steps)
    # `Pad` that does not pad is as good as none.
    found = {step.type: step for step in steps if not (isinstance(step, Pad) and _idle(step))}
    at: dict[str, int] = {step.type: index for index, step in enumerate(steps)}
    if split := found.get("ChannelSplit"):
        _fail(at, split.type, "keeps one channel, but networks here take three; remove it")
    settings, notes = _normalisation(at, found.get("Normalize"))
    settings |= _geometry(at, found.get("Resize"), found.get("CenterCrop"), found.get("Pad"))
    settings["colour"] = _colour(steps)
    try:
        return Preprocess.from_dict(settings), notes
    except ConfigError as error:
        text = str(error).removeprefix("preprocess: value: Value error, ")
        raise ConfigError(f"{WHERE}: {text}") from None


def _idle(step: Pad) -> bool:
    return not step.pad_to_square


def _fail(at: dict[str, int], kind: str, message: str) -> NoReturn:
    raise ConfigError(f"{WHERE}[{at[kind]}] {kind}: {message}")


def _check_order(steps: Sequence[ProcessOp]) -> None:
    highest = ""
    for index, step in enumerate(steps):
        kind, where = step.type, f"{WHERE}[{index}] {step.type}"
        if kind in ("CvtColor", "ChannelSplit"):
            if highest in ("Normalize", "ToTensor"):
                raise ConfigError(f"{where}: comes after {highest}; move it before")
            continue
        if kind == highest:
            raise ConfigError(f"{where}: occurs twice; keep one")
        if highest and _ORDER.index(kind) < _ORDER.index(highest):
            raise ConfigError(
                f"{where}: comes after {highest}; expected the order {', '.join(_ORDER)}"
            )
        highest = kind


def _colour(steps: Sequence[ProcessOp]) -> str:
    order = "rgb"
    for index, step in enumerate(steps):
        if isinstance(step, CvtColor):
            before, after = step.code.removeprefix("COLOR_").lower().split("2")
            if before != order:
                raise ConfigError(
                    f"{WHERE}[{index}] CvtColor: code {step.code} expects {before.upper()}, but "
                    f"the image is {order.upper()} there (it is decoded as RGB); remove the step "
                    f"if the network wants {order.upper()}"
                )
            order = after
    return order


def _geometry(at: dict[str, int], resize: Any, crop: Any, pad: Any) -> dict[str, Any]:
    """Fields `fit`, `size`, `interpolation`, `resize`, `origin` and `padding`."""
    if resize is None:
        first = crop or pad
        where = f"{WHERE}[{at[first.type]}] {first.type}" if first else WHERE
        raise ConfigError(f"{where}: images come in any size; put a Resize before")
    settings: dict[str, Any] = {"interpolation": _interpolation(at, resize)}
    if crop and pad:
        _fail(at, "Pad", "follows CenterCrop; crop to the size of the network instead")
    (height, width), side = resize.size, resize.adaptive_side
    if width != -1:
        if crop:
            return settings | {"fit": "crop", "size": crop.crop_size, "resize": (height, width)}
        if pad and height != width:
            square = {"fit": "letterbox", "size": (max(height, width),) * 2, "padding": (0, 0, 0)}
            return settings | square | {"resize": (height, width), "origin": (0, 0)}
        return settings | {"fit": "squash", "size": (height, width)}
    if crop and side == "short":
        return settings | {"fit": "crop", "size": crop.crop_size, "resize": height}
    if pad and side == "long":
        square = {"fit": "letterbox", "size": (height, height), "padding": (0, 0, 0)}
        return settings | square | {"origin": (0, 0)}
    _fail(
        at,
        "Resize",
        f"size [{height}, -1] on the {side} side leaves images of differing size; use [height, "
        "width], [N, -1] on the short side before CenterCrop, or [N, -1] on the long side before "
        "Pad with pad_to_square",
    )


def _interpolation(at: dict[str, int], resize: Resize) -> Interpolation:
    pillow = resize.backend in ("pillow", "pil")
    match resize.interpolation:
        case "bilinear":
            return "pillow-bilinear" if pillow else "opencv-bilinear"
        case "bicubic":
            return "pillow-bicubic" if pillow else "opencv-bicubic"
        case other:
            _fail(at, "Resize", f"interpolation {other}: expected bilinear or bicubic")


def _normalisation(at: dict[str, int], step: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields `normalisation`, `mean` and `std`, and what had to be decided."""
    if step is None:
        raw = f"{WHERE} has no Normalize: the network gets values of 0–255"
        return {"normalisation": "none"}, (raw,)
    where = f"{WHERE}[{at[step.type]}] Normalize"
    if step.norm_type is None:
        unread = f"{where}: norm_type is null, so mean and std are not used"
        said = () if step.mean is None and step.std is None else (unread,)
        return {"normalisation": "div255" if step.div255 else "none"}, said
    if step.mean is None or step.std is None:
        lacking = "mean" if step.mean is None else "std"
        _fail(at, step.type, f"{lacking} is missing; add it, or norm_type: null to do without")
    if min(step.std) <= 0:
        _fail(at, step.type, f"std: expected positive numbers, found {list(step.std)}")
    formula, notes = statistics.agreed(where, step.mean, step.std, divided=step.div255)
    return {"normalisation": formula, "mean": step.mean, "std": step.std}, notes
