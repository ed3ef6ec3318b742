"""Decide what the scores of somebody else's network are, and what has to be done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from atrous.engines import grid, probe
from atrous.engines.class_axis import number_of
from atrous.engines.grid import lies_on, times
from atrous.engines.image_input import ImageInput
from atrous.engines.meaning import (
    BACKGROUND,
    Activation,
    Hints,
    Layout,
    ScoreMeaning,
    ScoreOutput,
)
from atrous.engines.onnx_graph import Dims, OnnxGraph, attributes
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.score_output import constant_of
from atrous.errors import ArtifactError, ConfigError

_FIRST = (BACKGROUND, "_background_", "background_", "bg", "unlabelled", "unlabeled", "other")
"""What the first class may be called, if it is what remains."""

_LEVELS = 128
"""So many different whole numbers up to 255 are no classes."""


@dataclass
class ScorePlan:
    """What is done to the scores.

    Attributes:
        found: where they are.
        dims: of that tensor.
        axis: of the classes there; `None` where there is no such axis.
        kind: type of the values there.
        classes: in the end.
        floor: score of what is below the threshold, put before the others; `None` for none.
        first: `floor` belongs to the first class, not to one before it.
        meaning: of the scores in the end.
        notes: what was decided.
    """

    found: ScoreOutput
    dims: Dims
    axis: int | None
    kind: int
    classes: int | None
    floor: float | None
    first: bool
    meaning: ScoreMeaning
    notes: list[str]

    @property
    def plane(self) -> Dims:
        """Height and width of the scores."""
        return self.dims[1:3] if self.axis == 3 else self.dims[-2:]

    @property
    def output_dims(self) -> Sequence[int | str]:
        """Of the output in the end."""
        rank = len(self.dims)
        batch = 1 if rank == 2 or (rank == 3 and self.axis == 0) else self.dims[0]
        sizes = (batch, self.classes, *self.plane)
        names = ("batch", "classes", "rows", "columns")
        return [size or name for size, name in zip(sizes, names, strict=True)]

    def changes_nothing(self, graph: OnnxGraph) -> bool:
        """Whether the network gives such scores, and nothing else, as it is."""
        return (
            [output.name for output in graph.graph.output] == [self.found.tensor]
            and self.kind == TensorProto.FLOAT
            and (self.axis, len(self.dims)) == (1, 4)
            and self.floor is None
            and not self.found.decided
        )


def planned(
    graph: OnnxGraph, model: OnnxModel, image: ImageInput, found: ScoreOutput, hints: Hints
) -> ScorePlan:
    """What the scores are, and what has to be done to them.

    Args:
        graph: of the network.
        model: it.
        image: its input.
        found: its scores.
        hints: what the user says of them.

    Raises:
        ArtifactError: they do not lie on the picture, or are none.
        ConfigError: `hints` does not fit them.
    """
    plan = _planned(graph, model, image, found, hints)
    plane, size = plan.plane, tuple(image.size)
    cropped = grid.crops(graph, found.tensor)
    if cropped and None in (*plane, *size):
        plane, size = probe.plane_of(model, image, found.tensor, 1 if plan.axis == 3 else -2)
    said = grid.note(plane, size)
    if said and cropped:
        raise ArtifactError(
            f"{model.name}: its scores are {times(plane)} for a picture of {times(size)}, "
            "as its convolutions leave out the border: they lie on the middle of the picture, and "
            "Atrous would stretch them over all of it; export the network with padded convolutions"
        )
    plan.notes += [said] * bool(said)
    return plan


def _planned(
    graph: OnnxGraph, model: OnnxModel, image: ImageInput, found: ScoreOutput, hints: Hints
) -> ScorePlan:
    dims, kind = graph.dims(found.tensor), graph.kind(found.tensor)
    hidden = dims is None or (found.axis is None and dims[1:2] == dims[3:] == (None,))
    if dims is None or hidden or not kind:
        dims, kind = probe.shape_of(model, image, found.tensor, dims)
    if found.decided:
        return _of_ids(model, image, found, hints, dims, kind)
    axis = _class_axis(found, dims, image, hints.layout, model.name)
    classes = dims[axis] if axis is not None else 1
    if classes is None:
        classes = number_of(graph, found.tensor, axis)
    if classes is None:
        shape, _ = probe.shape_of(model, image, found.tensor, None)
        classes = shape[axis] if axis is not None else 1
    notes = list(found.notes)
    if axis == 3 or (found.axis == 1 and _ends_last(graph, found)):
        notes.append("its scores are channels-last: transposed")
    return _with_threshold(
        ScorePlan(found, dims, axis, kind, classes, None, False, ScoreMeaning(), notes),
        hints,
        model,
    )


def _ends_last(graph: OnnxGraph, found: ScoreOutput) -> bool:
    """Whether the output gives classes last, of scores that have them first."""
    readers = graph.readers(found.tensor)
    return any(
        node.op_type == "Transpose" and list(attributes(node).get("perm", ())) == [0, 2, 3, 1]
        for node in readers
    )


def _class_axis(
    found: ScoreOutput, dims: Dims, image: ImageInput, layout: Layout | None, name: str
) -> int | None:
    """The axis of the classes among those of the scores; `None` where one class needs none.

    Raises:
        ArtifactError: no reading of the shape makes it a map of scores.
    """
    if len(dims) == 3 and lies_on(dims[1:], image.size):
        pictures = dims[0] in (1, None, image.batch)
        return 0 if found.axis == 0 or image.alone or not pictures else None
    if len(dims) == 2 and lies_on(dims, image.size) and image.takes_one:
        return None
    if len(dims) == 4:
        fits = {1: lies_on(dims[2:], image.size), 3: lies_on(dims[1:3], image.size)}
        axis = found.axis
        # What the operators say holds, unless the sizes say the contrary.
        if layout is None and axis in fits and not fits[axis] and fits[4 - axis]:
            axis = 4 - axis
        if axis is None and all(fits.values()) and None not in dims:
            raise ArtifactError(
                f"{name}: its scores {times(dims)} can be read with the classes first or last; "
                "`layout` says which: nchw or nhwc"
            )
        axis = axis or next((axis for axis, fit in fits.items() if fit), None)
        plane = dims[1:3] if axis == 3 else dims[2:]
        if axis and not fits[axis] and lies_on(plane[::-1], image.size):
            raise ArtifactError(
                f"{name}: its output {found.tensor} has the shape {times(dims)}, whose rows are "
                f"the columns of a picture of {times(image.size)}; export the network with "
                "scores (N, C, h, w)"
            )
        if axis is not None and (plane != (1, 1) or image.size == (1, 1)):
            return axis
    raise ArtifactError(
        f"{name}: its output {found.tensor} has the shape {times(dims)}, which is not a map of "
        f"scores (N, C, h, w) or (N, h, w, C) over a picture of {times(image.size)}; Atrous runs "
        "networks that give every pixel a class; `output_name` says which output does"
    )


def _with_threshold(plan: ScorePlan, hints: Hints, model: OnnxModel) -> ScorePlan:
    """Decide what one class, or classes that do not exclude each other, are compared with."""
    found, wanted, classes = plan.found, hints.threshold, plan.classes
    function = found.applied or found.kept
    activation: Activation = (
        "none" if found.kept else "sigmoid" if function == "sigmoid" else "softmax"
    )
    if classes == 1:
        return _of_one(plan, hints)
    if function == "softmax" and wanted is not None:
        raise no_threshold(model.name)
    if wanted is None:
        if function == "sigmoid":
            plan.notes.append(
                "its labels do not exclude each other (it ends in a sigmoid): a pixel gets the "
                "largest, and `threshold` leaves background where none reaches it"
            )
        plan.meaning = ScoreMeaning(activation)
        return plan
    if model.metadata is not None:
        raise no_threshold(model.name)
    if not function:
        activation = "sigmoid"
    plan.floor = constant_of(wanted, logit=activation == "sigmoid")
    names = hints.names
    plan.first = len(names) == classes and names[0].lower() in _FIRST
    if plan.first:
        what = f"class 0, {names[0]}"
    else:
        own = names if len(names) == classes else [f"class {i + 1}" for i in range(classes or 0)]
        names = names if len(names) == (classes or 0) + 1 else (BACKGROUND, *own)
        what = "a class 0 before the others, background"
        plan.classes = classes and classes + 1
    plan.notes.append(f"pixels that reach {wanted:g} for no class are {what}")
    plan.meaning = ScoreMeaning(activation, wanted, tuple(names))
    return plan


def _of_one(plan: ScorePlan, hints: Hints) -> ScorePlan:
    """Two classes of one: what is above the threshold, and the rest."""
    found = plan.found
    if found.applied == "softmax":
        plan.notes.append(
            "its one score has been through a softmax, which is 1 everywhere: cut off"
        )
    logit = not found.kept
    threshold = hints.threshold
    if threshold is None and found.cut is not None:
        applied = found.applied == "sigmoid"
        inside = 0 < found.cut < 1
        threshold = found.cut if inside and (applied or not logit) else 0.5
        if logit and not applied:
            plan.floor = found.cut
            threshold = float(1 / (1 + np.exp(-found.cut)))
    threshold = 0.5 if threshold is None else threshold
    if plan.floor is None:
        plan.floor = constant_of(threshold, logit=logit)
    names = hints.names
    if len(names) != 2:
        names = (BACKGROUND, names[0] if len(names) == 1 else "foreground")
    kind = "probabilities" if found.kept else "scores (logits)"
    plan.notes.append(
        f"its one channel holds {kind}: {names[1]} is what has a probability over {threshold:g} "
        "(`threshold`)"
    )
    plan.classes = 2
    plan.meaning = ScoreMeaning("none" if found.kept else "sigmoid", threshold, tuple(names))
    return plan


def _of_ids(
    model: OnnxModel,
    image: ImageInput,
    found: ScoreOutput,
    hints: Hints,
    dims: Dims,
    kind: int,
) -> ScorePlan:
    """Of a network that gives class ids: as many classes as it is known to have."""
    if hints.threshold is not None:
        raise no_threshold(model.name)
    axis = None
    plane: Dims = dims[-2:]
    if len(dims) == 4 and dims[1] != 1 and dims[3] == 1:
        axis, plane = 3, dims[1:3]
    elif len(dims) == 4 and dims[1] == 1:
        axis = 1
    if (
        len(dims) not in (2, 3, 4)
        or (len(dims) == 4 and axis is None)
        or not lies_on(plane, image.size)
    ):
        raise ArtifactError(
            f"{model.name}: its output {found.tensor} holds whole numbers of the shape "
            f"{times(dims)}, which is not a class map (N, h, w) over a picture of "
            f"{times(image.size)}; `output_name` says which output is"
        )
    own = model.metadata.labels.num_classes if model.metadata else len(hints.names)
    known = 2 if kind == TensorProto.BOOL else found.classes or 0
    classes, notes = max(own, known), list(found.notes)
    if own in (1, 2) and not known and probe.whole_numbers(model, image, found.tensor) == [0, 255]:
        found = replace(found, step=255)
    if not classes:
        ids = _seen_ids(model, image, found.tensor)
        classes = ids[-1] + 1
        notes.append(f"ids up to {ids[-1]} are expected, as a run shows; `labels` names all")
    names: tuple[str, ...] = ()
    if classes == 2 and own < 2:
        names = (BACKGROUND, *(hints.names or ("foreground",)))
    return ScorePlan(
        found,
        dims,
        axis,
        kind,
        max(classes, 2),
        None,
        False,
        ScoreMeaning("argmax", None, names),
        notes,
    )


def _seen_ids(model: OnnxModel, image: ImageInput, tensor: str) -> list[int]:
    """The class ids that a run shows.

    Raises:
        ArtifactError: they look like grey levels.
    """
    ids = probe.whole_numbers(model, image, tensor)
    if ids[-1] < 255 or (ids != [0, 255] and len(ids) < _LEVELS):
        return ids
    shown = "nothing but 0 and 255" if ids == [0, 255] else f"{len(ids)} numbers up to {ids[-1]}"
    raise ArtifactError(
        f"{model.name}: its output {tensor} gave {shown} to noise, which are grey levels rather "
        "than class ids; `output_name` takes the tensor of the scores before they become that, and "
        "`labels` says how many classes there are if they are ids"
    )


def no_threshold(name: str) -> ConfigError:
    """What is raised where a threshold means nothing."""
    return ConfigError(
        f"`threshold`: {name} chooses between classes that exclude each other, where the largest "
        "score wins; a threshold belongs to a network of one class, or one that ends in a sigmoid"
    )
