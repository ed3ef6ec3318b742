"""One image in, one class map out, at the image's own resolution."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from atrous import engines
from atrous.engines import dry_run
from atrous.engines.base import Device, Engine, Options
from atrous.engines.meaning import BACKGROUND, with_background
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError, EngineError, InputError
from atrous.geometry import Axis
from atrous.image import Reading
from atrous.labels import LabelSet, generic, named
from atrous.preprocess import Placement, Preprocess, Tensor, usual_normalisation
from atrous.runtime.inputs import Colour, Input, picture_of
from atrous.runtime.prediction import Prediction

_log = logging.getLogger("atrous")

PreprocessOf = Callable[[tuple[int, int] | None], Preprocess]
"""Makes preprocessing for a height and width of the network input, `None` where they are free."""


class Predictor:
    """A network with its preprocessing and its labels.

    Args:
        engine: runs the network; closed with the predictor.
        preprocess: must make inputs that fit `engine.signature`.
        labels: must have as many classes as the network.

    Raises:
        ConfigError: the three do not fit each other.
    """

    def __init__(self, engine: Engine, preprocess: Preprocess, labels: LabelSet) -> None:
        wanted, classes = engine.signature, engine.signature.classes
        if classes is not None and classes != labels.num_classes:
            raise ConfigError(
                f"the network has {classes} classes but label set {labels.name!r} has "
                f"{labels.num_classes}"
            )
        if not wanted.takes(*preprocess.size):
            raise ConfigError(
                f"the network takes {wanted.size} pixels but the preprocessing makes "
                f"{preprocess.size}"
            )
        if wanted.dtype == "uint8":
            preprocess.check_uint8()
        self.engine = engine
        self.preprocess = preprocess
        self.labels = labels
        self.reading = Reading().by_default(preprocess.value_range)

    @classmethod
    def open(
        cls,
        model: str | Path | OnnxModel | None = None,
        *,
        engine: str = "auto",
        device: Device | None = None,
        threads: int | None = None,
        cache: str | Path | None = None,
        options: Options | None = None,
        preprocess: Preprocess | PreprocessOf | None = None,
        labels: LabelSet | None = None,
        size: tuple[int, int] | None = None,
        value_range: tuple[float, float] | None = None,
        side: int | None = None,
    ) -> Self:
        """Open a model by any of its names.

            with Predictor.open("fast", threads=2) as predictor:
                prediction = predictor("photograph.jpg")

        What the model does not say of itself comes from the arguments; what neither says is
        assumed, and logged as a warning.

        Args:
            model: see `atrous.engines.open_engine`.
            engine: `auto`, or the name of an engine.
            device: `cpu`, `cuda` or `tensorrt`, instead of that of `options`.
            threads: CPU threads, 0 for one per core, instead of those of `options`.
            cache: folder for what an engine builds from the model, instead of that of `options`.
            options: these three, and what else there is to say to an engine.
            preprocess: instead of the model's own, or what makes it once the size is known.
            labels: instead of the model's own.
            size: height and width of the network input, for models of free size.
            value_range: stored values of image files that are black and white, instead of the
                model's own; see `Preprocess`.
            side: of what the network will see instead of its own preprocessing: it is not tried
                here, see `atrous.engines.dry_run`.

        Raises:
            AtrousError: the model cannot be opened, or does not fit the arguments.
        """
        options = (options or Options()).with_changes(device, threads, cache)
        if labels is not None and not options.names:
            options = replace(options, names=labels.names)
        opened = engines.open_engine(model, engine=engine, options=options)
        name = "the model in the package" if model is None else str(model)
        try:
            prepared = _preprocess(opened, name, preprocess, size, side)
            if value_range is not None:
                prepared = prepared.model_copy(update={"value_range": value_range})
            return cls(opened, prepared, _labels(opened, name, labels))
        except BaseException:
            opened.close()
            raise

    def seeing(self, preprocess: Preprocess) -> Self:
        """The same network seeing images another way; this one stays the owner of the engine.

        Args:
            preprocess: must make inputs that fit.

        Raises:
            ConfigError: it does not.
        """
        return type(self)(self.engine, preprocess, self.labels)

    @overload
    def __call__(self, image: Input, *, colour: Colour = ...) -> Prediction: ...

    @overload
    def __call__(
        self, image: list[Any] | tuple[Any, ...], *, colour: Colour = ...
    ) -> list[Prediction]: ...

    def __call__(
        self, image: Input | list[Any] | tuple[Any, ...], *, colour: Colour = "rgb"
    ) -> Prediction | list[Prediction]:
        """Segment one image, or each of a list.

        Files are read as `atrous predict` reads them: turned as a camera held them, in sRGB, what
        is transparent on white.

        Args:
            image: a path, the content of a file, an image of Pillow's, `(H, W, 3)` uint8 pixels of
                any size, or a list of them. Many files go faster through `atrous.Stream`.
            colour: order of the channels of arrays, `rgb`, or `bgr` as OpenCV has it.

        Raises:
            InputError: an image cannot be read or is of another kind; the message says what to do.
            EngineError: the engine failed.
        """
        if isinstance(image, (list, tuple)):
            return [self._one(one, colour, f"picture {i}") for i, one in enumerate(image)]
        return self._one(image, colour)

    def _one(self, source: Input, colour: Colour, place: str = "") -> Prediction:
        try:
            picture = picture_of(source, self.reading, colour)
        except InputError as error:
            if not place:
                raise
            raise InputError(f"{place}: {error}") from None
        tensor, placement = self.prepare(picture.pixels)
        [grid] = self.logits([tensor])
        file = Path(source) if isinstance(source, (str, PathLike)) else None
        return replace(self.prediction(grid, placement), picture=picture, source=file)

    def prepare(self, image: NDArray[np.uint8]) -> tuple[Tensor, Placement]:
        """Make the network input `(3, H, W)` of an image, and say where the image lies in it.

        Args:
            image: `(H, W, 3)` uint8, RGB, any size.

        Raises:
            InputError: `image` is of another kind.
        """
        tensor = self.preprocess(image, self.preprocess.empty(self.engine.signature.dtype))
        return tensor, self.preprocess.place(*image.shape[:2])

    def logits(self, tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
        """Run the network on any number of inputs.

        A network of any batch size sees all at once. One of a fixed size sees that many at a time,
        and zeros where there are no more.

        Args:
            tensors: network inputs `(3, H, W)`, at least one.

        Returns:
            logits `(C, h, w)` for each.

        Raises:
            EngineError: the engine failed.
        """
        together = self.engine.signature.batch or len(tensors)
        grids: list[NDArray[np.float32]] = []
        for start in range(0, len(tensors), together):
            part = tensors[start : start + together]
            batch: Any = part[0][None]
            if together > 1:
                rest = [np.zeros_like(part[0])] * (together - len(part))
                batch = np.stack([*part, *rest])
            # A prediction outlives the next call, which may reuse the engine's memory.
            grids += [grid.copy() for grid in self.engine.run(batch)[: len(part)]]
        return grids

    def prediction(self, grid: NDArray[Any], placement: Placement) -> Prediction:
        """What logits say about an image.

        Args:
            grid: `(C, h, w)` as `logits` returned it.
            placement: as `prepare` returned it.

        Raises:
            EngineError: the logits are of another number of classes, or are not numbers.
        """
        if grid.ndim != 3 or grid.shape[0] != self.labels.num_classes:
            raise EngineError(
                f"the network made scores {grid.shape}, expected {self.labels.num_classes} classes"
            )
        if not np.isfinite(grid).all():
            raise EngineError(
                "the network's scores are not all numbers (NaN or infinite): its weights are "
                "damaged, or this engine computes it wrongly (`engine` takes another)"
            )
        rows, columns = self.engine.signature.on_grid(
            grid, self.preprocess.size, placement.rows, placement.columns
        )
        return Prediction(
            grid,
            rows,
            columns,
            placement.seen,
            self.labels.ignore_index,
            self.engine.signature.meaning.activation,
            self.labels,
        )

    def at_input(self, prediction: Prediction) -> Prediction:
        """The same prediction for every pixel of the network input, whatever image lies in it."""
        height, width = self.preprocess.size
        axes = self.engine.signature.on_grid(
            prediction.grid, (height, width), Axis(height), Axis(width)
        )
        whole = (0, height, 0, width)
        return replace(prediction, rows=axes[0], columns=axes[1], seen=whole, picture=None)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _preprocess(
    engine: Engine,
    name: str,
    given: Preprocess | PreprocessOf | None,
    size: tuple[int, int] | None,
    side: int | None,
) -> Preprocess:
    """Preprocessing from the arguments, the model, or a default said aloud; the network runs at
    its size."""
    height, width = engine.signature.size
    known = engine.metadata
    if given is not None and not isinstance(given, Preprocess):
        given = given(size or ((height, width) if height and width else None))
    if given is None and known is not None:
        given = known.preprocess
    if given is not None:
        preprocess = given if size is None else given.with_size(*size)
        if side is None:
            dry_run.check(engine, name, preprocess.size)
    else:
        preprocess = _assumed(engine, name, size, side)
    # A grey picture is made of red, green and blue in this order.
    grey = engine.signature.meaning.grey
    return preprocess.model_copy(update={"colour": "rgb"}) if grey else preprocess


def _assumed(
    engine: Engine, name: str, size: tuple[int, int] | None, side: int | None
) -> Preprocess:
    """What most networks take, said aloud."""
    if side is not None and None in engine.signature.size:
        fitting = dry_run.Fitting((side, side))
    elif size is not None:
        dry_run.check(engine, name, size)
        fitting = dry_run.Fitting(size)
    else:
        fitting = dry_run.choose(engine, name)
    own = engine.signature
    kind, how = usual_normalisation(raw=own.dtype == "uint8", grey=own.meaning.grey)
    _log.warning(
        "%s does not say how its images were prepared: assuming RGB squashed to %d×%d%s, %s; "
        "`preprocess` says otherwise",
        name,
        *fitting.size,
        f" (it takes {fitting.rule})" if fitting.step != 1 else "",
        how,
    )
    return Preprocess(size=fitting.size, normalisation=kind)


def _labels(engine: Engine, name: str, given: LabelSet | None) -> LabelSet:
    """Labels from the arguments, the model, or a default said aloud."""
    own = engine.signature
    if given is None and engine.metadata is not None:
        given = engine.metadata.labels
    if given is not None:
        return with_background(given, own.meaning)
    if own.meaning.names and own.meaning.names[0] == BACKGROUND:
        return named(own.meaning.names)
    labels = generic(own.classes or 21)
    _log.warning(
        "%s does not name its classes: calling them class 0 to class %d; `labels` names them",
        name,
        labels.num_classes - 1,
    )
    return labels
