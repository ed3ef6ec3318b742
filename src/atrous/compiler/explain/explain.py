"""Compare two models that were made from one network: by layer, and by image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous import artifact, engines
from atrous.agreement import LEAST, same_pixels
from atrous.compiler.explain import layers as explain_layers
from atrous.compiler.explain.explanation import Explanation, Figures, Seen, Side
from atrous.compiler.explain.page import figures
from atrous.compiler.int8 import samples
from atrous.compiler.progress import Progress, Tell, silent
from atrous.engines.base import Options
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ConfigError, InputError
from atrous.image import class_name
from atrous.runtime.predictor import Predictor

MEASURED = 16
"""Images on which layers are measured; of more, evenly spread ones."""

PICTURES = 6
"""Images that are shown, those that differ most."""

PHOTOGRAPH = artifact.DEFAULT.with_name("photograph.jpg")
"""What models are compared on without images."""

# Where pixels come to lie, and so what tensors show; arithmetic on pixels may be in the graph.
_GEOMETRY = ("size", "fit", "interpolation", "colour", "resize", "origin")

Pixels = NDArray[np.uint8]


def explain(
    before: Path,
    after: Path,
    images: Sequence[Path] = (),
    *,
    engine: str = "auto",
    tell: Tell = silent,
) -> Explanation:
    """Compare two models that were made from one network.

    Class maps are made by the engine, as it runs the files. Layers are measured on ONNX Runtime
    without fusions: what quantised layers lose there is what the file says they lose, without what
    a processor adds by saturating.

    Args:
        before: an ONNX file, usually float.
        after: another, usually int8.
        images: what to compare them on, the photograph in the package if there are none.
        engine: see `atrous.engines.open_engine`.
        tell: called as it works.

    Raises:
        ConfigError: the two cannot be compared.
        InputError: no image can be read, or a layer makes numbers that are not finite.
        ArtifactError: a model is missing or damaged.
        EngineError: the engine is not installed or refuses a model.
    """
    tell(Progress("reading"))
    old, new = (_read(path) for path in (before, after))
    with ExitStack() as stack:
        first, second = _opened((old, new), engine, stack)
        _check_comparable((before, after), (first, second))
        tensors = explain_layers.common(old.proto, new.proto)
        _check_related((before, after), tensors)
        maps = _class_maps(first, second, images or [PHOTOGRAPH], tell)
        few = samples.spread(maps.read, MEASURED)

        def inputs(index: int) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
            pixels = samples.read(few[index], second.preprocess)
            return _batch(first, pixels), _batch(second, pixels)

        ratios = explain_layers.measure(old.proto, new.proto, tensors, inputs, len(few), tell)
        layers = explain_layers.layers(old.proto, ratios)
        _check_related((before, after), layers)
        runner = second.engine.name
    agreement = float(np.mean([one.agreement for one in maps.seen]))
    return Explanation(
        before=_side(before, old),
        after=_side(after, new),
        engine=runner,
        engine_version=engines.version(runner),
        notes=_notes(old, new, agreement),
        agreement=agreement,
        images=tuple(maps.seen),
        unreadable=tuple(maps.unreadable),
        measured=len(few),
        layers=layers,
        pictures=tuple(maps.pictures),
    )


def _read(path: Path) -> OnnxModel:
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"{path}: expected an ONNX file; atrous export makes one")
    return engines.read_model(path, Options())


def _opened(
    networks: tuple[OnnxModel, OnnxModel], engine: str, stack: ExitStack
) -> tuple[Predictor, Predictor]:
    """Both on one engine; what one does not say of itself, it takes from the other."""
    said = [one.metadata for one in networks if one.metadata is not None]
    labels = said[0].labels if said else None
    predictors: list[Predictor] = []
    for one in networks[::-1]:
        preprocess = said[0].preprocess if said and one.metadata is None else None
        predictors.append(
            stack.enter_context(
                Predictor.open(
                    one,
                    engine=predictors[0].engine.name if predictors else engine,
                    preprocess=preprocess,
                    labels=labels if one.metadata is None else None,
                )
            )
        )
    return predictors[1], predictors[0]


def _check_comparable(paths: tuple[Path, Path], pair: tuple[Predictor, Predictor]) -> None:
    """Raise `ConfigError` if the two do not see the same pixels or tell other classes apart."""
    told = [
        {"classes": one.labels.num_classes}
        | {name: getattr(one.preprocess, name) for name in _GEOMETRY}
        for one in pair
    ]
    for name, value in told[0].items():
        if value != told[1][name]:
            what = {"size": "input size", "classes": "number of classes"}.get(name, name)
            raise ConfigError(
                f"{paths[0]} and {paths[1]} cannot be compared: {what} {value} and {told[1][name]}"
            )


def _check_related(paths: tuple[Path, Path], shared: Sequence[object]) -> None:
    """Raise `ConfigError` if two models share nothing."""
    if not shared:
        raise ConfigError(
            f"{paths[0]} and {paths[1]} share no tensor and are not two forms of one network; "
            "compare a model with what atrous compile made of it"
        )


@dataclass(slots=True)
class _Maps:
    """What the class maps of both models tell."""

    read: list[Path]
    seen: list[Seen]
    unreadable: list[str]
    pictures: list[tuple[Seen, Figures]]


def _class_maps(first: Predictor, second: Predictor, images: Sequence[Path], tell: Tell) -> _Maps:
    maps = _Maps([], [], [], [])
    for number, path in enumerate(images, 1):
        tell(Progress("comparing class maps", number, len(images)))
        try:
            pixels = samples.read(path, second.preprocess)
        except InputError as error:
            maps.unreadable.append(str(error))
            continue
        old, new = first(pixels).class_map(), second(pixels).class_map()
        one = _compared(path.name, old, new, second)
        maps.read.append(path)
        maps.seen.append(one)
        shown = [seen.agreement for seen, _ in maps.pictures]
        if len(shown) < PICTURES or one.agreement < shown[-1]:
            maps.pictures.append((one, figures(pixels, old, new, second.labels)))
            maps.pictures.sort(key=lambda picture: picture[0].agreement)
            del maps.pictures[PICTURES:]
    if not maps.seen:
        raise InputError(f"none of {len(images)} images can be read: {maps.unreadable[0]}")
    return maps


def _compared(name: str, old: Pixels, new: Pixels, predictor: Predictor) -> Seen:
    labels = predictor.labels
    differ = old != new
    # What the preprocessing cropped away, neither model has seen.
    same, seen = same_pixels(old, new, labels.ignore_index)
    change = ""
    if same < seen:
        pairs = np.bincount(256 * old[differ].astype(np.int64) + new[differ])
        was, became = divmod(int(pairs.argmax()), 256)
        change = f"{class_name(labels, was)} → {class_name(labels, became)}"
    return Seen(image=name, agreement=same / seen if seen else 1.0, change=change)


def _batch(predictor: Predictor, pixels: Pixels) -> NDArray[np.generic]:
    """An image as a network takes it, whatever its batch."""
    tensor, _ = predictor.prepare(pixels)
    return np.repeat(tensor[None], predictor.engine.signature.batch or 1, axis=0)


def _side(path: Path, one: OnnxModel) -> Side:
    said = one.metadata
    return Side(
        file=str(path),
        name=said.name if said else "",
        precision=said.precision if said else "",
        identity=one.identity,
        bytes=path.stat().st_size,
    )


def _notes(old: OnnxModel, new: OnnxModel, agreement: float) -> tuple[str, ...]:
    hashes = [one.metadata.weights_sha256 if one.metadata else "" for one in (old, new)]
    # A checkpoint and its export are two files of one network: only who disagrees is suspect.
    if all(hashes) and hashes[0] != hashes[1] and agreement < LEAST:
        return (
            f"made from two files, {hashes[0][:12]}… and {hashes[1][:12]}…: what differs may be "
            "the network, not its precision",
        )
    return ()
