"""Fetch PASCAL VOC 2012 from its publisher, and unpack it safely."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from atrous import files
from atrous.download import Progress, download
from atrous.errors import ArtifactError, ConfigError

VOC_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"


def download_voc(
    root: Path, *, url: str = VOC_URL, md5: str = VOC_MD5, progress: Progress | None = None
) -> Path:
    """Make `root/VOCdevkit/VOC2012`.

    The archive is kept beside it until it is unpacked, so an interrupted download goes on where it
    stopped. Members that would land outside are refused.

    Args:
        root: the folder to hold `VOCdevkit`.
        url: of the archive.
        md5: of the archive, as its publisher gives it.
        progress: called with bytes done and in all.

    Returns:
        The folder `VOC2012`.

    Raises:
        ConfigError: it is there already.
        ArtifactError: the download failed, or the archive is not what it should be.
    """
    target = root / "VOCdevkit" / "VOC2012"
    if target.exists():
        raise ConfigError(f"{target}: is there already; nothing was downloaded")
    if not hasattr(tarfile, "data_filter"):
        raise ConfigError(
            f"this Python cannot unpack archives safely; 3.11.4 and later can. Unpack {url} by hand"
        )
    archive = root / url.rsplit("/", 1)[-1]
    download(url, archive, checksum=f"md5:{md5}", progress=progress)
    files.clean(root)
    own = files.own_prefix()
    with tempfile.TemporaryDirectory(prefix=own, suffix=".part", dir=root) as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        # Names with NUL and dates of no calendar are errors of values, deep inside.
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            raise ArtifactError(
                f"{archive}: cannot be unpacked: {error}; nothing of it was kept"
            ) from None
        unpacked = Path(folder) / "VOCdevkit" / "VOC2012"
        if not unpacked.is_dir():
            raise ArtifactError(f"{archive}: expected VOCdevkit/VOC2012 in it, found none")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unpacked, target)
    archive.unlink()
    return target
