"""From an image to the tensor a network was trained on: the only implementation in the package.

A `Preprocess` travels inside the artefact, so training, calibration, evaluation, serving and the
benchmark all see the same pixels. Applying it also yields the `Placement` of the image in the
network input, which is all that is needed to carry a result back to the original pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from atrous import limits
from atrous.errors import ConfigError, InputError
from atrous.geometry import Axis
from atrous.record import Record
from atrous.resize import Interpolation, resized
from atrous.zoo import IMAGENET_MEAN, IMAGENET_STD

Fit = Literal["squash", "crop", "letterbox", "pad"]
Normalisation = Literal[
    "div255-mean-std",  # (x / 255 - mean) / std
    "mean-std",  # (x - mean) / std
    "div255",  # x / 255
    "div127.5-minus-one",  # x / 127.5 - 1
    "none",  # x
]
Triple = tuple[float, float, float]
Tensor = NDArray[np.float32] | NDArray[np.uint8]
Pixels = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image came to lie in the network input.

    Attributes:
        rows: for every row of the image the row of the network input that shows it.
        columns: the same for the columns.
        seen: rows and columns of the image, `(top, bottom, left, right)`, that the network input
            shows; pixels outside were cropped away and have no result.
    """

    rows: Axis
    columns: Axis
    seen: tuple[int, int, int, int]


class Preprocess(Record):
    """How an image becomes the network input.

    Attributes:
        size: height and width of the network input, pixels.
        fit: `squash` resizes to `size` whatever the aspect ratio; `crop` resizes the short side to
            `resize` (by default the short side of `size`) and cuts the centre out; `letterbox`
            resizes to fit inside and pads both sides; `pad` shrinks only if the image is larger
            than `size`, and pads at the bottom and at the right.
        interpolation: library and kind of the resize. Pillow's kinds smooth when they shrink,
            OpenCV's do not; they are not interchangeable.
        colour: channel order of the tensor.
        normalisation: the formula applied to the 0–255 values.
        mean: per channel of the tensor, in the unit that `normalisation` implies.
        std: like `mean`.
        padding: per channel of the tensor, 0–255 before normalisation; `None` pads with the mean,
            which is zero after normalisation.
        resize: for `crop`, the length that the short side is resized to; for `crop` and
            `letterbox`, `(height, width)` to resize to whatever the aspect ratio.
        origin: `(top, left)` of the crop in the resized image, or of the letterboxed image in the
            padded one; `None` centres.
        value_range: the stored values of a file that are black and white, see `Taking`; `None`
            leaves it to the depth that files declare.
    """

    size: tuple[Pixels, Pixels] = (513, 513)
    fit: Fit = "squash"
    interpolation: Interpolation = "opencv-bilinear"
    colour: Literal["rgb", "bgr"] = "rgb"
    normalisation: Normalisation = "div255-mean-std"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    padding: Triple | None = None
    resize: Pixels | tuple[Pixels, Pixels] | None = None
    origin: tuple[int, int] | None = None
    value_range: tuple[float, float] | None = None

    @model_serializer(mode="wrap")
    def _lean(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a range that nobody names, as before there was one."""
        found: dict[str, Any] = whole(self)
        if self.value_range is None:
            found.pop("value_range", None)
        return found

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if any(not value > 0 for value in self.std):
            raise ValueError(f"std must be positive, found {self.std}")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range must be low and high, found {self.value_range}")
        if self.resize is not None and self.fit not in ("crop", "letterbox"):
            raise ValueError(f"resize belongs to fit crop or letterbox, found fit {self.fit}")
        if self.fit == "letterbox" and isinstance(self.resize, int):
            raise ValueError("fit letterbox takes resize as (height, width), found one number")
        if self.origin is not None and self.fit not in ("crop", "letterbox"):
            raise ValueError(f"origin belongs to fit crop or letterbox, found fit {self.fit}")
        if self.fit == "crop" and isinstance(self.resize, int) and self.resize < max(self.size):
            raise ValueError(f"a crop of {self.size} does not fit into a short side {self.resize}")
        if isinstance(self.resize, tuple):
            inner, outer = (self.resize, self.size)[:: -1 if self.fit == "crop" else 1]
            corner = self.origin or (0, 0)
            if any(not 0 <= at <= o - i for at, o, i in zip(corner, outer, inner, strict=True)):
                raise ValueError(f"{inner} at {corner} does not fit into {outer}")
        return self

    @classmethod
    def from_dict(cls, data: object) -> Preprocess:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a field is unknown or its value does not fit.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "value"
            raise ConfigError(f"preprocess: {where}: {first['msg']}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return self.model_dump(mode="json")

    def with_size(self, height: int, width: int) -> Preprocess:
        """The same preprocessing for another network input size."""
        return self.model_copy(update={"size": (height, width)})

    def place(self, height: int, width: int) -> Placement:
        """Where an image of `height` × `width` pixels lies in the network input."""
        (inner_height, inner_width), (top, left) = self.layout(height, width)
        rows, seen_rows = _shifted(height, inner_height, top, self.size[0])
        columns, seen_columns = _shifted(width, inner_width, left, self.size[1])
        return Placement(rows, columns, (*seen_rows, *seen_columns))

    def empty(self, dtype: str) -> Tensor:
        """`(3, height, width)` of `dtype`, float32 or uint8, to be written into."""
        return np.empty((3, *self.size), dtype)

    @overload
    def __call__(
        self, image: NDArray[np.uint8], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]: ...
    @overload
    def __call__(self, image: NDArray[np.uint8], out: Tensor) -> Tensor: ...
    def __call__(self, image: NDArray[np.uint8], out: Tensor | None = None) -> Tensor:
        """Turn one image into the network input.

        Args:
            image: `(H, W, 3)` uint8, RGB.
            out: `(3, height, width)` to write into, contiguous: float32; or uint8 for a network
                that normalises in its graph, with normalisation `none`. `None` for a new float32.

        Returns:
            `out`, channels in the order of `colour`, normalised.

        Raises:
            InputError: `image` is not of that shape or dtype, or is empty.
            ConfigError: `out` is uint8 and cannot hold what these settings make.
        """
        if not isinstance(image, np.ndarray):  # of a picture of Pillow's, or a path
            raise InputError(
                f"image: expected an array, uint8 (height, width, 3), got {type(image).__name__}; "
                "`atrous.image.read` reads a file, `numpy.asarray` takes a picture of Pillow's"
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f"image: expected uint8 (height, width, 3), got {image.dtype} {image.shape}"
            )
        inner, (top, left) = self.layout(*image.shape[:2])
        height, width = self.size
        bottom, right = top + inner[0], left + inner[1]
        rows, columns = seen(inner[0], top, height), seen(inner[1], left, width)
        visible = resized(image, inner, self.interpolation, rows, columns)
        if out is None:
            out = self.empty("float32")
        tables, padding = self._values(out.dtype == np.uint8)
        target = out
        if top > 0 or left > 0 or bottom < height or right < width:
            out[:] = padding
            target = out[:, max(0, top) : bottom, max(0, left) : right]
        for channel, table in enumerate(tables):
            source = channel if self.colour == "rgb" else 2 - channel
            # OpenCV writes into a contiguous plane; a padded one is copied in.
            plane = cv2.LUT(np.ascontiguousarray(visible[:, :, source]), table)
            target[channel] = plane
        return out

    def check_uint8(self) -> None:
        """Raise `ConfigError` unless every value that these settings make is one of uint8."""
        if self.normalisation != "none":
            raise ConfigError(
                f"the network takes uint8 and normalises itself: expected normalisation none, "
                f"found {self.normalisation}"
            )
        if any(not 0 <= value <= 255 or value % 1 for value in self.padding_value):
            raise ConfigError(
                f"the network takes uint8: expected whole numbers 0–255 as padding, found "
                f"{self.padding_value}"
            )

    def _values(self, raw: bool) -> tuple[Tensor, Tensor]:
        """`(3, 256)` value of every 8-bit value, `(3, 1, 1)` padding; uint8 if `raw`, else float32.

        Raises:
            ConfigError: uint8 does not hold them.
        """
        if not raw:
            return self._tables, self._padding
        self.check_uint8()
        return np.tile(np.arange(256, dtype=np.uint8), (3, 1)), self._padding.astype(np.uint8)

    @cached_property
    def _tables(self) -> NDArray[np.float32]:
        """`(3, 256)` float32: the normalised value of every 8-bit value, per tensor channel."""
        return self._normalised(np.tile(np.arange(256, dtype=np.float32), (3, 1)))

    @property
    def padding_value(self) -> Triple:
        """Value of the padded pixels, 0–255 before normalisation, per channel of the tensor."""
        if self.padding is not None:
            return self.padding
        if self.normalisation == "div255-mean-std":
            return (255 * self.mean[0], 255 * self.mean[1], 255 * self.mean[2])
        return self.mean if self.normalisation == "mean-std" else (0.0, 0.0, 0.0)

    @cached_property
    def _padding(self) -> NDArray[np.float32]:
        """`(3, 1, 1)` float32: the normalised padding; exactly zero where it is the mean."""
        if self.padding is None and self.normalisation.endswith("mean-std"):
            return np.zeros((3, 1, 1), np.float32)
        return self._normalised(np.array(self.padding_value, np.float32)[:, None])[:, :, None]

    def _normalised(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise `(3, N)` values in float32, operation by operation as the frameworks do it."""
        mean = np.array(self.mean, np.float32)[:, None]
        std = np.array(self.std, np.float32)[:, None]
        match self.normalisation:
            case "div255-mean-std":
                return (values / np.float32(255) - mean) / std
            case "mean-std":
                return (values - mean) / std
            case "div255":
                return values / np.float32(255)
            case "div127.5-minus-one":
                return values / np.float32(127.5) - np.float32(1)
            case "none":
                return values

    def layout(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size an image is resized to, and where its top left corner lies in the network input."""
        tall, wide = self.size
        match self.fit:
            case "squash":
                return (tall, wide), (0, 0)
            case "crop":
                if isinstance(self.resize, tuple):
                    inner = self.resize
                else:
                    # torchvision's rule: the long side is cut to a whole number, not rounded.
                    short = self.resize or max(tall, wide)
                    by = min(height, width)
                    inner = short * height // by, short * width // by
                limits.check(
                    3 * inner[0] * inner[1],
                    f"an image of {width}×{height}",
                    f"enlarging it to {inner[1]}×{inner[0]} for a crop",
                )
                top, left = self.origin or _half(inner[0] - tall, inner[1] - wide)
                return inner, (-top, -left)
            case "letterbox":
                inner = (
                    self.resize
                    if isinstance(self.resize, tuple)
                    else _scaled(height, width, min(tall / height, wide / width))
                )
                return inner, self.origin or ((tall - inner[0]) // 2, (wide - inner[1]) // 2)
            case "pad":
                inner = _scaled(height, width, min(1.0, tall / height, wide / width))
                return inner, (0, 0)


def seen(inner: int, corner: int, extent: int) -> tuple[int, int]:
    """Of an axis resized to `inner`, what shows of it in `extent` pixels where it is put."""
    return max(0, -corner), min(inner, extent - corner)


def usual_normalisation(*, raw: bool, grey: bool) -> tuple[Normalisation, str]:
    """What is assumed of a network that does not say how its images were prepared.

    Args:
        raw: it takes whole numbers of 0–255.
        grey: it sees one channel, of which ImageNet has no statistics.

    Returns:
        the normalisation, and what it is called in a note.
    """
    if raw:
        return "none", "0–255 as uint8"
    return ("div255", "0–1") if grey else ("div255-mean-std", "ImageNet mean and std")


def _half(rows: int, columns: int) -> tuple[int, int]:
    return round(rows / 2), round(columns / 2)


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shifted(image: int, inner: int, corner: int, extent: int) -> tuple[Axis, tuple[int, int]]:
    """The axis of an image resized to `inner` and put at `corner` of the input, and what shows."""
    # Positions run the other way than in a resize of the image: image pixel → input position.
    back = Axis.resized(inner, image)
    axis = Axis(image, back.scale, back.offset + corner)
    positions = axis.scale * np.arange(image) + axis.offset
    shown = np.flatnonzero((positions >= -0.5) & (positions <= extent - 0.5))
    seen = (int(shown[0]), int(shown[-1]) + 1) if shown.size else (0, 0)
    return axis, seen
