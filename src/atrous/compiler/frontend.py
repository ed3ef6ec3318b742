"""Read what is compiled: any kind of file as one ONNX graph of fixed shape, and what it means.

Checkpoints and TorchScript are exported, old operator sets upgraded; both end in a comparison on
ONNX Runtime, because exporters and converters have been wrong before.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnx import TensorProto

from atrous import artifact, cache, engines, external_data, snapshot, zoo
from atrous.artifact import Metadata
from atrous.compiler.config import CompileConfig, Shape
from atrous.compiler.graph import opset
from atrous.engines import adapt, dry_run
from atrous.engines.meaning import BACKGROUND, PLAIN, ScoreMeaning, with_background
from atrous.engines.onnx_graph import OnnxGraph, copied, described
from atrous.engines.onnx_model import OnnxModel
from atrous.errors import ArtifactError, ConfigError, EngineError
from atrous.evaluation.protocols import Protocol
from atrous.files import from_home, sha256
from atrous.image import photograph
from atrous.labels import LabelSet, of_number
from atrous.labels import named as label_names
from atrous.preprocess import Preprocess, usual_normalisation

_FOREGROUND = replace(PLAIN, names=(BACKGROUND, "foreground"))
"""What the one class of a checkpoint is called, before its graph says what its scores are."""

_TORCH = (".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True, slots=True)
class InputModel:
    """A network, ready to be compiled.

    Attributes:
        model: checked, one float32 input `(N, 3, H, W)` and one float32 output
            `(N, classes, h, w)`, every shape known that ONNX can infer; default-domain opset 13 or
            newer.
        metadata: what it means: its own, or made up from the compile file.
        notes: what was assumed, changed or decided, one sentence each.
    """

    model: onnx.ModelProto
    metadata: Metadata
    notes: tuple[str, ...]


def read(config: CompileConfig) -> InputModel:
    """Read the network that a compile file names.

    Raises:
        ConfigError: a file is missing, or the compile file and the network contradict each other.
        ArtifactError: the file is damaged or no segmentation network.
        EngineError: it needs PyTorch, which is not installed.
    """
    path = _locate(config)
    if _is_onnx(config, path):
        return _from_onnx(config, path)
    if reason := engines.missing("torch"):
        raise EngineError(f"{path}: {reason}; or export it to ONNX where torch is installed")
    if _is_torchscript(path):
        return _from_torchscript(config, path)
    return _from_checkpoint(config, path)


def _locate(config: CompileConfig) -> Path:
    """The file, which is there."""
    wanted = config.frontend.checkpoint
    if wanted is None:
        return engines.find_model(config.frontend.type)
    path = from_home(wanted) if config.frontend.type == "pytorch" else cache.given(wanted)
    if path is None or not path.is_file():
        if wanted in zoo.WEIGHTS:
            return engines.find_model(wanted)
        raise ConfigError(
            f"frontend.checkpoint: expected a file, found none at {wanted} (seen from {Path.cwd()})"
        )
    return path


def _is_onnx(config: CompileConfig, path: Path) -> bool:
    named = path.suffix.lower() == ".onnx"
    if config.frontend.type == "pytorch" and named:
        raise ConfigError(f"frontend.type: {path} is an ONNX file; set it to onnx")
    if config.frontend.type == "onnx" and (zipfile.is_zipfile(path) or path.suffix in _TORCH):
        raise ConfigError(f"frontend.type: {path} is a PyTorch file; set it to pytorch")
    return named or config.frontend.type == "onnx"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _shape(config: CompileConfig) -> Shape | None:
    """The shape of the input as the compile file has it, or implies it by its preprocessing."""
    preprocess = config.preprocess()
    if config.frontend.dims is None and preprocess is not None:
        return (1, 3, *preprocess.size)
    return config.frontend.dims


def _own_shape(config: CompileConfig, carried: Metadata | None) -> Shape | None:
    """The shape that the configuration of a snapshot of Hugging Face's hub implies."""
    if config.frontend.type != "huggingface" or carried is None:
        return None
    return (1, 3, *carried.preprocess.size)


def _needed_shape(config: CompileConfig, path: Path, own: tuple[int, int] | None = None) -> Shape:
    shape = _shape(config)
    if shape is None and config.frontend.type == "huggingface":
        known = snapshot.preprocess(path)
        shape = (1, 3, *known.size) if known else None
    if shape is None and own is not None:
        shape = (1, 3, *own)
    if shape is None:
        raise ConfigError(
            f"frontend.shape: missing, and {path} runs at any size; "
            "add it, as {input: [1, 3, 513, 513]}"
        )
    return shape


def _from_onnx(config: CompileConfig, path: Path) -> InputModel:
    if config.frontend.output_stride is not None:
        raise ConfigError(f"frontend.output_stride: is for checkpoints, but {path} is a graph")
    return _of_graph(config, path, OnnxModel.read(path), config.notes)


def _of_graph(
    config: CompileConfig, path: Path, model: OnnxModel, notes: Sequence[str]
) -> InputModel:
    """Anybody's graph, in our form and at a fixed shape."""
    found = adapt.adapted(model, config.frontend.hints)
    graph, raw = _of_floats(found.proto)
    said = [*notes, *found.notes]
    given, named = config.frontend.shape, graph.graph.input[0].name
    if given is not None and named not in given:
        said.append(f"frontend.shape: the input is called {named}, not {next(iter(given))}")
    shape = _agreed_shape(_shape(config) or _own_shape(config, found.metadata), found, path)
    graph, upgraded = opset.upgraded(graph, path, shape)
    meaning = _Meaning(config, path, found.metadata, said + upgraded, found.meaning or PLAIN, raw)
    try:
        fixed = opset.fixed(graph, path, shape)
    except ArtifactError as error:
        with engines.open_engine(found, engine="onnxruntime") as engine:
            fitting = dry_run.fitting(engine, (shape[2], shape[3]))
        if fitting is None:
            raise
        raise ArtifactError(
            f"{path}: does not work with an input of {_times(shape)}, but at {fitting.rule}: "
            f"frontend.shape, as {{{named}: [{shape[0]}, 3, {fitting.size[0]}, {fitting.size[1]}]}}"
        ) from error
    return meaning.of(fixed)


def _from_checkpoint(config: CompileConfig, path: Path) -> InputModel:
    from atrous import models
    from atrous.engines.torch import describe, recorded_size
    from atrous.exporters.onnx import export_onnx

    frontend, notes = config.frontend, list(config.notes)
    trained = recorded_size(path)
    shape = _needed_shape(config, path, trained)
    if trained is not None and shape[2:] != trained:
        notes.append(
            f"{path} was trained to see {trained[0]}×{trained[1]} pixels (height×width), and "
            f"frontend.shape says {shape[2]}×{shape[3]}; leave frontend.shape out to keep its own"
        )
    network = models.load(path, output_stride=frontend.output_stride)
    row = zoo.WEIGHTS.get(frontend.type)
    wanted = row.network if row else frontend.type
    if wanted in zoo.VARIANTS and wanted != network.variant.name:
        raise ConfigError(
            f"frontend.type: {frontend.type}, but {path} holds {network.variant.name}; make them "
            "agree, or set it to pytorch"
        )
    recorded = models.recorded_metadata(path).get("labels")
    named = recorded or cache.row_of(path) or snapshot.labels(path)
    carried = describe(network, path) if named else None
    alone = network.num_classes == 1  # the foreground, which becomes two classes
    meaning = _Meaning(config, path, carried, notes, _FOREGROUND if alone else PLAIN)
    metadata = meaning.metadata(shape[2:], 2 if alone else network.num_classes).model_copy(
        update={"variant": network.variant.name, "output_stride": network.output_stride}
    )
    with TemporaryDirectory(prefix="atrous-") as folder:
        file = Path(folder) / f"{path.stem}.onnx"
        difference = export_onnx(
            network,
            file,
            metadata=metadata,
            pixels=photograph(),
            dynamic=("batch",) if shape[0] > 1 else (),
        )
        said = [*notes, f"{path}: exported to ONNX: {difference}"]
        if alone:
            found = OnnxModel(artifact.load(file), metadata, str(path))
            return _of_graph(config, path, found, said)
        model = opset.fixed(artifact.load(file), path, shape)
    return InputModel(model, metadata, tuple(said))


def _from_torchscript(config: CompileConfig, path: Path) -> InputModel:
    from atrous.exporters.scripted import script_to_onnx

    if config.frontend.output_stride is not None:
        raise ConfigError(f"frontend.output_stride: is for checkpoints, but {path} is a graph")
    shape = _needed_shape(config, path)
    preprocess = config.preprocess() or Preprocess(size=shape[2:])
    model, text, difference = script_to_onnx(path, shape[0], preprocess, photograph())
    carried = None
    if text:
        entry = onnx.StringStringEntryProto(key=artifact.KEY, value=text)
        carried = artifact.metadata_of(onnx.ModelProto(metadata_props=[entry]), path)
    notes = [*config.notes, f"{path}: exported to ONNX: {difference}"]
    return _of_graph(config, path, OnnxModel(model, carried, str(path)), notes)


def _of_floats(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """A graph in our form that takes float32, and whether it took bytes before.

    Weights are dropped from the inputs, where old files list them too.
    """
    inputs = OnnxGraph(proto).inputs
    raw = inputs[0].type.tensor_type.elem_type == TensorProto.UINT8
    if not raw and len(inputs) == len(proto.graph.input):
        return proto, False
    draft = OnnxGraph(copied(proto))
    # Before version 4 every initializer had to be an input.
    draft.model.ir_version = max(draft.model.ir_version, 4)
    del draft.graph.input[:]
    draft.graph.input.extend(inputs)
    if raw:
        [image] = draft.graph.input
        image.type.tensor_type.elem_type = TensorProto.FLOAT
        source = draft.free_name(f"{image.name}_bytes")
        draft.redirect(image.name, source)
        cast = onnx.helper.make_node("Cast", [image.name], [source], to=TensorProto.UINT8)
        draft.graph.node.append(cast)
        draft.to_front(1)
    return draft.model, raw


def _agreed_shape(wanted: Shape | None, model: OnnxModel, path: Path) -> Shape:
    value = model.proto.graph.input[0]
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim] or [0] * 4
    found = [size if size > 0 else None for size in dims]
    if wanted is None:
        if None in found[2:]:
            with engines.open_engine(model, engine="onnxruntime") as engine:
                height, width = dry_run.choose(engine, str(path)).size
            raise ConfigError(
                f"frontend.shape: missing, and {path} leaves it open: {described(value)}; "
                f"add it, as {{{value.name}: [1, 3, {height}, {width}]}}"
            )
        wanted = (found[0] or 1, 3, found[2] or 1, found[3] or 1)
    if any(size is not None and size != want for size, want in zip(found, wanted, strict=True)):
        raise ConfigError(
            f"frontend.shape: {_times(wanted)}, but the input of {path} is fixed at "
            f"{_times(dims)}; make them agree, or export the model at that size"
        )
    return wanted


def _times(shape: Shape | list[int]) -> str:
    return "×".join(str(size) if size > 0 else "?" for size in shape)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a compile file and a network say of each other.

    Attributes:
        config: the compile file.
        path: of the network, named in errors and notes.
        carried: what the network says of itself, `None` for somebody else's.
        notes: what was assumed, changed or decided; grows.
        scores: what they stand for.
        raw: it takes pixels as they are, as numbers of 0–255.
    """

    config: CompileConfig
    path: Path
    carried: Metadata | None
    notes: list[str]
    scores: ScoreMeaning = PLAIN
    raw: bool = False

    def of(self, model: onnx.ModelProto) -> InputModel:
        """The network with what it means, once its shapes are fixed."""
        sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        output = model.graph.output[0]
        kind = output.type.tensor_type
        metadata = self.metadata((sizes[2], sizes[3]), kind.shape.dim[1].dim_value)
        return InputModel(model, metadata, tuple(self.notes))

    def metadata(self, size: tuple[int, int], classes: int) -> Metadata:
        """What the network means at this size; adds to the notes what is assumed."""
        carried = self.carried
        known: dict[str, Any] = {
            "name": self.config.name,
            "labels": self._labels(classes),
            "preprocess": self._preprocess(size),
            "weights_sha256": (carried and carried.weights_sha256) or _hash(self.path),
        }
        if carried and (own := carried.protocol):
            side = Protocol.parse(own).side
            known["protocol"] = own if side is None or size == (side, side) else ""
        if (self.scores.activation, self.scores.threshold) != ("softmax", None):
            known["activation"] = self.scores.activation
            known["threshold"] = self.scores.threshold
        return carried.model_copy(update=known) if carried else Metadata(**known)

    def _labels(self, classes: int) -> LabelSet:
        given = self.config.frontend.label_set
        if given is not None:
            labels, origin = with_background(given, self.scores), "frontend.labels"
        elif self.carried is not None:
            labels, origin = with_background(self.carried.labels, self.scores), "its metadata"
        elif self.scores.names and self.scores.names[0] == BACKGROUND:
            labels, origin = label_names(self.scores.names), "what its scores are"
        else:
            if not 1 <= classes <= 256:
                raise ArtifactError(f"{self.path}: expected 1 to 256 classes, found {classes}")
            labels, origin = of_number(classes), "their number"
            self.notes.append(
                f"{self.path} does not name its {classes} classes: taken as label set "
                f"{labels.name}; frontend.labels names them"
            )
        if labels.num_classes != classes:
            raise ConfigError(
                f"{self.path}: {classes} classes, but {labels.num_classes} in the label set "
                f"{labels.name} of {origin}; make them agree"
            )
        return labels

    def _preprocess(self, size: tuple[int, int]) -> Preprocess:
        found, dataset = self._steps(size), self.config.dataset
        if dataset is None or dataset.range is None:
            return found
        return Preprocess.from_dict({**found.to_dict(), "value_range": dataset.range})

    def _steps(self, size: tuple[int, int]) -> Preprocess:
        stated = self.config.preprocess()
        if stated is not None and self.scores.grey:
            stated = stated.model_copy(update={"colour": "rgb"})
        if self.carried is None:
            if stated is None:
                kind, how = usual_normalisation(raw=self.raw, grey=self.scores.grey)
                self.notes.append(
                    f"{self.path} does not say how its images were prepared: assumed is RGB "
                    f"squashed to {size[0]}×{size[1]}, {how}; dataset.process_ops says otherwise"
                )
                return Preprocess(size=size, normalisation=kind)
            return stated
        own = Preprocess.from_dict(self.carried.preprocess.with_size(*size).to_dict())
        if stated is None or stated == own:
            return own
        other = stated.to_dict()
        fields = [key for key, value in own.to_dict().items() if other.get(key) != value]
        self.notes.append(
            f"dataset.process_ops differs from what {self.path} carries in {', '.join(fields)}; "
            "dataset.process_ops holds"
        )
        return stated


def _hash(path: Path) -> str:
    """SHA-256 of a file; of an ONNX file with its weights beside it, of the hashes of all."""
    if path.suffix.lower() != ".onnx":
        return sha256(path)
    beside = external_data.locations(onnx.load(path, load_external_data=False))
    if not beside:
        return sha256(path)
    files = [external_data.found(path, name) for name in sorted(beside)]
    hashes = [sha256(file) for file in (path, *files)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
