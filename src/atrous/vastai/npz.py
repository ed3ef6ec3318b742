"""The npz chain: a data set as npz files, a network's answers as npz files, a list in between.

The contract is that of VastModelZOO's tools. One npz per image: key `input_0`, uint8 `(3, H, W)`,
RGB, at the image's own size. A text file lists their absolute paths, one a line. One npz per
answer: key `output_0`, float16 logits `(1, C, h, w)`, or a uint8 class map `(1, h, w)`, at the
size of the network input. Here an answer bears the name of its input."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from atrous import image, texts
from atrous.errors import AtrousError, InputError
from atrous.files import write_atomic
from atrous.folders import search

INPUT, OUTPUT = "input_0", "output_0"
SUFFIX = ".npz"


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one image.

    Attributes:
        name: the id of the image.
        status: `written`, `kept` (it was there already) or `failed`.
        path: the npz, `None` if it failed.
        error: why it failed.
    """

    name: str
    status: Literal["written", "kept", "failed"]
    path: Path | None = None
    error: str = ""


def find_images(folder: Path, *, said: bool = False) -> dict[str, Path]:
    """The images of a folder by id, which is the file name without its ending, in order.

    Args:
        folder: of the images; those in it are not searched.
        said: say what is left out.

    Raises:
        InputError: there is no such folder, or two images share an id.
    """
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder of images") from None
    listed = search(folder, recursive=False)
    found: dict[str, Path] = {}
    for path in sorted((*listed.pictures, *listed.failures)):
        other = found.setdefault(path.stem, path)
        if other != path:
            raise InputError(f"{folder}: {other.name} and {path.name} share the id {path.stem}")
    if said:
        listed.note(folder)
    return found


def read_ids(path: Path) -> list[str]:
    """The ids of a text file, one a line, in its order, each once.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    return list(dict.fromkeys(_lines(path)))


def read_list(path: Path) -> list[Path]:
    """The npz files that a list names, in its order.

    Raises:
        InputError: the list cannot be read, is empty, or names two files of the same id.
    """
    paths: dict[str, Path] = {}
    for line in _lines(path):
        entry = Path(line)
        if entry.stem in paths:
            raise InputError(f"{path}: lists the id {entry.stem} twice: {line}")
        paths[entry.stem] = entry
    return list(paths.values())


def make(
    dataset: Path,
    ids: Sequence[str] | None,
    target: Path,
    listing: Path,
    *,
    copies: Path | None = None,
    force: bool = False,
) -> Iterator[Converted]:
    """Turn images into npz files, one after the other, and then list them.

    An image that fails becomes a step that says why, and the next one follows.

    Args:
        dataset: folder of the images.
        ids: which of them, in which order; `None` for all.
        target: folder of the npz files.
        listing: the list, written when all are done: the npz files that are there.
        copies: folder that gets a copy of each image.
        force: make npz files again that are there already.

    Raises:
        InputError: `dataset` cannot be read.
        AtrousError: every image failed, or a file cannot be written; what was finished is kept.
    """
    images = find_images(dataset, said=ids is None)
    done: list[Path] = []
    for name in images if ids is None else ids:
        path = target.resolve() / f"{name}.npz"
        source = images.get(name)
        try:
            if source is None:
                raise InputError(f"{dataset}: no image of the id {name}")
            kept = not force and _is_input(path)
            pixels = None if kept else image.read(source)
            content = None if copies is None else source.read_bytes()
        except InputError as error:
            yield Converted(name, "failed", error=str(error))
            continue
        except OSError as error:
            yield Converted(name, "failed", error=f"{source}: {error.strerror}")
            continue
        if pixels is not None:
            write(path, INPUT, pixels.transpose(2, 0, 1))
        if copies is not None and content is not None:
            _write(copies / source.name, content)
        done.append(path)
        yield Converted(name, "kept" if kept else "written", path)
    if not done:
        raise AtrousError(f"{dataset}: nothing was converted; {listing} is not written")
    _write(listing, "".join(f"{path}\n" for path in done).encode())


def read_input(path: Path, *, channels_last: bool = False) -> NDArray[np.uint8]:
    """The image in an npz file.

    Args:
        path: holds `input_0`, uint8 RGB `(3, H, W)` or `(1, 3, H, W)`.
        channels_last: whether `(H, W, 3)` is taken too.

    Returns:
        `(H, W, 3)` uint8, RGB.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    array = read(path, INPUT)
    whole = array[0] if array.ndim == 4 and len(array) == 1 else array
    if whole.dtype == np.uint8 and whole.ndim == 3 and whole.size:
        if whole.shape[0] == 3:
            return np.ascontiguousarray(whole.transpose(1, 2, 0))
        if channels_last and array.ndim == 3 and array.shape[2] == 3:
            return np.ascontiguousarray(array)
    wanted = "(3, H, W) or (H, W, 3)" if channels_last else "(3, H, W)"
    raise InputError(
        f"{path}: {INPUT} is {array.dtype} {array.shape}, expected uint8 {wanted} in RGB; make it "
        "by atrous npz"
    )


def read(path: Path, key: str) -> NDArray[Any]:
    """One array of an npz file, whole; its checksum is verified and no pickle is executed.

    Raises:
        InputError: the file is missing or damaged, or holds no such array.
    """
    return read_with_comment(path, key)[0]


def read_with_comment(path: Path, key: str) -> tuple[NDArray[Any], str]:
    """Like `read`, and the comment that `write` left in the archive, empty if there is none."""
    try:
        # Opened here, as numpy leaves a damaged file open.
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: one bare array, expected an npz file that holds {key}")
            with found:
                if key not in found.files:
                    keys = ", ".join(found.files) or "nothing"
                    raise InputError(f"{path}: holds {keys}, expected {key}")
                assert found.zip is not None
                comment = found.zip.getinfo(f"{key}.npy").comment
                return found[key], comment.decode(errors="replace")
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not an npz file that can be read: {first}") from None


def write(path: Path, key: str, array: NDArray[Any], comment: str = "") -> None:
    """Write an npz file of one array, as `numpy.savez` does, whole or not at all.

    Args:
        path: where; missing folders are made.
        key: the name of the array.
        array: any type but objects.
        comment: left in the archive, where `numpy.load` does not show it.

    Raises:
        AtrousError: it cannot be written.
    """
    # Deflating a VOC class map takes 2 ms and leaves 1 % of it; logits take 490 ms and leave 70 %.
    small = array.dtype == np.uint8 and key == OUTPUT
    method = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED

    def fill(file: IO[bytes]) -> None:
        entry = zipfile.ZipInfo(f"{key}.npy")
        entry.compress_type, entry.comment = method, comment.encode()
        with (
            zipfile.ZipFile(file, "w") as archive,
            archive.open(entry, "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

    _store(path, fill)


def _write(path: Path, content: bytes) -> None:
    _store(path, lambda file: file.write(content))


def _store(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """`write_atomic`, with one clear error: when the disk is full, the next file fails as well."""
    try:
        write_atomic(path, fill)
    except OSError as error:
        raise AtrousError(
            f"{path}: cannot be written: {error.strerror}; what was finished is kept, the same "
            "command goes on from there"
        ) from None


def _is_input(path: Path) -> bool:
    """Whether an npz file with an image is there."""
    try:
        read_input(path)
    except InputError:
        return False
    return True


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        lines = texts.read_lines(path)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not lines:
        raise InputError(f"{path}: empty")
    return lines
