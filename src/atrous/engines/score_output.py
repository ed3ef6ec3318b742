"""The output of somebody else's network: which holds the scores, and what these have been through.

Exports end in more than logits: a softmax, a sigmoid, an argmax, casts, other orders of axes. Read
from the end towards the beginning, these say what the scores are; `adapt` then cuts them off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from atrous.engines import class_ids, probability
from atrous.engines.class_axis import class_axis, number_of, rank_of, resizes_nothing
from atrous.engines.meaning import Applied, Hints, Layout, ScoreOutput
from atrous.engines.onnx_graph import FLOATS, Dims, OnnxGraph, attributes, described, dims_of
from atrous.errors import ArtifactError, ConfigError

_BEST = ("out", "logits", "output", "scores", "pred", "prediction")
"""Names of outputs, the likeliest first."""

_BOXES = ("box", "dets", "detection", "pred_logits", "class_queries")


@dataclass
class _Walk:
    """On the way from an output to what makes it."""

    tensor: str
    axis: int | None
    behind: list[NodeProto] = field(default_factory=list)


def choose(graph: OnnxGraph, hints: Hints, name: str) -> tuple[onnx.ValueInfoProto, list[str]]:
    """The output that holds the scores, and what is to be said of the choice.

    Raises:
        ArtifactError: it is no segmentation network, or several outputs could be meant.
        ConfigError: there is no tensor of the name that was given.
    """
    outputs = list(graph.graph.output)
    if hints.output_name is not None:
        return _named(graph, hints.output_name, name), []
    detects = [o for o in outputs if any(word in o.name.lower() for word in _BOXES)]
    if detects or any(node.op_type == "NonMaxSuppression" for node in graph.graph.node):
        found = ", ".join(map(described, outputs))
        raise ArtifactError(
            f"{name}: a network that finds boxes (detection), with the outputs {found}; Atrous "
            "runs networks that give every pixel a class; `output_name` says which output does"
        )
    if len(outputs) == 1:
        return outputs[0], []
    main = [o for o in outputs if "aux" not in o.name.lower()]
    likely = [o for o in main if _is_map(o)] or main
    likely = [o for o in likely if not _is_confidence(graph, o.name)] or likely
    scored = [o for o in likely if o.type.tensor_type.elem_type in FLOATS]
    if len(scored) == 1:
        likely = scored  # beside the class map that is made of it
    named = [o for word in _BEST for o in likely if o.name.lower() == word]
    chosen = likely[0] if len(likely) == 1 else named[0] if named else None
    if chosen is None:
        found = ", ".join(map(described, outputs))
        raise ArtifactError(
            f"{name}: has {len(outputs)} outputs: {found}; `output_name` says which one holds the "
            "scores of the classes"
        )
    others = ", ".join(o.name for o in outputs if o is not chosen)
    return chosen, [f"its output {chosen.name} is used, not {others} (`output_name` chooses)"]


def _named(graph: OnnxGraph, wanted: str, name: str) -> onnx.ValueInfoProto:
    known: dict[str, onnx.ValueInfoProto] = {v.name: v for v in graph.graph.output}
    if wanted not in known:
        if graph.maker(wanted) is None:
            raise ConfigError(
                f"`output_name` {wanted}: {name} makes no tensor of that name; its outputs are "
                f"{', '.join(map(described, known.values()))}"
            )
        return _value(graph, wanted)
    return known[wanted]


def _value(graph: OnnxGraph, tensor: str) -> onnx.ValueInfoProto:
    """What is known of a tensor, as an output says it."""
    kind = graph.kind(tensor) or TensorProto.FLOAT
    return helper.make_tensor_value_info(tensor, kind, graph.dims(tensor))


def _is_map(value: onnx.ValueInfoProto) -> bool:
    """Whether an output may have something to say of every pixel."""
    kind = value.type.tensor_type
    dims = dims_of(kind)
    return not kind.HasField("shape") or (len(dims) == 4 and dims[2:] != (1, 1)) or len(dims) == 3


def _is_confidence(graph: OnnxGraph, output: str) -> bool:
    """Whether an output holds the best score of every pixel, and not whose it is."""
    tail = class_ids.tail_of(graph, output)
    node = graph.maker(tail.tensor)
    if node is None or node.op_type not in ("ReduceMax", "TopK"):
        return False
    return bool(tail.tensor == node.output[0])


def read(
    graph: OnnxGraph, output: onnx.ValueInfoProto, layout: Layout | None, name: str
) -> ScoreOutput:
    """What an output holds.

    Args:
        graph: of the network.
        output: see `choose`.
        layout: of its scores, if the user says it.
        name: of the network, in messages.

    Raises:
        ArtifactError: it is no segmentation network; says what it seems to be.
    """
    kind = output.type.tensor_type.elem_type or graph.kind(output.name)
    found = class_ids.read(graph, output, kind, name)
    if found is not None and not found.decided:
        return _scores(graph, found.tensor, found.axis, found, name)
    if found is None and (before := _before_levels(graph, output, name)):
        inner = read(graph, _value(graph, before), None, name)
        said = f"its output {output.name} holds scores in other units: cut at {before} before it"
        return replace(inner, notes=(said, *inner.notes))
    if found is not None or (kind and kind not in FLOATS):
        _check_ids(output, name)
        as_is = class_ids.as_is(output.name, kind)
        return found or ScoreOutput(output.name, decided=True, notes=as_is)
    _check_scores(output, name)
    axis = {"nchw": 1, "nhwc": 3, None: None}[layout]
    return _scores(graph, output.name, axis, ScoreOutput(output.name), name)


def _before_levels(graph: OnnxGraph, output: onnx.ValueInfoProto, name: str) -> str:
    """The scores of which an output holds quantised numbers, or probabilities times a number;
    empty where it does not.

    Raises:
        ArtifactError: they were never anything else.
    """
    tail = class_ids.tail_of(graph, output.name, lambda node: probability.made_by(graph, node))
    node = graph.maker(tail.tensor)
    if node is None:
        return ""
    if node.op_type == "QuantizeLinear" and not tail.computes:
        return str(node.input[0])
    if probability.made_by(graph, node) and tail.computes:
        low, high = class_ids.values_of(graph, tail, np.array([0.0, 1.0]))
        return tail.tensor if low < high else ""
    if node.op_type.startswith("QLinear") or node.op_type in ("ConvInteger", "MatMulInteger"):
        raise ArtifactError(
            f"{name}: its output {described(output)} holds quantised scores ({node.op_type}) and "
            "no class ids; export the network with a float32 output, behind a DequantizeLinear"
        )
    return ""


def _scores(
    graph: OnnxGraph, tensor: str, axis: int | None, found: ScoreOutput, name: str
) -> ScoreOutput:
    """Walk from the scores to what makes them, over what only moves them and what keeps their
    order."""
    walk = _Walk(
        tensor, axis if axis is None or axis >= 0 else axis + (rank_of(graph, tensor) or 4)
    )
    kept = _Walk(walk.tensor, walk.axis)
    applied: Applied = ""
    while (node := graph.maker(walk.tensor)) is not None:
        inner = _turned(graph, node)
        function = _function(graph, inner or node, walk)
        if function and not applied:
            applied = function
            kept = _Walk(walk.tensor, walk.axis)
            if inner is not None:
                walk.tensor = graph.makers[inner.input[0]].input[0]
                continue
        elif not _passes(graph, node):
            break
        if node.op_type == "Transpose" and walk.axis is not None:
            walk.axis = int(attributes(node)["perm"][walk.axis])
        walk.tensor = node.input[0]
    if walk.axis is None:
        walk.axis = class_axis(graph, walk.tensor)
    maker = graph.maker(walk.tensor)
    enlarged = maker is not None and maker.op_type in ("Resize", "Upsample")
    # A softmax over one score is 1 everywhere, and says nothing that could be kept.
    alone = applied == "softmax" and number_of(graph, walk.tensor, walk.axis) == 1
    if applied and not enlarged and not alone:
        kept_axis = kept.axis if kept.axis is not None else class_axis(graph, kept.tensor)
        return replace(found, tensor=kept.tensor, axis=kept_axis, kept=applied)
    before: Applied = "" if applied else probability.origin(graph, walk.tensor, name)
    return replace(found, tensor=walk.tensor, axis=walk.axis, applied=applied, kept=before)


def _turned(graph: OnnxGraph, node: NodeProto) -> NodeProto | None:
    """The softmax over the last axis between two exchanges of it with that of the classes, as
    exports before operator set 13 have it; `node` is the second exchange."""
    if node.op_type != "Transpose" or tuple(attributes(node).get("perm", ())) != (0, 3, 2, 1):
        return None
    inner = graph.maker(node.input[0])
    before = graph.maker(inner.input[0]) if inner is not None else None
    if inner is None or before is None or before.op_type != "Transpose":
        return None
    same = attributes(before) == attributes(node)
    return inner if same and inner.op_type in ("Softmax", "LogSoftmax") else None


def _function(graph: OnnxGraph, node: NodeProto, walk: _Walk) -> Applied:
    """Softmax or sigmoid, where it keeps the order of the classes; sets their axis if it says."""
    if node.op_type == "Sigmoid":
        return "sigmoid"
    if node.op_type not in ("Softmax", "LogSoftmax"):
        return ""
    rank = rank_of(graph, node.input[0]) or 4
    axis = attributes(node).get("axis", 1 if graph.opset < 13 else -1) % rank
    reader = graph.maker(walk.tensor)
    if reader is not None and reader is not node:  # between two exchanges of axes
        axis = {3: 1, 1: 3}.get(axis, axis)
    if walk.axis is None and rank == 4:
        walk.axis = axis
    return "softmax" if walk.axis == axis else ""


def _passes(graph: OnnxGraph, node: NodeProto) -> bool:
    """Whether a node only moves the scores, or does nothing at all."""
    match node.op_type:
        case "Identity" | "Dropout":
            return True
        case "Cast":
            return attributes(node)["to"] in FLOATS and graph.kind(node.input[0]) in (0, *FLOATS)
        case "Transpose":
            perm = attributes(node).get("perm", ())
            return tuple(perm) in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 2, 3))
        case "Resize" | "Upsample":
            return resizes_nothing(graph, node)
        case _:
            return False


def _check_ids(output: onnx.ValueInfoProto, name: str) -> None:
    kind = output.type.tensor_type
    if kind.HasField("shape") and not 2 <= len(kind.shape.dim) <= 4:
        raise ArtifactError(
            f"{name}: expected scores (N, C, h, w) or class ids (N, h, w) as output, found "
            f"{described(output)}; one class for a whole picture is classification, and Atrous "
            "runs networks that give every pixel a class"
        )


def _check_scores(output: onnx.ValueInfoProto, name: str) -> None:
    """Raise `ArtifactError` for what is no map of scores, saying what it seems to be."""
    kind = output.type.tensor_type
    dims: Dims = dims_of(kind)
    rank = len(dims)
    if not kind.HasField("shape") or rank == 3 or (rank == 4 and dims[2:] != (1, 1)):
        return
    if rank == 2 and None not in dims and dims[0] != 1:
        return  # one score a pixel of one picture, or of no use: `decide` knows the picture's size
    if rank == 4 or rank == 2:
        what = "one score a class for the whole picture, as classification does"
    elif rank == 5:
        what = "scores of volumes or clips"
    else:
        what = "no map of scores"
    raise ArtifactError(
        f"{name}: its output {described(output)} is {what}; Atrous runs networks that give every "
        "pixel scores (N, C, h, w) or a class; `output_name` says which output does"
    )


def constant_of(threshold: float, *, logit: bool) -> float:
    """The score that a pixel has to exceed, for a probability."""
    return float(np.log(threshold / (1 - threshold))) if logit else threshold
