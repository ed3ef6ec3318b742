"""A model repository of Triton around a graph that needs nothing around it."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import TensorProto

from atrous import locks
from atrous.errors import ConfigError
from atrous.exporters.standalone import Standalone, save
from atrous.files import write_whole

MODEL, CONFIG, LABELS = "model.onnx", "config.pbtxt", "labels.txt"
MOST = 8
"""Pictures that the server may put together."""

_KINDS: dict[int, str] = {TensorProto.UINT8: "TYPE_UINT8", TensorProto.FLOAT: "TYPE_FP32"}


def write(made: Standalone, repository: Path, name: str, *, instances: int = 1) -> Path:
    """Write `REPOSITORY/NAME/config.pbtxt`, the class names, and the graph as version 1.

    Args:
        made: see `standalone`.
        repository: folder of models; made if it is not there.
        name: of the model there.
        instances: how many run at the same time.

    Returns:
        The folder of the model.

    Raises:
        ConfigError: the name cannot be one of a folder, or something else lies there.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(f"`name`: expected letters, digits, dots and dashes, got {name!r}")
    folder = repository / name
    known = (CONFIG, LABELS, "1")
    strange = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    if others := sorted(set(strange) - set(known)):
        raise ConfigError(
            f"{folder} holds {others[0]}, which this command does not write; move it away, or "
            "choose another `name`"
        )
    with locks.beside(folder):  # of two models one would get the class names of the other
        save(made, folder / "1" / MODEL)
        names = "".join(f"{label}\n" for label in made.metadata.labels.names)
        write_whole(folder / LABELS, names.encode())
        write_whole(folder / CONFIG, config(made, name, instances=instances).encode())
    return folder


def config(made: Standalone, name: str, *, instances: int = 1) -> str:
    """The text of `config.pbtxt`.

    Pictures that come within two milliseconds go through the network together, if the graph takes
    any number.

    Args:
        made: see `standalone`.
        name: of the model.
        instances: how many run at the same time.
    """
    graph = made.model.graph
    batched = not graph.input[0].type.tensor_type.shape.dim[0].dim_value
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {MOST if batched else 0}",
        *_tensor("input", graph.input[0], batched),
    ]
    for output in graph.output:
        lines += _tensor("output", output, batched)
    if batched:
        lines.append("dynamic_batching { max_queue_delay_microseconds: 2000 }")
    lines.append(f"instance_group [ {{ count: {instances} kind: KIND_AUTO }} ]")
    return "\n".join(lines) + "\n"


def _tensor(role: str, value: onnx.ValueInfoProto, batched: bool) -> list[str]:
    kind = value.type.tensor_type
    dims = [dim.dim_value or -1 for dim in kind.shape.dim][1 if batched else 0 :]
    shape = ", ".join(map(str, dims))
    label = f' label_filename: "{LABELS}"' if value.name == "classes" else ""
    return [
        f'{role} [ {{ name: "{value.name}" data_type: {_KINDS[kind.elem_type]} '
        f"dims: [ {shape} ]{label} }} ]"
    ]
