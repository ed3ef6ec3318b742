"""Images and results behind the URLs of fsspec: find them, fetch them, put them there.

A place is a path or a URL. A URL on this machine's own file system (`file://`) is taken as the path
it is, so that results there are written whole or not at all like all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from atrous.errors import ConfigError, InputError, MissingInput
from atrous.jobs import sources
from atrous.jobs.names import stems, whole_path
from atrous.jobs.output import FOLDERS, join
from atrous.pictures.folders import WITHOUT, Found
from atrous.pictures.formats import SUFFIXES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image and the name of what is made of it.

    Attributes:
        place: a path as it was given, or a URL.
        stem: see `atrous.jobs.names.stems`.
        error: why it cannot be read, where that is known already.
    """

    place: str
    stem: str
    error: str = ""


def is_url(place: str) -> bool:
    """Whether a place is written as a URL."""
    return "://" in place


def local(place: str) -> Path | None:
    """The path behind a place on this machine's own file system, `None` for any other.

    Raises:
        ConfigError: it is a URL that fsspec does not know, or needs a package for.
    """
    if not is_url(place):
        return Path(place)
    from fsspec.implementations.local import LocalFileSystem

    system, path = _open(place)
    return Path(path) if isinstance(system, LocalFileSystem) else None


def find(places: Sequence[str], output: str) -> list[RemoteImage]:
    """Find images as `atrous.jobs.sources.find` does, also behind URLs.

    Args:
        places: files, folders and glob patterns; an image found twice counts once.
        output: place of the results, which are left out.

    Raises:
        ConfigError: a URL is none that fsspec knows, or needs a package.
        MissingInput: there is no image at all.
    """
    made = (output, *(join(output, name) for name in FOLDERS))
    paths = {Path(os.path.realpath(path)) for path in map(local, made) if path is not None}
    urls = [] if paths else [_url(place, _open(place)[1]) for place in made]
    found: dict[str, Path] = {}
    failures: dict[str, str] = {}
    rest = Found()
    for place in places:
        path = local(place)
        if path is None:
            try:
                for key, relative in _listed(place, urls, rest).items():
                    found.setdefault(key, relative)
            except InputError as error:
                failures[place] = str(error)
            continue
        one = sources.matches(path, paths)
        for picture, relative in one.pictures.items():
            found.setdefault(str(picture), relative)
        failures |= {str(name): error for name, error in one.failures.items()}
        rest.left_out += one.left_out
    if not found:
        raise MissingInput("; ".join(failures.values()))
    rest.note()
    names = stems(found, _whole)
    failed = [RemoteImage(place, Path(place).name, error) for place, error in failures.items()]
    return [*failed, *(RemoteImage(place, stem.as_posix()) for place, stem in names.items())]


def fetch(url: str, file: Path) -> None:
    """Copy what is behind a URL into a local file.

    Raises:
        InputError: it cannot be read.
    """
    system, path = _open(url)
    _reading(url, lambda: system.get_file(path, str(file)))


def exists(url: str) -> bool:
    """Whether something is behind a URL.

    Raises:
        InputError: that cannot be told.
    """
    system, path = _open(url)
    return bool(_reading(url, lambda: system.exists(path)))


def put(file: Path, url: str) -> None:
    """Copy a local file to a URL: object stores take it whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    system, path = _open(url)
    try:
        _make_folder(system, path.rpartition("/")[0])
        system.put_file(str(file), path)
    except Exception as error:  # every file system raises its own
        raise InputError(f"{url}: cannot be written: {_reason(error)}") from None


def _open(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path there."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:  # says which package to install
        raise ConfigError(f"{url}: {error}") from None
    except Exception as error:  # an unknown protocol, or credentials that are missing
        raise ConfigError(f"{url}: cannot be opened: {_reason(error)}") from None
    return system, str(path)


def _url(url: str, path: str) -> str:
    """The URL of another path on the file system of `url`."""
    system, _ = _open(url)
    _, chain, rest = url.partition("::")
    return f"{system.unstrip_protocol(path)}{chain}{rest}"


def _listed(url: str, excluded: Sequence[str], rest: Found) -> dict[str, Path]:
    """The images behind a URL, each with its path below the folder that was searched.

    Endings decide, as nothing is fetched; others are counted in `rest`.
    """
    system, path = _open(url)
    if _reading(url, lambda: system.isdir(path)):
        names = sorted(_reading(url, lambda: system.find(path)))
        relative = {name: PurePosixPath(name[len(path) :].lstrip("/")) for name in names}
    else:
        if _reading(url, lambda: system.exists(path)):
            return {_url(url, path): Path(path.rpartition("/")[2])}
        names = sorted(_reading(url, lambda: system.glob(path)))
        if not names:
            raise InputError(f"{url}: no such file or folder")
        relative = {name: PurePosixPath(name.rpartition("/")[2]) for name in names}
    here = _url(url, path)
    left_out = tuple(f"{place}/" for place in excluded if not f"{here}/".startswith(f"{place}/"))
    found = {}
    for name, below in relative.items():
        place, suffix = _url(url, name), below.suffix.lower()
        if place.startswith(left_out) or any(part.startswith(".") for part in below.parts):
            continue
        if suffix in SUFFIXES:
            found[place] = Path(below)
        else:
            rest.left_out[suffix or WITHOUT] += 1
    if not found:
        raise InputError(f"{url}: no images in it")
    return found


@cache
def _make_folder(system: Any, folder: str) -> None:
    """Make it, once, where a file system has folders."""
    system.makedirs(folder, exist_ok=True)


def _reading(url: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except FileNotFoundError:
        raise InputError(f"{url}: no such file") from None
    except Exception as error:  # every file system raises its own
        raise InputError(f"{url}: cannot be read: {_reason(error)}") from None


def _whole(place: str) -> Path:
    """A path that no other place has."""
    path = local(place)
    if path is not None:
        return whole_path(path)
    parts = (part.strip(":") for part in place.replace("::", "/").split("/"))
    return Path(*filter(None, parts))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
