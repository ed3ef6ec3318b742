"""Weights that lie in files beside an ONNX file: where they are, and reading them.

ONNX's own loader opens no links, and a hub's cache is made of them. Here a link is followed if it
ends at a regular file among the model's own: in its folder, in the one that the model is itself
linked from, or in the cache that both are part of. What a model says never leads out of its folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from atrous.errors import ArtifactError

_BLOBS = "blobs"
"""Where a hub's cache keeps what the files of its snapshots link to."""

_SLACK = 4096
"""Bytes that a file may be longer than what is read of it: writers align tensors."""

_POINTER = b"version https://git-lfs.github.com/"


def locations(model: onnx.ModelProto) -> list[str]:
    """The names of the files beside a model that its weights lie in, as it has them."""
    return list(dict.fromkeys(_entries(tensor)["location"] for tensor in _outside(model.graph)))


def found(path: Path, location: str, needed: int = 1) -> Path:
    """The file that a model means by a location.

    Args:
        path: of the model.
        location: as the model has it.
        needed: bytes that it should have, by which one is recognised that was renamed.

    Raises:
        ArtifactError: it is missing or lies elsewhere; says what helps.
    """
    name = location.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or PureWindowsPath(location).drive or ".." in parts:
        raise ArtifactError(
            f"{path}: its weights are said to lie in {location!r}, outside of its folder; nothing "
            "is read there: save the model again with its data beside it"
        )
    folders = dict.fromkeys((path.parent, path.resolve().parent))
    file = next((folder / name for folder in folders if (folder / name).exists()), None)
    if file is None:
        raise ArtifactError(_missing(path, name, needed))
    target = file.resolve()
    if not target.is_file():
        raise ArtifactError(
            f"{path}: its weights are to lie in {file}, which is not a regular file"
        )
    if not any(target.is_relative_to(folder) for folder in _allowed(path)):
        raise ArtifactError(
            f"{path}: {file.name} is a link to {target}, outside of the model's folder; copy the "
            f"file itself beside {path.name}"
        )
    return target


def read(model: onnx.ModelProto, path: Path) -> None:
    """Put the weights that lie in files beside a model into it.

    Args:
        model: as read without them; changed in place.
        path: of the model.

    Raises:
        ArtifactError: a file is missing, too short, or lies elsewhere; says what helps.
    """
    files: dict[str, Path] = {}
    for tensor in _outside(model.graph):
        entries = _entries(tensor)
        location = entries["location"]
        if location not in files:
            files[location] = found(path, location, _needed(model, location))
        file = files[location]
        tensor.raw_data = _content(path, file, location, entries)
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _content(path: Path, file: Path, location: str, entries: dict[str, str]) -> bytes:
    try:
        start, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        if start < 0:
            raise ValueError(start)
    except ValueError:
        raise ArtifactError(
            f"{path}: says no number of bytes where its weights lie in {location}; save the model "
            "again with its data beside it"
        ) from None
    with file.open("rb") as opened:
        opened.seek(start)
        content = opened.read(length if length >= 0 else -1)
    if len(content) < length or (length < 0 and not content):
        size = file.stat().st_size
        raise ArtifactError(
            f"{path}: {location} has {size} bytes, and the model reads up to byte "
            f"{start + max(length, 1)}: {_cut(file)}"
        )
    return content


def _needed(model: onnx.ModelProto, location: str) -> int:
    """Bytes that a file must have for all tensors that lie in it, as far as the model tells."""
    own = [entries for tensor in _outside(model.graph) if (entries := _entries(tensor))]
    ends = [
        int(entries.get("offset", 0)) + int(entries.get("length", 1))
        for entries in own
        if entries["location"] == location
        and all(entries.get(key, "0").isdigit() for key in ("offset", "length"))
    ]
    return max(ends, default=1)


def _cut(file: Path) -> str:
    if is_pointer(file):
        return "it is a pointer of Git LFS, not the data; fetch it with git lfs pull"
    return "it was cut short or belongs to another model; copy it again"


def is_pointer(file: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of one that was not fetched."""
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def _missing(path: Path, name: str, needed: int) -> str:
    message = f"{path}: {name} is missing, which holds its weights; "
    if (path.parent / name).is_symlink():
        return f"{message}the link of that name leads nowhere: put the file itself there"
    alike = [
        other.name
        for other in sorted(path.parent.iterdir())
        if other.name != path.name
        and other.is_file()
        and needed <= other.stat().st_size <= needed + _SLACK
    ]
    if len(alike) == 1:
        return f"{message}{alike[0]} has its size: if it was renamed, call it {name} again"
    where = PurePosixPath(name).parent
    return f"{message}put it {f'into {where} ' * (where.name != '')}beside {path.name}"


def _allowed(path: Path) -> Iterator[Path]:
    """Folders in which the files of a model may lie, links followed."""
    yield path.parent.resolve()
    yield path.resolve().parent
    for folder in path.parent.absolute().parents:
        if (folder / _BLOBS).is_dir():
            yield folder.resolve() / _BLOBS
            return


def _outside(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The tensors of a graph, bodies of its nodes included, that lie in other files."""
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.t.data_location == TensorProto.EXTERNAL:
                yield attribute.t
            for body in (attribute.g, *attribute.graphs):
                yield from _outside(body)


def _entries(tensor: TensorProto) -> dict[str, str]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return {"location": ""} | entries
