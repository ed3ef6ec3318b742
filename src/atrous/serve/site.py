"""A folder of static files: the web page with the model and its runtime, and no server."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from atrous import artifact
from atrous.download import Progress, cache_dir, download
from atrous.errors import ArtifactError, ConfigError
from atrous.exporters.standalone import Standalone
from atrous.files import write_whole
from atrous.serve.legend import describe

PAGE, ALONE = (Path(__file__).parent / name for name in ("page", "alone"))
"""The files of the page, and those that stand in the place of a server's answers."""

VERSION = "1.30.0"
"""Of onnxruntime-web."""

PACKAGE = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
CHECKSUM = (
    "sha512:ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)

RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""What a browser loads of it: for the processor, and for WebGPU."""

LARGEST = 64 * 2**20
"""Bytes of one of these files."""

HEADERS = """/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
"""
"""For hosts that read a file `_headers`: with them WebAssembly may use threads."""

PROMISE = "Pictures go to this server only, and it does not keep them."


def runtime_files(
    folder: Path | None,
    *,
    url: str = PACKAGE,
    checksum: str = CHECKSUM,
    progress: Progress | None = None,
) -> Mapping[str, bytes]:
    """The files of onnxruntime-web, name → content.

    Args:
        folder: npm's package, `None` to download it once into the cache.
        url: of the package.
        checksum: of that, as `download` takes it.
        progress: called while it is downloaded.

    Raises:
        ConfigError: the folder is not such a package.
        ArtifactError: it cannot be downloaded, or lacks a file.
    """
    if folder is not None:
        place = folder / "dist" if (folder / "dist").is_dir() else folder
        if absent := [name for name in RUNTIME if not (place / name).is_file()]:
            raise ConfigError(
                f"`runtime`: {folder} has no {absent[0]}; expected the folder that `npm install "
                f"onnxruntime-web@{VERSION}` makes in node_modules"
            )
        return {name: (place / name).read_bytes() for name in RUNTIME}
    file = cache_dir() / "runtimes" / url.rpartition("/")[2]
    archive = download(url, file, checksum=checksum, progress=progress)
    try:
        with tarfile.open(archive) as package:
            return {name: _member(package, name) for name in RUNTIME}
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise ArtifactError(f"{archive}: no package of onnxruntime-web ({error})") from None


def _member(package: tarfile.TarFile, name: str) -> bytes:
    entry = package.getmember(f"package/dist/{name}")
    content = package.extractfile(entry) if entry.size <= LARGEST else None
    if content is None:
        raise KeyError(f"{name} is not a file of at most {LARGEST} bytes")
    return content.read()


def write(made: Standalone, folder: Path, runtime: Mapping[str, bytes]) -> None:
    """Write the page; `index.html` comes last, when all that it loads is there.

    Args:
        made: a graph that takes pictures of any size.
        folder: to make; an earlier page of this command is replaced.
        runtime: see `runtime_files`.

    Raises:
        ConfigError: the folder holds something else.
    """
    files = {file.name: file.read_bytes() for part in (PAGE, ALONE) for file in part.iterdir()}
    index = files.pop("index.html").decode()
    files |= {
        "model.json": json.dumps(described(made), indent=1).encode(),
        "model.onnx": artifact.serialised(made.model, made.metadata),
        "_headers": HEADERS.encode(),
        "index.html": _alone(index).encode(),
    }
    _check(folder, {*files, "runtime"})
    (folder / "runtime").mkdir(parents=True, exist_ok=True)
    for name, content in runtime.items():
        write_whole(folder / "runtime" / name, content)
    for name, content in files.items():
        write_whole(folder / name, content)


def _check(folder: Path, known: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; `output` names a folder")
    found = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(found - known):
        raise ConfigError(
            f"{folder} holds {others[0]}, which this command does not write; choose another "
            "`output`, or move it away"
        )


def _alone(index: str) -> str:
    """The page's text without a word of a server."""
    assert PROMISE in index
    kept = [line for line in index.splitlines() if "openapi.json" not in line]
    return "\n".join(kept).replace(PROMISE, "Pictures stay in this browser.") + "\n"


def described(made: Standalone) -> dict[str, object]:
    """What the page shows of a model, as `/v1/models` of a server says it."""
    metadata = made.metadata
    labels = metadata.labels
    return {
        "name": metadata.name,
        "precision": metadata.precision,
        "licence": metadata.licence,
        "labels": {
            "name": labels.name,
            "ignore_index": labels.ignore_index,
            "classes": [describe(labels, i) for i in range(labels.num_classes)],
        },
    }
