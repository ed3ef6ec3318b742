"""Decide what becomes int8 and with which ranges, and write it; nothing is trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from atrous.artifact import Calibration
from atrous.compiler.config import CompileConfig
from atrous.compiler.form import Form
from atrous.compiler.graph.graph import Graph
from atrous.compiler.int8 import calibrate, classes, noise, qdq, ranges, rounding, samples
from atrous.compiler.int8.qdq import ConvLayer, Range
from atrous.compiler.progress import Tell, counted
from atrous.compiler.rewrites import Rewritten
from atrous.compiler.sections import Quantize
from atrous.engines.layer_names import WEIGHTED, LayerNames
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess

MEASURED = 4
"""Images on which the noise of each layer is measured."""

_log = logging.getLogger("atrous")
_TAPS = re.compile(r"(_coarse\d+)(_\d+)+$")
_PARTS = re.compile(r"_(fine|wide|pooled|coarse\d+)(_\d+)*$")
"""How rewrites name the parts of a layer that they split; `_TAPS`, the products of one part."""

FIRST = "the first layer, which reads the image: little work, much harm"
POOLED = "behind global pooling: work of one pixel"
LAST = "it gives the scores, which bytes would turn into 256 steps: edges become stairs"
_CHEAP = (FIRST, POOLED, LAST)
"""Why layers stay in float that could read bytes without harm."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A float model with everything needed to write it as int8, with any layers left in float.

    Attributes:
        model: float, rewritten.
        layers: that can be quantised, in the order of the graph.
        spans: range of every tensor that may be quantised.
        means: per channel of those of four axes.
        noise: signal-to-noise ratio of every layer alone, dB.
        kept: layer → why it stays in float.
        calibration: how the ranges were found.
        unreadable: images that were left out, and why.
        inputs: inputs of the network, to judge classes on; noise is measured on the first few.
        form: to write it in.
    """

    model: onnx.ModelProto
    layers: tuple[ConvLayer, ...]
    spans: Mapping[str, Range]
    means: Mapping[str, NDArray[np.float64]]
    noise: Mapping[str, float]
    kept: Mapping[str, str]
    calibration: Calibration
    unreadable: tuple[str, ...]
    inputs: tuple[NDArray[np.generic], ...]
    form: Form

    @property
    def measured(self) -> tuple[NDArray[np.generic], ...]:
        """The few of `inputs` on which noise is measured."""
        return self.inputs[:: -(-len(self.inputs) // MEASURED)]

    def chosen(self, floats: Collection[str] = ()) -> list[ConvLayer]:
        """The layers that are written as int8.

        Where a layer is int8 only if its result is, it stays in float if another one needs its
        result exactly.

        Args:
            floats: layers to leave in float besides `kept`.
        """
        left = {*self.kept, *floats}
        if self.form.int8_outputs:
            left |= self._exact(Graph(self.model), floats)
        return [layer for layer in self.layers if layer.name not in left]

    def write(self, floats: Collection[str] = ()) -> onnx.ModelProto:
        """The int8 model.

        Args:
            floats: layers to leave in float besides `kept`.
        """
        graph = Graph(self.model)
        chosen = self.chosen(floats)
        exact = self._exact(graph, floats)
        qdq.correct_biases(graph, chosen, self.means, self.form)
        return qdq.insert(graph, chosen, self.spans, self.form, exact)

    def _exact(self, graph: Graph, floats: Collection[str]) -> set[str]:
        told = {name for name, why in self.kept.items() if why not in _CHEAP}
        return qdq.exact_tensors(graph, told.union(floats))


def _no_layers(graph: Graph) -> ConfigError:
    """What is raised for a network of which nothing can become int8."""
    weighted = [node for node in graph.nodes if node.op_type in WEIGHTED]
    weights = [graph.constant(node.input[1]) for node in weighted]
    if any(node.op_type == "DequantizeLinear" for node in graph.nodes):
        found = "the network is quantised already; start from its float32 file, or compile to fp32"
    elif any(weight is not None and weight.dtype == np.float16 for weight in weights):
        found = "those of the network are float16; start from its float32 file, or compile to fp16"
    else:
        found = "the network has none; compile to fp16"
    return ConfigError(
        "backend.dtype: int8 needs convolutions or matrix products with constant float32 weights, "
        f"and {found}"
    )


def prepare(
    network: Rewritten,
    config: CompileConfig,
    form: Form,
    *,
    evaluated: Collection[str] = (),
    labels: Sequence[str] = (),
    tell: Tell,
) -> Prepared:
    """Calibrate, and choose the layers.

    Args:
        network: float; the indices of the compile file count the nodes of its original.
        config: names the images, and the layers that stay in float.
        form: to write it in.
        evaluated: ids of images that one will be evaluated on: not calibrated on while there are
            others.
        labels: names of the classes.
        tell: called as it works.

    Raises:
        ConfigError: there are no images, or a layer is not in the model.
        AtrousError: calibration failed, see `calibrate.collect`.
    """
    settings, dataset = config.backend.quantize, config.dataset
    if dataset is None or dataset.path is None:
        raise ConfigError(
            "dataset.path: missing; int8 needs images to calibrate on, as dataset.path: "
            "VOCdevkit/VOC2012/JPEGImages; a few dozen of the training images do"
        )
    percentile = _percentile(settings)
    graph = Graph(network.model)
    layers = tuple(qdq.layers(graph))
    if not layers:
        raise _no_layers(graph)
    skipped = named_layers(network.original, layers, settings)
    count = dataset.sampler.get_data_num or samples.COUNT
    images = samples.choose(
        dataset.path, dataset.sampler.suffix, count, exclude=evaluated, tell=tell
    )
    found = calibrate.collect(
        network.model, qdq.tensors(graph), images, network.preprocess, tell=tell
    )
    spans = {
        name: ranges.choose(
            one,
            settings.calibrate_mode,
            levels=form.levels,
            percentile=percentile,
            symmetric=form.symmetric,
        )
        for name, one in counted(found.statistics.items(), "choosing ranges", tell)
    }
    few = samples.spread(found.used, classes.JUDGED)
    inputs = tuple(_input(graph, path, network.preprocess) for path in few)
    kept = {**_kept(graph, layers, form), **skipped}
    prepared = Prepared(
        model=network.model,
        layers=rounding.together(graph, layers, kept, inputs, form, tell=tell),
        spans=spans,
        means={n: one.mean for n, one in found.statistics.items() if one.mean is not None},
        noise={},
        kept=kept,
        calibration=Calibration(
            method=settings.calibrate_mode,
            images=tuple(samples.image_id(path) for path in found.used),
        ),
        unreadable=found.unreadable,
        inputs=inputs,
        form=form,
    )
    batches = counted(prepared.measured, "measuring the noise of each layer", tell)
    prepared = replace(prepared, noise=noise.local(graph, prepared.layers, spans, batches, form))
    suspects = _suspects(graph, prepared, tell)
    harmful = classes.harmful(
        network.model, suspects, prepared.write, prepared.inputs, labels, tell=tell
    )
    return replace(prepared, kept={**prepared.kept, **harmful})


def named_layers(
    original: onnx.ModelProto, layers: Collection[ConvLayer], settings: Quantize
) -> dict[str, str]:
    """The layers that the compile file leaves in float → the key that says so.

    Indices count the nodes of their kind in the file that was read, from 0; what a rewrite made
    of a node counts as the node. A name is that of a node, of its result, or of the module that a
    report calls it.

    Raises:
        ConfigError: there is no such node, or a name is that of no layer.
    """
    nodes = list(original.graph.node)
    modules = [node.name for node in LayerNames(original).model.graph.node]
    convolutions = [node for node in nodes if node.op_type in ("Conv", "ConvTranspose")]
    products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
    origins = {layer.name: _origins(nodes, layer) for layer in layers}
    wanted: dict[str, str] = {}
    for key, indexed in (
        ("skip_conv_layers", convolutions),
        ("skip_matmul_layers", products),
        ("exclude_layers", nodes),
    ):
        for entry in getattr(settings, key):
            if isinstance(entry, str):
                found = [
                    node
                    for node, module in zip(nodes, modules, strict=True)
                    if entry and (entry in (node.name, *node.output) or _is(entry, module))
                ]
            else:
                found = indexed[entry : entry + 1] if entry >= 0 else []
            # The layers that rewrites made have names of their own.
            if not found and not any(entry == layer.name for layer in layers):
                raise ConfigError(
                    f"backend.quantize.{key}: {entry!r} is not in the network; expected an index "
                    f"below {len(indexed)}, or the name of a node"
                )
            outputs = {name for node in found for name in node.output}
            hit = [n for n, makers in origins.items() if n == entry or outputs & makers.keys()]
            wanted |= dict.fromkeys(hit, key)
            if not hit:
                _log.warning(
                    "backend.quantize.%s: %r has no effect: it is not a convolution or product "
                    "with constant weights; name the layer that makes its input",
                    key,
                    entry,
                )
    for layer in layers:
        operators = origins[layer.name].values() or [layer.operator]
        if not set(operators).isdisjoint(settings.ops_usingfp):
            wanted[layer.name] = "ops_usingfp"
    return wanted


def _is(entry: str, module: str) -> bool:
    """Whether a name, as a report gives it, is that of a module or of a part of it."""
    return module in (entry, _PARTS.sub("", entry))


def _origins(nodes: Sequence[onnx.NodeProto], layer: ConvLayer) -> dict[str, str]:
    """The nodes that a layer was made of: output → operator."""
    makers = {name: node for node in nodes for name in node.output}
    name = layer.name if layer.name in makers else _PARTS.sub("", layer.name)
    found = {}
    if name in makers:
        found[name] = makers[name].op_type
        # A convolution takes over the name of the batch norm that it absorbs.
        source = makers[name].input[0]
        if found[name] == "BatchNormalization" and source in makers:
            found[source] = makers[source].op_type
    return found


def _kept(graph: Graph, layers: Collection[ConvLayer], form: Form) -> dict[str, str]:
    """The layers that are not worth it or always harmful, and why."""
    kept = {}
    [image] = graph.inputs
    last = qdq.results(graph) if form.int8_outputs else set()
    for layer in layers:
        output = graph.shape(layer.name) or ()
        if np.asarray(graph.constant(layer.weight)).shape[1] == 3 and _near(graph, layer, image):
            kept[layer.name] = FIRST
        elif len(output) == 4 and output[2:] == (1, 1):
            kept[layer.name] = POOLED
        elif layer.name in last:
            kept[layer.name] = LAST
    return kept


def _suspects(graph: Graph, prepared: Prepared, tell: Tell) -> list[list[str]]:
    """The layers that alone disturb the logits, those that belong together in one group.

    The parts that a rewrite makes of one layer share a decision, and what is joined as it is.
    """
    noisy: dict[str, list[ConvLayer]] = {}
    for layer in prepared.layers:
        if layer.name not in prepared.kept and prepared.noise[layer.name] < noise.SUSPECT:
            whole = _TAPS.sub(r"\1", noise.joined(graph, layer))
            noisy.setdefault(whole, []).append(layer)
    alone = {
        whole: noise.on_output(graph, group, prepared.spans, prepared.measured, prepared.form)
        for whole, group in counted(noisy.items(), "measuring noisy layers on the scores", tell)
    }
    loud = sorted((whole for whole in noisy if alone[whole] < noise.LOUD), key=lambda w: -alone[w])
    return [[layer.name for layer in noisy[whole]] for whole in loud]


def _near(graph: Graph, layer: ConvLayer, image: str) -> bool:
    """Whether nothing but arithmetic on pixels lies between the image and a layer."""
    name = layer.source
    while name != image:
        node = graph.maker(name)
        if node is None or node.op_type not in ("Cast", "Sub", "Add", "Mul", "Div", "Pad"):
            return False
        name = node.input[0]
    return True


def _input(graph: Graph, path: Path, preprocess: Preprocess) -> NDArray[np.generic]:
    """One image as the network takes it."""
    [name] = graph.inputs
    batch, *_ = graph.shape(name) or (1,)
    tensor = preprocess(samples.read(path, preprocess), preprocess.empty(graph.dtype(name)))
    return np.repeat(tensor[None], batch, axis=0)


def _percentile(settings: Quantize) -> float:
    """The share of values that is kept, where the compile file gives one that counts.

    Raises:
        ConfigError: it gives none that can be, or asks for scales that are not made.
    """
    if settings.weight_scale != "max":
        raise ConfigError(
            f"backend.quantize.weight_scale: expected max, found {settings.weight_scale}: scales "
            "that are powers of 2 only help hardware without multipliers"
        )
    given = settings.calibrate_range
    if settings.calibrate_mode != "percentile" or given is None:
        return ranges.share(99.99)
    try:
        return ranges.share(float(given))
    except (TypeError, ValueError):
        raise ConfigError(
            "backend.quantize.calibrate_range: expected a percentile, as 99.99 or 0.9999, found "
            f"{given!r}"
        ) from None
