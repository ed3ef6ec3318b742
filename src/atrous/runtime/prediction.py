"""What the network said about one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous import image, upsample
from atrous import regions as pieces
from atrous.engines.meaning import Activation
from atrous.errors import InputError
from atrous.files import write_atomic
from atrous.formatting import as_percent
from atrous.geometry import Axis
from atrous.labels import LabelSet, generic
from atrous.palette import OPACITY
from atrous.pictures.samples import Picture
from atrous.regions import Region

_JPEG = (".jpg", ".jpeg")
_BAND = 1 << 22
"""Scores that are enlarged at once where all of them at once are not wanted."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Prediction:
    """What the network said about one image.

    The class map is made by one enlargement of the logit grid straight to the image's size.
    Pixels that the preprocessing cropped away, or that have no data, hold the ignore index.

        prediction = predictor("photograph.jpg")
        prediction.shares()            # {"cat": 0.62, "background": 0.38}
        prediction.save("seen.jpg")    # to look at; "mask.png" has the class ids

    Attributes:
        grid: `(C, h, w)` float32 logits as the network made them.
        rows: for every row of the image its position on the grid.
        columns: the same for the columns.
        seen: rows and columns of the image that the network saw, `(top, bottom, left, right)`.
        ignore_index: value of the pixels it did not see.
        activation: what makes probabilities of the scores.
        label_set: names and colours of the classes, `None` where nobody named them.
        picture: the image itself, `None` where it was not kept.
        source: its file, `None` if it came from none.
    """

    grid: NDArray[np.float32]
    rows: Axis
    columns: Axis
    seen: tuple[int, int, int, int]
    ignore_index: int
    activation: Activation = "softmax"
    label_set: LabelSet | None = None
    picture: Picture | None = None
    source: Path | None = None

    @property
    def labels(self) -> LabelSet:
        """Names and colours of the classes."""
        return self.label_set or generic(len(self.grid))

    def class_map(self) -> NDArray[np.uint8]:
        """`(H, W)` uint8: the most likely class of every pixel of the image."""
        result = np.full((self.rows.size, self.columns.size), self.ignore_index, np.uint8)
        top, bottom, left, right = self.seen
        if top < bottom and left < right:
            rows, columns = self.rows.part(top, bottom), self.columns.part(left, right)
            upsample.argmax(self.grid, rows, columns, out=result[top:bottom, left:right])
        if self._valid is not None:
            result[~self._valid] = self.ignore_index
        return result

    def logits(self) -> NDArray[np.float32]:
        """`(C, H, W)` float32 logits of every pixel, `nan` where the network did not see."""
        shape = (len(self.grid), self.rows.size, self.columns.size)
        result = np.full(shape, np.nan, np.float32)
        top, bottom, left, right = self.seen
        if top < bottom and left < right:
            rows, columns = self.rows.part(top, bottom), self.columns.part(left, right)
            result[:, top:bottom, left:right] = upsample.enlarge(self.grid, rows, columns)
        return result

    def probabilities(self) -> NDArray[np.float32]:
        """`(C, H, W)` float32, `nan` where the network did not see.

        They are the softmax over the classes, or what each has for itself where they do not exclude
        each other; that of the background is then the threshold.
        """
        return self._probable(self.logits())

    def certainty(self) -> NDArray[np.float32]:
        """`(H, W)` float32: the probability of the class of each pixel, `nan` where it has none."""
        class_map = self.class_map()
        result = np.full(class_map.shape, np.nan, np.float32)
        for part, scores in self._bands():
            ids = class_map[part].astype(np.intp)
            known = ids < len(scores)
            chosen = np.take_along_axis(
                self._probable(scores), np.where(known, ids, 0)[None], axis=0
            )[0]
            result[part] = np.where(known, chosen, np.nan)
        return result

    def shares(self) -> dict[str, float]:
        """Name → share of the pixels, 0–1, of each class that occurs, the largest first.

        Pixels without data do not count; those that the network did not see are `ignored`.
        """
        found: dict[str, float] = {}
        for class_id, share in image.class_shares(self.class_map(), self._valid).items():
            name = image.class_name(self.labels, class_id)
            found[name] = found.get(name, 0.0) + share
        return found

    def regions(self, min_area: int = 1, *, tolerance: float = 0) -> list[Region]:
        """Connected pieces of each class, the largest first; none of a background.

        Args:
            min_area: leave out regions of fewer pixels.
            tolerance: pixels by which outlines may be simplified; 0 keeps every step.

        Raises:
            InputError: an argument is negative.
        """
        return pieces.regions(
            self.class_map(),
            self.labels,
            min_area=min_area,
            tolerance=tolerance,
            certainty=self.certainty(),
        )

    def overlay(self, opacity: float = OPACITY) -> NDArray[np.uint8]:
        """The classes painted over the image, outlined, with a legend below.

        Args:
            opacity: of the paint, 0–1.

        Returns:
            `(H', W', 3)` uint8, RGB; images larger than 2048 pixels are shown smaller.

        Raises:
            InputError: `opacity` is out of range, or the image was not kept.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"`opacity`: expected 0 to 1, got {opacity}")
        if self.picture is None:
            raise InputError(
                "the image was not kept with this prediction; call the predictor with it, or give "
                "it to `atrous.image.overlay` together with the class map"
            )
        class_map = self.class_map()
        shares = image.class_shares(class_map, self._valid)
        return image.overlay(self.picture.pixels, class_map, self.labels, opacity, shares)

    def save(self, path: str | PathLike[str], *, opacity: float = OPACITY) -> Path:
        """Write the mask (`.png`) or the overlay (`.jpg`), whole or not at all.

        The values of a mask are class ids, its palette shows them. JPEG does not keep such values,
        so that is the overlay. A file that is there is replaced, but never the image itself.

        Args:
            path: the file; its folder is made.
            opacity: of the overlay's paint, 0–1.

        Returns:
            `path`.

        Raises:
            InputError: it is called otherwise, is the image itself, or cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".png", *_JPEG):
            raise InputError(f"{path}: expected NAME.png for the mask, NAME.jpg for the overlay")
        try:
            if self.source is not None and path.exists() and path.samefile(self.source):
                raise InputError(f"{path}: is the image itself; choose another name")
            if path.suffix.lower() in _JPEG:
                picture = Image.fromarray(self.overlay(opacity))
                write_atomic(path, lambda file: picture.save(file, "JPEG", quality=90))
            else:
                image.write_mask(path, self.class_map(), self.labels)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        return path

    def __repr__(self) -> str:
        found = list(self.shares().items())
        said = ", ".join(f"{name} {as_percent(share)}" for name, share in found[:4])
        more = f", {len(found) - 4} more" if len(found) > 4 else ""
        size = f"{self.columns.size}×{self.rows.size}"
        return f"<Prediction {size}: {said or 'no data'}{more}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the overlay, or the class map where there is no image."""
        if self.picture is not None:
            shown = Image.fromarray(self.overlay())
        else:
            shown = Image.fromarray(self.class_map())
            shown.putpalette(self.labels.paint())
        content = BytesIO()
        shown.save(content, format="PNG", compress_level=3)
        return content.getvalue()

    @property
    def _valid(self) -> NDArray[np.bool_] | None:
        return None if self.picture is None else self.picture.valid

    def _bands(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """What the network saw in bands of rows: where each lies, and its logits."""
        top, bottom, left, right = self.seen
        if left >= right:
            return
        columns = self.columns.part(left, right)
        step = max(1, _BAND // (len(self.grid) * (right - left)))
        for start in range(top, bottom, step):
            stop = min(start + step, bottom)
            scores = upsample.enlarge(self.grid, self.rows.part(start, stop), columns)
            yield (slice(start, stop), slice(left, right)), scores

    def _probable(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.activation == "sigmoid":
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
        if self.activation != "softmax":
            return scores
        scores = scores - scores.max(axis=0)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=0)
        return scores
