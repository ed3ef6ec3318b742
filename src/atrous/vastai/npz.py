"""The npz chain: a data set as npz files, a network's answers as npz files, a list in between.

The contract is that of VastModelZOO's tools. One npz per image: key `input_0`, uint8 `(3, H, W)`,
RGB, at the image's own size. A text file lists their absolute paths, one a line. One npz per
answer: key `output_0`, float16 logits `(1, C, h, w)`, or a uint8 class map `(1, h, w)`, at the
size of the network input. Here an answer bears the name of its input, and every file a stamp
(`atrous.stamp`) in the archive's comment, where `numpy.load` does not show it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from atrous import image, limits, texts
from atrous.errors import AtrousError, InputError, MissingInput
from atrous.files import check_writable, write_atomic
from atrous.jobs.names import stems
from atrous.jobs.output import make_folder, state
from atrous.pictures.folders import search
from atrous.stamp import KEY, FileStamp, hashed

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
    """The images of a folder by id, in order.

    An id is a file name without its ending, or with it where that is the id of two: no two share
    one, see `atrous.jobs.names`.

    Args:
        folder: of the images; those in it are not searched.
        said: say what is left out.

    Raises:
        MissingInput: there is no such folder.
    """
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise MissingInput(f"{folder}: {error.strerror}; expected a folder of images") from None
    listed = search(folder, recursive=False)
    paths = sorted((*listed.pictures, *listed.failures))
    names = stems({path: Path(path.name) for path in paths}, lambda path: path)
    if said:
        listed.note(folder)
    return {str(name): path for path, name in names.items()}


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
    reading: image.Reading | None = None,
) -> Iterator[Converted]:
    """Turn images into npz files, one after the other, and then list them.

    An image that fails becomes a step that says why, and the next one follows. An npz file that was
    made from the same image, or holds it, is kept; one that was made here from another is made
    again; any other is in the way, and its image fails.

    Args:
        dataset: folder of the images.
        ids: which of them, in which order; `None` for all.
        target: folder of the npz files.
        listing: the list, written when all are done: the npz files that are there.
        copies: folder that gets a copy of each image.
        force: make npz files again that are there already, whoever made them, and replace copies.
        reading: how images are read.

    Raises:
        InputError: `dataset` cannot be read, or `target` cannot be a folder.
        OSError: `listing` cannot be written.
        AtrousError: every image failed, or a file cannot be written; what was finished is kept.
    """
    images = find_images(dataset, said=ids is None)
    make_folder(target)
    check_writable(listing)
    reading = reading or image.Reading()
    setting = [str(reading.taking)] if str(reading.taking) else []
    done: list[Path] = []
    for asked in images if ids is None else ids:
        name = _id(asked, images)
        path = target.resolve() / f"{name}.npz"
        source = images.get(name)
        try:
            if source is None:
                raise InputError(f"{dataset}: no image of the id {name}{_alike(name, images)}")
            if "\n" in str(path):
                raise InputError(
                    f"{source}: a list cannot hold a name with a line break; rename it"
                )
            made_from = hashed(image.content_of(source), image.READING, *setting)
            missing = force or _is_missing(path, made_from, partial(reading, source))
            pixels = reading(source) if missing else None
            content = None if copies is None else _copy(source, copies / source.name, force)
        except InputError as error:
            yield Converted(name, "failed", error=str(error))
            continue
        except OSError as error:
            yield Converted(name, "failed", error=f"{source}: {error.strerror}")
            continue
        kept = pixels is None
        if pixels is not None:
            write(path, INPUT, pixels.transpose(2, 0, 1), made_from)
        if copies is not None and content is not None:
            _write(copies / source.name, content)
        done.append(path)
        yield Converted(name, "kept" if kept else "written", path)
    if not done:
        raise AtrousError(f"{dataset}: nothing was converted; {listing} is not written")
    _write(listing, os.fsencode("".join(f"{path}\n" for path in done)))


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
                size = found.zip.getinfo(f"{key}.npy").file_size
                limits.check(size, path, key, own=path.stat().st_size)
                comment = found.zip.getinfo(f"{key}.npy").comment
                return found[key], comment.decode(errors="replace")
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not an npz file that can be read: {first}") from None


def stamp_of(path: Path, key: str) -> FileStamp | None:
    """The stamp of an npz file that `write` wrote and nobody has changed since, else `None`.

    One that is cut short, or damaged in another way that no reader gets over, counts as ours, made
    from something else: there is nothing in it to lose.
    """
    try:
        array, comment = read_with_comment(path, key)
    except InputError:
        return FileStamp("", "") if _is_damaged(path) else None
    name, _, text = comment.partition(" ")
    stamp = FileStamp.parse(text) if name == KEY else None
    return stamp and stamp.of(_hash_of(array))


def write(path: Path, key: str, array: NDArray[Any], made_from: str = "") -> None:
    """Write an npz file of one array, as `numpy.savez` does, whole or not at all.

    Args:
        path: where; missing folders are made.
        key: the name of the array.
        array: any type but objects.
        made_from: for the stamp, see `atrous.stamp`; without it there is none.

    Raises:
        AtrousError: it cannot be written.
    """
    # Deflating a VOC class map takes 2 ms and leaves 1 % of it; logits take 490 ms and leave 70 %.
    small = array.dtype == np.uint8 and key == OUTPUT
    method = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED

    comment = f"{KEY} {FileStamp(made_from, _hash_of(array))}" if made_from else ""

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
            "command resumes from there"
        ) from None


def _is_missing(path: Path, made_from: str, read: Callable[[], NDArray[np.uint8]]) -> bool:
    """Whether the npz file of an image is not there yet, or was made from something else.

    Raises:
        InputError: the image cannot be read, or what is there is not ours and holds another image.
    """
    try:
        return state(path, made_from, lambda path: stamp_of(path, INPUT)) != "stands"
    except InputError:  # another tool's, or an earlier version's, may hold the same
        pixels = read()
        try:
            same = np.array_equal(read_input(path), pixels)
        except InputError:
            same = False
        if not same:
            raise
        return False


def _copy(source: Path, copy: Path, force: bool) -> bytes | None:
    """What to write as a copy of an image; `None` if it is there.

    Raises:
        InputError: another file has its name.
    """
    content = source.read_bytes()
    if not copy.exists():
        return content
    if copy.is_file() and copy.read_bytes() == content:
        return None
    if not force:
        raise InputError(f"{copy}: another file is in the way; move it away, or give `force`")
    return content


def _id(asked: str, images: Mapping[str, Path]) -> str:
    """The id that was asked for: itself, the name of its file, or either composed differently."""
    if asked in images:
        return asked
    wanted = _composed(asked.removeprefix("./"))
    found = [
        one for one, path in images.items() if wanted in (_composed(one), _composed(path.name))
    ]
    return found[0] if len(found) == 1 else asked


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _alike(name: str, images: Mapping[str, Path]) -> str:
    """What else an id may have meant."""
    alike = [other for other, path in images.items() if path.stem == name]
    return f"; {' and '.join(alike)} are called so, with their endings" if alike else ""


def _is_damaged(path: Path) -> bool:
    """Whether a file begins as an npz file and is none."""
    try:
        with path.open("rb") as file:
            begins = file.read(2)
        return begins in (b"", b"P", b"PK") and not (begins and zipfile.is_zipfile(path))
    except OSError:
        return False


def _hash_of(array: NDArray[Any]) -> str:
    """Hash of type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        lines = texts.read_lines(path)
    except (OSError, UnicodeError) as error:
        kind = MissingInput if isinstance(error, OSError) else InputError
        raise kind(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not lines:
        raise InputError(f"{path}: empty")
    return lines
