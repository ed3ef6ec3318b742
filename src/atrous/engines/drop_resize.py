"""Cut an ONNX graph before its last resize, so that full-size logits are never written."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from atrous.geometry import CoordinateRule

_RULES: dict[str, CoordinateRule] = {
    "half_pixel": "half_pixel",
    "pytorch_half_pixel": "pytorch_half_pixel",
    "align_corners": "align_corners",
}


def drop_last_resize(model: onnx.ModelProto) -> tuple[onnx.ModelProto, CoordinateRule | None]:
    """Make the small logits the output, where `atrous.upsample` can take over exactly.

    That is so for one output made by a linear `Resize` without antialiasing that enlarges height
    and width alone by a rule known here. With `align_corners` the size must also be known to be
    that of the input: unlike the half-pixel rules it does not compose over another size.

    Args:
        model: left as it is.

    Returns:
        The shortened copy and the rule of the dropped `Resize`, or `model` itself and `None`.
    """
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(graph.output) != 1 or len(inputs) != 1:
        return model, None
    output = graph.output[0].name
    resize = next((node for node in graph.node if output in node.output), None)
    if resize is None or resize.op_type != "Resize":
        return model, None
    attributes = {a.name: helper.get_attribute_value(a) for a in resize.attribute}
    rule = _RULES.get(_text(attributes.get("coordinate_transformation_mode", b"half_pixel")))
    small = resize.input[0]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: _shape(value)
        for value in [*inferred.input, *inferred.value_info, *inferred.output]
    }
    source, target = shapes.get(small, ()), shapes.get(output, ())
    linear = (
        rule is not None
        and _text(attributes.get("mode", b"nearest")) == "linear"
        and not attributes.get("antialias", 0)
        and _text(attributes.get("keep_aspect_ratio_policy", b"stretch")) == "stretch"
        and sorted(attributes.get("axes", (2, 3)))[-2:] == [2, 3]
        and any(small in node.output for node in graph.node)
        and not any(small == value.name for value in graph.output)
    )
    # Only height and width may change; a resize over the classes would be another network.
    same_classes = len(source) == 4 and (
        (len(target) == 4 and source[1] == target[1] is not None) or _keeps_channels(graph, resize)
    )
    if not linear or not same_classes:
        return model, None
    if rule == "align_corners" and (None in target or target[2:] != shapes[inputs[0].name][2:]):
        return model, None

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    cut.graph.node.remove(next(node for node in cut.graph.node if output in node.output))
    del cut.graph.output[:]
    dims = [size if size is not None else f"d{axis}" for axis, size in enumerate(source)]
    cut.graph.output.append(helper.make_tensor_value_info(small, onnx.TensorProto.FLOAT, dims))
    _drop_dead_nodes(cut.graph)
    return cut, rule


def _keeps_channels(graph: onnx.GraphProto, resize: onnx.NodeProto) -> bool:
    """Whether the target sizes start with the source's own N and C, read off at run time.

    Older exporters write `sizes` as `Concat(Slice(Shape(source), 0, 2), …)`, which shape inference
    does not see through.
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    concat = makers.get(resize.input[-1])
    cut = makers.get(concat.input[0]) if concat is not None and concat.op_type == "Concat" else None
    shape = makers.get(cut.input[0]) if cut is not None and cut.op_type == "Slice" else None
    if cut is None or shape is None or shape.op_type != "Shape":
        return False
    bounds = [constants.get(name) for name in cut.input[1:3]]
    return shape.input[0] == resize.input[0] and all(
        bound is not None and bound.reshape(-1).tolist() == [want]
        for bound, want in zip(bounds, (0, 2), strict=True)
    )


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove what only fed the dropped node: the size arithmetic of older exporters."""
    needed = {value.name for value in graph.output}
    alive = []
    for node in reversed(graph.node):
        if needed.intersection(node.output) or any(a.HasField("g") for a in node.attribute):
            needed.update(node.input)
            alive.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(alive)]
    del graph.node[:]
    graph.node.extend(kept)
    unused = [tensor for tensor in graph.initializer if tensor.name not in needed]
    for tensor in unused:
        graph.initializer.remove(tensor)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
