"""Read the tensors of a checkpoint without executing a pickle.

`.pth` files are read by torch's restricted unpickler, which knows tensors and plain containers;
everything else they hold is refused or left out.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from atrous import limits
from atrous.errors import ArtifactError, MissingModel

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")
WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "network", "net")
AVERAGES = ("model_ema", "ema", "ema_model", "ema_state_dict", "state_dict_ema", "ema_state")
"""Under which keys training scripts keep a network, and its average beside it."""
LISTED = 10

_log = logging.getLogger("atrous")


# What wrappers put into names, at whatever depth they were applied; no network has such a part.
_WRAPPERS = re.compile(
    r"(?<![^.])(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)


class _LeftOut:
    """Takes the place of numbers and settings beside the tensors, and does nothing.

    Such are the reference's `best_score`, or the arguments that Lightning and argparse keep.
    """

    kind: ClassVar[str] = "setting"

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _NumPyValue(_LeftOut):
    """A number or an array of NumPy's."""

    kind = "NumPy value"


def _dictionary(*arguments: object) -> OrderedDict[object, object]:
    """An empty `defaultdict`, of which its entries are kept; not what makes further ones."""
    return OrderedDict()


def _list(*arguments: object) -> list[object]:
    """An empty `deque`; the unpickler appends to exact lists alone."""
    return []


# For what a pickle may ask for. The unpickler sets items of exact dictionaries alone.
_STAND_INS: dict[Callable[..., Any], tuple[str, ...]] = {
    _LeftOut: (
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        "argparse.Namespace",
        "types.SimpleNamespace",
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str")),
        *(
            f"pathlib.{module}{name}"
            for module in ("", "_local.")
            for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
        ),
    ),
    _NumPyValue: tuple(
        f"numpy.{core}.multiarray.{function}"
        for core in ("core", "_core")
        for function in ("scalar", "_reconstruct")
    ),
    OrderedDict: (
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
    ),
    _dictionary: ("collections.defaultdict",),
    _list: ("collections.deque",),
}
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (stand_in, name) for stand_in, names in _STAND_INS.items() for name in names
]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU, without executing a pickle.

    Args:
        path: a `.safetensors` file, or a `.pth` (`.pt`, `.ckpt`, `.bin`, `.tar`) file of a state
            dict, bare or below keys as `WRAPPERS` and `AVERAGES`, in this order, at any depth.
            Other entries beside those, such as the optimizer's, are left out. Where a file holds
            mappings under other keys, all of them are taken, with the keys before the names. What
            DataParallel and `torch.compile` put into names is taken out.

    Raises:
        ArtifactError: the file is missing, cut short, of another kind, would run code when
            unpickled, or holds something else than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingModel(f"{path}: no such file; expected a .safetensors or .pth checkpoint")
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
            raise ArtifactError(
                f"{path}: expected a safetensors file, found {_look(path)} ({error}); get it again"
            ) from None
    elif path.suffix in TORCH_SUFFIXES:
        try:
            state = _tensors(path, _unpickle(path))
        except RecursionError:  # a dictionary that holds itself
            raise _no_checkpoint(path) from None
    else:
        raise ArtifactError(
            f"{path}: expected a file ending in .safetensors or {', '.join(TORCH_SUFFIXES)}, "
            f"found {path.suffix or 'no ending'}; rename it if it is a checkpoint"
        )
    if not state:
        raise ArtifactError(f"{path}: expected tensors, found none")
    _check_tensors(path, state)
    return _bare(state)


def _unpickle(path: Path) -> object:
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is said below in other words
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise _no_checkpoint(path) from None
        raise ArtifactError(
            f"{path}: expected tensors alone, found a pickle that asks for {wanted[1]}; it was "
            "refused and nothing of it was run. If you trust its origin, save the state dict alone "
            "there: torch.save(model.state_dict(), path)"
        ) from None
    except Exception:
        # Damaged files fail in the unpickler in any way: EOFError, RuntimeError, KeyError, …
        raise _no_checkpoint(path) from None


def _check_archive(path: Path) -> None:
    """Raise `TooCostly` if an archive of tensors inflates beyond what it may cost."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # none, or damaged: its reader says so
        return
    size = path.stat().st_size
    limits.check(sum(entry.file_size for entry in entries), path, "its tensors", own=size)
    settings = max((e.file_size for e in entries if e.filename.endswith(".pkl")), default=0)
    if settings > limits.TEXT_BYTES:
        raise limits.TooCostly(f"{path}: its index of tensors has {settings} bytes, which is none")


def _check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise `TooCostly` if tensors are larger than what is stored of them (strides of 0)."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    limits.check(needed, path, "its tensors, written out,", own=2 * path.stat().st_size)


def _no_checkpoint(path: Path) -> ArtifactError:
    found = _other_kind(path) or f"{_look(path)}; get it again"
    return ArtifactError(f"{path}: expected a PyTorch checkpoint, found {found}")


def _other_kind(path: Path) -> str:
    """Return in words what a file is that is sound, and what to do; empty if it is no such file."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                inside = {name.partition("/")[2]: name for name in archive.namelist()}
                if "constants.pkl" in inside:
                    return (
                        "a TorchScript archive; save its weights alone: "
                        "torch.save(torch.jit.load(path).state_dict(), other_path)"
                    )
                with archive.open(inside["data.pkl"]) as pickled:
                    start = pickled.read(2)
        except (zipfile.BadZipFile, KeyError, OSError):
            return ""
    if start[:1] == pickle.PROTO and 2 < start[-1] <= pickle.HIGHEST_PROTOCOL:
        return (
            f"a pickle of protocol {start[-1]}, of which tensors alone cannot be taken; save the "
            "state dict where it was made: torch.save(model.state_dict(), path)"
        )
    return ""


def _look(path: Path) -> str:
    """Return in words what the first bytes of a file that could not be read look like."""
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    size = path.stat().st_size
    if not size:
        return "an empty file"
    if start[:1] == b"<":
        return "a web page (of the download, saved instead of the file?)"
    if start.startswith(b"PK"):
        return f"a zip archive of {size} bytes that is damaged, cut short or of another kind"
    return f"{size} bytes that are damaged, cut short or of another kind"


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    content = _unwrapped(path, content)
    if not isinstance(content, Mapping):
        raise ArtifactError(f"{path}: expected a state dict, found {_kind(content)}")
    if not any(isinstance(value, Tensor) for value in content.values()):
        leaves = dict(_leaves(content))
        content = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, Tensor)}
        arrays = [repr(name) for name, leaf in leaves.items() if isinstance(leaf, _NumPyValue)]
        if arrays and not content:
            raise ArtifactError(
                f"{path}: expected tensors, found NumPy values alone: {listing(arrays)}; save them "
                "as tensors where they were made: torch.from_numpy(array) of each"
            )
    other = [f"{k!r} ({_kind(v)})" for k, v in content.items() if not _is_entry(k, v)]
    if other:
        raise ArtifactError(
            f"{path}: expected names and tensors alone, found also {listing(other)}; save the "
            f"state dict alone or under {WRAPPERS[0]!r}"
        )
    return dict(content)


def _unwrapped(path: Path, content: object) -> object:
    while isinstance(content, Mapping):
        outer: Mapping[object, object] = content
        inside = [key for key in (*WRAPPERS, *AVERAGES) if _holds_tensors(outer.get(key))]
        if not inside:
            break
        taken = outer[inside[0]]
        others = [key for key, value in outer.items() if key != inside[0] and _holds_tensors(value)]
        names = _names(taken)
        if copies := [key for key in others if key in AVERAGES or _names(outer[key]) & names]:
            _log.warning(
                "%s: took the weights under %r and left out those under %s",
                path,
                inside[0],
                listing([repr(key) for key in copies]),
            )
        content = taken
    return content


def _names(state: object) -> set[str]:
    """Of the tensors in a mapping, without what torch's wrappers put into them."""
    leaves = _leaves(state) if isinstance(state, Mapping) else ()
    return {_WRAPPERS.sub("", str(name)) for name, leaf in leaves if isinstance(leaf, Tensor)}


def _holds_tensors(value: object) -> bool:
    """Whether something is a mapping of tensors at any depth, and not one of settings."""
    return isinstance(value, Mapping) and any(
        isinstance(leaf, Tensor) for _, leaf in _leaves(value)
    )


def _leaves(content: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    """What nested mappings hold, with the keys that lead there joined by dots."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{below}", leaf) for below, leaf in _leaves(value))
        else:
            yield key, value


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what torch's wrappers put into their names."""
    names = {_WRAPPERS.sub("", name): name for name in state}
    if len(names) < len(state):  # two would have one name
        return dict(state)
    return {short: state[name] for short, name in names.items()}


def _is_entry(name: object, value: object) -> bool:
    # Sparse, quantised and memoryless ("meta") tensors are none of ours.
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and not value.is_quantized
    )


def _kind(value: object) -> str:
    return value.kind if isinstance(value, _LeftOut) else type(value).__name__


def listing(items: list[str]) -> str:
    """The first items of a list that may be long, and how many more there are."""
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return ", ".join(items[:LISTED]) + more
