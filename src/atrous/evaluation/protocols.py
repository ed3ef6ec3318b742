"""Which pixels are compared: every accuracy names one of these.

`N` is a number of pixels, 513 in VastModelZOO's and the reference's tables.

* `center-crop-N`: image by Pillow bilinear, label by nearest, short side → N, both cropped at
  `round((size - N) / 2)`. The reference's column.
* `squash-N`: image by OpenCV bilinear, label by nearest → N×N. VastModelZOO's deployment column.
* `pad-N`: no resize unless the longer side exceeds N; padded at the bottom and right with the mean,
  or with the padding that a model names which normalises in its graph; only the unpadded part is
  scored.
* `native`: the squashed input of the model's own size; logits enlarged once to the original size
  and scored against the original label. PASCAL VOC's official way.
* `slide-N`: original size; windows of N at a stride of two thirds of N, mean-padded, their logits
  averaged; scored at the original size.
* `tile-N-OVERLAP`: original size; tiles of N, blended as `atrous predict --tile` does;
  scored at the original size.
* `whole`: no resize at all; for models of free size.

Labels are resized by Pillow's NEAREST; OpenCV's picks other pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atrous import upsample
from atrous.artifact import Metadata
from atrous.engines.dry_run import Fitting
from atrous.errors import ConfigError
from atrous.geometry import Axis
from atrous.jobs.large import tiles
from atrous.preprocess import Preprocess, seen
from atrous.resize import resized
from atrous.runtime.predictor import Predictor

Pixels = NDArray[np.uint8]
Logits = NDArray[np.float32]
Kind = Literal["center-crop", "squash", "pad", "native", "slide", "tile", "whole"]

FORMS = "center-crop-N, squash-N, pad-N, native, slide-N, tile-N-OVERLAP or whole, as squash-513"


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to score an image.

    Attributes:
        kind: see the module.
        side: N, or `None` where the name has none.
        scales: the input is also seen at these scales and the logits averaged; needs a model of
            free size unless it is `(1.0,)`.
        flip: the mirrored input is seen too.
        overlap: of tiles, as a share of their side.
        trimap: pixels farther than this from a border of the label are not scored; 0 scores all.
    """

    kind: Kind
    side: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    overlap: float | None = None
    trimap: int = 0

    @classmethod
    def parse(
        cls, text: str, scales: tuple[float, ...] = (1.0,), flip: bool = False, trimap: int = 0
    ) -> Protocol:
        """Read a name such as `squash-513`.

        Raises:
            ConfigError: it is none of the forms of this module, or the scales do not fit it.
        """
        match = re.fullmatch(
            r"(center-crop|squash|pad|slide)-(\d+)|(tile)-(\d+)-(\d(?:\.\d+)?)|(native|whole)", text
        )
        side = int(match[2] or match[4] or 0) if match else 0
        if match is None or (match[6] is None and not side):
            raise ConfigError(f"protocol {text!r}: expected {FORMS}")
        kind: Kind = match[1] or match[3] or match[6]  # type: ignore[assignment]
        if not scales or any(not 0 < scale <= 4 for scale in scales):
            raise ConfigError(f"scales: expected numbers over 0 and up to 4, got {scales}")
        if scales != (1.0,) and kind not in ("native", "whole"):
            raise ConfigError(f"several scales belong to native or whole, not to {text}")
        if trimap < 0:
            raise ConfigError(f"trimap: expected pixels, or 0 to score all, got {trimap}")
        overlap = None
        if kind == "tile":
            overlap = float(match[5])
            tiles.check(side, overlap)
            if flip:
                raise ConfigError(f"flip does not belong to {text}")
        return cls(kind, side or None, scales, flip, overlap, trimap)

    @property
    def name(self) -> str:
        """As it is stamped on results, `squash-513` or `whole+scales-0.5-1+flip`."""
        name = f"{self.kind}-{self.side}" if self.side else self.kind
        if self.overlap is not None:
            name += f"-{self.overlap:g}"
        if self.scales != (1.0,):
            name += "+scales-" + "-".join(f"{scale:g}" for scale in self.scales)
        name += "+flip" * self.flip
        return name + f"+trimap-{self.trimap}" * bool(self.trimap)

    def at(self, fitting: Fitting) -> str:
        """The same protocol at a size that a network takes, for messages."""
        if self.side is None:
            return f"`size` {fitting.shown}"
        return f"protocol {replace(self, side=max(fitting.size)).name}"

    def preprocess(self, own: Preprocess) -> Preprocess:
        """The model's own normalisation with this protocol's geometry.

        Args:
            own: the preprocessing that the model carries.
        """
        # A model that normalises in its graph does not say its mean; its padding comes nearest.
        padding = own.padding if own.normalisation == "none" else None
        geometry: dict[str, object] = {"resize": None, "origin": None, "padding": padding}
        if self.side:
            geometry["size"] = (self.side, self.side)
        match self.kind:
            case "center-crop":
                geometry |= {"fit": "crop", "interpolation": "pillow-bilinear"}
            case "squash" | "native":
                geometry |= {"fit": "squash", "interpolation": "opencv-bilinear"}
            case "pad" | "slide" | "tile" | "whole":
                geometry |= {"fit": "pad", "interpolation": "opencv-bilinear"}
        return own.model_copy(update=geometry)

    def truth(self, label: Pixels, preprocess: Preprocess) -> Pixels:
        """The label as it is compared: at the input's size, or the original one.

        Args:
            label: `(H, W)` uint8 class ids at the size of the image.
            preprocess: as `preprocess` returned it.

        Returns:
            `(H', W')` uint8, the shape of the class map that `predict` returns.
        """
        if self.kind in ("native", "slide", "tile", "whole"):
            return label
        (inner, (top, left)) = preprocess.layout(*label.shape)
        height, width = preprocess.size
        rows, columns = seen(inner[0], top, height), seen(inner[1], left, width)
        return resized(label, inner, "nearest", rows, columns)

    def predict(self, predictor: Predictor, image: Pixels) -> Scored:
        """Segment one image the way the protocol says.

        Args:
            predictor: the network with its own preprocessing, of which the normalisation counts.
            image: `(H, W, 3)` uint8 RGB.

        Raises:
            ConfigError: the model takes another size.
            EngineError: the engine failed.
        """
        preprocess = self.preprocess(predictor.preprocess)
        if self.kind == "whole":
            preprocess = preprocess.with_size(*image.shape[:2])
        predictor = predictor.seeing(preprocess)
        if self.kind == "slide":
            return self._slide(predictor, image)
        if self.kind == "tile":
            return self._tiles(predictor, image)
        if self.scales != (1.0,):
            return self._several_scales(predictor, image)
        grid, finite = self._run(predictor, image)
        if self.kind in ("native", "whole"):
            placement = preprocess.place(*image.shape[:2])
            rows, columns = placement.rows, placement.columns
        else:
            inner, (top, left) = preprocess.layout(*image.shape[:2])
            height, width = preprocess.size
            rows, columns = Axis(min(height, inner[0] + top)), Axis(min(width, inner[1] + left))
        rows, columns = _on_grid(predictor, grid, rows, columns)
        return Scored(upsample.argmax(grid, rows, columns), finite)

    def _run(self, predictor: Predictor, image: Pixels) -> tuple[Logits, bool]:
        """`(C, h, w)` logits of one image, averaged with those of its mirror image if so asked."""
        tensor, _ = predictor.prepare(image)
        [grid] = predictor.logits([tensor])
        if self.flip:
            [mirrored] = predictor.logits([tensor[:, :, ::-1].copy()])
            grid = (grid + mirrored[:, :, ::-1]) / np.float32(2)
        return grid, bool(np.isfinite(grid).all())

    def _several_scales(self, predictor: Predictor, image: Pixels) -> Scored:
        own = predictor.preprocess
        total: Logits | None = None
        finite = True
        for scale in self.scales:
            size = tuple(max(1, round(side * scale)) for side in own.size)
            scaled = predictor.seeing(own.model_copy(update={"size": size, "fit": "squash"}))
            grid, fine = self._run(scaled, image)
            place = scaled.preprocess.place(*image.shape[:2])
            logits = upsample.enlarge(grid, *_on_grid(scaled, grid, place.rows, place.columns))
            total = logits if total is None else total + logits
            finite &= fine
        assert total is not None
        return Scored(total.argmax(0).astype(np.uint8), finite)

    def _slide(self, predictor: Predictor, image: Pixels) -> Scored:
        side = predictor.preprocess.size[0]
        height, width = image.shape[:2]
        tops, lefts = starts(height, side), starts(width, side)
        total: Logits | None = None
        finite = True
        for top in tops:
            for left in lefts:
                window = image[top : top + side, left : left + side]
                grid, fine = self._run(predictor, np.ascontiguousarray(window))
                finite &= fine
                axes = Axis(window.shape[0]), Axis(window.shape[1])
                rows, columns = _on_grid(predictor, grid, *axes)
                if len(tops) == len(lefts) == 1:
                    return Scored(upsample.argmax(grid, rows, columns), finite)
                if total is None:
                    total = np.zeros((len(grid), height, width), np.float32)
                    count = np.zeros((height, width), np.float32)
                area = (slice(top, top + side), slice(left, left + side))
                total[:, *area] += upsample.enlarge(grid, rows, columns)
                count[area] += 1
        assert total is not None
        total /= count
        return Scored(total.argmax(0).astype(np.uint8), finite)

    def _tiles(self, predictor: Predictor, image: Pixels) -> Scored:
        assert self.side is not None
        assert self.overlap is not None
        found = tiles.segment(
            predictor, tiles.ArrayRaster(image), side=self.side, overlap=self.overlap
        )
        return Scored(np.concatenate(list(found)), True)


def own_protocol(known: Metadata | None, preprocess: Preprocess) -> str:
    """The name of the protocol that a model is scored under where nobody names one.

    It is that of its training run; without, the image is squashed to the size of its input.

    Args:
        known: what the model says of itself.
        preprocess: with the size of its input.
    """
    if known is not None and known.protocol:
        return known.protocol
    height, width = preprocess.size
    return f"squash-{height}" if height == width else "native"


@dataclass(frozen=True, slots=True)
class Scored:
    """A class map to compare, and whether all logits were numbers.

    Attributes:
        class_map: `(H, W)` uint8.
        finite: no logit was NaN or infinite.
    """

    class_map: Pixels
    finite: bool


def _on_grid(predictor: Predictor, grid: Logits, rows: Axis, columns: Axis) -> tuple[Axis, Axis]:
    """Carry axes over the network input on to the logit grid."""
    size = predictor.preprocess.size
    return predictor.engine.signature.on_grid(grid, size, rows, columns)


def starts(extent: int, side: int) -> list[int]:
    """Where the windows of `slide` begin: every two thirds of a window, the last at the end."""
    stride = -(-side * 2 // 3)
    last = max(0, extent - side)
    return [*range(0, last, stride), last]
