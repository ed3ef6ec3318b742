"""A model as one graph that needs nothing around it, written only if it says what Atrous says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import version_converter

from atrous import artifact
from atrous.agreement import same_pixels
from atrous.artifact import Metadata
from atrous.engines import read_model
from atrous.engines.base import Options
from atrous.engines.onnx_graph import OnnxGraph
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.saturation import has_wide_weights
from atrous.engines.session import first_line, open_session
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.exporters.half import store_half
from atrous.exporters.whole_graph import CLASSES, IMAGE, WholeGraph, build
from atrous.formatting import as_share
from atrous.image import photograph
from atrous.preprocess import Preprocess
from atrous.runtime.predictor import Predictor

LEAST, LEAST_ANY_SIZE = 0.9999, 0.999
"""Smallest share of the pixels that must have the class that Atrous gives them: at the network's
size, and where the graph resizes."""

Run = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""From `(N, H, W, 3)` pictures to `(N, H, W)` classes."""

OLDEST = 11
"""The first operator set whose Resize says how pixels lie on each other."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is made.

    Attributes:
        any_size: it takes pictures of any size and resizes them itself.
        scores: it gives the scores beside the classes.
        half: weights are stored as fp16.
        opset: version of the ONNX operators, `None` for the network's own.
    """

    any_size: bool = False
    scores: bool = False
    half: bool = False
    opset: int | None = None


@dataclass(frozen=True, slots=True)
class Standalone:
    """What was made.

    Attributes:
        model: the graph.
        metadata: what it says of itself; its preprocessing is what is left to do outside.
        agreement: share of the pixels with the class that Atrous gives them, 0–1.
        images: on which both were run.
        opset: of its operators.
        notes: what could not be had, for people.
    """

    model: onnx.ModelProto
    metadata: Metadata
    agreement: float
    images: int
    opset: int
    notes: tuple[str, ...] = ()

    @property
    def input(self) -> str:
        """Its input, for people."""
        dims = self.model.graph.input[0].type.tensor_type.shape.dim
        return f"{IMAGE} uint8 ({', '.join(str(d.dim_value or d.dim_param) for d in dims)})"

    def __str__(self) -> str:
        """One line for people."""
        many = "1 photograph" if self.images == 1 else f"{self.images} photographs"
        return f"same class as Atrous on {as_share(self.agreement)} of the pixels of {many}"


def standalone(
    model: OnnxModel,
    predictor: Predictor,
    photographs: Sequence[NDArray[np.uint8]],
    wanted: Wanted | None = None,
) -> Standalone:
    """Put a model between bytes and classes, and compare it with Atrous.

    Args:
        model: any ONNX model that Atrous runs.
        predictor: the same on ONNX Runtime, with its preprocessing and its labels.
        photographs: `(H, W, 3)` uint8 RGB, any size, to compare on.
        wanted: what is made.

    Raises:
        ConfigError: it cannot be made of this model; says what can.
        ArtifactError: it disagrees with the predictor.
        EngineError: ONNX Runtime refuses it.
    """
    wanted = wanted or Wanted()
    adapted, preprocess = read_model(model, Options()), predictor.preprocess
    if wanted.any_size and preprocess.fit != "squash":
        raise ConfigError(
            f"`any_size`: {model} sees pictures by fit {preprocess.fit}, and a graph that resizes "
            "can squash them alone; without `any_size` the graph takes pictures of "
            f"{_times(preprocess.size)} pixels that were fitted before"
        )
    proto = _fixed(_converted(adapted.proto, wanted.opset, str(model)), preprocess.size)
    proto = store_half(proto) if wanted.half else proto
    whole = WholeGraph(
        preprocess,
        any_size=wanted.any_size,
        scores=wanted.scores,
        nearest=predictor.engine.signature.meaning.activation == "argmax",
    )
    made, run, together, notes = _batched(proto, whole, adapted, photographs[0])
    if has_wide_weights(made):
        notes.append(
            f"{model}: its int8 weights take all 8 bits: on x86 processors without VNNI, sums of "
            'their products saturate in ONNX Runtime unless session.x64quantprecision is "1"; '
            "backend.quantize.weight_bits: 7 of a compile file avoids it"
        )
    agreement = _compared(run, predictor, photographs, any_size=wanted.any_size, batch=together)
    least = LEAST_ANY_SIZE if wanted.any_size else LEAST
    if not agreement >= least:
        raise ArtifactError(
            f"{model}: the graph that needs nothing around it has the class of Atrous on "
            f"{as_share(agreement)} of the pixels, expected {as_share(least)}; nothing was written"
        )
    metadata = _described(adapted, predictor, half=wanted.half)
    opset = OnnxGraph(made).opset
    return Standalone(made, metadata, agreement, len(photographs), opset, tuple(notes))


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _converted(model: onnx.ModelProto, opset: int | None, name: str) -> onnx.ModelProto:
    """The network in another version of the operators."""
    own = OnnxGraph(model).opset
    if opset in (None, own) and own >= OLDEST:
        return model
    target = opset or OLDEST
    if target < OLDEST:
        raise ConfigError(f"opset: expected {OLDEST} or newer, got {target}")
    try:
        return version_converter.convert_version(model, target)
    except Exception as error:  # C++ assertions and errors of several kinds
        raise ConfigError(
            f"opset: {name} has operator set {own}, which cannot be brought to {target}; "
            "without `opset` it stays, or export the checkpoint itself"
        ) from error


def _fixed(model: onnx.ModelProto, size: tuple[int, int]) -> onnx.ModelProto:
    """A copy whose input has the size that the model is used at."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    [image] = OnnxGraph(fixed).inputs
    dims = image.type.tensor_type.shape.dim
    if [dims[2].dim_value, dims[3].dim_value] == list(size):
        return fixed
    dims[2].dim_value, dims[3].dim_value = size
    del fixed.graph.value_info[:]
    for axis in fixed.graph.output[0].type.tensor_type.shape.dim[2:]:
        axis.Clear()
    return fixed


def _batched(
    proto: onnx.ModelProto, whole: WholeGraph, adapted: OnnxModel, pixels: NDArray[np.uint8]
) -> tuple[onnx.ModelProto, Run, int, list[str]]:
    """The graph for any number of pictures if it works with two, else for as many as before."""
    made = build(proto, whole)
    view = _at(pixels, whole.preprocess.size)
    pair = np.stack([view, view[::-1]])
    try:
        run = _opened(made)
        both = run(pair)
        alone = np.concatenate([run(one[None]) for one in pair])
    except EngineError as error:
        reason = str(error)
    else:
        if both.shape == alone.shape and (both == alone).mean() >= LEAST:
            return made, run, 1, []
        reason = "two pictures at a time gave other classes than one after the other"
    made = build(proto, replace(whole, batch=False))
    count = made.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    return made, _opened(made), count, [f"{adapted}: takes {count} at a time: {reason}"]


def _at(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A photograph at the network's size."""
    plain = Preprocess(size=size, normalisation="none")
    made = plain(pixels, np.empty((3, *size), np.uint8))
    return np.ascontiguousarray(made.transpose(1, 2, 0)).astype(np.uint8, copy=False)


def _opened(model: onnx.ModelProto) -> Run:
    """What runs a graph on ONNX Runtime."""
    session = open_session(model, "the standalone graph")

    def run(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            return np.asarray(session.run([CLASSES], {IMAGE: batch})[0])
        except Exception as error:  # the binding raises one class per status code
            raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error

    return run


def _compared(
    run: Run,
    predictor: Predictor,
    photographs: Sequence[NDArray[np.uint8]],
    *,
    any_size: bool,
    batch: int,
) -> float:
    """Share of the pixels with the same class, mean over the photographs."""
    plain = {"fit": "squash", "resize": None, "origin": None}
    seen = predictor.seeing(predictor.preprocess.model_copy(update=plain))
    shares = []
    for pixels in photographs:
        view = pixels if any_size else _at(pixels, predictor.preprocess.size)
        found = run(np.repeat(view[None], batch, 0))[0]
        same, all_of_them = same_pixels(seen(view).class_map(), found)
        shares.append(same / all_of_them)
    return float(np.mean(shares))


def _described(adapted: OnnxModel, predictor: Predictor, *, half: bool) -> Metadata:
    """What the graph says of itself: nothing of the normalisation is left to be done."""
    own, preprocess = adapted.metadata, predictor.preprocess
    known = own or Metadata(
        name=Path(adapted.name).stem, labels=predictor.labels, preprocess=preprocess
    )
    padding = tuple(float(min(max(round(v), 0), 255)) for v in _padding(preprocess))
    raw = {
        "normalisation": "none",
        "mean": (0.0,) * 3,
        "std": (1.0,) * 3,
        "padding": padding,
        "colour": "rgb",
    }
    update: dict[str, object] = {
        "preprocess": preprocess.model_copy(update=raw),
        "labels": predictor.labels,
    }
    meaning = predictor.engine.signature.meaning
    if (meaning.activation, meaning.threshold) != ("softmax", None):
        update |= {"activation": meaning.activation, "threshold": meaning.threshold}
    if half and known.precision == "fp32":
        update["precision"] = "fp16"
    return known.model_copy(update=update)


def _padding(preprocess: Preprocess) -> tuple[float, ...]:
    """In the order of red, green and blue."""
    own = preprocess.padding_value
    return own if preprocess.colour == "rgb" else own[::-1]


VIEWS = "the photograph in the package, its mirror image and its turn by 90°"
"""What `views` are, for people."""


def views() -> list[NDArray[np.uint8]]:
    """The photograph in the package, in its mirror, and turned."""
    photo = photograph()
    return [np.ascontiguousarray(one) for one in (photo, photo[:, ::-1], np.rot90(photo))]


def save(made: Standalone, path: Path) -> None:
    """Write it, whole or not at all.

    Args:
        made: see `standalone`.
        path: the `.onnx` file to make.
    """
    artifact.save(made.model, made.metadata, path)
