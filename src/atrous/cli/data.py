"""`atrous data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(
    help="Get data sets.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@data.callback()
def _data() -> None:
    """Get data sets."""


@data.command()
def voc(
    download: Annotated[
        Path, typer.Option("--download", help="Folder to hold VOCdevkit (2 GB download).")
    ],
) -> None:
    """Download PASCAL VOC 2012 from its publisher, verify and unpack it.

    Example: atrous data voc --download data

    An interrupted download goes on where it stopped. The images are for research use; see the
    publisher's terms.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from atrous.data.download import download_voc

    console = Console(stderr=True, markup=False)
    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        target = download_voc(
            download, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(f"{target}: look it over with atrous doctor --data voc:{download}:val")
    print(
        "The archive has no SegmentationClassAug: the split train_aug needs that folder, and its "
        "list in ImageSets/Segmentation; https://github.com/VainF/DeepLabV3Plus-Pytorch says where "
        "they are"
    )
