"""Bring somebody else's network to the one form that everything above the engines sees.

That is pictures `(N, 3, H, W)` in and scores `(N, C, h, w)` of at least two classes out. What has
to be changed is changed in the graph, once, so that every engine and the compiler get the same;
what was decided on the way is said. A network in that form is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from atrous.artifact import Metadata
from atrous.engines import decide, image_input, orientation, score_output
from atrous.engines.decide import ScorePlan
from atrous.engines.meaning import BACKGROUND, Hints, ScoreMeaning
from atrous.engines.onnx_graph import OnnxGraph, attributes, copied, dims_of
from atrous.engines.onnx_model import OnnxModel
from atrous.engines.score_output import constant_of
from atrous.labels import LabelSet, named

THRESHOLD = "atrous_threshold"
"""Name of the constant that holds the score of what is below the threshold."""


def adapted(model: OnnxModel, hints: Hints | None = None) -> OnnxModel:
    """A network in our form, with what its scores mean.

    Args:
        model: left as it is; returned with no more than its meaning if it has that form.
        hints: what the user says of it.

    Raises:
        ArtifactError: it is no segmentation network, or cannot be understood; says what helps.
        ConfigError: `hints` does not fit it.
    """
    hints = hints or Hints()
    if model.meaning is not None or _is_ours(model, hints):
        return _ours(model, hints)
    graph = OnnxGraph(model.proto)
    image = image_input.find(graph, model.name)
    output, notes = score_output.choose(graph, hints, model.name)
    found = score_output.read(graph, output, hints.layout, model.name)
    plan = decide.planned(graph, model, image, found, hints)
    orientation.check(graph, output.name, image, model.name)
    if image.as_it_is and plan.changes_nothing(graph):
        said = tuple(f"{model.name}: {note}" for note in (*notes, *plan.notes))
        return replace(model, meaning=plan.meaning, notes=said)
    draft = OnnxGraph(copied(model.proto))
    made = [] if image.as_it_is else image_input.bring(draft, image)
    draft = OnnxGraph(draft.model)  # what is known of the graph before does not hold any more
    tensor = _decided(draft, plan) if found.decided else _scored(draft, plan)
    draft.set_output(tensor, plan.output_dims, TensorProto.FLOAT)
    meaning = replace(_kept(plan.meaning, model.metadata), grey=image.channels == 1)
    said = tuple(f"{model.name}: {note}" for note in (*made, *notes, *plan.notes))
    metadata = _described(model.metadata, meaning)
    return OnnxModel(draft.model, metadata, model.name, meaning, said)


def _kept(meaning: ScoreMeaning, metadata: Metadata | None) -> ScoreMeaning:
    """What a graph of ours says of its scores holds also where it ends in their argmax."""
    if metadata is None or "activation" not in metadata.model_fields_set:
        return meaning
    return replace(meaning, activation=metadata.activation, threshold=metadata.threshold)


def _is_ours(model: OnnxModel, hints: Hints) -> bool:
    """Whether a network was made by Atrous and has its form, and nothing else of it is wanted."""
    graph, own = model.proto.graph, model.metadata
    if own is None or len(graph.output) != 1:
        return False
    if hints.output_name not in (None, graph.output[0].name):
        return False
    kind = graph.output[0].type.tensor_type
    dims = dims_of(kind)
    inputs = OnnxGraph(model.proto).inputs
    return (
        len(inputs) == 1
        and dims_of(inputs[0].type.tensor_type)[1:2] == (3,)
        and kind.elem_type == TensorProto.FLOAT
        and len(dims) == 4
        and dims[1] != 1
        and own.labels.num_classes > 1
    )


def _ours(model: OnnxModel, hints: Hints) -> OnnxModel:
    """A network in our form, with another threshold if that is asked for."""
    own = model.metadata
    meaning = model.meaning or (
        ScoreMeaning(own.activation, own.threshold) if own is not None else ScoreMeaning()
    )
    wanted = hints.threshold
    if wanted in (None, meaning.threshold):
        return replace(model, meaning=meaning)
    draft = OnnxGraph(copied(model.proto))
    tensor = next((t for t in draft.graph.initializer if t.name == THRESHOLD), None)
    if tensor is None or wanted is None or meaning.threshold is None:
        raise decide.no_threshold(model.name)
    value = constant_of(wanted, logit=meaning.activation == "sigmoid")
    changed = onnx.numpy_helper.from_array(np.array(value, np.float32), THRESHOLD)
    tensor.CopyFrom(changed)
    meaning = replace(meaning, threshold=wanted)
    metadata = own and own.model_copy(update={"threshold": wanted})
    return replace(model, proto=draft.model, metadata=metadata, meaning=meaning)


def _described(metadata: Metadata | None, meaning: ScoreMeaning) -> Metadata | None:
    """What the network says of itself, with classes as many as it has now."""
    if metadata is None:
        return None
    update: dict[str, object] = {
        "activation": meaning.activation, "threshold": meaning.threshold
    }  # fmt: skip
    if meaning.names and metadata.labels.num_classes != len(meaning.names):
        update["labels"] = _more(metadata.labels, meaning.names)
    return metadata.model_copy(update=update)


def _more(labels: LabelSet, names: Sequence[str]) -> LabelSet:
    """Labels with a background before them."""
    own = labels.names if labels.name != "generic" else names[1:]
    return named((BACKGROUND, *own))


def _scored(graph: OnnxGraph, plan: ScorePlan) -> str:
    """Add what makes scores of our form; returns their tensor."""
    source = plan.found.tensor
    if plan.axis == 1 and len(plan.dims) == 4:
        if plan.kind == TensorProto.FLOAT and plan.floor is None:
            return source
        done = _before_enlargement(graph, source, plan)
        if done is not None:
            return done
    if plan.axis is None:  # (N, h, w) or (h, w)
        axes = [1] if len(plan.dims) == 3 else [0, 1]
        source = graph.with_axes("Unsqueeze", source, axes, "atrous_class")
    elif plan.axis == 0:
        source = graph.with_axes("Unsqueeze", source, [0], "atrous_batch")
    elif plan.axis == 3:
        source = graph.add("Transpose", [source], "atrous_first", perm=[0, 3, 1, 2])
    return _finished(graph, source, plan)


def _finished(graph: OnnxGraph, source: str, plan: ScorePlan) -> str:
    """Float32, and the score of what is below the threshold."""
    if plan.kind != TensorProto.FLOAT:
        source = graph.add("Cast", [source], "atrous_scores", to=TensorProto.FLOAT)
    if plan.floor is None:
        return source
    if plan.first:
        lowest = np.full((1, plan.classes or 1, 1, 1), np.finfo(np.float32).min, np.float32)
        lowest[0, 0] = plan.floor
        return graph.add(
            "Max", [source, graph.add_constant(lowest, "atrous_floor")], "atrous_above"
        )
    ends = [0, 1, 0, 0, 0, 0, 0, 0]
    if graph.opset < 11:
        return graph.add("Pad", [source], "atrous_classes", pads=ends, value=plan.floor)
    pads = graph.add_constant(np.array(ends), "atrous_pads")
    floor = graph.add_constant(np.array(plan.floor, np.float32), THRESHOLD)
    return graph.add("Pad", [source, pads, floor], "atrous_classes")


def _before_enlargement(graph: OnnxGraph, source: str, plan: ScorePlan) -> str | None:
    """Do it before the last Resize, which then stays the last; `None` where that cannot be done."""
    resize = graph.maker(source)
    if resize is None or resize.op_type not in ("Resize", "Upsample"):
        return None
    if plan.first:  # a maximum of interpolated scores is not what maxima interpolate to
        return None
    own = attributes(resize)
    if own.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    small = resize.input[0]
    more = int(plan.floor is not None)
    changed = NodeProto.FromString(resize.SerializeToString())
    sizes = resize.input[3] if len(resize.input) > 3 and resize.input[3] else ""
    ready = _finished(graph, small, plan)
    if sizes and more and list(own.get("axes", (0, 1, 2, 3))) == [0, 1, 2, 3]:
        wider = _wider(graph, sizes, small, ready)
        if wider is None:
            return None
        changed.input[3] = wider
    changed.input[0] = ready
    changed.output[0] = graph.free_name(f"{source}_of_classes")
    changed.name = changed.output[0]
    graph.graph.node.append(changed)
    return str(changed.output[0])


def _wider(graph: OnnxGraph, sizes: str, small: str, ready: str) -> str | None:
    """The target sizes of a Resize for one class more, `None` where they cannot be changed."""
    constant = graph.constant(sizes)
    if constant is not None:
        return graph.add_constant(_plus_one(constant, 1), "atrous_sizes")
    concat = graph.maker(sizes)
    if concat is None or concat.op_type != "Concat":
        return None
    parts = list(concat.input)
    values = [graph.constant(part) for part in parts]
    head = graph.maker(parts[0])
    if head is not None and head.op_type == "Slice" and values[0] is None:
        shape = graph.maker(head.input[0])
        ends = graph.constant(head.input[2]) if len(head.input) > 2 else None
        if shape is None or shape.op_type != "Shape" or shape.input[0] != small:
            return None
        if ends is None or ends.reshape(-1).tolist() != [2]:
            return None
        whole = graph.add("Shape", [ready], "atrous_shape")
        parts[0] = graph.add("Slice", [whole, *head.input[1:]], "atrous_kept")
    elif values[0] is not None and values[0].size >= 2:
        parts[0] = graph.add_constant(_plus_one(values[0], 1), "atrous_count")
    elif len(parts) == 4 and values[1] is not None and values[1].size == 1:
        parts[1] = graph.add_constant(_plus_one(values[1], 0), "atrous_count")
    else:
        return None
    return graph.add("Concat", parts, "atrous_sizes", axis=0)


def _plus_one(values: NDArray[np.int64], at: int) -> NDArray[np.int64]:
    changed = values.copy()
    changed.reshape(-1)[at] += 1
    return changed


def _decided(graph: OnnxGraph, plan: ScorePlan) -> str:
    """Make scores of class ids: 1 for the class, 0 for the others; NaN for an id that is none."""
    source = plan.found.tensor
    if plan.kind != TensorProto.INT32:
        source = graph.add("Cast", [source], "atrous_ids", to=TensorProto.INT32)
    if len(plan.dims) < 4:
        axes = [1] if len(plan.dims) == 3 else [0, 1]
        source = graph.with_axes("Unsqueeze", source, axes, "atrous_class")
    elif plan.axis == 3:
        source = graph.add("Transpose", [source], "atrous_first", perm=[0, 3, 1, 2])
    ids = plan.found.step * np.arange(plan.classes or 1, dtype=np.int32).reshape(1, -1, 1, 1)
    alike = graph.add("Equal", [source, graph.add_constant(ids, "atrous_every")], "atrous_alike")
    scores = graph.add("Cast", [alike], "atrous_shares", to=TensorProto.FLOAT)
    if graph.opset < 18:
        best = graph.add("ReduceMax", [scores], "atrous_known", axes=[1], keepdims=1)
    else:
        classes = graph.add_constant(np.array([1]), "atrous_axis")
        best = graph.add("ReduceMax", [scores, classes], "atrous_known", keepdims=1)
    return graph.add("Div", [scores, best], "atrous_scores")
