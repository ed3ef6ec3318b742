"""Find the file behind a name of the zoo: in the cache, downloaded where there is an address."""

from __future__ import annotations

from pathlib import Path

from atrous import zoo
from atrous.download import Progress, cache_dir, download
from atrous.errors import ArtifactError


def weights_file(row: zoo.Weights, progress: Progress | None = None) -> Path:
    """The file of a row of `atrous.zoo.WEIGHTS`, in `cache_dir() / "weights"`.

    Args:
        row: of weights that are not inside the package.
        progress: called with bytes done and in all while the file is downloaded.

    Raises:
        ArtifactError: the file must be fetched by hand and is not there, or the download failed.
    """
    cached = cache_dir() / "weights" / row.file_name
    if row.url is not None:
        return download(row.url, cached, checksum=f"sha256:{row.sha256}", progress=progress)
    if not cached.exists():
        raise ArtifactError(
            f"{row.name}: expected {cached}, found nothing; get it from {row.page}. {row.note}"
        )
    return cached


def locate(source: str | Path, progress: Progress | None = None) -> Path:
    """The file of weights that `source` names, downloaded if need be.

    Args:
        source: a path, or a name of `atrous.zoo.WEIGHTS`. A file of that name comes first.
        progress: as for `weights_file`.

    Raises:
        ArtifactError: there is no such file, or `weights_file` has none.
    """
    path = Path(source)
    if path.exists():
        return path
    if str(source) not in zoo.WEIGHTS:
        raise ArtifactError(
            f"{source}: no such file, and no weights of that name; known: {', '.join(zoo.WEIGHTS)}"
        )
    return weights_file(zoo.weights(str(source)), progress)
