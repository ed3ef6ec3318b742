"""The YAML file of `atrous compile`: VastModelZOO's compile files as they are, and our own keys.

    name: my_model
    frontend:
      type: onnx                    # or pytorch, huggingface, or a name of the zoo
      checkpoint: my_model.onnx
      shape: {input: [1, 3, 513, 513]}
    backend:
      dtype: fp16                   # fp32, fp16, int8
      engine: auto                  # what the report is measured on
    evaluate:
      data: voc:VOCdevkit:val
      protocol: squash-513

Keys that only speak to that zoo's hardware are accepted with any value, kept, and listed as
without effect; any other unknown key is an error. Paths are relative to the current folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from atrous import labels, strict_yaml, zoo
from atrous.compiler.sections import Backend, Closed, Evaluate, Quantize
from atrous.engines.meaning import Hints, Layout
from atrous.errors import ConfigError, InputError
from atrous.files import from_home
from atrous.labels import LABEL_SETS, LabelSet
from atrous.preprocess import Preprocess
from atrous.record import Record
from atrous.strict_yaml import nearest, short
from atrous.vastai import process_ops
from atrous.vastai.process_ops import STEPS, ProcessOp

NO_EFFECT: dict[str, tuple[str, ...]] = {
    "frontend": ("model_kwargs", "quantize"),
    "backend": ("type", "device", "merge_params", "merge_shapes", "remove_params"),
    "backend.dynamic_params": ("enable_graph_partition", "is_elic_gs"),
    "backend.compile": (
        "attention_split_num", "cluster_mode", "data_transport_mode", "data_type",
        "enable_float_to_half", "enable_graph_partition", "enable_inputs_align", "ffn_split_num",
        "gather_data_vccl_dsp_enable", "mem_inplace", "nearest_interpol_on_dsp", "opt_level",
        "output_ddr", "output_layout", "real_output_shape", "split_convergence_points",
        "stream_mode", "switch_lhs_rhs",
    ),
    "backend.quantize": (
        "calibrate_chunk_by", "output_ddr", "overflow_adaptive", "quantize_dsp_ops",
        "quantize_mode", "quantize_operators", "requant_suppress",
    ),
    "dataset": ("type", "name", "nsamples", "seqlen"),
    "workspace": ("work_dir", "enable_ir", "save_log", "workers", "env_recheck", "pyenv"),
}  # fmt: skip
"""Record → keys that are accepted with any value and do nothing here."""

OTHER_FRONTENDS = ("keras", "tensorflow", "darknet", "tvm")
SHAPE = "{input: [1, 3, height, width]}"

Shape = tuple[int, int, int, int]


def _one_shape(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise ValueError(f"expected {SHAPE}, found {short(value)}")
    if len(value) > 1:
        raise ValueError(f"expected one input, found {', '.join(map(str, value))}")
    [(name, shape)] = value.items()
    if isinstance(shape, dict) or (isinstance(shape, list) and any(_nested(n) for n in shape)):
        raise ValueError(
            f"expected one fixed shape [1, 3, height, width], found several: {short(shape)}; "
            "compile once for each"
        )
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(n) is int for n in shape):
        raise ValueError(f"expected {SHAPE}, found {short(shape)}")
    if shape[3] in (1, 3) and shape[1] not in (1, 3):  # of a network that takes channels last
        shape = [shape[0], 3, shape[1], shape[2]]
    elif shape[1] == 1:  # of one that takes grey pictures
        shape = [shape[0], 3, *shape[2:]]
    if shape[1] != 3 or min(shape) < 1:
        raise ValueError(
            f"expected a batch of images of 3 channels, all sizes 1 or more, found {shape}"
        )
    return {str(name): shape}


def _nested(value: object) -> bool:
    return isinstance(value, list | dict)


class Frontend(Record):
    """What is compiled.

    Attributes:
        type: `onnx`, `pytorch` (a checkpoint or TorchScript), `huggingface` (a snapshot of its hub:
            a folder), or a network or weights of the zoo.
        checkpoint: the file, or a name of the zoo; where `type` is such a name it is left out.
        shape: name of the input → batch, 3, height, width; by default what the file says.
        dtype: of the input.
        output_stride: 8 or 16, for checkpoints, whose weights do not tell.
        labels: a row of `LABEL_SETS`, or the names of all classes with commas between them; by
            default what the file says, or by number of classes.
        layout: of the scores of an ONNX file, where both orders of axes fit.
        output_name: of the tensor that holds them, where several might.
        threshold: probability from which on a pixel is not background, of a network that says it
            for each class alone.
    """

    type: str = "onnx"
    checkpoint: str | None = None
    shape: Annotated[dict[str, Shape] | None, BeforeValidator(_one_shape)] = None
    dtype: Literal["fp32"] = "fp32"
    output_stride: Literal[8, 16] | None = None
    labels: str | None = None
    layout: Layout | None = None
    output_name: str | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None

    @property
    def given(self) -> str:
        """What is compiled, as the file names it."""
        return self.checkpoint or self.type

    @property
    def dims(self) -> Shape | None:
        """Batch, channels, height, width of the input, where the file says so."""
        return next(iter(self.shape.values())) if self.shape else None

    @field_validator("type")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in OTHER_FRONTENDS:
            raise ValueError(f"{value} is not supported; export the model to ONNX, type: onnx")
        known = ["onnx", "pytorch", "huggingface", *zoo.VARIANTS]
        known += [row.name for row in zoo.WEIGHTS.values() if row.kind == "segmentation"]
        if value not in known:
            raise ValueError(f"unknown type {value!r}{nearest(value, known)}")
        return value

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                labels.parse(value)
            except InputError:
                raise ValueError(f"unknown labels {value!r}{nearest(value, LABEL_SETS)}") from None
        return value

    @property
    def label_set(self) -> LabelSet | None:
        """What `labels` stands for."""
        return labels.parse(self.labels) if self.labels is not None else None

    @property
    def hints(self) -> Hints:
        """What is said of a network that does not say it itself."""
        known = self.label_set
        names = known.names if known else ()
        return Hints(self.layout, self.output_name, self.threshold, names)

    @model_validator(mode="after")
    def _has_file(self) -> Self:
        if self.checkpoint is None and self.type in ("onnx", "pytorch", "huggingface"):
            raise ValueError(f"checkpoint is missing: name the file, as type is {self.type}")
        return self


class GraphSection(Record):
    """What vamc adds to the graph: nothing, here."""

    extra_ops: Any = None

    @field_validator("extra_ops")
    @classmethod
    def _none(cls, value: object) -> object:
        entries = value if isinstance(value, list) else [value]
        types = [entry.get("type") if isinstance(entry, dict) else entry for entry in entries]
        named = ", ".join(str(name) for name in types if name)
        if named:
            raise ValueError(
                f"{short(named)} would change what the model returns, which is not "
                "supported; remove it"
            )
        return value


class Sampler(Record):
    """Which images are taken: ending, `None` for any, and how many."""

    suffix: str | None = None
    get_data_num: Annotated[int, Field(strict=True, ge=1)] | None = None


class DatasetSection(Record):
    """Images for calibration, and the steps that prepare images.

    Attributes:
        range: the stored values that are black and white, where samples have more than 8 bits, a
            sign or a fraction; the model keeps it.
    """

    path: str | None = None
    sampler: Sampler = Sampler()
    range: tuple[float, float] | None = None
    process_ops: tuple[ProcessOp, ...] = ()


class Workspace(Record):
    """Where the result goes: into `path/name`."""

    path: str = "./deploy_weights"


class CompileConfig(Record):
    """A compile file, checked. Made by `load`."""

    name: str
    frontend: Frontend
    graph: GraphSection = GraphSection()
    backend: Backend = Backend()
    dataset: DatasetSection | None = None
    evaluate: Evaluate | None = None
    workspace: Workspace = Workspace()

    # The keys of NO_EFFECT that the file has, nested as there.
    _unused: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[^/\\\x00-\x1f]+", value) or value in (".", "..", "~"):
            raise ValueError(f"expected the name of a folder, without / or \\, found {value!r}")
        return value

    @property
    def folder(self) -> Path:
        """Where the result goes."""
        return from_home(self.workspace.path) / self.name

    def preprocess(self) -> Preprocess | None:
        """What `dataset.process_ops` describes, `None` without.

        Raises:
            ConfigError: it describes what cannot be done, or another size than `frontend.shape`.
        """
        return self._converted()[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be decided about `dataset.process_ops`, one sentence each."""
        return self._converted()[1]

    def _converted(self) -> tuple[Preprocess | None, tuple[str, ...]]:
        if self.dataset is None or not self.dataset.process_ops:
            return None, ()
        preprocess, notes = process_ops.convert(self.dataset.process_ops)
        dims = self.frontend.dims
        if dims is not None and preprocess.size != dims[2:]:
            raise ConfigError(
                f"{process_ops.WHERE}: makes images of {preprocess.size[0]}×{preprocess.size[1]}, "
                f"frontend.shape expects {dims[2]}×{dims[3]} (height×width); make them agree"
            )
        return preprocess, notes

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Dotted names of the keys in the file that do nothing here, or not for this `dtype`."""
        names = [
            f"{where}.{key}"
            for where, known in NO_EFFECT.items()
            for key in strict_yaml.at(self._unused, where) or ()
            if key in known
        ]
        if self.backend.dtype != "int8":
            given = {"backend": self.backend.model_fields_set & {"quantize"}}
            if self.dataset is not None:
                given["dataset"] = self.dataset.model_fields_set & {"path", "sampler"}
            names += [f"{where}.{key}" for where, found in given.items() for key in sorted(found)]
        for index, step in enumerate(self.dataset.process_ops if self.dataset else ()):
            for key in step.model_fields_set & set(step.unused):
                names.append(f"{process_ops.WHERE}[{index}].{key}")
        return tuple(names)

    def with_floats(self, names: Sequence[str]) -> CompileConfig:
        """The same with more layers in `backend.quantize.exclude_layers`."""
        quantize = self.backend.quantize
        excluded = (*quantize.exclude_layers, *names)
        changed = quantize.model_copy(update={"exclude_layers": excluded})
        backend = self.backend.model_copy(update={"quantize": changed})
        return self.model_copy(update={"backend": backend})

    def to_yaml(self) -> str:
        """The file with every default written out; reads as the same configuration."""
        content = strict_yaml.merged(self.model_dump(mode="json"), self._unused)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


# Where unknown keys are looked up.
_SECTIONS: dict[str, type[BaseModel]] = {
    "": CompileConfig, "frontend": Frontend, "graph": GraphSection, "backend": Backend,
    "backend.compile": Closed, "backend.dynamic_params": Closed, "backend.quantize": Quantize,
    "dataset": DatasetSection, "dataset.sampler": Sampler, "evaluate": Evaluate,
    "workspace": Workspace,
}  # fmt: skip


def load(path: Path, overrides: Sequence[str] = ()) -> CompileConfig:
    """Read a compile file.

    Args:
        path: the YAML file.
        overrides: `key=value` each, with a dotted key and YAML as value, as `backend.dtype=fp16`
            or `frontend.shape={input: [1, 3, 513, 513]}`; the later wins.

    Raises:
        ConfigError: the file cannot be read, or says something that is unknown, impossible or in
            conflict with itself; one line that names the key.
    """
    content = strict_yaml.read(path, overrides, such_as="name and frontend")
    for section in _SECTIONS:
        # `backend:` with nothing below it is a section without keys, not a value.
        above, _, last = section.rpartition(".")
        parent = strict_yaml.at(content, above)
        if isinstance(parent, dict) and parent.get(last, ...) is None:
            del parent[last]
    unused = strict_yaml.take(content, NO_EFFECT)
    try:
        config = CompileConfig.model_validate(content)
        config._unused = unused
        config.preprocess()
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {strict_yaml.complaint(error, _SECTIONS, STEPS, NO_EFFECT)}"
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config
