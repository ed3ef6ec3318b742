"""The file behind the name of a model: given, in the package, in the cache, or downloaded."""

from __future__ import annotations

import difflib
from pathlib import Path

from atrous import hub, zoo
from atrous.download import Progress, cache_dir, download
from atrous.errors import ArtifactError, MissingModel
from atrous.files import from_home, sha256

PACKAGE = Path(__file__).parent / "assets"
"""The folder of the models that ship inside the package."""


def resolve(
    name: str | Path, kind: zoo.Kind | None = "segmentation", progress: Progress | None = None
) -> Path:
    """The file that a model is called by, downloaded if need be.

    Args:
        name: what `given` takes, or a row of `atrous.zoo.WEIGHTS` by its own name, that of its
            network or that of its file. What is there comes before a row.
        kind: of the rows, `None` for any.
        progress: as for `weights_file`.

    Raises:
        MissingModel: there is none; says what was tried and where to get it.
    """
    if name == "":
        raise MissingModel(
            "the name of the model is empty, as of a variable that is not set; give a file or a "
            "name of the zoo, such as default"
        )
    path = given(name)
    if path is not None:
        return path
    rows = [row for row in zoo.WEIGHTS.values() if kind in (None, row.kind)]
    row = next((row for row in rows if str(name) in (row.name, row.network, row.file_name)), None)
    if row is None:
        names = [row.name for row in rows]
        near = difflib.get_close_matches(str(name), names, 1)
        raise MissingModel(
            f"{name}: not a file, no folder with mod.onnx, no {name}.onnx, and not a name of the "
            "zoo" + (f"; did you mean {near[0]}?" if near else f" ({', '.join(names)})")
        )
    return packaged(row.file_name) or weights_file(row, progress)


def given(name: str | Path) -> Path | None:
    """The file that a path names.

    Args:
        name: a file, a folder holding `mod.onnx`, a snapshot of Hugging Face's hub (see
            `atrous.hub`), or a path without its `.onnx` or `.safetensors`, such as
            `deploy_weights/NAME/mod` or `runs/NAME/last`.

    Returns:
        The file, or `None` if none of these is there.

    Raises:
        ArtifactError: the folder is a snapshot, but holds no model that can be read.
    """
    path = from_home(name)
    candidates = (path, path / "mod.onnx", Path(f"{path}.onnx"), Path(f"{path}.safetensors"))
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    return found or (hub.model_file(path) if path.is_dir() else None)


def packaged(file_name: str) -> Path | None:
    """A model that ships inside the package, `None` if it has none of this name."""
    path = PACKAGE / file_name
    return path if path.is_file() else None


def weights_file(row: zoo.Weights, progress: Progress | None = None) -> Path:
    """The file of a row of `atrous.zoo.WEIGHTS`, in `cache_dir() / "weights"`.

    Args:
        row: of weights that are not inside the package.
        progress: called with bytes done and in all while the file is downloaded.

    Raises:
        ArtifactError: the file must be fetched by hand and is not there, or the download failed.
    """
    cached = _place(row)
    if row.url is not None:
        return download(row.url, cached, checksum=f"sha256:{row.sha256}", progress=progress)
    if not cached.exists():
        others = [o for o in zoo.WEIGHTS.values() if o.network == row.network and o.url]
        raise ArtifactError(
            f"{row.name}: expected {cached}, found nothing; get it from {row.page}. {row.note}"
            + "".join(f" {other.name} of the same network downloads by itself." for other in others)
        )
    return cached


def is_cached(row: zoo.Weights) -> bool:
    """Whether the file of a row was downloaded, or put there by hand."""
    return _place(row).is_file()


def row_of(path: Path) -> zoo.Weights | None:
    """The row of a whole network whose file this is, `None` for any other file.

    It is, if a name of the zoo resolves to it, or if its hash is the published one. That a file is
    called as a row's says nothing: every training of the reference writes such names.
    """
    rows = [row for row in zoo.WEIGHTS.values() if row.kind == "segmentation"]
    named = next((row for row in rows if _place(row).resolve() == path.resolve()), None)
    published = [row for row in rows if row.sha256]
    if named is not None or not published:
        return named
    digest = sha256(path)
    return next((row for row in published if digest.startswith(row.sha256)), None)


def _place(row: zoo.Weights) -> Path:
    return cache_dir() / "weights" / row.file_name
