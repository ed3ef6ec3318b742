"""What layers are called: engines rename what they fuse, exporters number what had a name."""

from __future__ import annotations

import re

import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators with weights: nearly all of the work."""


class LayerNames:
    """Readable names of layers.

    Exporters number their nodes (`node_Conv_1038`), but call weights by the module that they
    belong to. Nodes get the name of their weights before an engine sees them.

    Args:
        model: left as it is.

    Attributes:
        model: the same with other names of nodes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        nodes = self.model.graph.node
        self._makers = {name: node for node in nodes for name in node.output if name}
        modules = {node.output[0]: module for node in nodes if (module := _module(node))}
        # Rewrites take a layer `t` apart into `t_fine`, `t_coarse` and so on.
        parts = {
            output.removesuffix(part): module
            for output, (module, part) in modules.items()
            if part and output.endswith(part)
        }
        taken: set[str] = set()
        for node in nodes:
            name = "".join(modules.get(node.output[0], ())) or self._plain(node, parts)
            node.name = name if name not in taken else f"{name} ({node.output[0]})"
            taken.add(node.name)

    def of(self, called: str, operator: str) -> str:
        """The name for people of a layer.

        Args:
            called: by the engine.
            operator: as the engine calls it.
        """
        name = re.sub(r"_token_\d+", "", called.removeprefix("fused "))
        if name.endswith("_nchwc"):  # ONNX Runtime: the last tensor that was fused, in blocks of 16
            return self._behind(name.removesuffix("_nchwc"), operator)
        # OpenVINO: two layers and the order of axes, in memory, after the one and before the other
        ends = re.split(r"_[aA][A-Ea-e\d]+_[aA][A-Ea-e\d]+_", name, maxsplit=1)
        ends = [re.sub(r".*/sink_port_\d+$", "output", end) for end in ends]
        return " → ".join(end.removesuffix("/WithoutBiases") for end in ends)

    @staticmethod
    def _plain(node: onnx.NodeProto, parts: dict[str, str]) -> str:
        name = node.name or node.output[0]
        for whole, module in parts.items():
            if name == whole:
                return f"{module}_{node.op_type.lower()}"
            if name.startswith(f"{whole}_"):
                return module + name.removeprefix(whole)
        return name.removeprefix("/")

    def _behind(self, tensor: str, operator: str) -> str:
        """The node of this operator whose result, after others fused into it, is `tensor`."""
        last = node = self._makers.get(tensor)
        while node is not None and node.op_type != operator:
            node = self._makers.get(node.input[0]) if node.input else None
        found = node or last
        return found.name if found is not None else tensor


def module_of(node: onnx.NodeProto) -> str:
    """The module that a layer's weights are named after, or the tensor that it makes."""
    return "".join(_module(node) or ()) or node.output[0]


def _module(node: onnx.NodeProto) -> tuple[str, str] | None:
    """Module and part of it that the weights are named after: `a.weight_fine` → `a`, `_fine`."""
    if node.op_type not in WEIGHTED:
        return None
    found = re.fullmatch(r"(.+)\.weight((?:_\w+?)?)(?:_DequantizeLinear_Output)?", node.input[1])
    return (found[1], found[2].replace("_value", "")) if found else None
