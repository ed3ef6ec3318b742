"""Cut an ONNX graph before its last resize, so that full-size logits are never written."""

from __future__ import annotations

import onnx

from atrous.engines.onnx_graph import OnnxGraph, attributes, copied
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
    graph = OnnxGraph(model)
    if len(model.graph.output) != 1 or len(graph.inputs) != 1:
        return model, None
    output = model.graph.output[0].name
    resize = graph.maker(output)
    # Before operator set 11 a Resize maps pixels asymmetrically and has no attribute to say it.
    if resize is None or resize.op_type != "Resize" or graph.opset < 11:
        return model, None
    settings = attributes(resize)
    rule = _RULES.get(settings.get("coordinate_transformation_mode", "half_pixel"))
    small = resize.input[0]
    source, target = graph.dims(small) or (), graph.dims(output) or ()
    linear = (
        rule is not None
        and settings.get("mode", "nearest") == "linear"
        and not settings.get("antialias", 0)
        and settings.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        and sorted(settings.get("axes", (2, 3)))[-2:] == [2, 3]
        and graph.maker(small) is not None
    )
    # Only height and width may change; a resize over the classes would be another network.
    same_classes = len(source) == 4 and (
        (len(target) == 4 and source[1] == target[1] is not None) or _keeps_channels(graph, resize)
    )
    if not linear or not same_classes:
        return model, None
    image = graph.dims(graph.inputs[0].name) or ()
    if rule == "align_corners" and (None in target or target[2:] != image[2:]):
        return model, None
    cut = OnnxGraph(copied(model))
    dims = [size if size is not None else f"d{axis}" for axis, size in enumerate(source)]
    cut.set_output(small, dims, onnx.TensorProto.FLOAT)
    return cut.model, rule


def _keeps_channels(graph: OnnxGraph, resize: onnx.NodeProto) -> bool:
    """Whether the target sizes start with the source's own N and C, read off at run time.

    Older exporters write `sizes` as `Concat(Slice(Shape(source), 0, 2), …)`, which shape inference
    does not see through.
    """
    concat = graph.maker(resize.input[-1])
    cut = (
        graph.maker(concat.input[0]) if concat is not None and concat.op_type == "Concat" else None
    )
    shape = graph.maker(cut.input[0]) if cut is not None and cut.op_type == "Slice" else None
    if cut is None or shape is None or shape.op_type != "Shape":
        return False
    bounds = [graph.constant(name) for name in cut.input[1:3]]
    return shape.input[0] == resize.input[0] and all(
        bound is not None and bound.reshape(-1).tolist() == [want]
        for bound, want in zip(bounds, (0, 2), strict=True)
    )
