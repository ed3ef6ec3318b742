"""The folder of a compile: whole or not at all, and in the place of nothing but an earlier one."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx

from atrous import artifact, locks
from atrous.errors import ConfigError
from atrous.files import is_old, naming

MODEL, STANDALONE, RESOLVED = "mod.onnx", "standalone.onnx", "resolved.yaml"
_EXPLAINED = ("explain.json", "explain.html")  # which come to lie beside the model
FILES = (MODEL, STANDALONE, RESOLVED, "report.json", "report.html", *_EXPLAINED)
"""All that the folder may hold."""
_SCRATCH = {"new", "old"}


def check(folder: Path, *, replace: bool) -> None:
    """See that a compile may write here.

    Args:
        folder: that it will make.
        replace: whether an earlier compile's may lie there.

    Raises:
        ConfigError: there is something, and `replace` is not given or no compile made it.
    """
    if not folder.exists():
        return
    if not replace:
        raise ConfigError(f"{folder} exists; `force` replaces what an earlier compile made there")
    if reason := _foreign(folder):
        raise ConfigError(
            f"{folder} {reason}; `force` replaces only what a compile made: move it away, or "
            "choose another name or workspace.path"
        )


def _foreign(folder: Path) -> str:
    """What shows that no compile made a folder, empty for an earlier compile's or an empty one."""
    if not folder.is_dir():
        return "is not a folder"
    found = sorted(folder.iterdir())
    for entry in found:
        if entry.name not in FILES or not entry.is_file():
            return f"holds {entry.name}, which no compile writes"
    for name in (MODEL, RESOLVED):
        if found and not (folder / name).is_file():
            return f"holds {found[0].name}, but no {name}"
    if found and not _is_artifact(folder / MODEL):
        return f"holds a {MODEL} without the metadata that a compile writes"
    return ""


def _is_artifact(path: Path) -> bool:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf and the file system each raise their own
        return False
    return any(entry.key == artifact.KEY for entry in model.metadata_props)


@contextmanager
def replacing(folder: Path, *, replace: bool) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` at the end and is gone after an error.

    What an earlier compile made stands aside until the new folder is in its place. What compiles
    left that were killed is removed first.

    Raises:
        ConfigError: see `check`, which looks again at what lies there by then.
        AtrousError: another compile is at work there.
    """
    folder = folder.resolve()  # a link stays, and what it leads to is replaced
    with locks.beside(folder) as sure, naming(folder), ExitStack() as stack:
        if sure:
            _recover(folder)
            check(folder, replace=replace)
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=locks.prefix(folder), dir=folder.parent)
        )
        work, old = Path(scratch) / "new", Path(scratch) / "old"
        work.mkdir()
        yield work
        check(folder, replace=replace)
        if folder.exists():
            folder.rename(old)
        try:
            work.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def _recover(folder: Path) -> None:
    """Remove what compiles of a folder that is held have left; what stood aside comes back."""
    left = [path for path in folder.parent.glob(f"{locks.prefix(folder)}*") if path.is_dir()]
    earlier = folder.parent.glob(f".{glob.escape(folder.name)}.????????")  # of earlier versions
    left += [
        path
        for path in earlier
        if path.is_dir() and is_old(path) and {entry.name for entry in path.iterdir()} <= _SCRATCH
    ]
    for scratch in left:
        old = scratch / "old"
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(scratch, ignore_errors=True)
